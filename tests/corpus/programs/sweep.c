// sweep.c - each size from 1 to 300 with one wrong byte, at each distance from 1 to 64 behind the
// end and from 1 to 16 before the start. `sweep N`: every N-th of these cases alone.
#include <stdlib.h>

int main(int count, char** arguments) {
    enum { sizes = 300, behind = 64, before = 16 };

    int const step = count == 2 ? atoi(arguments[1]) : 1;
    for (int number = 0; number < sizes * (behind + before); number += step) {
        int const bytes = 1 + number / (behind + before);
        int const slot = number % (behind + before);
        unsigned char* block = malloc((size_t)bytes);
        __asm__ volatile("" : "+r"(block) : : "memory");
        block[slot < behind ? bytes + slot : behind - slot - 1] ^= 0x55;
        __asm__ volatile("" : "+r"(block) : : "memory");
        free(block);
    }
    return 0;
}
