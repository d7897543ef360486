/* misuse NAME - misuses the pool of tarn/mp.h in one way; misuse_test.py knows the report.
 *
 * Tells on stdout: "block ADDRESS", "pointer ADDRESS", and "survived" at its end. Compiled as C99
 * and linked without the C++ library. Option words after NAME: json, abort, frames=N, plain (no
 * slabs), now (no quarantine).
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tarn/mp.h>

static void say(char const* name, void const* value) {
    printf("%s %p\n", name, value);
    fflush(stdout);
}

/* Hides from the compiler where a pointer comes from. */
static void* opaque(void* value) {
    __asm__ volatile("" : "+r"(value) : : "memory");
    return value;
}

static unsigned char* block_of(size_t bytes) {
    unsigned char* const block = opaque(mp_alloc(bytes));
    say("block", block);
    return block;
}

static void demand(int holds, char const* what) {
    if (!holds) {
        printf("wrong: %s\n", what);
        fflush(stdout);
        _exit(3);
    }
}

static void overflow(void) {
    unsigned char* const block = block_of(100);
    memset(block + 100, 0, 3);
    mp_free(block);
}

static void underflow(void) {
    unsigned char* const block = block_of(100);
    block[-1] = 0;
    mp_free(block);
}

static void far_underflow(void) {
    unsigned char* const block = block_of(100);
    memset(block - 30, 0, 8);
    mp_free(block);
}

static void overflow_checked(void) {
    unsigned char* const block = block_of(5000);
    block[5000] = 0;
    demand(mp_check_all() == 1, "one block is damaged");
    demand(mp_check_all() == 1, "it still is, and is not told again");
    mp_free(block);
}

static void use_after_free(void) {
    unsigned char* const block = block_of(100);
    mp_free(block);
    block[40] = 1;
    demand(mp_check_all() == 1, "one block is damaged");
}

static void double_free(void) {
    unsigned char* const block = block_of(64);
    mp_free(block);
    mp_free(opaque(block));
}

static void double_realloc(void) {
    unsigned char* const block = block_of(64);
    mp_free(block);
    demand(mp_realloc(opaque(block), 10) == NULL, "there is nothing to resize");
}

static void free_of_malloc(void) {
    void* const block = tarn_malloc(100);
    say("block", block);
    mp_free(opaque(block));
    tarn_free(block);
}

static void free_of_stack(void) {
    int on_stack = 0;
    say("pointer", &on_stack);
    mp_free(opaque(&on_stack));
}

static void interior(void) {
    unsigned char* const block = block_of(100);
    say("pointer", block + 16);
    mp_free(opaque(block + 16));
    mp_free(block);
}

static void freed_with_free(void) {
    unsigned char* const block = block_of(100);
    tarn_free(opaque(block));
    mp_free(block);
}

static void large_freed_with_free(void) {
    unsigned char* const block = block_of(10000);
    tarn_free(opaque(block));
    mp_free(block);
}

static void resized_with_realloc(void) {
    unsigned char* const block = block_of(100);
    demand(tarn_realloc(opaque(block), 200) == NULL, "it is not resized");
    mp_free(block);
}

static void usable_size_foreign(void) {
    int on_stack = 0;
    say("pointer", &on_stack);
    demand(mp_usable_size(opaque(&on_stack)) == 0, "it has no size");
}

static void product(void) {
    demand(mp_calloc((size_t)-1, 3) == NULL, "there is no such block");
    demand(errno == ENOMEM, "errno says why");
}

static void after_destroy(void) {
    unsigned char* const block = block_of(100);
    mp_free(block);
    demand(mp_destroy() == 0, "it ends");
    mp_free(opaque(block));
    demand(mp_alloc(1) == NULL, "there is no pool");
    demand(errno == ENOMEM, "errno says so");
    demand(mp_destroy() == EALREADY, "it has ended");
    demand(mp_init(NULL) == 0, "it begins anew");
    demand(mp_alloc(1) != NULL, "and serves");
}

static void destroy_first(void) { demand(mp_destroy() == EALREADY, "it has not begun"); }

static void* late_work(void* unused) {
    int i;
    for (i = 0; i < 1000000; ++i) {
        void* const block = mp_alloc(50);
        if (block == NULL) {
            return unused;
        }
        mp_free(block);
    }
    return unused;
}

