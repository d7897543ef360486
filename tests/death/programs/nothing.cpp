// nothing - no misuse: for the options.
#include "misuse.hpp"

MISUSE misuse() {
    HEAP(free)(opaque(HEAP(malloc)(100)));
    not_a_tail_call();
}
