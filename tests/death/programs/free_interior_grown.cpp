// free_interior_grown - frees an address inside a block that grew from 40 MiB to 200.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    constexpr std::size_t mib = std::size_t{1} << 20;
    auto* block = static_cast<char*>(opaque(TARN_HEAP(malloc)(40 * mib)));
    for (std::size_t bytes = 80 * mib; bytes <= 200 * mib; bytes += 40 * mib) {
        block = static_cast<char*>(opaque(TARN_HEAP(realloc)(block, bytes)));
    }
    announce("block", block);
    announce("pointer", block + 150 * mib);
    TARN_HEAP(free)(opaque(block + 150 * mib));
    not_a_tail_call();
    TARN_HEAP(free)(block);
}
