/* main_leaves - the main thread leaves by pthread_exit, and the process ends with its last thread.
 *
 * Status  0; where something of the allocator's keeps the process alive, it never ends.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static pthread_t main_thread;

static void free_much(void) {
    for (int i = 0; i < 4; ++i) {
        size_t const bytes = (size_t)8 << 20;
        char* const block = opaque(malloc(bytes));
        TARN_EXPECT(block != NULL);
        memset(block, 1, bytes);
        free(block);
    }
}

static void* outlive_main(void* argument) {
    free_much();
    TARN_EXPECT(pthread_join(main_thread, NULL) == 0);
    free_much();
    return argument;
}

int main(void) {
    main_thread = pthread_self();
    free_much();
    pthread_t other;
    TARN_EXPECT(pthread_create(&other, NULL, outlive_main, NULL) == 0);
    free_much();
    if (check_result() != 0) {
        return 1;
    }
    pthread_exit(NULL);
}
