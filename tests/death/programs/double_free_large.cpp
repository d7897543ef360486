// double_free_large - frees a block of ten mebibytes twice.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    void* const block = opaque(TARN_HEAP(malloc)(10 << 20));
    announce("pointer", block);
    TARN_HEAP(free)(block);
    TARN_HEAP(free)(opaque(block));
    not_a_tail_call();
}
