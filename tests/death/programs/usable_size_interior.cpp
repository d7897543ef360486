// usable_size_interior - asks for the size of the middle of a block.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(TARN_HEAP(malloc)(200)));
    announce("block", block);
    announce("pointer", block + 16);
    std::size_t const bytes = TARN_HEAP(malloc_usable_size)(opaque(block + 16));
    announce("result", reinterpret_cast<void const*>(opaque(bytes)));
    TARN_HEAP(free)(block);
}
