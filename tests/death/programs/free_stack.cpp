// free_stack - frees a variable on the stack.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    alignas(64) char variable[64];
    announce("pointer", variable);
    TARN_HEAP(free)(opaque(static_cast<void*>(variable)));
    not_a_tail_call();
}
