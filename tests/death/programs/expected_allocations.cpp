// expected_allocations - allocates more often than a test expects.
#include "tarn/testing.hpp"

#include "misuse.hpp"

TARN_MISUSE misuse() {
    tarn::expected_allocations const wanted{{.allocations = 1, .live_blocks = 0},
                                            {.name = "parse"}};
    TARN_HEAP(free)(opaque(TARN_HEAP(malloc)(64)));
    TARN_HEAP(free)(opaque(TARN_HEAP(malloc)(64)));
}
