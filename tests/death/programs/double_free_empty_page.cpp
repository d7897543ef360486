// double_free_empty_page - frees a block again when nothing of its page is live.
#include "misuse.hpp"

TARN_MISUSE misuse() {
    void* const first = opaque(TARN_HEAP(malloc)(20'000));
    void* const second = opaque(TARN_HEAP(malloc)(20'000));
    announce("pointer", first);
    TARN_HEAP(free)(first);
    TARN_HEAP(free)(second);
    TARN_HEAP(free)(opaque(first));
    not_a_tail_call();
}
