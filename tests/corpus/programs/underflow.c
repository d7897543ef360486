// underflow.c - writes before the start of a block, and over what leads to its record.
#include "bug.h"

/* Unlike memset(), it leaves no byte as it was. */
static void spoil(char* from, int bytes) {
    for (int i = 0; i < bytes; ++i) {
        from[i] = (char)~from[i];
    }
    barrier();
}

static void one(void) {
    char* const row = block_of(24);  // allocated
    row[-1] = 1;
    barrier();
    free(hide(row));  // found
}

static void index_minus_one(void) {
    int* const table = hide(malloc(10 * sizeof *table));  // allocated
    int* const last = table + 10;
    for (int i = 1; i <= 11; ++i) {
        last[-i] = i;
        barrier();
    }
    free(hide(table));  // found
}

static void eight(void) {
    char* const row = block_of(500);  // allocated
    spoil(row - 8, 8);
    free(hide(row));  // found
}

static void tag(void) {
    char* const row = block_of(500);  // allocated
    row[-16] = (char)(row[-16] + 1);
    barrier();
    free(hide(row));  // found
}

static void sixteen(void) {
    char* const row = block_of(64);  // allocated
    spoil(row - 16, 16);
    free(hide(row));  // found
}

static void tag_found_by_realloc(void) {
    char* row = block_of(64);  // allocated
    spoil(row - 16, 16);
    row = hide(realloc(row, 128));  // found
    free(row);
}

// Blocks of a size lie in a row: the write covers the 64 bytes behind one and the 16 before the
// next.
static void into_the_next_block(void) {
    char* rows[2];
    for (int i = 0; i < 2; ++i) {
        rows[i] = block_of(64);  // allocated
    }
    int const low = rows[0] < rows[1] ? 0 : 1;
    spoil(rows[low] + 64, 80);
    free(hide(rows[low]));      // found 1
    free(hide(rows[1 - low]));  // found 2
}

static void large(void) {
    char* const row = hide(malloc(1 << 20));  // allocated
    row[-2] = 1;
    barrier();
    free(hide(row));  // found
}

static void aligned(void) {
    char* const row = hide(aligned_alloc(128, 256));  // allocated
    row[-3] = 1;
    barrier();
    free(hide(row));  // found
}

struct bug const bugs[] = {{"one", one},
                           {"index_minus_one", index_minus_one},
                           {"eight", eight},
                           {"tag", tag},
                           {"sixteen", sixteen},
                           {"tag_found_by_realloc", tag_found_by_realloc},
                           {"into_the_next_block", into_the_next_block},
                           {"large", large},
                           {"aligned", aligned},
                           {NULL, NULL}};
