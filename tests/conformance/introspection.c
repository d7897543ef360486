/* introspection - mallinfo, malloc_info, malloc_stats, malloc_trim and mallopt, by the steps of the
 * programs that people learn them from.
 *
 * Run on glibc, which is the reference for shape and return values; then on Tarn, where
 * TARN_TEST_ON_TARN=1 demands that the numbers say what the program did.
 * Status  0 all held; else each failure is a line on stderr.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { text_bytes = 64 * 1024, blocks_max = 100 };

static int on_tarn;
static char text[text_bytes];

/* The value of an attribute in the last element of this kind; SIZE_MAX: there is none. */
static size_t attribute(char const* element, char const* name) {
    char const* at = NULL;
    for (char const* next = strstr(text, element); next != NULL; next = strstr(at + 1, element)) {
        at = next;
    }
    char const* const found = at == NULL ? NULL : strstr(at, name);
    return found == NULL ? SIZE_MAX : strtoull(found + strlen(name), NULL, 10);
}

static int count_of(char const* needle) {
    int count = 0;
    for (char const* at = strstr(text, needle); at != NULL; at = strstr(at + 1, needle)) {
        ++count;
    }
    return count;
}

static void read_malloc_info(void) {
    memset(text, 0, sizeof text);
    FILE* const stream = fmemopen(text, sizeof text - 1, "w");
    TARN_EXPECT(stream != NULL);
    TARN_EXPECT(malloc_info(0, stream) == 0);
    fclose(stream);
    TARN_EXPECT(strncmp(text, "<malloc version=\"1\">\n", 21) == 0);
    TARN_EXPECT(count_of("<heap nr=") == count_of("</heap>"));
    TARN_EXPECT(count_of("<heap nr=") >= 1);
    TARN_EXPECT(count_of("<sizes>") == count_of("</sizes>"));
    TARN_EXPECT(count_of("</malloc>\n") == 1);
    TARN_EXPECT(attribute("<system type=\"current\"", "size=\"") != SIZE_MAX);
    TARN_EXPECT(attribute("<system type=\"max\"", "size=\"") >=
                attribute("<system type=\"current\"", "size=\""));
    TARN_EXPECT(attribute("<aspace type=\"total\"", "size=\"") != SIZE_MAX);
    TARN_EXPECT(attribute("<total type=\"rest\"", "size=\"") != SIZE_MAX);
}

/* What malloc_stats writes to stderr. */
static void read_malloc_stats(void) {
    int ends[2];
    TARN_EXPECT(pipe(ends) == 0);
    fflush(stderr);
    int const kept = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    malloc_stats();
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(ends[1]);
    memset(text, 0, sizeof text);
    size_t filled = 0;
    for (ssize_t got = 1; got > 0 && filled < sizeof text - 1; filled += (size_t)got) {
        got = read(ends[0], text + filled, sizeof text - 1 - filled);
        TARN_EXPECT(got >= 0);
        if (got < 0) {
            break;
        }
    }
    close(ends[0]);
    TARN_EXPECT(strncmp(text, "Arena 0:\nsystem bytes     = ", 28) == 0);
    TARN_EXPECT(count_of("\nTotal (incl. mmap):\nsystem bytes     = ") == 1);
    TARN_EXPECT(count_of("\nin use bytes     = ") >= 2);
    TARN_EXPECT(count_of("\nmax mmap regions = ") == 1);
    TARN_EXPECT(count_of("\nmax mmap bytes   = ") == 1);
}

static size_t total_in_use(void) {
    read_malloc_stats();
    char const* const total = strstr(text, "Total (incl. mmap):");
    char const* const line = total == NULL ? NULL : strstr(total, "in use bytes     = ");
    return line == NULL ? SIZE_MAX : strtoull(line + 19, NULL, 10);
}

static void take(void** blocks, size_t count, size_t bytes) {
    for (size_t i = 0; i < count; ++i) {
        blocks[i] = opaque(malloc(bytes));
        TARN_EXPECT(blocks[i] != NULL);
        memset(blocks[i], 1, bytes);
    }
}

