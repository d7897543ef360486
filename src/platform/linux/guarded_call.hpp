// platform/linux/guarded_call.hpp - call_guarded(): runs code that may crash or never end.
//
// It runs in a process of its own, which shares the memory of this one and nothing else: its crash,
// its signal handlers, timer and descriptors are not the program's. What it has written is there
// afterwards, complete or not. The calling thread sleeps meanwhile, other threads run on.
//
// Threads    any, in signal handlers too; all signals of the calling thread wait. No lock, no
//            allocation. Keeps errno.
// Always     the program sees no SIGCHLD and no child, unless it waits for any with __WALL. Where
//            the system can't share memory with a child (emulators), the child has a copy of it,
//            and only memory mapped as shared holds what it has written.
// Cost       some 100 us
// Errors     false: the system refuses (a sandbox, a limit on processes); nothing was run
// Tests      unit/platform/guarded_call_test.cpp
// Source     the tracer thread of LLVM's leak sanitizer, which is made this way
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tarn::impl::platform {

/// `work` must keep to code that needs no thread of its own: no libc functions that lock.
///
/// @param stack    for it, 64 KiB at least, aligned to 16
/// @param most_ms  > 0; then it is ended
bool call_guarded(void (*work)(void* argument) noexcept, void* argument, std::span<std::byte> stack,
                  std::uint32_t most_ms) noexcept;

}  // namespace tarn::impl::platform
