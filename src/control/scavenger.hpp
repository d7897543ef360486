// control/scavenger.hpp - gives free memory back while the program idles.
//
// Threads    note_free_memory(): any. It starts the thread only for a caller that may: not inside
//            a slow path, since pthread_create allocates, and not in free, since libc frees under
//            locks that pthread_create takes. forget_scavenger(): the child of a fork, before it
//            has threads.
// Always     The background thread exists at the earliest when the program has a second thread of
//            its own (option scavenger=auto), so that a program with one keeps libc's shortcuts
//            for such and may unshare(); scavenger=on does not wait for that, off never starts it.
//            It begins with the first free memory, blocks all signals, allocates nothing, holds no
//            heap, and sleeps without a timer when nothing is left to give back. It ends when by
//            then the program has one thread again. After fork the child starts its own when it
//            needs one. A program with one thread gives memory back inside its allocator calls, and
//            where its loop calls tarn_scavenge().
// Cost       note_free_memory(): a fence and two loads while the thread is awake or not wanted. A
//            pass: one lock per 16 stretches and a system call each, every purge_delay_ms.
// Errors     no thread to be had: the program goes on without; scavenger() says `refused`
#pragma once

#include <cstdint>

namespace tarn::impl::control {

enum class scavenger_phase : std::uint32_t { absent, asleep, awake, refused };

enum class may_start : std::uint8_t { no, yes };

/// Memory became free that will be worth returning: wakes the thread, or starts it. False: it is
/// wanted, and the caller may not start it.
bool note_free_memory(may_start start) noexcept;

/// A thread of the program has left, and what it held is free. The last one takes the scavenger
/// with it: a process whose main thread has left ends with its last thread.
void note_thread_left() noexcept;

void forget_scavenger() noexcept;

[[nodiscard]] scavenger_phase scavenger() noexcept;

}  // namespace tarn::impl::control