static void give(void** blocks, size_t first, size_t count, size_t step) {
    for (size_t i = first; i < count; i += step) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

/* Thresholds are set before anything is allocated. */
static void test_mallopt(void) {
    TARN_EXPECT(mallopt(M_TRIM_THRESHOLD, 128 * 1024) == 1);
    TARN_EXPECT(mallopt(M_MMAP_THRESHOLD, 64 * 1024) == 1);
    TARN_EXPECT(mallopt(M_TOP_PAD, 0) == 1);
    TARN_EXPECT(mallopt(M_ARENA_MAX, 2) == 1);
    TARN_EXPECT(mallopt(M_MXFAST, 64) == 1);
    TARN_EXPECT(mallopt(M_MXFAST, 1 << 20) == 0);
    TARN_EXPECT(mallopt(M_PERTURB, 0) == 1);
    TARN_EXPECT(mallopt(M_TRIM_THRESHOLD, 0) == 1);
    if (on_tarn) {
        TARN_EXPECT(mallopt(4711, 1) == 0); /* glibc says 1 to whatever it does not know */
    }
}

static void test_malloc_stats(size_t bytes) {
    void* blocks[10];
    size_t const before = total_in_use();
    take(blocks, 10, bytes);
    size_t const full = total_in_use();
    TARN_EXPECT(full - before >= 10 * bytes);
    TARN_EXPECT(full - before <= 10 * (bytes + bytes / 8 + 8192));
    give(blocks, 0, 10, 1);
    TARN_EXPECT(total_in_use() <= before + 8192);
    malloc_trim(0);
    TARN_EXPECT(total_in_use() <= before + 8192);
    if (on_tarn) {
        TARN_EXPECT(total_in_use() == before);
    }
}

static void test_malloc_info(size_t bytes) {
    void* blocks[blocks_max];
    read_malloc_info();
    size_t const before = mallinfo2().uordblks + mallinfo2().hblkhd;
    take(blocks, blocks_max, bytes);
    read_malloc_info();
    size_t const full = mallinfo2().uordblks + mallinfo2().hblkhd;
    TARN_EXPECT(full - before >= blocks_max * bytes);
    give(blocks, 0, blocks_max, 2);
    read_malloc_info();
    size_t const half = mallinfo2().uordblks + mallinfo2().hblkhd;
    TARN_EXPECT(half < full || bytes <= 1024); /* small ones stay in glibc's thread cache */
    int const trimmed = malloc_trim(0);
    int const again = malloc_trim(0);
    TARN_EXPECT(trimmed == 0 || trimmed == 1);
    if (on_tarn) {
        TARN_EXPECT(full - half == half - before);
        TARN_EXPECT(trimmed == 1);
        TARN_EXPECT(again == 0); /* nothing was left that could go */
    }
    read_malloc_info();
    give(blocks, 1, blocks_max, 2);
}

static void test_malloc_info_refuses_options(void) {
    errno = 0;
    TARN_EXPECT(malloc_info(1, stdout) != 0);
    if (on_tarn) {
        TARN_EXPECT(malloc_info(1, stdout) == EINVAL);
        TARN_EXPECT(errno == EINVAL);
    }
}

static void test_mallinfo(void) {
    struct mallinfo2 const now = mallinfo2();
    TARN_EXPECT(now.uordblks + now.fordblks == now.arena);
    TARN_EXPECT(now.keepcost <= now.fordblks);
    void* const block = opaque(malloc(1000));
    struct mallinfo2 const more = mallinfo2();
    if (on_tarn) {
        TARN_EXPECT(more.uordblks - now.uordblks == malloc_usable_size(block));
        TARN_EXPECT(more.ordblks > 0);
    }
    TARN_EXPECT(more.uordblks + more.fordblks == more.arena);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo const old = mallinfo();
#pragma GCC diagnostic pop
    if (on_tarn) {
        TARN_EXPECT((size_t)old.uordblks == more.uordblks);
        TARN_EXPECT((size_t)old.arena == more.arena);
    }
    free(block);
}

static pthread_barrier_t all_allocated;
static pthread_barrier_t seen;

static void* allocate_in_thread(void* argument) {
    size_t const bytes = (size_t)(uintptr_t)argument;
    void* blocks[blocks_max];
    take(blocks, blocks_max, bytes);
    pthread_barrier_wait(&all_allocated);
    pthread_barrier_wait(&seen);
    give(blocks, 0, blocks_max, 1);
    return NULL;
}

/* Each thread's blocks are counted while it waits. */
static void test_threads(void) {
    enum { threads = 3, bytes = 4096 };

    pthread_t ids[threads];
    pthread_barrier_init(&all_allocated, NULL, threads + 1);
    pthread_barrier_init(&seen, NULL, threads + 1);
    size_t const before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (size_t i = 0; i < threads; ++i) {
        TARN_EXPECT(pthread_create(&ids[i], NULL, allocate_in_thread,
                                   (void*)(uintptr_t)(bytes * (2 + i))) == 0);
    }
    pthread_barrier_wait(&all_allocated);
    read_malloc_info();
    if (on_tarn) { /* glibc's mallinfo tells of its main arena alone */
        size_t const full = mallinfo2().uordblks + mallinfo2().hblkhd;
        TARN_EXPECT(full - before >= blocks_max * (size_t)bytes * (2 + 3 + 4));
    }
    pthread_barrier_wait(&seen);
    for (size_t i = 0; i < threads; ++i) {
        pthread_join(ids[i], NULL);
    }
}

int main(void) {
    on_tarn = getenv("TARN_TEST_ON_TARN") != NULL;
    test_mallopt();
    test_malloc_stats(1024);
    test_malloc_stats((size_t)1024 * 1024);
    test_malloc_info(16);
    test_malloc_info((size_t)1024 * 1024);
    test_malloc_info_refuses_options();
    test_mallinfo();
    test_threads();
    return check_result();
}
