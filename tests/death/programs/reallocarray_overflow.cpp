// reallocarray_overflow - asks reallocarray for a product that does not fit.
#include <cerrno>

#include "misuse.hpp"

TARN_MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(TARN_HEAP(malloc)(10)));
    block[9] = 'x';
    errno = 0;
    void* const moved =
        opaque(TARN_HEAP(reallocarray)(opaque(block), opaque(SIZE_MAX), opaque(std::size_t{3})));
    announce("result", moved);
    announce("errno_is_enomem", reinterpret_cast<void*>(std::uintptr_t{errno == ENOMEM}));
    announce("kept", reinterpret_cast<void*>(std::uintptr_t{block[9] == 'x'}));
    TARN_HEAP(free)(block);
}
