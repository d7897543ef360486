// double_free_empty_page - frees a block again when nothing of its page is live.
#include "misuse.hpp"

MISUSE misuse() {
    void* const first = opaque(HEAP(malloc)(20'000));
    void* const second = opaque(HEAP(malloc)(20'000));
    announce("pointer", first);
    HEAP(free)(first);
    HEAP(free)(second);
    HEAP(free)(opaque(first));
    not_a_tail_call();
}
