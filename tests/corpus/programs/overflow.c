// overflow.c - writes behind the end of a block.
#define _GNU_SOURCE
#include "bug.h"

static char const* const alphabet = "abcdefghijklmnopqrstuvwxyz";

static void strcpy_one(void) {
    char* const name = hide(malloc(26));  // allocated
    strcpy(name, hide(alphabet));
    free(hide(name));  // found
}

static void memset_one(void) {
    char* const row = hide(malloc(100));  // allocated
    memset(row, 0, (size_t)(row[0] == 1) + 101);
    free(hide(row));  // found
}

static void loop_one(void) {
    int* const table = hide(malloc(10 * sizeof *table));  // allocated
    for (int i = 0; i <= 10; ++i) {
        table[i] = i;
        barrier();
    }
    free(hide(table));  // found
}

static void many(void) {
    char* const row = block_of(40);  // allocated
    memset(row + 40, 'y', 40);
    free(hide(row));  // found
}

static void all_of_the_guard(void) {
    char* const row = block_of(48);  // allocated
    memset(row + 48, 'y', 64);
    free(hide(row));  // found
}

static void far(void) {
    int* const table = hide(malloc(7 * sizeof *table));  // allocated
    table[7 + 12] = 1;
    barrier();
    free(hide(table));  // found
}

static void with_gaps(void) {
    struct point {
        char x, y, z;
    }* const points = hide(malloc(4 * sizeof *points));  // allocated

    for (int i = 0; i < 8; ++i) {
        points[i].x = (char)i;
        barrier();
    }
    free(hide(points));  // found
}

static void same_bytes(void) {
    char* const row = block_of(20);  // allocated
    row[20] = (char)0xab;            // what is there already: nobody can tell
    row[21] = 0;
    barrier();
    free(hide(row));  // found
}

static void large(void) {
    char* const row = hide(malloc(3 << 20));  // allocated
    row[3 << 20] = 1;
    barrier();
    free(hide(row));  // found
}

static void empty(void) {
    char* const row = hide(malloc(0));  // allocated
    row[0] = 1;
    barrier();
    free(hide(row));  // found
}

static void sprintf_number(void) {
    char* const text = hide(malloc(8));  // allocated
    sprintf(text, "%s", (char*)hide("123456789"));
    free(hide(text));  // found
}

static void calloc_two_many(void) {
    short* const table = hide(calloc(15, sizeof *table));  // allocated
    table[15] = 1;
    table[16] = 2;
    barrier();
    free(hide(table));  // found
}

static void calloc_zero(void) {
    char* const row = hide(calloc(1, 33));  // allocated
    memset(row, 0, 32 + (size_t)(row[0] + 4));
    free(hide(row));  // found
}

static void flexible_array(void) {
    struct packet {
        int length;
        char body[];
    };
    struct packet* const sent = hide(malloc(sizeof *sent + 16));  // allocated
    sent->length = 16;
    for (int i = 0; i <= sent->length; ++i) {
        sent->body[i] = 'b';
        barrier();
    }
    free(hide(sent));  // found
}

static void struct_too_small(void) {
    struct wide {
        long number[6];
    };
    struct wide* const made = hide(malloc(sizeof made));  // allocated
    memset(made, 0, sizeof *made);
    free(hide(made));  // found
}

static void strlen_without_end(void) {
    char const* const from = hide(alphabet);
    char* const copy = hide(malloc(strlen(from)));  // allocated
    memcpy(copy, from, strlen(from) + 1);
    free(hide(copy));  // found
}

static void realloc_shrunk(void) {
    char* row = block_of(200);
    row = hide(realloc(row, 120));  // allocated
    row[120] = 'y';
    row[121] = 'y';
    barrier();
    free(hide(row));  // found
}

static void realloc_finds(void) {
    char* row = block_of(30);  // allocated
    row[30] = 'y';
    barrier();
    row = hide(realloc(row, 300));  // found
    free(row);
}

static void realloc_large_shrunk(void) {
    char* row = block_of(1 << 20);
    row = hide(realloc(row, (1 << 20) - 100));  // allocated
    row[(1 << 20) - 100] = 'y';
    barrier();
    free(hide(row));  // found
}

