// usable_size_foreign - asks for the size of a static variable.
#include "misuse.hpp"

alignas(64) static char variable[64];

TARN_MISUSE misuse() {
    announce("pointer", variable);
    std::size_t const bytes = TARN_HEAP(malloc_usable_size)(opaque(static_cast<void*>(variable)));
    announce("result", reinterpret_cast<void const*>(opaque(bytes)));
}
