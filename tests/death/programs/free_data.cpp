// free_data - frees a static variable.
#include "misuse.hpp"

alignas(64) static char variable[64];

MISUSE misuse() {
    announce("pointer", variable);
    HEAP(free)(opaque(static_cast<void*>(variable)));
    not_a_tail_call();
}
