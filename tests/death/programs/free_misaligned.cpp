// free_misaligned - frees an address that no block can have.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(TARN_HEAP(malloc)(100)));
    announce("block", block);
    announce("pointer", block + 1);
    TARN_HEAP(free)(opaque(block + 1));
    not_a_tail_call();
    TARN_HEAP(free)(block);
}
