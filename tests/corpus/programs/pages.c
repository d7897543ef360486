// pages.c - reads and writes that debug=pages stops at.
#include "bug.h"

static void read_behind(void) {
    char const* const row = block_of(64);  // allocated
    char const volatile last = row[64];    // found
    (void)last;
}

static void write_behind(void) {
    char* const row = block_of(64);  // allocated
    row[64] = 1;                     // found
    barrier();
}

static void write_far_behind(void) {
    char* const row = block_of(64);  // allocated
    row[1064] = 1;                   // found
    barrier();
}

static void read_freed(void) {
    char* const row = block_of(48);     // allocated
    free(hide(row));                    // freed
    char const volatile byte = row[8];  // found
    (void)byte;
}

static void write_freed(void) {
    char* const row = block_of(48);  // allocated
    free(hide(row));                 // freed
    row[8] = 1;                      // found
    barrier();
}

static __attribute__((noinline)) void set(char* to) {
    *to = 0;  // first_instruction: found
}

static void first_instruction(void) {
    char* const row = block_of(48);  // allocated
    free(hide(row));                 // freed
    set(row);
}

static void before(void) {
    char* const row = block_of(64);  // allocated
    row[-1] = 1;
    barrier();
    free(hide(row));  // found
}

static void twice(void) {
    char* const row = block_of(48);  // allocated
    free(hide(row));                 // freed
    free(hide(row));                 // found
}

static void leaks(void) {
    hide(malloc(48));  // allocated
}

struct bug const bugs[] = {{"read_behind", read_behind},
                           {"write_behind", write_behind},
                           {"write_far_behind", write_far_behind},
                           {"read_freed", read_freed},
                           {"write_freed", write_freed},
                           {"first_instruction", first_instruction},
                           {"before", before},
                           {"twice", twice},
                           {"leaks", leaks},
                           {NULL, NULL}};
