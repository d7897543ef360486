// plugin.c - a library with bugs, which endings.cpp opens and closes.
#include <stdlib.h>
#include <string.h>

static void* hide(void* ptr) {
    __asm__ volatile("" : "+r"(ptr) : : "memory");
    return ptr;
}

__attribute__((visibility("default"))) void break_and_free(void) {
    char* const row = hide(malloc(90));  // in_a_plugin: allocated
    memset(row, 0, 93);
    free(hide(row));  // in_a_plugin: found
}

__attribute__((visibility("default"))) void* allocate_broken(void) {
    char* const row = hide(malloc(90));
    memset(row, 0, 93);
    return hide(row);
}

__attribute__((visibility("default"))) void write_freed(void) {
    char* const row = hide(malloc(90));
    free(hide(row));
    row[7] = 7;
}

__attribute__((constructor)) static void start(void) {
    if (getenv("TARN_TEST_BREAK") != NULL) {
        char* const row = hide(malloc(90));  // in_a_constructor_of_a_plugin: allocated
        row[-1] = 1;
        free(hide(row));  // in_a_constructor_of_a_plugin: found
    }
}
