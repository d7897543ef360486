/* check.h - TARN_EXPECT for programs without a test framework, in C and C++: says what failed and
 * counts.
 *
 * Nothing here allocates. Use: TARN_EXPECT(condition), then `return check_result();` from main.
 */
#ifndef TARN_TESTS_CONFORMANCE_CHECK_H
#define TARN_TESTS_CONFORMANCE_CHECK_H

#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

static int check_failures = 0;

#define TARN_EXPECT(condition)                                                             \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            dprintf(STDERR_FILENO, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            ++check_failures;                                                              \
        }                                                                                  \
    } while (0)

static inline int check_result(void) { return check_failures == 0 ? 0 : 1; }

/* Hide from the compiler where a pointer or a number comes from, so that it neither warns of what a
 * test does on purpose nor removes it. */
static inline void* opaque(void* block) {
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}

static inline size_t opaque_size(size_t bytes) {
    __asm__ volatile("" : "+r"(bytes));
    return bytes;
}

#endif
