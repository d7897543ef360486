// free_small_number - frees a small number: a null pointer and an offset.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    auto* const wild = reinterpret_cast<void*>(std::uintptr_t{0x10});
    announce("pointer", wild);
    TARN_HEAP(free)(opaque(wild));
    not_a_tail_call();
}
