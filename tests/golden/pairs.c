/* pairs COUNT - malloc(16) and free, COUNT times. What one pair costs is what COUNT more cost. */
#include <stdlib.h>

int main(int argc, char** argv) {
    /* Counts to zero: both compilers need two instructions for it. */
    for (unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0; count != 0; --count) {
        free(malloc(16));
    }
    return 0;
}
