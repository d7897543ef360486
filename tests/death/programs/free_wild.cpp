// free_wild - frees a number that is no address at all.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    auto* const wild = reinterpret_cast<void*>(std::uintptr_t{0xdead'beef'dead'beef});
    announce("pointer", wild);
    TARN_HEAP(free)(opaque(wild));
    not_a_tail_call();
}
