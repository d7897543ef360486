// heap/process.hpp - what all threads share: descriptors, heaps, bins, start and end of threads.
//
// Threads    any; see each function
// Always     constant-initialised: usable before any constructor has run
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/ranked_mutex.hpp"
#include "base/tagged_stack.hpp"
#include "platform/os.hpp"
#include "space/address_space.hpp"
#include "space/record_table.hpp"
#include "heap/block_cache.hpp"
#include "heap/block_states.hpp"
#include "heap/host.hpp"
#include "heap/page.hpp"
#include "heap/thread_heap.hpp"
#include "heap/user_heap.hpp"

namespace tarn::impl::heap {

/// Partly free pages of one class that any thread may take. A lock-free stack.
struct alignas(64) shared_bin {
    base::tagged_stack pages;
    std::atomic<bool> has_empty{false};    // a page inside became empty by remote frees
    std::atomic<std::uint32_t> slices{0};  // of all pages of the class, binned or not
};

/// All zero at first: it lies in .bss and costs memory only where it is touched. Hence `options`,
/// which are not, stand by themselves.
struct process_state {
    TARN_HIDDEN static heap_options options;

    template <class T, base::lock_rank Rank>
    using table = space::record_table<T, platform::os, Rank, space::first_records::inside>;

    table<page, base::lock_rank::page_records> descriptors;
    table<thread_heap, base::lock_rank::heap_records> heaps;
    space::address_space space;
    state_tables states;
    space::record_table<block_cache, platform::os, base::lock_rank::cache_records> caches;
    space::record_table<heap_lane, platform::os, base::lock_rank::lane_records> lanes;
    space::record_table<user_heap, platform::os, base::lock_rank::user_heap_records> user_heaps;
    std::array<shared_bin, sizing::class_count> bins;
    base::tagged_stack idle_heaps;       // records of finished threads
    base::tagged_stack idle_user_pages;  // descriptors
    base::tagged_stack idle_lanes;
    base::tagged_stack idle_user_heaps;
    std::atomic<std::uint32_t> destructions{0};  // of user heaps, running
    std::atomic<std::uint32_t> start_state{0};   // a start_phase, and who starts
    std::atomic<bool> host_told{false};
    std::atomic<bool> bins_have_empty{false};  // in some bin has_empty is set
    std::atomic<std::uint32_t> active_heaps{0};
    // Of what threads may keep from others: less where they may run on few processors.
    std::atomic<std::uint32_t> cache_cut_thousandths{0};
    std::atomic<bool> orphans{false};  // a forked child has pages of vanished threads
    std::atomic<std::uint32_t> huge_mappings{0};
    std::atomic<std::uint64_t> huge_bytes{0};  // committed
    std::atomic<std::uint32_t> huge_mappings_peak{0};
    std::atomic<std::uint64_t> huge_peak_bytes{0};
    std::atomic<std::uint64_t> huge_reserved_bytes{0};
    std::atomic<std::uint64_t> huge_released_bytes{0};
    std::atomic<std::uint64_t> purged_inside_bytes{0};  // in total, inside partly used pages
    // Of samples between inaccessible pages; the host's to count.
    std::atomic<std::uint64_t> guarded_so_far{0};
    std::atomic<std::uint64_t> guards_refused{0};

    // For the peak of what is outside pages' free lists; see note_growth().
    std::atomic<std::int64_t> outside_bytes{0};
    std::atomic<std::int64_t> handed_bytes{0};
    std::atomic<std::int64_t> next_walk{0};  // when handed_bytes has got there
    std::atomic<std::uint64_t> live_peak_bytes{0};
    std::atomic<std::uint32_t> futile_walks{0};
    std::atomic<bool> walk_running{false};

