// realloc_interior - resizes from the middle of a block.
#include "misuse.hpp"

MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(HEAP(malloc)(1000)));
    announce("block", block);
    announce("pointer", block + 48);
    void* const moved = opaque(HEAP(realloc)(opaque(block + 48), 5000));
    announce("result", moved);
    HEAP(free)(block);
}
