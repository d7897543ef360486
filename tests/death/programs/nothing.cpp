// nothing - no misuse: for the options.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    TARN_HEAP(free)(opaque(TARN_HEAP(malloc)(100)));
    not_a_tail_call();
}
