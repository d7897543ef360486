// realloc_foreign - resizes a variable on the stack.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    alignas(64) char variable[64];
    announce("pointer", variable);
    void* const moved = opaque(TARN_HEAP(realloc)(opaque(static_cast<void*>(variable)), 1000));
    announce("result", moved);
}
