// double_free_unseen - frees a block again after another one, which fast mode does not see, and
// goes on: the ring that it makes of the allocation list must stop nobody.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    constexpr unsigned blocks_per_page = 8;
    constexpr unsigned pages = 20;
    constexpr unsigned count = pages * blocks_per_page;
    void* blocks[count];
    for (void*& block : blocks) {
        block = opaque(TARN_HEAP(malloc)(std::size_t{8} * 1024));
    }
    announce("pointer", blocks[count - 2]);
    TARN_HEAP(free)(blocks[count - 2]);  // the last page's are the next to be handed out
    TARN_HEAP(free)(blocks[count - 1]);
    TARN_HEAP(free)(opaque(blocks[count - 2]));
    for (unsigned at = 0; at < count - 2 * blocks_per_page; ++at) {
        TARN_HEAP(free)(blocks[at]);
    }
    not_a_tail_call();
}
