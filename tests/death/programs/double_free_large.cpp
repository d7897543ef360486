// double_free_large - frees a block of ten mebibytes twice.
#include "misuse.hpp"

MISUSE misuse() {
    void* const block = opaque(HEAP(malloc)(10 << 20));
    announce("pointer", block);
    HEAP(free)(block);
    HEAP(free)(opaque(block));
    not_a_tail_call();
}
