/* malloc, libc's own calls of it and, in C++, new are Tarn's. Compiles as C and as C++. */
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
    char* const volatile block = (char*)malloc(bytes);
    if (block == NULL || live_bytes() < before + bytes) {
        return 1;
    }
    memset(block, 'x', bytes);
    block[bytes - 1] = '\0';
    char* const volatile copy = strdup(block);
    if (copy == NULL || live_bytes() < before + 2 * bytes) {
        return 2;
    }
    free(copy);
    free(block);
#ifdef __cplusplus
    char* const volatile array = new char[bytes];
    if (live_bytes() < before + bytes) {
        return 3;
    }
    delete[] array;
#endif
    printf("version %s\n", tarn_version());
    return strcmp(tarn_version(), "") == 0;
}
