// no_alloc_scope_frees - frees where that is forbidden, too.
#include "tarn/testing.hpp"

#include "misuse.hpp"

TARN_MISUSE misuse() {
    void* const block = opaque(TARN_HEAP(malloc)(64));
    announce("pointer", block);
    tarn::no_alloc_scope const scope{{.frees = tarn::freeing::forbidden}};
    TARN_HEAP(free)(block);
    not_a_tail_call();
}
