/* The prefixed functions work, and malloc is not Tarn's. Compiles as C and as C++. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tarn/tarn.h>

static uint64_t live_bytes(void) {
    tarn_stats stats;
    stats.size = sizeof stats;
    return tarn_stats_get(&stats) == 0 ? stats.live_bytes : 0;
}

int main(void) {
    size_t const bytes = 3 << 20;
    uint64_t const before = live_bytes();
    char* const block = (char*)tarn_malloc(bytes);
    if (block == NULL || tarn_malloc_usable_size(block) < bytes) {
        return 1;
    }
    memset(block, 1, bytes);
    if (live_bytes() < before + bytes) {
        return 2;
    }
    tarn_free(block);

    uint64_t const without = live_bytes();
    void* const volatile other = malloc(bytes);
    if (live_bytes() != without) {
        return 3;
    }
    free(other);
    printf("version %s\n", tarn_version());
    return strcmp(tarn_version(), "") == 0;
}
