// heap/run_block.hpp - blocks above sizing::small_max: a run of slices or a mapping each.
//
// Threads    any; a block is changed only by whoever holds it
// Always     one descriptor per block, entered in the page map for the whole of it; owner is
//            nobody, so that every free takes the slow path
// Cost       a lock and a store per slice; from huge_bytes_min a few system calls. Growth in place
//            where the neighbouring slices are free, else by moving pages, not bytes.
#pragma once

#include <cstddef>
#include <span>

#include "heap/page.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

struct operation;  // heap/diversion.hpp

inline constexpr std::size_t huge_bytes_min = 256 * MiB;  // a mapping of its own from here
inline constexpr std::size_t move_bytes_min = 512 * KiB;  // below, copying is cheaper than remaps

/// Beyond, blocks that grow are copied: the system allows a process 65,530 mappings (by default),
/// and a block in a mapping of its own takes two or three.
inline constexpr std::size_t huge_mappings_max = 10'000;

struct run_request {
    std::size_t bytes;      // > 0, at most PTRDIFF_MAX
    std::size_t alignment;  // a power of two
    bool grows = false;     // it has grown before and will again: better where there is room
    bool is_for_user_heap = false;  // its page gets its kind when it enters a lane
};

struct run_block {
    void* start = nullptr;  // null: out of memory
    bool zeroed = false;    // every byte reads as zero
    page* home = nullptr;
    page_kind kind = page_kind::none;  // large or huge
};

[[nodiscard]] run_block allocate_run(thread_heap& heap, run_request wanted) noexcept;

/// One try of it, which asks for nothing to be given back and counts nothing.
[[nodiscard]] run_block try_allocate_run(run_request wanted) noexcept;

/// A sample (thread_heap::is_sample_due()): a block as its class would serve it, but in a run of
/// its own, so that it is known what was asked for and when it is freed. Realloc moves it. The
/// host's, between inaccessible pages, if it has one. In a slow path.
[[nodiscard]] run_block allocate_sample(thread_heap& heap, unsigned size_class,
                                        operation const& asked) noexcept;

/// The same for a block above sizing::small_max (thread_heap::is_run_sample_due()), which is a run
/// anyhow: the host's, or none.
[[nodiscard]] run_block allocate_sampled_run(thread_heap& heap, operation const& asked) noexcept;

/// In place of one that realloc leaves in its class: never the host's.
[[nodiscard]] run_block allocate_plain_sample(unsigned size_class, run_request wanted) noexcept;

/// Adjacent runs of `slices` slices, for a host's samples: of kind guarded, without a block. All
/// their memory is charged. Returns how many of `to` were filled; 0: out of memory.
[[nodiscard]] std::size_t allocate_guarded_runs(std::span<page*> to, std::size_t slices) noexcept;

/// What the statistics are to know of such a run: there is a block in it, of so many bytes > 0, as
/// asked for, of so many that the system gives for it; or none any more.
void begin_sample(page& home, std::size_t bytes, std::size_t held_bytes) noexcept;
void end_sample(page& home, std::size_t held_bytes) noexcept;

/// Gives such a run back, with nothing in it, accessible. clean: it reads as zero, and nothing is
/// charged for it; else all of it is.
enum class run_memory : std::uint8_t { clean, charged };
void release_guarded_run(page& home, run_memory what) noexcept;

/// Frees what lies in a page of kind guarded. `heap`: that serves the calling thread.
void deallocate_sample(thread_heap* heap, operation const& asked) noexcept;

/// Gives the block back. False: it had been freed before, and nothing happened.
[[nodiscard]] bool deallocate_run(page& home) noexcept;

/// Gives back the memory and the descriptor of a block that was of this kind.
void release_run(page& home, page_kind kind) noexcept;

/// Makes the block `bytes` long without moving it. False: that is not possible.
[[nodiscard]] bool resize_run_in_place(page& home, std::size_t bytes) noexcept;

/// Moves the pages of a block to a mapping of its own, `bytes` bytes long. Null: not worth it, or
/// not possible, and the old block stays.
[[nodiscard]] void* move_run(page& home, std::size_t bytes) noexcept;

}  // namespace tarn::impl::heap
