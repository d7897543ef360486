// Does one wrong thing, in a function whose name the report must show, or only right ones.
//     buggy clean|overflow|use_after_free|leak|uninitialised|race
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// So that the compiler can't see what becomes of a block.
static char* volatile block;
static int shared;

__attribute__((noinline)) static char* take(size_t bytes) {
    char* const taken = malloc(bytes);
    memset(taken, 1, bytes);
    return taken;
}

static void* work(void* unused) {
    for (int i = 1; i != 500; ++i) {
        char* const a = calloc(1, (size_t)i);
        char* const b = realloc(a, 2 * (size_t)i);
        char* c = NULL;
        if (posix_memalign((void**)&c, 64, (size_t)i) != 0 || b == NULL) {
            exit(2);
        }
        memset(b, 0, 2 * (size_t)i);
        free(b);
        free(c);
        free(aligned_alloc(64, 64));
        free(reallocarray(NULL, 3, (size_t)i));
    }
    return unused;
}

static void* write_shared(void* unused) {
    ++shared;
    return unused;
}

static void in_two_threads(void* (*run)(void*)) {
    pthread_t threads[2];
    for (int i = 0; i != 2; ++i) {
        pthread_create(&threads[i], NULL, run, NULL);
    }
    for (int i = 0; i != 2; ++i) {
        pthread_join(threads[i], NULL);
    }
}

static void clean(void) {
    in_two_threads(&work);
    pid_t const child = fork();
    if (child == 0) {
        work(NULL);
        exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    block = take(100);
    size_t const usable = malloc_usable_size(block);
    free(block);
    malloc_trim(0);
    printf("child %d, 100 bytes: %zu usable\n", status, usable);
}

__attribute__((noinline)) static void overflow(void) {
    block = take(21);
    block[21] = 1;
    free(block);
}

__attribute__((noinline)) static void use_after_free(void) {
    block = take(21);
    free(block);
    block[3] = 1;
}

__attribute__((noinline)) static void leak(void) {
    // Several: what is still in a register counts as held.
    for (int i = 0; i != 10; ++i) {
        block = take(4321);
    }
    block = NULL;
}

__attribute__((noinline)) static void uninitialised(void) {
    block = malloc(21);
    if (block[3] == 7) {
        puts("seven");
    }
    free(block);
}

int main(int count, char** arguments) {
    char const* const what = count == 2 ? arguments[1] : "";
    if (strcmp(what, "overflow") == 0) {
        overflow();
    } else if (strcmp(what, "use_after_free") == 0) {
        use_after_free();
    } else if (strcmp(what, "leak") == 0) {
        leak();
    } else if (strcmp(what, "uninitialised") == 0) {
        uninitialised();
    } else if (strcmp(what, "race") == 0) {
        in_two_threads(&write_shared);
    } else if (strcmp(what, "clean") == 0) {
        clean();
    } else {
        return 2;
    }
    return 0;
}
