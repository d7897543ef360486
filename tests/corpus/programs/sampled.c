// sampled.c - bugs in fast mode, each repeated until its block happens to be a guarded sample. All
// leave an ordinary block's neighbours and the heap's lists alone.
#include <malloc.h>

#include "bug.h"

enum { rounds = 20000 };

static void read_behind(void) {
    for (int i = 0; i < rounds; ++i) {
        char* const row = block_of(96);      // allocated
        char const volatile last = row[96];  // found
        (void)last;
        free(hide(row));
    }
}

// 260 bytes have 288: the heap wastes these, and in a sample they are behind its end.
static void write_behind(void) {
    for (int i = 0; i < rounds; ++i) {
        char* const row = block_of(260);  // allocated
        row[272] = 1;                     // found
        barrier();
        free(hide(row));
    }
}

static void write_in_the_rest(void) {
    for (int i = 0; i < rounds; ++i) {
        char* const row = block_of(90);  // allocated
        row[90] = 1;
        barrier();
        free(hide(row));  // found
    }
}

static void read_freed(void) {
    for (int i = 0; i < rounds; ++i) {
        char* const row = block_of(96);      // allocated
        free(hide(row));                     // freed
        char const volatile byte = row[40];  // found
        (void)byte;
    }
}

static void write_freed(void) {
    for (int i = 0; i < rounds; ++i) {
        char* const row = block_of(96);  // allocated
        free(hide(row));                 // freed
        row[40] = 1;                     // found
        barrier();
    }
}

static void twice(void) {
    for (int i = 0; i < rounds; ++i) {
        char* const row = block_of(97);  // allocated
        // Others would tear the heap's list: they have more room than was asked for.
        int const is_guarded = malloc_usable_size(row) == 97;
        free(hide(row));  // freed
        if (is_guarded) {
            free(hide(row));  // found
        }
    }
}

static void after_realloc(void) {
    for (int i = 0; i < rounds; ++i) {
        char* const row = block_of(97);  // allocated
        int const is_guarded = malloc_usable_size(row) == 97;
        char* const moved = hide(realloc(hide(row), 110));  // freed
        if (is_guarded) {
            row[8] = 1;  // found
            barrier();
        }
        free(moved);
    }
}

static void nothing(void) {
    for (int i = 0; i < rounds; ++i) {
        free(block_of(97));
    }
}

struct bug const bugs[] = {
    {"read_behind", read_behind},
    {"write_behind", write_behind},
    {"write_in_the_rest", write_in_the_rest},
    {"read_freed", read_freed},
    {"write_freed", write_freed},
    {"twice", twice},
    {"after_realloc", after_realloc},
    {"nothing", nothing},
    {NULL, NULL},
};
