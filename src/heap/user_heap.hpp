// heap/user_heap.hpp - user_heap: a heap that the program makes, names, limits and destroys.
//
// Threads    any, all functions. Blocks, pages and counters of a heap belong to one of its lanes,
//            and change under the lane's lock. A heap begins with one lane; a thread that finds
//            its lane taken adds one, up to the number of CPUs.
// Always     A heap is known by its id, which no other heap ever has: what is asked of one that was
//            destroyed is refused. Its pages are of kind user, large or huge and have no owner, so
//            that every free takes the slow path, and descriptors that never serve threads
//            (page::serves_user_heaps). page::life is odd while a page is in a lane, and changes
//            under the lane's lock: so a free sees that its page went meanwhile.
//            Destruction frees all blocks at once. Frees that have looked at their page by then do
//            nothing; later ones are told as long as nothing else lies there.
// Cost       a lock of its own and no other per operation; a new page takes another. Destruction:
//            a look at each page.
// Source     docs/design/heaps.md
// Tests      heaps/heap_test.cpp
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/intrusive_list.hpp"
#include "base/ranked_mutex.hpp"
#include "base/single_writer.hpp"
#include "platform/os.hpp"
#include "heap/page.hpp"
#include "heap/run_block.hpp"

namespace tarn::impl::heap {

/// `any`: where a function says so.
enum class heap_id : std::uint64_t { none = 0, any = ~std::uint64_t{0} };

inline constexpr int any_node = -1;

struct user_heap_options {
    std::string_view name;        // cut to user_heap::name_bytes_max
    std::size_t limit_bytes = 0;  // of pages; 0: none
    int numa_node = any_node;     // preferred, where the system can
};

/// What a lane has of a size class. All zero at first.
struct alignas(64) lane_class {
    // Blocks above small_max are full pages of class 0.
    base::intrusive_list<page> partial;
    base::intrusive_list<page> full;
    // Written under the lane's lock, read by anybody; so far, in earlier heaps, too.
    base::single_writer<std::uint64_t> allocations;
    base::single_writer<std::uint64_t> frees;  // those that a heap's end freed included
    std::uint32_t slices;                      // of all pages

    /// Exact under the lock.
    [[nodiscard]] std::uint64_t live_blocks() const noexcept {
        std::uint64_t const gone = frees.get();
        return std::max(allocations.get(), gone) - gone;
    }
};

/// What one thread at a time uses of a heap. All zero at first.
struct alignas(128) heap_lane {
    base::ranked_mutex<base::lock_rank::heap_lane, platform::os> mutex;
    std::atomic<heap_id> heap;  // that it belongs to; changes under the lock
    std::size_t empty_bytes;    // of pages without live blocks
    std::uint64_t told_bytes;   // live in small blocks, as the process was told
    std::uint64_t told_handed;  // allocated in small blocks, so far

    // Written under the lock, read by anybody.
    base::single_writer<std::uint64_t> pages;
    base::single_writer<std::uint64_t> large_bytes;         // live, in blocks above small_max
    base::single_writer<std::uint64_t> allocations_before;  // in earlier heaps

    std::array<lane_class, sizing::class_count> classes;

    std::atomic<base::node_index> node_link;
    base::node_index self_index;
};

/// All zero at first.
struct alignas(128) user_heap {
    static constexpr std::size_t name_bytes_max = 31;
    static constexpr std::uint32_t lanes_max = 8;

    std::atomic<heap_id> id;  // none: there is no heap in this record
    std::atomic<std::uint32_t> lane_count;
    std::atomic<std::uint32_t> lanes_most;
    std::array<std::atomic<heap_lane*>, lanes_max> lanes;
    std::atomic<std::size_t> held_bytes;  // of pages, large blocks among them
    std::atomic<std::size_t> held_peak_bytes;
    std::atomic<std::size_t> limit_bytes;  // 0: none
    std::atomic<std::uint64_t> refusals;
    std::atomic<std::uint32_t> pins;  // the heap's own, and of who charges it; 0: idle
    std::uint64_t generation;
    std::atomic<int> numa_node;
    std::array<std::atomic<char>, name_bytes_max + 1> name;

    std::atomic<base::node_index> node_link;
    base::node_index self_index;

    /// Keeps the record from serving another heap. False: it does not hold this one.
    [[nodiscard]] bool pin(heap_id expected) noexcept;
    void unpin() noexcept;

    /// False: the limit.
    [[nodiscard]] bool try_charge(std::size_t bytes) noexcept;

