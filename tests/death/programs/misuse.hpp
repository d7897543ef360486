// misuse.hpp - the frame of a program that misuses the heap once.
//
// A program defines misuse() with the macro TARN_MISUSE and calls the heap as TARN_HEAP(free)(p):
// the prefixed function, or the standard one when TARN_TEST_STANDARD_NAMES is defined. It tells the
// driver on stdout, a line each, what the report must name:
//   caller <first> <last>   where the code of misuse() lies: the report's caller is within
//   <name> <value>          what announce() was given
//   survived                misuse() returned, and the heap is still sound
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

#ifdef TARN_TEST_STANDARD_NAMES
#include <malloc.h>
#define TARN_HEAP(name) ::name
#else
#include "tarn/tarn.h"
#define TARN_HEAP(name) ::tarn_##name
#endif

// The linker marks the ends of a section whose name is an identifier.
#define TARN_MISUSE [[gnu::noinline, gnu::section("tarn_test_misuse")]] void
extern "C" char const
    __start_tarn_test_misuse[];  // NOLINT(bugprone-reserved-identifier): not our name
extern "C" char const
    __stop_tarn_test_misuse[];  // NOLINT(bugprone-reserved-identifier): not our name

TARN_MISUSE misuse();

/// Hides from the compiler where a value comes from: it would warn of the misuse, or remove it.
template <class T>
T opaque(T value) {
    asm volatile("" : "+r"(value) : : "memory");
    return value;
}

/// After a call in misuse(): else it may become a jump, and the caller is main().
inline void not_a_tail_call() { asm volatile("" : : : "memory"); }

inline void announce(char const* name, void const* value) {
    ::dprintf(STDOUT_FILENO, "%s 0x%jx\n", name, reinterpret_cast<std::uintmax_t>(value));
}

/// Blocks of many sizes are apart and keep their content. Ends the process with status 3 if not.
inline void check_heap() {
    constexpr std::size_t count = 200;
    char* blocks[count];
    for (std::size_t i = 0; i < count; ++i) {
        std::size_t const bytes = 50 + i % 4 * 6000;
        blocks[i] = static_cast<char*>(opaque(TARN_HEAP(malloc)(bytes)));
        if (blocks[i] == nullptr) {
            ::_exit(3);
        }
        std::memset(blocks[i], static_cast<int>(i), bytes);
    }
    for (std::size_t i = 0; i < count; ++i) {
        std::size_t const bytes = 50 + i % 4 * 6000;
        auto const expected = static_cast<char>(i);
        if (blocks[i][0] != expected || std::memcmp(blocks[i], blocks[i] + 1, bytes - 1) != 0) {
            ::_exit(3);
        }
        TARN_HEAP(free)(blocks[i]);
    }
}

// Each program includes this once; an exception is no ending that run_case accepts.
// NOLINTNEXTLINE(misc-definitions-in-headers,bugprone-exception-escape): see above
int main() {
    TARN_HEAP(free)(opaque(TARN_HEAP(malloc)(1)));
    ::dprintf(STDOUT_FILENO, "caller 0x%jx 0x%jx\n",
              reinterpret_cast<std::uintmax_t>(__start_tarn_test_misuse),
              reinterpret_cast<std::uintmax_t>(__stop_tarn_test_misuse));
    misuse();
    check_heap();
    ::dprintf(STDOUT_FILENO, "survived\n");
    return 0;
}
