// usable_size_interior - asks for the size of the middle of a block.
#include "misuse.hpp"

MISUSE misuse() {
    auto* const block = static_cast<char*>(opaque(HEAP(malloc)(200)));
    announce("block", block);
    announce("pointer", block + 16);
    std::size_t const bytes = HEAP(malloc_usable_size)(opaque(block + 16));
    announce("result", reinterpret_cast<void const*>(opaque(bytes)));
    HEAP(free)(block);
}
