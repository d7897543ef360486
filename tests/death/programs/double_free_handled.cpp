// double_free_handled - a double free under a SIGABRT handler that allocates, as crash reporters
// do.
#include <signal.h>

#include <initializer_list>

#include "misuse.hpp"

namespace {

void report_crash(int /*signal*/) {
    for (std::size_t const bytes : {std::size_t{40}, std::size_t{5000}, std::size_t{1} << 20}) {
        auto* const block = static_cast<char*>(opaque(TARN_HEAP(malloc)(bytes)));
        if (block == nullptr) {
            ::_exit(1);
        }
        std::memset(block, 1, bytes);
        TARN_HEAP(free)(block);
    }
    ::dprintf(STDOUT_FILENO, "handled\n");
    ::_exit(7);
}

}  // namespace

TARN_MISUSE misuse() {
    ::signal(SIGABRT, &report_crash);
    void* const kept = opaque(TARN_HEAP(malloc)(64));
    void* const block = opaque(TARN_HEAP(malloc)(64));
    announce("pointer", block);
    TARN_HEAP(free)(block);
    TARN_HEAP(free)(block);
    not_a_tail_call();
    TARN_HEAP(free)(kept);
}
