// use_after_free.c - writes to freed blocks, and what finds them.
#define _GNU_SOURCE
#include <signal.h>

#include "bug.h"

static void at_exit(void) {
    char* const row = block_of(56);  // allocated
    free(hide(row));                 // freed
    row[8] = 'y';
}

static void first_byte(void) {
    char* const row = block_of(1);  // allocated
    free(hide(row));                // freed
    row[0] = 'y';
}

static void all_of_it(void) {
    char* const row = block_of(200);  // allocated
    free(hide(row));                  // freed
    memset(hide(row), 'y', 200);
}

static void behind_freed(void) {
    char* const row = block_of(24);  // allocated
    free(hide(row));                 // freed
    memset(hide(row + 20), 'y', 8);
}

static void before_freed(void) {
    char* const row = block_of(24);  // allocated
    free(hide(row));                 // freed
    row[-4] = 1;
}

static void large(void) {
    char* const row = hide(malloc(300000));  // allocated
    free(hide(row));                         // freed
    row[65535] = 'y';
}

static void list_node(void) {
    struct node {
        int value;
        struct node* next;
    };
    struct node* list = NULL;
    for (int i = 0; i < 4; ++i) {
        struct node* const made = hide(malloc(sizeof *made));  // allocated
        *made = (struct node){.value = i, .next = list};
        list = made;
    }
    struct node* const stale = list->next;
    list->next = stale->next;
    free(hide(stale));  // freed
    stale->next = NULL;
}

static void after_realloc(void) {
    char* const row = block_of(40);                // allocated
    char* const moved = hide(realloc(row, 4000));  // freed
    row[39] = 'y';
    barrier();
    free(hide(moved));
}

// More frees than there is quarantine for: it gives the block back, which it looks at before.
static void end_of_quarantine(void) {
    char* const row = block_of(56);  // allocated
    free(hide(row));                 // freed
    row[8] = 'y';
    for (int i = 0; i < 4000; ++i) {
        free(block_of(2000));  // found
    }
}

// A walk over all blocks goes on a little at each so many frees.
static void walk(void) {
    char* const row = block_of(56);  // allocated
    free(hide(row));                 // freed
    row[8] = 'y';
    for (int i = 0; i < 4000; ++i) {
        free(block_of(20));  // found
    }
}

static void walk_finds_live(void) {
    char* const row = block_of(56);  // allocated
    row[56] = 'y';
    barrier();
    for (int i = 0; i < 4000; ++i) {
        free(block_of(20));  // found
    }
    hide(row);
}

static void on_signal(void) {
    char* const row = block_of(56);  // allocated
    free(hide(row));                 // freed
    row[8] = 'y';
    barrier();
    raise(SIGUSR2);
    char* const next = block_of(8);  // found
    free(next);
}

static void in_two_places(void) {
    char* const row = block_of(128);  // allocated
    free(hide(row));                  // freed
    row[3] = 'y';
    row[100] = 'y';
}

// Free once more after a write: two bugs, two reports.
static void and_double_free(void) {
    char* const row = block_of(56);  // allocated
    free(hide(row));                 // freed
    row[8] = 'y';
    barrier();
    free(hide(row));  // found 1
}

struct bug const bugs[] = {{"at_exit", at_exit},
                           {"first_byte", first_byte},
                           {"all_of_it", all_of_it},
                           {"behind_freed", behind_freed},
                           {"before_freed", before_freed},
                           {"large", large},
                           {"list_node", list_node},
                           {"after_realloc", after_realloc},
                           {"end_of_quarantine", end_of_quarantine},
                           {"walk", walk},
                           {"walk_finds_live", walk_finds_live},
                           {"on_signal", on_signal},
                           {"in_two_places", in_two_places},
                           {"and_double_free", and_double_free},
                           {NULL, NULL}};
