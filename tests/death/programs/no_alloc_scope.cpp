// no_alloc_scope - allocates where that is forbidden.
#include "tarn/testing.hpp"

#include "misuse.hpp"

TARN_MISUSE misuse() {
    tarn::no_alloc_scope const scope{{.name = "mixer"}};
    void* const block = opaque(TARN_HEAP(malloc)(64));
    not_a_tail_call();
    TARN_HEAP(free)(block);
}