static void realloc_large_grown(void) {
    char* row = block_of(1 << 20);
    for (int i = 1; i < 40; ++i) {
        row = hide(realloc(row, (1 << 20) + (size_t)i * 1000));  // allocated
    }
    row[(1 << 20) + 39 * 1000] = 'y';
    barrier();
    free(hide(row));  // found
}

static void usable_size(void) {
    extern size_t malloc_usable_size(void*);
    char* const row = hide(malloc(13));  // allocated
    memset(row, 0, malloc_usable_size(row) + 3);
    free(hide(row));  // found
}

static void posix_memalign_one(void) {
    void* row = NULL;
    if (posix_memalign(&row, 256, 1000) != 0) {  // allocated
        return;
    }
    row = hide(row);
    ((char*)row)[1000] = 1;
    barrier();
    free(hide(row));  // found
}

static void aligned_alloc_one(void) {
    char* const row = hide(aligned_alloc(64, 192));  // allocated
    row[192] = 1;
    barrier();
    free(hide(row));  // found
}

static void aligned_to_a_page(void) {
    char* const row = hide(aligned_alloc(4096, 8192));  // allocated
    row[8192 + 63] = 1;
    barrier();
    free(hide(row));  // found
}

static void strdup_one(void) {
    char* const copy = hide(strdup(hide("twelve chars")));  // allocated
    strcat(copy, "!");
    free(hide(copy));  // found
}

static void strndup_one(void) {
    char* const copy = hide(strndup(hide("twelve chars"), 6));  // allocated
    copy[7] = 'x';
    barrier();
    free(hide(copy));  // found
}

static void asprintf_one(void) {
    char* text = NULL;
    int const length = asprintf(&text, "%s=%d", (char*)hide("key"), 17);  // allocated
    text = hide(text);
    memset(text + length, '.', 94);  // glibc gives 100 bytes at first and cuts them to 7
    free(hide(text));                // found
}

static void getline_one(void) {
    FILE* const from = fmemopen(hide("a line\n"), 7, "r");
    char* line = NULL;
    size_t room = 0;
    if (getline(&line, &room, from) != 7) {  // allocated
        return;
    }
    line = hide(line);
    line[room] = '\n';
    barrier();
    free(hide(line));  // found
    fclose(from);
}

static void two_blocks(void) {
    char* const first = block_of(24);   // allocated 1
    char* const second = block_of(72);  // allocated 2
    first[24] = 1;
    second[73] = 1;
    barrier();
    free(hide(first));   // found 1
    free(hide(second));  // found 2
}

static void both_sides(void) {
    char* const row = block_of(24);  // allocated
    row[-1] = 1;
    row[24] = 1;
    barrier();
    free(hide(row));  // found
}

static void once_alone(void) {
    char* const row = block_of(24);  // allocated
    row[24] = 1;
    barrier();
    free(hide(row));  // found
    for (int i = 0; i < 1000; ++i) {
        free(block_of(24));
    }
}

struct bug const bugs[] = {{"strcpy_one", strcpy_one},
                           {"memset_one", memset_one},
                           {"loop_one", loop_one},
                           {"many", many},
                           {"all_of_the_guard", all_of_the_guard},
                           {"far", far},
                           {"with_gaps", with_gaps},
                           {"same_bytes", same_bytes},
                           {"large", large},
                           {"empty", empty},
                           {"sprintf_number", sprintf_number},
                           {"calloc_two_many", calloc_two_many},
                           {"calloc_zero", calloc_zero},
                           {"flexible_array", flexible_array},
                           {"struct_too_small", struct_too_small},
                           {"strlen_without_end", strlen_without_end},
                           {"realloc_shrunk", realloc_shrunk},
                           {"realloc_finds", realloc_finds},
                           {"realloc_large_shrunk", realloc_large_shrunk},
                           {"realloc_large_grown", realloc_large_grown},
                           {"usable_size", usable_size},
                           {"posix_memalign_one", posix_memalign_one},
                           {"aligned_alloc_one", aligned_alloc_one},
                           {"aligned_to_a_page", aligned_to_a_page},
                           {"strdup_one", strdup_one},
                           {"strndup_one", strndup_one},
                           {"asprintf_one", asprintf_one},
                           {"getline_one", getline_one},
                           {"two_blocks", two_blocks},
                           {"both_sides", both_sides},
                           {"once_alone", once_alone},
                           {NULL, NULL}};
