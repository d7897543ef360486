// bad_free.c - free() and realloc() of what is no block: freed ones, the inside of one, others.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#include "bug.h"

static char global[64] __attribute__((aligned(16)));

static void twice(void) {
    char* const row = block_of(56);  // allocated
    free(hide(row));                 // freed
    free(hide(row));                 // found
}

static void* free_it(void* block) {
    free(hide(block));  // twice_elsewhere: found
    return NULL;
}

static void twice_elsewhere(void) {
    char* const row = block_of(56);  // allocated
    free(hide(row));                 // freed
    pthread_t other;
    pthread_create(&other, NULL, free_it, row);
    pthread_join(other, NULL);
}

static void twice_with_others_between(void) {
    char* const row = block_of(56);  // allocated
    free(hide(row));                 // freed
    for (int i = 0; i < 100; ++i) {
        free(block_of(56));
    }
    free(hide(row));  // found
}

static void twice_large(void) {
    char* const row = hide(malloc(5 << 20));  // allocated
    free(hide(row));                          // freed
    free(hide(row));                          // found
}

static void after_realloc(void) {
    char* const row = block_of(56);                // allocated
    char* const moved = hide(realloc(row, 5600));  // freed
    free(hide(row));                               // found
    free(hide(moved));
}

static void realloc_freed(void) {
    char* const row = block_of(56);               // allocated
    free(hide(row));                              // freed
    char* const moved = hide(realloc(row, 100));  // found
    free(moved);
}

static void realloc_to_zero_then_free(void) {
    char* const row = block_of(56);             // allocated
    char* const moved = hide(realloc(row, 0));  // freed
    free(hide(row));                            // found
    free(moved);
}

static void interior(void) {
    char* const row = block_of(100);  // allocated
    free(hide(row + 32));             // found
    free(row);
}

static void interior_odd(void) {
    char* const row = block_of(100);  // allocated
    free(hide(row + 1));              // found
    free(row);
}

static void interior_large(void) {
    char* const row = hide(malloc(3 << 20));  // allocated
    free(hide(row + 1000000));                // found
    free(row);
}

static void interior_of_freed(void) {
    char* const row = block_of(100);  // allocated
    free(hide(row));                  // freed
    free(hide(row + 48));             // found
}

static void behind_end(void) {
    char* const row = block_of(100);  // allocated
    free(hide(row + 100));            // found
    free(row);
}

static void before_start(void) {
    char* const row = block_of(100);  // allocated
    free(hide(row - 8));              // found
    free(row);
}

static void realloc_interior(void) {
    char* const row = block_of(100);                 // allocated
    char* const moved = hide(realloc(row + 8, 50));  // found
    free(moved);
    free(row);
}

static void stack(void) {
    char local[64] __attribute__((aligned(16))) = "";
    free(hide(local));  // found
}

static void global_data(void) {
    free(hide(global));  // found
}

static void constant(void) {
    free(hide("a constant"));  // found
}

static void function(void) {
    free(hide((void const*)(uintptr_t)&function));  // found
}

static void mapping(void) {
    char* const mapped =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    free(hide(mapped));  // found
    munmap(mapped, 4096);
}

static void wild(void) {
    free(hide((void*)(uintptr_t)0x123456789abcd0));  // found
}

static void small_number(void) {
    free(hide((void*)(uintptr_t)0x11));  // found
}

static void last_address(void) {
    free(hide((void*)UINTPTR_MAX));  // found
}

static void realloc_stack(void) {
    char local[64] __attribute__((aligned(16))) = "";
    char* const moved = hide(realloc(hide(local), 100));  // found
    free(moved);
}

static void realloc_global(void) {
    char* const moved = hide(realloc(hide(global), 100));  // found
    free(moved);
}

static void realloc_wild(void) {
    char* const moved = hide(realloc(hide((void*)(uintptr_t)0x123456789abcd0), 100));  // found
    free(moved);
}

struct bug const bugs[] = {{"twice", twice},
                           {"twice_elsewhere", twice_elsewhere},
                           {"twice_with_others_between", twice_with_others_between},
                           {"twice_large", twice_large},
                           {"after_realloc", after_realloc},
                           {"realloc_freed", realloc_freed},
                           {"realloc_to_zero_then_free", realloc_to_zero_then_free},
                           {"interior", interior},
                           {"interior_odd", interior_odd},
                           {"interior_large", interior_large},
                           {"interior_of_freed", interior_of_freed},
                           {"behind_end", behind_end},
                           {"before_start", before_start},
                           {"realloc_interior", realloc_interior},
                           {"stack", stack},
                           {"global_data", global_data},
                           {"constant", constant},
                           {"function", function},
                           {"mapping", mapping},
                           {"wild", wild},
                           {"small_number", small_number},
                           {"last_address", last_address},
                           {"realloc_stack", realloc_stack},
                           {"realloc_global", realloc_global},
                           {"realloc_wild", realloc_wild},
                           {NULL, NULL}};
