// control/scavenger.hpp - gives free memory back while the program idles.
//
// Threads    note_free_memory(): any, outside of slow paths, since it may start a thread, which
//            allocates. forget_scavenger(): the child of a fork, before it has threads.
// Always     The background thread exists at the earliest when the program has a second thread of
//            its own (option scavenger=auto), so that a program with one keeps libc's shortcuts
//            for such and may unshare(); scavenger=on starts it at once, off never. It begins with
//            the first free memory, blocks all signals, allocates nothing, holds no heap, and
//            sleeps without a timer when nothing is left to give back. It ends when by then the
//            program has one thread again. After fork the child starts its own when it needs one.
//            A program with one thread gives memory back inside its allocator calls, and where its
//            loop calls tarn_scavenge().
// Cost       note_free_memory(): two loads while the thread is awake or not wanted. A pass: one
//            lock per 16 stretches and a system call each, every purge_delay_ms.
// Errors     no thread to be had: the program goes on without, and says so in its statistics
#pragma once

#include <cstdint>

namespace tarn::impl::control {

enum class scavenger_phase : std::uint32_t { absent, asleep, awake, refused };

/// Memory became free that will be worth returning: starts the thread, or wakes it.
void note_free_memory() noexcept;

void forget_scavenger() noexcept;

[[nodiscard]] scavenger_phase scavenger() noexcept;

}  // namespace tarn::impl::control
