// calloc_overflow - asks calloc for a product that does not fit.
#include <cerrno>

#include "misuse.hpp"

TARN_MISUSE misuse() {
    errno = 0;
    void* const block = opaque(TARN_HEAP(calloc)(opaque(SIZE_MAX / 8 + 1), opaque(std::size_t{8})));
    announce("result", block);
    announce("errno_is_enomem", reinterpret_cast<void*>(std::uintptr_t{errno == ENOMEM}));
}
