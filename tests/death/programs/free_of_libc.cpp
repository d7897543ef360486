// free_of_libc - frees a block of libc's own heap; libc hands it out again if it got it back.
#include "misuse.hpp"

// NOLINTNEXTLINE(bugprone-reserved-identifier): glibc's name
extern "C" void* __libc_malloc(std::size_t bytes);

TARN_MISUSE misuse() {
    void* const block = __libc_malloc(500);
    announce("pointer", block);
    TARN_HEAP(free)(opaque(block));
    not_a_tail_call();
    announce("again", __libc_malloc(500));
}
