// heap/slow_path.hpp - what all slow paths have in common.
//
// Threads    the calling thread, with the heap that serves it
// Tests      unit/heap/process_test.cpp unit/heap/thread_heap_test.cpp
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "heap/process.hpp"
#include "heap/run_block.hpp"

namespace tarn::impl::heap {

enum class ends_in : std::uint8_t { allocation, other };

/// Marks that the calling thread is inside its heap. A signal handler that allocates there would
/// find lists half changed: it is named instead.
class slow_path {
public:
    slow_path(thread_heap& heap, char const* operation, void const* caller,
              ends_in ending = ends_in::other) noexcept
        : heap_{heap}, may_allocate_{ending == ends_in::allocation && &heap != &late_heap} {
        if (heap.in_slow_path) [[unlikely]] {
            host_misuse({.kind = misuse_kind::reentry, .operation = operation, .caller = caller});
        }
        heap.in_slow_path = true;
        if (process.orphans.load(std::memory_order_acquire)) [[unlikely]] {
            adopt_orphans();
        }
    }

    ~slow_path() {
        heap_.in_slow_path = false;
        // Not sooner: whoever wraps clock_gettime or madvise may allocate there.
        if (std::uint64_t const now_ms = process.space.purge_if_asked(); now_ms != 0) {
            bool const done = host_memory_freed(may_allocate_, now_ms);
            if (may_allocate_ && process.space.budget().is_above_watched()) {
                host_memory_grew();
            }
            if (!done) {
                process.space.ask_for_purge();
            }
        }
    }

    slow_path(slow_path const&) = delete;
    slow_path& operator=(slow_path const&) = delete;

private:
    thread_heap& heap_;
    bool may_allocate_;
};

inline constexpr std::size_t bytes_max = PTRDIFF_MAX;

/// False after a report: no block can be so large.
[[nodiscard]] inline bool is_possible(char const* operation, std::size_t bytes,
                                      void const* caller) noexcept {
    if (bytes <= bytes_max) [[likely]] {
        return true;
    }
    host_misuse({.kind = misuse_kind::size_overflow,
                 .operation = operation,
                 .count = 1,
                 .element_bytes = bytes,
                 .caller = caller});
    return false;
}

/// Calls allocate(heap), once more where the program could make room below its hard limit. Leaves
/// ENOMEM in errno for null, else what was there before.
template <class Allocate>
void* try_hard(thread_heap* heap, std::size_t bytes, Allocate allocate) noexcept {
    int const kept = errno;
    std::uint64_t const refusals = process.space.budget().refusals();
    auto const is_worth_another = [bytes, refusals] {
        return process.space.budget().refusals() != refusals && host_limit_met(bytes);
    };
    void* block = nullptr;
    for (bool again = false;; again = true) {
        block = with_heap(heap, allocate);
        if (block != nullptr || again || !is_worth_another()) [[likely]] {
            break;
        }
        heap = this_thread;
    }
    errno = block == nullptr ? ENOMEM : kept;
    return block;
}

/// The page of a block, or null after a report: `ptr` is not the start of a block of ours. In a
/// page of kind guarded every address passes.
[[nodiscard]] page* find_block(char const* operation, void const* ptr, void const* caller,
                               misuse_verdict* verdict) noexcept;

/// Bytes that may be used of a block that find_block() let pass; 0: it is none.
[[nodiscard]] std::size_t usable_bytes_of(page const& home, void const* block,
                                          void const* caller) noexcept;

/// is_sample: `ptr` lies in a page of kind guarded, nothing happened, and the caller is to call
/// deallocate_sample() without a lock.
enum class block_freed : std::uint8_t { done, is_sample };

/// Frees a block, whoever's it is; reports misuse. Keeps nothing of errno.
[[nodiscard]] block_freed free_block(thread_heap& heap, void* ptr, char const* operation,
                                     void const* caller) noexcept;

/// The same for what is, or was, in a user heap. False: `ptr` is not, and nothing happened.
/// `expected`: the heap it should be in, or any.
[[nodiscard]] bool free_in_user_heap(thread_heap& heap, void* ptr, heap_id expected,
                                     char const* operation, void const* caller) noexcept;

/// As reallocate(), for a block of a user heap: it stays in its heap.
[[nodiscard]] void* reallocate_in(thread_heap& heap, page& home, void* ptr, std::size_t bytes,
                                  void const* caller) noexcept;

/// Makes the first `bytes` bytes of a block zero, unless they are.
void clear(run_block const& block, std::size_t bytes) noexcept;

/// Whether a block of `usable` bytes should stay where it is for a request of `bytes`.
[[nodiscard]] constexpr bool fits_well(std::size_t usable, std::size_t bytes) noexcept {
    return bytes <= usable && (bytes >= usable / 2 || usable <= 2 * sizing::quantum);
}

}  // namespace tarn::impl::heap
