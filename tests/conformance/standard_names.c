/* standard_names - the C functions behave as glibc 2.36's do, and serve before and after main.
 *
 * Run on glibc, which must pass: it is the reference; then with libtarn.so preloaded, and linked
 * with libtarn_override.a. TARN_TEST_ON_TARN=1 in the environment demands that Tarn serves.
 * Status  0 all held; else each failure is a line on stderr.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { marker = 4711 }; /* no errno has this value */

static size_t const too_large = (size_t)PTRDIFF_MAX + 1;

static int is_aligned(void const* block, size_t alignment) {
    return (uintptr_t)block % alignment == 0;
}

static int is_zero(unsigned char const* block, size_t bytes) {
    return bytes == 0 || (block[0] == 0 && memcmp(block, block + 1, bytes - 1) == 0);
}

#define TARN_EXPECT_NO_MEMORY(call)        \
    do {                                   \
        errno = marker;                    \
        TARN_EXPECT(opaque(call) == NULL); \
        TARN_EXPECT(errno == ENOMEM);      \
    } while (0)

static void test_free(void) {
    size_t const sizes[] = {1, 4096, 100000, 1000000, 40000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
        char* const block = opaque(malloc(sizes[i]));
        TARN_EXPECT(block != NULL);
        memset(block, 1, sizes[i]);
        errno = marker;
        free(block);
        TARN_EXPECT(errno == marker);
    }
    errno = marker;
    free(opaque(NULL));
    TARN_EXPECT(errno == marker);
}

static void test_zero_sizes(void) {
    void* const blocks[] = {opaque(malloc(0)),        opaque(malloc(0)),
                            opaque(calloc(0, 7)),     opaque(calloc(7, 0)),
                            opaque(realloc(NULL, 0)), opaque(reallocarray(NULL, 0, 9)),
                            opaque(memalign(64, 0)),  opaque(aligned_alloc(32, 0)),
                            opaque(valloc(0)),        opaque(pvalloc(0))};
    size_t const count = sizeof blocks / sizeof *blocks;
    for (size_t i = 0; i < count; ++i) {
        TARN_EXPECT(blocks[i] != NULL);
        for (size_t j = 0; j < i; ++j) {
            TARN_EXPECT(blocks[i] != blocks[j]);
        }
    }
    for (size_t i = 0; i < count; ++i) {
        free(blocks[i]);
    }
    void* const block = opaque(malloc(100));
    TARN_EXPECT(opaque(realloc(block, 0)) == NULL); /* glibc: frees and returns null */
    void* const other = opaque(malloc(100));
    TARN_EXPECT(opaque(reallocarray(other, 3, 0)) == NULL);
}

static void test_overflow(void) {
    size_t const sizes[] = {too_large, too_large + 1, SIZE_MAX - 4096, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
        size_t const bytes = opaque_size(sizes[i]);
        TARN_EXPECT_NO_MEMORY(malloc(bytes));
        TARN_EXPECT_NO_MEMORY(calloc(1, bytes));
        TARN_EXPECT_NO_MEMORY(calloc(bytes, 1));
        TARN_EXPECT_NO_MEMORY(realloc(NULL, bytes));
        TARN_EXPECT_NO_MEMORY(reallocarray(NULL, 1, bytes));
        TARN_EXPECT_NO_MEMORY(memalign(8, bytes));
        TARN_EXPECT_NO_MEMORY(memalign(4096, bytes));
        TARN_EXPECT_NO_MEMORY(aligned_alloc(64, bytes));
        TARN_EXPECT_NO_MEMORY(valloc(bytes));
        TARN_EXPECT_NO_MEMORY(pvalloc(bytes));
        void* out = &out;
        TARN_EXPECT(posix_memalign(&out, 64, bytes) == ENOMEM);
        TARN_EXPECT(out == (void*)&out);
    }
    size_t const root = opaque_size((size_t)1 << 32);
    TARN_EXPECT_NO_MEMORY(calloc(root, root));
    TARN_EXPECT_NO_MEMORY(calloc(root + 1, root));
    TARN_EXPECT_NO_MEMORY(calloc(opaque_size(SIZE_MAX), 2));
    TARN_EXPECT_NO_MEMORY(calloc(root, root / 2)); /* the product fits, but exceeds PTRDIFF_MAX */
    TARN_EXPECT_NO_MEMORY(malloc(opaque_size((size_t)PTRDIFF_MAX)));
    char* const block = opaque(malloc(10));
    block[9] = 'x';
    TARN_EXPECT_NO_MEMORY(reallocarray(opaque(block), root, root));
    TARN_EXPECT_NO_MEMORY(realloc(opaque(block), opaque_size(too_large)));
    TARN_EXPECT(block[9] == 'x');
    free(block);
}