static void destroy_beside(void) {
    pthread_t thread;
    demand(pthread_create(&thread, NULL, late_work, NULL) == 0, "a thread starts");
    while (1) {
        mp_stats now;
        now.size = sizeof now;
        demand(mp_get_stats(&now) == 0, "statistics");
        if (now.allocations > 100) {
            break;
        }
    }
    demand(mp_destroy() == 0, "it ends");
    pthread_join(thread, NULL);
}

static void options(void) {
    mp_options wanted = MP_OPTIONS_DEFAULT;
    wanted.guard_before = 8;
    demand(mp_init(&wanted) == EINVAL, "no sixteens");
    wanted = (mp_options)MP_OPTIONS_DEFAULT;
    wanted.frames = 65;
    demand(mp_init(&wanted) == EINVAL, "too many frames");
    wanted = (mp_options)MP_OPTIONS_DEFAULT;
    wanted.report_to = TARN_MP_FILE;
    demand(mp_init(&wanted) == EINVAL, "no path");
    wanted = (mp_options)MP_OPTIONS_DEFAULT;
    wanted.size = 4;
    demand(mp_init(&wanted) == EINVAL, "another size");
    demand(mp_init(NULL) == 0, "none are right");
    demand(mp_init(NULL) == EALREADY, "once is enough");
}

static void leaks(void) {
    int i;
    for (i = 0; i < 3; ++i) {
        demand(mp_alloc(20 + (size_t)i) != NULL, "memory");
    }
    demand(mp_calloc(10, 1000) != NULL, "memory");
    demand(mp_dump_leaks() == 4, "four are not freed");
}

/* What the seed of this library shows: 100 bytes from the slab of 128. */
static void statistics(void) {
    void* const one = mp_alloc(100);
    void* const other = mp_alloc(128);
    void* const large = mp_alloc(5000);
    mp_free(other);
    mp_dump_stats();
    mp_free(one);
    mp_free(large);
}

static void fork_child(void) {
    unsigned char* const block = block_of(100);
    pid_t const child = fork();
    int status = 0;
    if (child == 0) {
        mp_free(block);
        mp_free(mp_alloc(10));
        _exit(mp_destroy() == 0 ? 0 : 4);
    }
    demand(waitpid(child, &status, 0) == child && status == 0, "the child ends well");
    mp_free(block);
}

struct way {
    char const* name;
    void (*run)(void);
};

static struct way const ways[] = {
    {"overflow", overflow},
    {"underflow", underflow},
    {"far_underflow", far_underflow},
    {"overflow_checked", overflow_checked},
    {"use_after_free", use_after_free},
    {"double_free", double_free},
    {"double_realloc", double_realloc},
    {"free_of_malloc", free_of_malloc},
    {"free_of_stack", free_of_stack},
    {"interior", interior},
    {"freed_with_free", freed_with_free},
    {"large_freed_with_free", large_freed_with_free},
    {"resized_with_realloc", resized_with_realloc},
    {"usable_size_foreign", usable_size_foreign},
    {"product", product},
    {"after_destroy", after_destroy},
    {"destroy_first", destroy_first},
    {"destroy_beside", destroy_beside},
    {"options", options},
    {"leaks", leaks},
    {"statistics", statistics},
    {"fork_child", fork_child},
};

int main(int count, char** arguments) {
    size_t i;
    int word;
    mp_options wanted = MP_OPTIONS_DEFAULT;
    for (word = 2; word < count; ++word) {
        char const* const option = arguments[word];
        if (strcmp(option, "json") == 0) {
            wanted.report_format = TARN_MP_JSON;
        } else if (strcmp(option, "abort") == 0) {
            wanted.abort_on_misuse = 1;
        } else if (strcmp(option, "plain") == 0) {
            wanted.slabs = 0;
        } else if (strcmp(option, "now") == 0) {
            wanted.quarantine_bytes = 0;
        } else if (strncmp(option, "frames=", 7) == 0) {
            wanted.frames = (size_t)atoi(option + 7);
        }
    }
    if (count > 2) {
        demand(mp_init(&wanted) == 0, "the options are right");
    }
    for (i = 0; i < sizeof ways / sizeof ways[0]; ++i) {
        if (count > 1 && strcmp(ways[i].name, arguments[1]) == 0) {
            ways[i].run();
            puts("survived");
            return 0;
        }
    }
    return 2;
}
