// leaks.c - blocks that nobody frees.
#define _GNU_SOURCE
#include <pthread.h>

#include "bug.h"

static char* kept;

static void one(void) {
    hide(malloc(100));  // allocated
}

static void three_of_a_line(void) {
    size_t const end = 100 + strlen(hide("abc"));
    for (size_t bytes = 100; bytes < end; ++bytes) {
        hide(malloc(bytes));  // allocated
    }
}

static void of_two_lines(void) {
    hide(malloc(40));      // allocated 2
    hide(calloc(10, 30));  // allocated 1
    free(block_of(1 << 20));
}

static void a_list(void) {
    struct node {
        struct node* next;
    };
    struct node* list = NULL;
    for (int i = 0; i < 10; ++i) {
        struct node* const made = hide(malloc(sizeof *made));  // allocated
        made->next = list;
        list = made;
    }
    barrier();
}

static void still_reachable(void) {
    kept = block_of(64);  // allocated
}

static void resized(void) {
    kept = block_of(64);
    kept = hide(realloc(kept, 640));  // allocated
}

static void of_libc(void) {
    hide(strdup(hide("a copy")));  // allocated 2
    char* text = NULL;
    if (asprintf(&text, "%d", 1234567) != 7) {  // allocated 1
        return;
    }
    hide(text);
}

static void* allocate(void* unused) {
    hide(malloc(33));  // of_an_ended_thread: allocated
    return unused;
}

static void of_an_ended_thread(void) {
    pthread_t other;
    pthread_create(&other, NULL, allocate, NULL);
    pthread_join(other, NULL);
}

static __attribute__((noinline)) void keep_on_purpose(void) { hide(malloc(77)); }

static void suppressed(void) {
    keep_on_purpose();
    keep_on_purpose();
}

static void and_overflow(void) {
    kept = block_of(24);  // allocated
    kept[24] = 'y';
}

static void nothing(void) { free(block_of(100)); }

struct bug const bugs[] = {{"one", one},
                           {"three_of_a_line", three_of_a_line},
                           {"of_two_lines", of_two_lines},
                           {"a_list", a_list},
                           {"still_reachable", still_reachable},
                           {"resized", resized},
                           {"of_libc", of_libc},
                           {"of_an_ended_thread", of_an_ended_thread},
                           {"suppressed", suppressed},
                           {"and_overflow", and_overflow},
                           {"nothing", nothing},
                           {NULL, NULL}};
