// realloc_interior - resizes from the middle of a block.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(TARN_HEAP(malloc)(1000)));
    announce("block", block);
    announce("pointer", block + 48);
    void* const moved = opaque(TARN_HEAP(realloc)(opaque(block + 48), 5000));
    announce("result", moved);
    TARN_HEAP(free)(block);
}
