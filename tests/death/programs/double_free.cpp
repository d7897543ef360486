// double_free - frees the block twice that its page saw last.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    void* const block = opaque(TARN_HEAP(malloc)(50));
    void* const neighbour = opaque(TARN_HEAP(malloc)(50));
    announce("pointer", block);
    TARN_HEAP(free)(block);
    TARN_HEAP(free)(opaque(block));
    not_a_tail_call();
    TARN_HEAP(free)(neighbour);
}
