// double_free_empty_page - frees a block again when nothing of its page is live.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    // A page of blocks, and one more: the page is then not the one that malloc takes blocks from.
    constexpr unsigned count = 64 * 1024 / 256;
    void* blocks[count];
    for (void*& block : blocks) {
        block = opaque(TARN_HEAP(malloc)(256));
    }
    void* const other = opaque(TARN_HEAP(malloc)(256));
    announce("pointer", blocks[0]);
    for (void* const block : blocks) {
        TARN_HEAP(free)(block);
    }
    TARN_HEAP(free)(opaque(blocks[0]));
    TARN_HEAP(free)(other);
    not_a_tail_call();
}
