// free_mapping - frees memory of the program's own mmap.
#include <sys/mman.h>

#include "misuse.hpp"

TARN_MISUSE misuse() {
    void* const mapping =
        ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    announce("pointer", mapping);
    TARN_HEAP(free)(opaque(mapping));
    not_a_tail_call();
    ::munmap(mapping, 1 << 20);
}
