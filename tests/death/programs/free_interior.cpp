// free_interior - frees an address 32 bytes into a block.
#include "misuse.hpp"

MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(HEAP(malloc)(100)));
    announce("block", block);
    announce("pointer", block + 32);
    HEAP(free)(opaque(block + 32));
    not_a_tail_call();
    HEAP(free)(block);
}
