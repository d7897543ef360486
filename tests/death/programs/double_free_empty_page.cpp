// double_free_empty_page - frees a block again when nothing of its page is live.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    // As many blocks as a page makes at first, so that none of it waits to be allocated.
    constexpr unsigned count = 4096 / 256;
    void* blocks[count];
    for (void*& block : blocks) {
        block = opaque(TARN_HEAP(malloc)(256));
    }
    announce("pointer", blocks[0]);
    for (void* const block : blocks) {
        TARN_HEAP(free)(block);
    }
    TARN_HEAP(free)(opaque(blocks[0]));
    not_a_tail_call();
}
