// free_data - frees a static variable.
#include "misuse.hpp"

alignas(64) static char variable[64];

TARN_MISUSE misuse() {
    announce("pointer", variable);
    TARN_HEAP(free)(opaque(static_cast<void*>(variable)));
    not_a_tail_call();
}
