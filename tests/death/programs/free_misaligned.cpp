// free_misaligned - frees an address that no block can have.
#include "misuse.hpp"

MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(HEAP(malloc)(100)));
    announce("block", block);
    announce("pointer", block + 1);
    HEAP(free)(opaque(block + 1));
    not_a_tail_call();
    HEAP(free)(block);
}
