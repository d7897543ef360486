// double_free - frees the block twice that its page saw last.
#include "misuse.hpp"

MISUSE misuse() {
    void* const block = opaque(HEAP(malloc)(50));
    void* const neighbour = opaque(HEAP(malloc)(50));
    announce("pointer", block);
    HEAP(free)(block);
    HEAP(free)(opaque(block));
    not_a_tail_call();
    HEAP(free)(neighbour);
}
