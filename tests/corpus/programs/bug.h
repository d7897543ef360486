// bug.h - the frame of a program with bugs, in C or C++. `program NAME` runs the one of that name.
//
// Lines that a report must name are marked: in the bug's function `// allocated`, `// freed`,
// `// found`, and elsewhere `// NAME: allocated` and so on; run_bugs says how they are read.
// When the bug has run and the program goes on, the last line on stdout is `survived`.
#ifndef TARN_TEST_BUG_H
#define TARN_TEST_BUG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct bug {
    char const* name;
    void (*run)(void);
};

/* The bugs of the program, the last one without a name. */
extern struct bug const bugs[];

/* Hides from the compiler where a pointer comes from: it would warn of the bug, or remove it. */
static inline void* hide(void const* ptr) {
    void* hidden = (void*)ptr;
    __asm__ volatile("" : "+r"(hidden) : : "memory");
    return hidden;
}

static inline char* block_of(size_t bytes) __attribute__((always_inline));

/* Of characters, filled, and not known to come from malloc(). */
static inline char* block_of(size_t bytes) {
    char* const block = (char*)hide(malloc(bytes));
    memset(block, 'x', bytes);
    return block;
}

/* Writes are done when they are due. */
static inline void barrier(void) { __asm__ volatile("" : : : "memory"); }

int main(int count, char** arguments) {
    for (struct bug const* each = bugs; count == 2 && each->name != NULL; ++each) {
        if (strcmp(each->name, arguments[1]) == 0) {
            free(block_of(1));  // a thread's first free checks some blocks; not one of the bug's
            each->run();
            barrier();
            // Not by stdio, whose buffer would be a leak.
            return write(STDOUT_FILENO, "survived\n", 9) == 9 ? 0 : 3;
        }
    }
    fputs("usage: program NAME\n", stderr);
    return 2;
}

#endif
