// free_interior - frees an address 32 bytes into a block.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(TARN_HEAP(malloc)(100)));
    announce("block", block);
    announce("pointer", block + 32);
    TARN_HEAP(free)(opaque(block + 32));
    not_a_tail_call();
    TARN_HEAP(free)(block);
}
