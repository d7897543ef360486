/* Never holds more than 200 MiB in blocks, but what it has freed lies between blocks that it holds:
 * tight [MIB]. In a cgroup of 256 MiB it lives only where memory goes back from inside of pages. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { small = 64, mib = 1 << 20, kept_of = 256, threads = 4 };

static void* allocate(size_t bytes) {
    void* const block = malloc(bytes);
    if (block == NULL) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    memset(block, 1, bytes);
    return block;
}

/* Fills `room` bytes with blocks of one size. */
static size_t fill(void** blocks, size_t room, size_t bytes) {
    size_t const count = room / bytes;
    for (size_t i = 0; i < count; ++i) {
        blocks[i] = allocate(bytes);
    }
    return count;
}

static void* churn(void* argument) {
    size_t const room = *(size_t const*)argument;
    void** const blocks = allocate(room / small * sizeof(void*));
    for (size_t bytes = 300; bytes < 300000; bytes *= 7) {
        size_t const count = fill(blocks, room, bytes);
        for (size_t i = 0; i < count; ++i) {
            free(blocks[i]);
        }
    }
    free(blocks);
    return NULL;
}

int main(int argument_count, char** arguments) {
    size_t const room = (argument_count > 1 ? strtoul(arguments[1], NULL, 10) : 160) * mib;
    void** const blocks = allocate(room / small * sizeof(void*)); /* an eighth of the room */
    size_t const count = fill(blocks, room, small);
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i) {
        if (i % kept_of == 0) {
            blocks[kept++] = blocks[i];
        } else {
            free(blocks[i]);
        }
    }
    printf("kept %zu of %zu\n", kept, count);
    for (size_t bytes = 100000; bytes < 20 * mib; bytes *= 3) {
        size_t const others = fill(blocks + kept, room, bytes);
        for (size_t i = 0; i < others; ++i) {
            free(blocks[kept + i]);
        }
        printf("%zu blocks of %zu bytes\n", others, bytes);
    }
    pthread_t running[threads];
    size_t const share = room / threads / 2;
    for (int i = 0; i < threads; ++i) {
        if (pthread_create(&running[i], NULL, churn, (void*)&share) != 0) {
            return 1;
        }
    }
    for (int i = 0; i < threads; ++i) {
        pthread_join(running[i], NULL);
    }
    for (size_t i = 0; i < kept; ++i) {
        free(blocks[i]);
    }
    free(blocks);
    puts("done");
    return 0;
}