    base::ranked_mutex<base::lock_rank::adoption, platform::os> adoption;
    base::ranked_mutex<base::lock_rank::late_heap, platform::os> late;
    base::ranked_mutex<base::lock_rank::heap_making, platform::os> heap_making;
    // Taken by prepare_fork(), too: a pass has pages in its hands, and no heap that would show it.
    base::ranked_mutex<base::lock_rank::scavenging, platform::os> scavenging;
};

TARN_HIDDEN extern constinit process_state process;

TARN_HIDDEN extern constinit thread_heap empty_heap;     // of threads that have not allocated yet
TARN_HIDDEN extern constinit thread_heap finished_heap;  // of threads past their exit hook
TARN_HIDDEN extern constinit thread_heap diverted_heap;  // of threads with a heap/diversion.hpp
TARN_HIDDEN extern constinit thread_heap late_heap;      // serves those, under process.late

inline bool thread_heap::is_alone() const noexcept {
    return process.active_heaps.load(std::memory_order_relaxed) <= 1 && this != &late_heap;
}

/// Starts the allocator if it has not been started. False: the system refuses the least memory.
[[nodiscard]] bool start_process() noexcept;

/// Gives the calling thread a heap. Null: out of memory.
[[nodiscard]] thread_heap* enter_thread() noexcept;

/// For what takes locks without allocating: from here on fork holds them. Without memory for that
/// nothing happens.
void enter_if_new() noexcept;

/// Calls use(thread_heap&) with the heap that serves a thread whose this_thread is `heap`.
template <class Use>
auto with_heap(thread_heap* heap, Use use) noexcept {
    if (heap == &empty_heap) [[unlikely]] {
        heap = enter_thread();
    }
    if (heap == nullptr || heap == &finished_heap) [[unlikely]] {
        base::lock_guard const guard{process.late};
        return use(late_heap);
    }
    return use(*heap);
}

/// Takes the calling thread's heap away: its pages go to the shared bins or back.
void leave_thread(thread_heap& heap) noexcept;

/// Holds every lock of the allocator over a fork.
void prepare_fork() noexcept;
void fork_in_parent() noexcept;
/// In the child, where only the calling thread lives: pages of the others wait for adoption.
void fork_in_child() noexcept;

/// Adopts the pages of threads that vanished in fork: repairs their counts by a walk and puts
/// them into bins. Returns at once when there are none.
void adopt_orphans() noexcept;

enum class sweep_scope : std::uint8_t { bins_with_empty_pages, all_bins };

/// Takes every page out of the bins, gives empty ones back and puts the others in again, without
/// their free OS pages where that is asked for. Returns the bytes of those.
enum class sweep_depth : std::uint8_t { whole_pages, os_pages };

std::size_t sweep_bins(sweep_scope scope, sweep_depth depth = sweep_depth::whole_pages) noexcept;

/// Gives all memory of a scope back that no live block needs, OS pages inside partly used pages
/// too. Returns the bytes given back.
std::size_t reclaim(thread_heap& own, reclaim_scope scope = reclaim_scope::process) noexcept;

/// A pass over what is free: sweeps bins that have empty pages, purges what has been free for the
/// purge delay. Returns the bytes given back. Takes the lock `scavenging`.
std::size_t scavenge() noexcept;

/// Whether a later pass will find something.
[[nodiscard]] bool has_memory_to_scavenge() noexcept;

/// Gives an empty page's memory back. The caller holds the page and nothing links to it.
void release_page(page& empty) noexcept;

/// A page of a class without blocks yet, entered in the page map; whose it is, and its kind, the
/// caller says. Null: out of memory, and `memory` is given back.
[[nodiscard]] page* make_page(space::run const& memory, unsigned size_class,
                              page* descriptor) noexcept;

/// A descriptor for a page of a user heap. Null: out of memory.
[[nodiscard]] page* new_user_page() noexcept;

/// For any descriptor.
void deallocate_descriptor(page& unused) noexcept;

/// Puts a partly free page, which the caller holds, into its class's bin.
void put_in_bin(page& partial) noexcept;

/// Says that a page of a class, in its bin, has become empty. A hint: may be wrong or too late.
void hint_at_empty_page(unsigned size_class) noexcept;

/// What heaps tell now and then, for the peak.
struct heap_growth {
    std::int64_t bytes;         // outside of pages' free lists, as far as pages were looked at
    std::int64_t handed_bytes;  // put into allocation lists, gross
};

void note_growth(heap_growth told) noexcept;

/// Raises a peak to what somebody has found, and returns it.
template <class T>
T raise_to(std::atomic<T>& peak, T found) noexcept {
    T known = peak.load(std::memory_order_relaxed);
    while (known < found && !peak.compare_exchange_weak(known, found, std::memory_order_relaxed)) {
    }
    return std::max(known, found);
}

inline constexpr std::int64_t growth_step_bytes = 64 * KiB;  // told at the latest

/// Bytes and blocks outside of all free lists, remote lists deducted: live blocks and those in
/// threads' allocation lists. A walk over all descriptors.
struct outside_totals {
    std::uint64_t bytes = 0;
    std::uint64_t blocks = 0;
};

[[nodiscard]] outside_totals measure_outside() noexcept;

/// The page or large block that holds `ptr`, an interior address too; null: none of ours.
[[nodiscard]] inline page* page_of(void const* ptr) noexcept { return pages.find_interior(ptr); }

}  // namespace tarn::impl::heap
