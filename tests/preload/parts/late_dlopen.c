/* late_dlopen.c LIBRARY LEFT - with threads running, takes static thread-local storage by loading
 * fillers/BYTES-N.so until no more than about LEFT bytes (64 or 0) are left, then loads LIBRARY (a
 * libtarn_core) and uses it from old and new threads, freeing across threads; then core_user.so. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { old_threads = 4, all_threads = 8, blocks_each = 20000 };

static pthread_barrier_t loaded, filled;
static void* (*tarn_malloc)(size_t);
static void (*tarn_free)(void*);
static size_t (*tarn_malloc_usable_size)(void const*);
static unsigned char* blocks[all_threads][blocks_each];
static unsigned long sums[all_threads];

static void* work(void* argument) {
    size_t const self = (size_t)argument;
    pthread_barrier_wait(&loaded);
    for (size_t i = 0; i < blocks_each; ++i) {
        size_t const bytes = 1 + i * 7 % 500;
        blocks[self][i] = tarn_malloc(bytes);
        memset(blocks[self][i], (int)(i % 251), bytes);
    }
    pthread_barrier_wait(&filled);
    for (size_t i = 0; i < blocks_each; ++i) {
        unsigned char* const block = blocks[(self + 1) % all_threads][i];
        size_t const last = i * 7 % 500;
        sums[self] += (unsigned long)block[0] + block[last];
        sums[self] += tarn_malloc_usable_size(block) > last ? 1 : 0;
        tarn_free(block);
    }
    return NULL;
}

/* Loads fillers of `bytes` until one finds no room; unloads `spare` of them again. */
static int fill(int bytes, int spare) {
    void* handles[100];
    int count = 0;
    for (; count < 100; ++count) {
        char path[64];
        snprintf(path, sizeof path, "fillers/%d-%d.so", bytes, count);
        handles[count] = dlopen(path, RTLD_NOW);
        if (handles[count] == NULL) {
            break;
        }
        char* (*use)(void) = NULL;
        *(void**)&use = dlsym(handles[count], "filler_use");
        use();
    }
    int const loaded_fillers = count;
    for (; spare > 0 && count > 0; --spare) {
        dlclose(handles[--count]);
    }
    return loaded_fillers;
}

int main(int argument_count, char** arguments) {
    if (argument_count != 3) {
        return 2;
    }
    pthread_t threads[all_threads];
    pthread_barrier_init(&loaded, NULL, all_threads);
    pthread_barrier_init(&filled, NULL, all_threads);
    for (size_t i = 0; i < old_threads; ++i) {
        pthread_create(&threads[i], NULL, work, (void*)i);
    }

    int const keep_64 = strcmp(arguments[2], "64") == 0;
    int const large = fill(64, keep_64 ? 1 : 0);
    int const small = keep_64 ? 0 : fill(8, 0);
    void* const library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
    *(void**)&tarn_malloc = dlsym(library, "tarn_malloc");
    *(void**)&tarn_free = dlsym(library, "tarn_free");
    *(void**)&tarn_malloc_usable_size = dlsym(library, "tarn_malloc_usable_size");

    /* A library linked with libtarn_core is served by libtarn.so where that is preloaded. (Only
     * dlsym() on libtarn_core's own handle, as above, still reaches libtarn_core's own heap.) */
    void* const user = dlopen("./core_user.so", RTLD_NOW | RTLD_LOCAL);
    if (user == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
    void* (*core_user_block)(size_t) = NULL;
    *(void**)&core_user_block = dlsym(user, "core_user_block");
    (getenv("LD_PRELOAD") != NULL ? free : tarn_free)(core_user_block(1000));

    for (size_t i = old_threads; i < all_threads; ++i) {
        pthread_create(&threads[i], NULL, work, (void*)i);
    }
    unsigned long sum = 0;
    for (size_t i = 0; i < all_threads; ++i) {
        pthread_join(threads[i], NULL);
        sum += sums[i];
    }
    printf("left %s: storage was taken: %d, sum %lu\n", arguments[2],
           large > 5 && (keep_64 || large + small > 5), sum);
    dlclose(library);
    return 0;
}