static void test_realloc(void) {
    unsigned char* block = opaque(realloc(NULL, 10));
    size_t bytes = 10;
    memset(block, 'k', bytes);
    for (size_t next = 1; next < 5000000; next = next * 3 + 1) {
        block = opaque(realloc(block, next));
        TARN_EXPECT(block != NULL);
        TARN_EXPECT(malloc_usable_size(block) >= next);
        size_t const kept = bytes < next ? bytes : next;
        TARN_EXPECT(block[0] == 'k' && memcmp(block, block + 1, kept - 1) == 0);
        memset(block, 'k', next);
        bytes = next;
    }
    block = opaque(reallocarray(block, 5, 20));
    TARN_EXPECT(block[0] == 'k' && memcmp(block, block + 1, 99) == 0);
    free(block);
    block = opaque(memalign(4096, 5000)); /* an aligned block may be resized: alignment is lost */
    memset(block, 'm', 5000);
    block = opaque(realloc(block, 50000));
    TARN_EXPECT(block[0] == 'm' && memcmp(block, block + 1, 4999) == 0);
    free(block);
}

static void test_calloc(void) {
    for (size_t bytes = 1; bytes < 3000000; bytes = bytes * 2 + 3) {
        unsigned char* block = opaque(malloc(bytes));
        memset(block, 0xff, malloc_usable_size(block));
        free(block);
        block = opaque(calloc(bytes, 1));
        TARN_EXPECT(block != NULL);
        TARN_EXPECT(is_zero(block, bytes));
        free(block);
    }
}

static void test_alignment(void) {
    for (size_t bytes = 0; bytes < 3000; bytes += 13) {
        void* const block = opaque(malloc(bytes));
        TARN_EXPECT(is_aligned(block, _Alignof(max_align_t)));
        free(block);
    }
    for (size_t alignment = sizeof(void*); alignment <= (size_t)2 << 20; alignment *= 2) {
        void* out = NULL;
        errno = marker;
        TARN_EXPECT(posix_memalign(&out, alignment, 100) == 0);
        TARN_EXPECT(errno == marker);
        void* const blocks[] = {out, opaque(memalign(alignment, 33)),
                                opaque(aligned_alloc(alignment, 70000))};
        for (size_t i = 0; i < sizeof blocks / sizeof *blocks; ++i) {
            TARN_EXPECT(blocks[i] != NULL);
            TARN_EXPECT(is_aligned(blocks[i], alignment));
            free(blocks[i]);
        }
    }
    /* glibc rounds up what is no power of two. */
    void* block = opaque(memalign(opaque_size((size_t)24), 100));
    TARN_EXPECT(block != NULL && is_aligned(block, 32));
    free(block);
    block = opaque(aligned_alloc(opaque_size((size_t)5000), 100));
    TARN_EXPECT(block != NULL && is_aligned(block, 8192));
    free(block);
    block = opaque(memalign(opaque_size(0), 100));
    TARN_EXPECT(block != NULL && is_aligned(block, 16));
    free(block);
    errno = marker;
    TARN_EXPECT(opaque(memalign(opaque_size(SIZE_MAX / 2 + 2), 1)) == NULL);
    TARN_EXPECT(errno == EINVAL);
    size_t const wrong[] = {0, 1, 2, 4, 7, 12, 24, 4095, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        void* out = &out;
        errno = marker;
        TARN_EXPECT(posix_memalign(&out, opaque_size(wrong[i]), 8) == EINVAL);
        TARN_EXPECT(out == (void*)&out);
        TARN_EXPECT(errno == marker);
    }
}

static void test_page_functions(void) {
    size_t const page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    char* block = opaque(valloc(100));
    TARN_EXPECT(block != NULL && is_aligned(block, page_bytes));
    free(block);
    block = opaque(pvalloc(page_bytes + 1));
    TARN_EXPECT(block != NULL && is_aligned(block, page_bytes));
    TARN_EXPECT(malloc_usable_size(block) >= 2 * page_bytes);
    memset(block, 1, 2 * page_bytes);
    free(block);
}

static void test_usable_size(void) {
    TARN_EXPECT(malloc_usable_size(NULL) == 0);
    for (size_t bytes = 0; bytes < 300000; bytes = bytes * 2 + 1) {
        char* const block = opaque(malloc(bytes));
        size_t const usable = malloc_usable_size(block);
        TARN_EXPECT(usable >= bytes);
        memset(block, 'u', usable);
        free(block);
    }
}

