// platform/linux/stack_window.hpp - stack_window: reads of stack memory that can't fault.
//
// Threads    a walk's own; it works on the calling thread's stacks
// Always     a word is read only where the thread's own stack is known to be, or on an OS page that
//            the system was asked about in this walk. What is known of a thread's stack is the
//            part between where it was once seen and its top (`__libc_stack_end` for the main
//            thread, for others their descriptor, which libc keeps there), each OS page of it
//            asked for once: all of that is in use while the thread lives.
// Cost       read(): a comparison inside the window; a system call for a new OS page.
//            Two words of thread-local memory for what is known, two for what is not ours.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/attributes.hpp"

namespace tarn::impl::platform {

class stack_window {
public:
    /// Goes to the stack that `top` lies in, a stack pointer; later reads are above it, but for
    /// what was just taken off.
    void enter(std::uintptr_t top) noexcept;

    /// Reads the word at `at`; false: it is not aligned or not readable.
    bool read(std::uintptr_t at, std::uintptr_t& value) noexcept {
        if (!has(at)) [[unlikely]] {
            return read_slow(at, value);
        }
        value = load(at);
        return true;
    }

    /// Whether the word at `at` may be read without more ado.
    [[nodiscard]] bool has(std::uintptr_t at) const noexcept {
        return at - low_ <= bytes_ && (at & (sizeof at - 1)) == 0;
    }

    /// The word at `at`, for which has() is true. Others write to their variables on our stack, and
    /// freed ones are poisoned.
    __attribute__((no_sanitize_address, no_sanitize_thread)) static std::uintptr_t load(
        std::uintptr_t at) noexcept {
        return *reinterpret_cast<std::uintptr_t const volatile*>(at);
    }

    /// Whether this is the thread's own stack, as the thread library gave it.
    [[nodiscard]] bool is_own() const noexcept { return is_own_; }

private:
    TARN_COLD bool read_slow(std::uintptr_t at, std::uintptr_t& value) noexcept;
    void set(std::uintptr_t low, std::uintptr_t high) noexcept;

    std::uintptr_t low_ = 1;    // an empty window: no aligned address is in it
    std::uintptr_t bytes_ = 0;  // from low_ to the start of the last word
    bool is_own_ = false;
};

/// Whether the system would let this process read the eight bytes at `at`: a system call. Keeps
/// errno.
bool is_readable(std::uintptr_t at) noexcept;

}  // namespace tarn::impl::platform
