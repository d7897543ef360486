/* allocating_hooks - code that runs inside the allocator's own calls and allocates there: fork
 * handlers that came before the allocator's, and wrappers of system calls, as tools preload them.
 *
 * Status  0 all held; else each failure is a line on stderr. A hang is a failure too. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static __thread int wrapped_calls = 0;

/* What a wrapper does that logs, say. */
static void allocate_something(void) {
    static __thread int inside = 0;
    if (inside == 0) {
        inside = 1;
        void* const small = opaque(malloc(3000));
        void* const large = opaque(malloc(300000));
        TARN_EXPECT(small != NULL && large != NULL);
        free(large);
        free(small);
        ++wrapped_calls;
        inside = 0;
    }
}

int clock_gettime(clockid_t clock, struct timespec* now) {
    allocate_something();
    static int (*real)(clockid_t, struct timespec*) = NULL;
    if (real == NULL) {
        *(void**)&real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    return real(clock, now);
}

int madvise(void* start, size_t bytes, int advice) {
    allocate_something();
    static int (*real)(void*, size_t, int) = NULL;
    if (real == NULL) {
        *(void**)&real = dlsym(RTLD_NEXT, "madvise");
    }
    return real(start, bytes, advice);
}

static void* held = NULL;

static void before_fork(void) {
    held = opaque(malloc((size_t)1 << 20));
    TARN_EXPECT(held != NULL);
    memset(held, 1, (size_t)1 << 20);
}

static void after_fork(void) {
    free(held);
    held = opaque(malloc((size_t)2 << 20));
    TARN_EXPECT(held != NULL);
    free(held);
}

__attribute__((constructor)) static void register_first(void) {
    TARN_EXPECT(pthread_atfork(before_fork, after_fork, after_fork) == 0);
}

static void* churn(void* stop) {
    while (__atomic_load_n((int*)stop, __ATOMIC_RELAXED) == 0) {
        free(opaque(malloc(200000)));
    }
    return NULL;
}

int main(void) {
    void* blocks[200];
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 200; ++i) {
            blocks[i] = opaque(malloc((size_t)(i + 1) * 2000));
            TARN_EXPECT(blocks[i] != NULL);
        }
        for (int i = 0; i < 200; ++i) {
            free(blocks[i]);
        }
    }
    struct timespec now;
    TARN_EXPECT(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    TARN_EXPECT(wrapped_calls > 0);
    int stop = 0;
    pthread_t thread;
    TARN_EXPECT(pthread_create(&thread, NULL, churn, &stop) == 0);
    for (int i = 0; i < 50; ++i) {
        pid_t const child = fork();
        if (child == 0) {
            free(opaque(malloc(100)));
            _exit(check_failures != 0);
        }
        int status = 0;
        TARN_EXPECT(waitpid(child, &status, 0) == child);
        TARN_EXPECT(status == 0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    TARN_EXPECT(pthread_join(thread, NULL) == 0);
    return check_result();
}
