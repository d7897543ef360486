// malloc_overflow - asks malloc for more than PTRDIFF_MAX.
#include <cerrno>

#include "misuse.hpp"

TARN_MISUSE misuse() {
    errno = 0;
    void* const block = opaque(TARN_HEAP(malloc)(opaque(std::size_t{PTRDIFF_MAX} + 1)));
    announce("result", block);
    announce("errno_is_enomem", reinterpret_cast<void*>(std::uintptr_t{errno == ENOMEM}));
}
