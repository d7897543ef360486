// free_behind_shrunk - frees an address that a block had before it shrank from 200 MiB to 100.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    constexpr std::size_t mib = std::size_t{1} << 20;
    auto* block = static_cast<char*>(opaque(TARN_HEAP(malloc)(200 * mib)));
    block = static_cast<char*>(opaque(TARN_HEAP(realloc)(block, 100 * mib)));
    char* const behind = opaque(block + 100 * mib);
    announce("pointer", behind);
    TARN_HEAP(free)(behind);
    not_a_tail_call();
    TARN_HEAP(free)(block);
}