    void refund(std::size_t bytes) noexcept {
        held_bytes.fetch_sub(bytes, std::memory_order_relaxed);
    }
};

/// none: out of memory.
[[nodiscard]] heap_id create_heap(user_heap_options const& wanted) noexcept;

/// False: there is no such heap.
[[nodiscard]] bool destroy_heap(heap_id id) noexcept;

/// The heap with this id; null: there is none. It may be destroyed at any time.
[[nodiscard]] user_heap* find_heap(heap_id id) noexcept;

/// The heap that a block lies in; none: a thread's.
[[nodiscard]] heap_id heap_of(page const& home) noexcept;

/// start null: out of memory, the limit, or no such heap.
[[nodiscard]] run_block allocate_in(thread_heap& caller, heap_id id, run_request wanted) noexcept;

/// What a free of a block in a user heap came to.
enum class user_free : std::uint8_t {
    done,       // or its heap was destroyed meanwhile
    interior,   // not the start of a block
    twice,      // it was free
    other_heap  // not of the heap that was named
};

struct user_free_result {
    user_free what = user_free::done;
    void* block = nullptr;  // of `interior`: that holds the address
    std::size_t block_bytes = 0;
};

/// `home`: what the page map said of `ptr`; it serves user heaps. `expected`: the heap that the
/// block should belong to, or any.
[[nodiscard]] user_free_result deallocate_in(page& home, void* ptr, heap_id expected) noexcept;

/// Makes a live block of a user heap `bytes` long where it is. False: that is not possible.
[[nodiscard]] bool resize_in_place(page& home, void const* ptr, std::size_t bytes) noexcept;

/// False: no such heap.
[[nodiscard]] bool set_heap_limit(heap_id id, std::size_t bytes) noexcept;

struct user_heap_figures {
    heap_id id = heap_id::none;
    std::array<char, user_heap::name_bytes_max + 1> name{};
    std::uint64_t live_blocks = 0;
    std::uint64_t live_bytes = 0;
    std::uint64_t allocations = 0;  // number, so far
    std::uint64_t held_bytes = 0;
    std::uint64_t held_peak_bytes = 0;
    std::uint64_t limit_bytes = 0;
    std::uint64_t refusals = 0;
    std::uint64_t metadata_bytes = 0;
    std::uint64_t pages = 0;
    std::uint32_t lanes = 0;
    int numa_node = any_node;
};

/// id none: `of` is no heap any more.
[[nodiscard]] user_heap_figures measure_heap(user_heap const& of) noexcept;

struct trimmed_bytes {
    std::size_t pages = 0;   // free ones: now free runs
    std::size_t inside = 0;  // free OS pages inside others: given back to the system
};

enum class trim_depth : std::uint8_t { whole_pages, os_pages };

/// Gives free memory back; `id` may be any.
trimmed_bytes trim_heaps(heap_id id, trim_depth depth = trim_depth::os_pages) noexcept;

/// False ends the walk.
using block_visitor = bool (*)(void* start, std::size_t bytes, void* context);

/// Visits each live block, without a lock: what others free meanwhile may be among them. The
/// visitor may free what it is given. False: no such heap.
[[nodiscard]] bool walk_heap(heap_id id, block_visitor visit, void* context) noexcept;

/// Whether some heap is being destroyed: a free of a block without page may have begun before.
[[nodiscard]] bool is_destroying_heap() noexcept;

/// Checks all lists and counters; for when nobody uses the heap.
void audit_heap(heap_id id) noexcept;

// --- The same as the entry points want it: any heap of the calling thread, errno, reports -------

/// A small block, where that takes no more than a lock that is free. Null: it does. Keeps errno.
[[nodiscard]] void* allocate_quickly(thread_heap* caller_heap, heap_id id,
                                     std::size_t bytes) noexcept;

/// The same for a free of any block. False: nothing happened.
[[nodiscard]] bool deallocate_quickly(thread_heap* caller_heap, void* ptr,
                                      heap_id expected = heap_id::any) noexcept;

enum class contents : std::uint8_t { any, zero };

/// Null, with errno set: out of memory, the limit, or no such heap, which is reported.
[[nodiscard]] void* allocate_in(thread_heap* caller_heap, heap_id id, run_request wanted,
                                contents filled, char const* operation,
                                void const* caller) noexcept;

/// `ptr`: null, or a block of this heap; else it is reported. Keeps errno.
void deallocate_in(thread_heap* caller_heap, heap_id id, void* ptr, void const* caller) noexcept;

/// Makes a block, any thread's or heap's, at least `bytes` long where it is. False: not possible.
[[nodiscard]] bool expand(thread_heap* caller_heap, void* ptr, std::size_t bytes,
                          void const* caller) noexcept;

/// Also gives back what has aged. False: there is no such heap.
[[nodiscard]] bool destroy_heap(thread_heap* caller_heap, heap_id id, void const* caller) noexcept;

/// Returns the bytes. Keeps errno.
std::size_t trim_heap(thread_heap* caller_heap, heap_id id, void const* caller) noexcept;

void lock_heaps_for_fork() noexcept;
void unlock_heaps_after_fork() noexcept;

}  // namespace tarn::impl::heap
