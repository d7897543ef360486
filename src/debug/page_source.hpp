// debug/page_source.hpp - blocks that end at an inaccessible page: an access beyond faults at once.
//
// A block's run:   lead            | body: the block's OS pages          | rest of the run
//                  inaccessible    | guard bytes, block, guard bytes     | inaccessible
//
//     The block ends at the end of its body, but for what its alignment (16 if none is asked for,
//     an OS page at most) leaves: guard bytes, as in front of it. A block of 0 bytes has no body. A
//     block that realloc made another size in place starts where it did, so that up to an OS page
//     of guard bytes may lie behind it.
//
// Threads    any; no lock of its own
// Always     a freed block is inaccessible and without memory until its run is used again. A run
//            whose addresses lead here is one of ours.
// Errors     out of memory: null. Where the system refuses guards, or has only so many mappings to
//            give for them, a block lies in plain memory, with guard bytes behind it, and its
//            contents stay when it is freed; that is told once.
// Cost       a block: a slice of address space at least, an OS page of memory, a descriptor of 128
//            bytes. allocate(): a system call and the page fault of new memory; seal(): a system
//            call. Runs of the smallest size are used again, two system calls less.
// Source     docs/design/debug-pages.md. Blocks at the end of pages are as old as Electric Fence
//            (B. Perens, 1987).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/attributes.hpp"
#include "platform/os.hpp"
#include "debug/checked_heap.hpp"

namespace tarn::impl::debug {

/// For checked_heap. Its blocks come from the calling thread's own heap.
[[nodiscard]] block_source page_source() noexcept;

/// For samples (debug/sampled_guards.hpp): blocks of size classes in pages of kind guarded, never
/// of 0 bytes, nor aligned to more than an OS page. Null where guards are refused.
[[nodiscard]] block_source sample_source() noexcept;

/// `usual`, with what suits blocks between pages: the quarantine holds no memory but address space.
[[nodiscard]] check_options with_page_defaults(check_options usual) noexcept;

/// From here on `call` is called, once, when a block has to do without inaccessible pages. By any
/// thread, without a lock; it may not allocate.
void when_guards_are_refused(void (*call)() noexcept) noexcept;

struct page_source_figures {
    std::uint64_t fenced_runs = 0;      // live, in quarantine, or waiting to be used again
    std::uint64_t idle_runs = 0;        // of these, waiting
    std::uint64_t unfenced_blocks = 0;  // so far: guards were refused
    std::uint64_t samples = 0;          // live
    bool are_refused = false;           // guards, for a sample
};

[[nodiscard]] page_source_figures figures_of_page_source() noexcept;

/// Of address space, each run that may wait.
[[nodiscard]] std::size_t page_run_bytes() noexcept;

/// Gives runs that wait to be used again back to the heap.
void release_idle_runs() noexcept;

struct guarded_place {
    bool is_ours = false;            // the address lies in a run of this source
    block_record* record = nullptr;  // of the block that is there, or was; null: not known any more
};

/// There is, or was, a block of this source. Relaxed: who has its address has it from there.
TARN_HIDDEN extern constinit std::atomic<bool> guarded_blocks_exist;

[[nodiscard]] guarded_place find_guarded_slow(void const* address) noexcept;

/// Also in a signal handler. Cost: a load, until there is a block of this source.
[[nodiscard]] inline guarded_place find_guarded(void const* address) noexcept {
    return guarded_blocks_exist.load(std::memory_order_relaxed) ? find_guarded_slow(address)
                                                                : guarded_place{};
}

/// Whether the address, inside the run of a block of this source, is in one of the block's own OS
/// pages.
[[nodiscard]] bool is_in_body(block_record const& of, void const* address) noexcept;

/// Makes the OS page at `address` accessible, which lies in a run of this source, as if its fault
/// had not been. Also in a signal handler. False: refused.
[[nodiscard]] bool open_page(void const* address) noexcept;

}  // namespace tarn::impl::debug