typedef void free_sized_function(void* block, size_t bytes);
typedef void free_aligned_sized_function(void* block, size_t alignment, size_t bytes);

/* C23's; glibc 2.36 has none, so only looked up. */
static void test_sized_frees(int on_tarn) {
    free_sized_function* free_sized = NULL;
    free_aligned_sized_function* free_aligned_sized = NULL;
    *(void**)&free_sized = dlsym(RTLD_DEFAULT, "free_sized");
    *(void**)&free_aligned_sized = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    TARN_EXPECT(!on_tarn || (free_sized != NULL && free_aligned_sized != NULL));
    for (size_t bytes = 0; bytes < 1000000; bytes = bytes * 3 + 1) {
        if (free_sized != NULL) {
            errno = marker;
            free_sized(opaque(malloc(bytes)), bytes);
            free_sized(opaque(calloc(1, bytes)), bytes);
            free_sized(NULL, bytes);
            TARN_EXPECT(errno == marker);
        }
        if (free_aligned_sized != NULL) {
            free_aligned_sized(opaque(aligned_alloc(256, bytes)), 256, bytes);
            free_aligned_sized(NULL, 256, bytes);
        }
    }
}

/* --- allocation before constructors, after main, and at the end of a thread --- */

static void* from_preinit;
static void* from_constructor;
static void* from_main;

static void at_preinit(void) {
    from_preinit = malloc(1000);
    memset(from_preinit, 'p', 1000);
    free(malloc(10));
}

__attribute__((section(".preinit_array"),
               used)) static void (*const preinit_entry)(void) = at_preinit;

__attribute__((constructor(101))) static void at_construction(void) {
    from_constructor = calloc(100, 10);
    free(realloc(malloc(10), 10000));
}

/* Ends the process with status 1 when something failed after main. */
static void use_late(void) {
    TARN_EXPECT(((char*)from_main)[0] == 'm');
    free(from_main);
    from_main = opaque(malloc(300));
    TARN_EXPECT(from_main != NULL);
    memset(from_main, 'm', 300);
    free(opaque(memalign(128, 100000)));
    if (check_failures != 0) {
        _exit(1);
    }
}

__attribute__((destructor)) static void at_destruction(void) { use_late(); }

static pthread_key_t late_key;
static int late_rounds = 0;

/* Runs in every round of key destructors, so in rounds after the allocator's own too. */
static void at_key_destruction(void* block) {
    ++late_rounds;
    TARN_EXPECT(((char*)block)[0] == 'k');
    free(block);
    char* const next = opaque(malloc(5000));
    TARN_EXPECT(next != NULL);
    next[0] = 'k';
    free(opaque(malloc(200000)));
    if (late_rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
        TARN_EXPECT(pthread_setspecific(late_key, next) == 0);
    } else {
        free(next);
    }
}

static void* thread_main(void* block) {
    free(block);
    char* const kept = opaque(malloc(64));
    kept[0] = 'k';
    TARN_EXPECT(pthread_setspecific(late_key, kept) == 0);
    return opaque(malloc(777)); /* outlives its thread */
}

static void test_threads(void) {
    TARN_EXPECT(pthread_key_create(&late_key, at_key_destruction) == 0);
    for (int i = 0; i < 50; ++i) {
        late_rounds = 0;
        pthread_t thread;
        void* left = NULL;
        TARN_EXPECT(pthread_create(&thread, NULL, thread_main, opaque(malloc(10))) == 0);
        TARN_EXPECT(pthread_join(thread, &left) == 0);
        TARN_EXPECT(late_rounds == PTHREAD_DESTRUCTOR_ITERATIONS);
        memset(left, 'l', 777);
        free(left);
    }
}

int main(void) {
    int const on_tarn = dlsym(RTLD_DEFAULT, "tarn_version") != NULL;
    TARN_EXPECT(getenv("TARN_TEST_ON_TARN") == NULL || on_tarn);
    TARN_EXPECT(((char*)from_preinit)[999] == 'p');
    TARN_EXPECT(from_constructor != NULL && is_zero(from_constructor, 1000));
    free(from_preinit);
    free(from_constructor);
    test_free();
    test_zero_sizes();
    test_overflow();
    test_realloc();
    test_calloc();
    test_alignment();
    test_page_functions();
    test_usable_size();
    test_sized_frees(on_tarn);
    test_threads();
    from_main = opaque(malloc(300));
    memset(from_main, 'm', 300);
    TARN_EXPECT(atexit(use_late) == 0);
    return check_result();
}
