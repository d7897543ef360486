// free_last_address - frees the last address there is.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    auto* const wild = reinterpret_cast<void*>(~std::uintptr_t{0});
    announce("pointer", wild);
    TARN_HEAP(free)(opaque(wild));
    not_a_tail_call();
}
