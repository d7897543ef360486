// free_interior_large - frees an address far inside a block of a mebibyte.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(TARN_HEAP(malloc)(1 << 20)));
    announce("block", block);
    announce("pointer", block + 700'000);
    TARN_HEAP(free)(opaque(block + 700'000));
    not_a_tail_call();
    TARN_HEAP(free)(block);
}
