// heap/thread_heap.hpp - thread_heap: blocks for one thread, without locks or atomic
// read-modify-writes on the fast path.
//
// Threads    the owner only, except what the comments at `handed` and `phase` say. A block may be
//            freed through any heap: what is not this heap's goes to its page's remote word.
// Always     slots_[c].head is a list of free blocks. They lie in slots_[c].current, but for a few
//            strays of other pages, which count as outside of those. A class without free blocks,
//            a thread without a heap, a thread past its exit and a mode that checks all look
//            alike: the head is null, and that one branch leads to the slow path.
//            What is freed into a page that is reused (page::frees) is handed out next; what is
//            freed into another page of this heap waits there. Between two slow paths of a class
//            reuse has an end.
//            In mode hardened the lists stay empty and the pages are others (hidden_), so that
//            every operation takes the slow path, which begins with allocate_hardened() and
//            deallocate_hardened(). What is freed waits in the block_cache, or, by its state, in
//            its page.
// Cost       allocate() up to 256 bytes: 12 instructions, one load of the block. deallocate():
//            one load of the page map, one line of the page's descriptor, one line of the block.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/attributes.hpp"
#include "base/intrusive_list.hpp"
#include "platform/os.hpp"
#include "sizing/size_class.hpp"
#include "space/page_map.hpp"
#include "heap/block_cache.hpp"
#include "heap/host.hpp"
#include "heap/page.hpp"
#include "heap/sample_plan.hpp"

namespace tarn::impl::heap {

using process_page_map = space::page_map<page, platform::os>;

/// Which page owns an address, for the whole process.
TARN_HIDDEN extern constinit process_page_map pages;

/// Which functions a block is allocated with, and freed: modes that check compare the two.
enum class family : std::uint8_t { malloc, new_one, new_array };

enum class slack_length : std::uint8_t;  // heap/hardening.hpp

/// What a free says of its block beside the address.
struct told {
    family by;
    std::size_t bytes = 0;      // 0: nothing
    std::size_t alignment = 0;  // 0: nothing
};

/// A life of a heap record.
enum class heap_phase : std::uint8_t { unused, active, vanished /* its thread died in fork */ };

class alignas(64) thread_heap {
    /// One size class: its allocation list and the page that list comes from.
    struct alignas(sizing::quantum) slot {
        block* head = nullptr;
        page* current = nullptr;
    };

public:
    using list_heads = std::array<slot, sizing::class_count>;

private:
    // First, and as large as a quantum: a small request's slot is then found by rounding up the
    // sum of the heap's address and its size. Empty for ever in mode hardened.
    list_heads slots_{};
    static_assert(sizeof(slot) == sizing::quantum);

public:
    constexpr thread_heap() noexcept = default;
    thread_heap(thread_heap const&) = delete;
    thread_heap& operator=(thread_heap const&) = delete;

    /// The fast half of allocation: a block, or null where the slow path must decide.
    [[nodiscard]] TARN_HOT void* try_allocate(std::size_t bytes) noexcept;

    /// `bytes`: 0 allowed. Aligned to 16. Null, with errno set: out of memory or too large.
    [[nodiscard]] TARN_HOT void* allocate(std::size_t bytes) noexcept;

    /// `ptr`: null, or a block of any heap. Misuse is reported as far as fast mode sees it.
    TARN_HOT void deallocate(void* ptr) noexcept;

    /// The same for whoever knows more of the block.
    template <family By>
    TARN_HOT void deallocate_as(void* ptr) noexcept;
    template <family By>
    TARN_HOT void deallocate_as(void* ptr, std::size_t bytes) noexcept;
    template <family By>
    TARN_HOT void deallocate_aligned(void* ptr, std::size_t bytes, std::size_t alignment) noexcept;

    /// A block that is known to begin at `ptr` in the page `home`.
    TARN_HOT void deallocate_in(page* home, void* ptr) noexcept;

    // --- slow paths; the heap is the calling thread's own, or late_heap under its lock ----------

    /// For the owner that comes: `thread`, as the system numbers it.
    void enter(std::uint32_t thread) noexcept;

    [[nodiscard]] void* allocate_class(unsigned size_class) noexcept;
    /// The block of this class that is allocated next is to be a sample, and not from a page of the
    /// class. Whoever has made it, or could not, says so.
    [[nodiscard]] bool is_sample_due(unsigned size_class) const noexcept;
    void note_sample(unsigned size_class) noexcept;
    /// The same for the next block above sizing::small_max; note_sample(0) says so.
    [[nodiscard]] bool is_run_sample_due() noexcept;
    /// In mode hardened, for a request of that class.
    [[nodiscard]] void* allocate_checked(unsigned size_class, std::size_t bytes) noexcept;
    // The hot halves of heap::allocate_hardened() and its kin, where alone they are defined.
    template <slack_length Slack, class Slow>
    [[nodiscard]] void* allocate_cached(std::size_t bytes, Slow slow) noexcept;
    template <slack_length Slack, class Slow>
    void deallocate_cached(block_cache& own, page& home, void* ptr, Slow slow) noexcept;
    /// The common case of it. Null: the slow path must decide.
    [[nodiscard]] void* try_allocate_hardened(std::size_t bytes) noexcept;
    /// The common cases of a free in mode hardened. False: the slow path must decide.
    [[nodiscard]] bool try_deallocate_hardened(void* ptr) noexcept;
    /// The same for a block of another thread's page.
    [[nodiscard]] bool try_post_hardened(void* ptr) noexcept;
    [[nodiscard]] void* allocate_checked_zeroed(unsigned size_class, std::size_t bytes) noexcept;
    /// As allocate_class(); the first `bytes` bytes are zero.
    [[nodiscard]] void* allocate_class_zeroed(unsigned size_class, std::size_t bytes) noexcept;
    /// The cheap half of a free that is not into an own page. False: deallocate_found() must do it.
    [[nodiscard]] bool try_adopt_stray(void* ptr) noexcept;
    void deallocate_found(page& home, void* ptr, void const* caller) noexcept;
    void deallocate_checked(page& home, void* ptr, char const* operation,
                            void const* caller) noexcept;
    void deallocate_emptied(page& home, void* ptr, void const* caller) noexcept;

    /// Makes every free block and page available to others. The heap holds nothing afterwards.
    void leave() noexcept;

    /// Collects what others freed into this heap's pages and gives empty pages back.
    void collect() noexcept;

    /// As collect(), and gives back the free OS pages inside its pages. Returns the bytes of those.
    std::size_t trim() noexcept;

    /// A block in a run of its own was handed out; class 0, or of a sample.
    void count_run(unsigned size_class) noexcept { bump(handed[size_class], 1); }

    /// An allocation has failed: where the hard limit is the reason, small blocks may from here on
    /// have of its reserve.
    void note_refusal() noexcept;

    /// Forgets its pages without giving anything back: somebody took them over.
    void forget() noexcept;

    /// Unlinks the next block that does not lie in the class's current page from its allocation
    /// list; null: none within `skipped_most` blocks. `link`: where to look from, at first the
    /// list's head; moves on.
    [[nodiscard]] block* take_stray(unsigned size_class, block**& link, int skipped_most) noexcept;

    /// Checks the heap's own pages and lists.
    void audit() const noexcept;

    /// Free blocks in the allocation list of a class, and cached. Owner only, or when the owner is
    /// at rest.
    [[nodiscard]] std::size_t listed(unsigned size_class) const noexcept;

    /// Where the lists of all classes begin; for others to copy (heap/list_reader.hpp).
    [[nodiscard]] list_heads const* lists() const noexcept {
        return hardening.on ? &hidden_ : &slots_;
    }

    /// The allocation list of a class and the page its blocks lie in; null: none.
    [[nodiscard]] block* head(unsigned size_class) const noexcept {
        return (*lists())[size_class].head;
    }

    [[nodiscard]] block*& head(unsigned size_class) noexcept {
        return (hardening.on ? hidden_ : slots_)[size_class].head;
    }

    /// In mode hardened, and where there was memory for it: what was freed waits here.
    [[nodiscard]] block_cache* cache() const noexcept { return cache_.get(); }

    /// Whether no other thread has a heap. late_heap is nobody's: whoever has one runs beside it.
    [[nodiscard]] bool is_alone() const noexcept;

    /// Blocks in there; by anybody.
    [[nodiscard]] std::uint32_t cached(unsigned size_class) const noexcept {
        block_cache const* const own = cache();
        return own == nullptr ? 0 : own->count(size_class);
    }

    [[nodiscard]] page* current(unsigned size_class) const noexcept {
        return (*lists())[size_class].current;
    }

    /// Blocks handed out by class (0: large), those still in the list or cached included. By
    /// anybody.
    [[nodiscard]] std::uint64_t handed_so_far(unsigned size_class) const noexcept {
        block_cache const* const own = cache();
        // acquire: pairs with the release in bump(). What was placed is read afterwards, so that
        // the sum never is less than what it was.
        std::uint64_t const counted = handed[size_class].load(std::memory_order_acquire);
        return counted + (own == nullptr ? 0 : own->room(size_class).placed.get());
    }

    /// The same without those placed in the cache, which that counts. Written by the owner, read by
    /// anybody, relaxed.
    std::array<std::atomic<std::uint64_t>, sizing::class_count> handed{};
    std::atomic<std::uint64_t> cross_thread_frees{0};
    std::atomic<heap_phase> phase{heap_phase::unused};
    std::atomic<std::uint32_t> thread_id{0};  // the system's, of the owner
    bool in_slow_path = false;
    bool in_host = false;  // the host has a sample in hand

    std::atomic<base::node_index> node_link{base::node_index::none};
    base::node_index self_index{base::node_index::none};

private:
    template <class Slow>
    TARN_HOT void deallocate_or(void* ptr, Slow slow) noexcept;
    template <class Slow>
    TARN_HOT void deallocate_own(page& home, void* ptr, Slow slow) noexcept;

    static void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by) noexcept {
        // One writer: no read-modify-write needed.
        counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_release);
    }

    [[nodiscard]] static int stray_reuse_budget(unsigned size_class) noexcept;
    [[nodiscard]] slot& linear_slot(std::size_t bytes) noexcept;

    [[nodiscard]] slot* slots() noexcept { return (hardening.on ? hidden_ : slots_).data(); }

    [[nodiscard]] slot const* slots() const noexcept {
        return (hardening.on ? hidden_ : slots_).data();
    }

    [[nodiscard]] static block* pop(slot& from) noexcept;
    void enter_hardened() noexcept;
    [[nodiscard]] bool find_free(page& in) noexcept;
    [[nodiscard]] bool has_free(unsigned size_class) const noexcept;
    [[nodiscard]] int may_take(unsigned size_class, std::uint32_t wanted) noexcept;
    template <class Take>
    [[nodiscard]] int take_free(unsigned size_class, int most, Take take) noexcept;
    [[nodiscard]] bool take_one(unsigned size_class, cached_block& to, bool& is_zero) noexcept;
    [[nodiscard]] bool take_next(unsigned size_class, cached_block& to) noexcept;
    [[nodiscard]] bool fill_cache(unsigned size_class) noexcept;
    void flush_cache(unsigned size_class, std::uint32_t keep) noexcept;
    [[nodiscard]] bool make_room(unsigned size_class) noexcept;
    void give_back(cached_block const& each, std::size_t block_bytes) noexcept;
    void allow_frees(unsigned size_class) noexcept;
    void report_damaged(cached_block const& freed, std::size_t bytes) noexcept;
    static void seal_new(page const& in, std::size_t first, std::size_t count) noexcept;
    [[nodiscard]] bool refill(unsigned size_class) noexcept;
    [[nodiscard]] bool take_list(page& from) noexcept;
    [[nodiscard]] int make_blocks(page& in) noexcept;
    [[nodiscard]] page* next_page(unsigned size_class) noexcept;
    [[nodiscard]] page* pop_bin(unsigned size_class) noexcept;
    [[nodiscard]] page* fresh_page(unsigned size_class) noexcept;
    [[nodiscard]] space::allowance allowance_for(unsigned size_class) noexcept;
    [[nodiscard]] bool leave_full(page& full) noexcept;
    void keep(page& owned) noexcept;
    void drop(page& owned) noexcept;
    void dispose(page& owned) noexcept;
    void part_with_empty(page& owned) noexcept;
    [[nodiscard]] bool may_sweep() noexcept;
    void page_emptied(page& home) noexcept;
    void report(misuse const& event) noexcept;
    void free_elsewhere(page& home, void* ptr) noexcept;
    void return_list(unsigned size_class) noexcept;
    void end_countdown(page& from) noexcept;
    [[nodiscard]] bool try_keep_full(page& full) noexcept;
    void forget_who_left(page& taken) const noexcept;
    [[nodiscard]] bool try_reuse(page& home, void* ptr) noexcept;
    [[nodiscard]] bool has_many_strays(unsigned size_class) const noexcept;
    void note_mixed_list(unsigned size_class) noexcept;
    void look_at_strays(page& home) noexcept;
    void send_strays_home(unsigned size_class) noexcept;
    void send_home(block& stray) noexcept;
    [[nodiscard]] static std::size_t share_of(std::size_t all_threads) noexcept;
    [[nodiscard]] static std::size_t kept_bytes_max() noexcept;
    [[nodiscard]] static std::size_t owned_bytes_max() noexcept;
    void set_current(unsigned size_class, page* next) noexcept;
    void shed() noexcept;
    void link(page& owned) noexcept;
    [[nodiscard]] base::intrusive_list<page>& list_of(page const& owned) noexcept;
    [[nodiscard]] page* wake_full(unsigned size_class) noexcept;
    void account(page& owned) noexcept;
    void tell_growth() noexcept;
    void count_handed(unsigned size_class, int blocks) noexcept;
    void stop_before_sample(page& from, int listed) noexcept;
    [[nodiscard]] int until_sample(unsigned size_class, int blocks, int counted) noexcept;
    [[nodiscard]] bool may_reuse(unsigned size_class) noexcept;
    void shorten_list(page& from, int listed, int length) noexcept;
    void end_reuse(unsigned size_class) noexcept;
    void resume_reuse(unsigned size_class) noexcept;

    std::array<int, sizing::class_count> stray_room_{};  // taken without a look at their number
    // Pages that are owned, but not current: those with blocks in their own list, and those that
    // count down since they were full (page::countdown).
    std::array<base::intrusive_list<page>, sizing::class_count> kept_{};
    std::array<base::intrusive_list<page>, sizing::class_count> full_{};
    std::size_t current_bytes_ = 0;     // of all pages in slots_
    std::size_t kept_bytes_ = 0;        // of all pages in kept_ and full_
    std::size_t kept_empty_bytes_ = 0;  // of those without live blocks
    std::int64_t growth_bytes_ = 0;     // not yet told to the process, as its heap_growth
    std::int64_t handed_bytes_ = 0;
    unsigned shed_next_ = 0;                             // the class that shed() looked at last
    std::array<bool, sizing::class_count> is_in_use_{};  // had a refill since then
    std::array<sample_plan, sizing::class_count> samples_{};
    random_source random_;
    bool may_use_reserve_ = false;             // of the hard limit: an allocation was refused
    unsigned fresh_pages_ = 0;                 // so far, in mode hardened
    bool is_over_ = false;                     // keep() has met the cap since shed() was called
    base::single_writer<block_cache*> cache_;  // stays when the thread ends
    // Last: where they are not used they cost no memory.
    std::array<std::size_t, sizing::class_count> cursors_{};  // where to look on in current pages
    list_heads hidden_{};
};

/// The heap of the calling thread. Threads that have none yet share one that is empty for ever,
/// threads past their exit another, and so do those whose operations are diverted
/// (heap/diversion.hpp): all three send every operation to the slow path.
#if defined(TARN_TLS_MODEL_DYNAMIC) && TARN_TLS_MODEL_DYNAMIC
TARN_HIDDEN extern thread_local constinit thread_heap* this_thread;
#else
TARN_HIDDEN extern thread_local constinit thread_heap* this_thread
    __attribute__((tls_model("initial-exec")));
#endif

/// The cold half of allocate(): any size, any state. (The heap comes last in these three so that
/// the entry points need not move their argument.) Sets errno on failure.
[[nodiscard]] TARN_COLD void* allocate_slow(std::size_t bytes, thread_heap* heap) noexcept;

/// The cold half of deallocate(): null, foreign, another thread's, large. Keeps errno.
TARN_COLD void deallocate_slow(void* ptr, thread_heap* heap) noexcept;

/// The same for whoever knows more of the block.
TARN_COLD void deallocate_told_slow(void* ptr, thread_heap* heap, std::size_t bytes,
                                    std::size_t alignment, family by) noexcept;

/// The first two in mode hardened, and what they go on with where it is no common case.
void* allocate_hardened(std::size_t bytes, thread_heap* heap) noexcept;
void deallocate_hardened(void* ptr, thread_heap* heap) noexcept;
TARN_COLD void* allocate_hardened_slow(std::size_t bytes, thread_heap* heap) noexcept;
TARN_COLD void deallocate_hardened_slow(void* ptr, thread_heap* heap) noexcept;

/// Both in full, for a caller that is named.
[[nodiscard]] void* allocate_for(thread_heap* heap, std::size_t bytes, void const* caller,
                                 family by = family::malloc) noexcept;
void deallocate_for(thread_heap* heap, void* ptr, void const* caller) noexcept;

/// The page has just become empty, or `ptr` was freed into an empty one. Keeps errno.
TARN_COLD void deallocate_emptied(void* ptr, page* home, thread_heap* heap) noexcept;

/// `bytes` bytes, all zero.
[[nodiscard]] void* allocate_zeroed(thread_heap* heap, std::size_t bytes,
                                    void const* caller) noexcept;

/// `alignment`: a power of two.
[[nodiscard]] void* allocate_aligned(thread_heap* heap, std::size_t bytes, std::size_t alignment,
                                     void const* caller, family by = family::malloc) noexcept;

/// `ptr` not null, `bytes` > 0. Null: out of memory or misuse, and the block stays as it was.
[[nodiscard]] void* reallocate(thread_heap* heap, void* ptr, std::size_t bytes,
                               void const* caller) noexcept;

enum class reclaim_scope : std::uint8_t {
    thread,  // what the calling thread holds
    process  // and what nobody holds
};

/// Gives all memory back that no live block needs. Returns the bytes given back. Keeps errno.
/// Cost: a walk over all pages of the scope.
std::size_t trim(thread_heap* heap, reclaim_scope scope, void const* caller) noexcept;

/// scavenge() by a thread of the program.
std::size_t scavenge(thread_heap* heap, void const* caller) noexcept;

/// Bytes that may be used in the block; 0 after a report where `ptr` is no block.
[[nodiscard]] std::size_t usable_bytes(void const* ptr, void const* caller) noexcept;

/// The same, and find_block_around(), of the heap's own blocks where a stand-in made others of them
/// (heap/diversion.hpp). Only for that.
[[nodiscard]] std::size_t usable_bytes_in_heap(void const* ptr, void const* caller) noexcept;
struct found_block;
[[nodiscard]] found_block find_block_in_heap(void const* ptr) noexcept;

/// Of a block that a stand-in's malloc may have made, and does not know the size of.
inline constexpr std::size_t unknown_bytes = ~std::size_t{0};

/// A block, live or freed; none: null and 0.
struct found_block {
    void* start = nullptr;
    std::size_t bytes = 0;
};

/// The block that holds `ptr`, which may be any address.
[[nodiscard]] found_block find_block_around(void const* ptr) noexcept;

/// The page of a block, and the block's bytes; none: 0.
struct block_home {
    std::size_t bytes = 0;
    page* home = nullptr;
};

/// As find_home(), for what is no block of a small page.
[[nodiscard]] block_home find_home_slow(void const* ptr) noexcept;

/// Where the block lies that begins at `ptr`, which may be any address.
[[nodiscard]] TARN_HOT block_home find_home(void const* ptr) noexcept {
    page* const home = pages.find(ptr);
    if (home == nullptr || !home->is_block_start(ptr)) [[unlikely]] {
        return find_home_slow(ptr);
    }
    return {.bytes = home->block_bytes.get(), .home = home};
}

TARN_HOT thread_heap::slot& thread_heap::linear_slot(std::size_t bytes) noexcept {
    // slots_[(bytes + 15) / 16], also slot 0 for 0 bytes: the heap is aligned to more than 16.
#if defined(__x86_64__)
    // One instruction where Clang 14 makes two, and in rdx, which leaves rax to the result: a move
    // less in GCC 12.
    std::uintptr_t at = 0;
    __asm__("leaq %c3(%1,%2), %0" : "=d"(at) : "r"(this), "r"(bytes), "i"(sizing::quantum - 1));
#else
    std::uintptr_t at = base::address_of(this) + bytes + sizing::quantum - 1;
#endif
    at = base::align_down(at, sizing::quantum);
    return *reinterpret_cast<slot*>(base::pointer_to(at));
}

TARN_HOT block* thread_heap::pop(slot& from) noexcept {
    block* const head = from.head;
    if (head != nullptr) [[likely]] {
        from.head = head->next;
    }
    return head;
}

TARN_HOT void* thread_heap::try_allocate(std::size_t bytes) noexcept {
    if (bytes <= sizing::linear_max) [[likely]] {
        return pop(linear_slot(bytes));
    }
    return bytes <= sizing::small_max ? pop(slots_[sizing::class_of_geometric(bytes)]) : nullptr;
}

TARN_HOT void* thread_heap::allocate(std::size_t bytes) noexcept {
    void* const block = try_allocate(bytes);
    if (block == nullptr) [[unlikely]] {
        return allocate_slow(bytes, this);
    }
    return block;
}

template <class Slow>
TARN_HOT void thread_heap::deallocate_or(void* ptr, Slow slow) noexcept {
    page* const home = pages.find(ptr);
    // A page's owner field equals `this` only if this thread stored it and has not left the page
    // since: a relaxed read may be stale, but never falsely equal.
    if (home == nullptr || !home->owner.equals(this) || !home->is_block_start(ptr)) [[unlikely]] {
        return slow(ptr, this);
    }
    deallocate_own(*home, ptr, slow);
}

TARN_HOT void thread_heap::deallocate(void* ptr) noexcept { deallocate_or(ptr, &deallocate_slow); }

template <family By>
TARN_HOT void thread_heap::deallocate_as(void* ptr) noexcept {
    deallocate_or(ptr, [](void* block, thread_heap* heap) {
        return deallocate_told_slow(block, heap, 0, 0, By);
    });
}

template <family By>
TARN_HOT void thread_heap::deallocate_as(void* ptr, std::size_t bytes) noexcept {
    deallocate_or(ptr, [bytes](void* block, thread_heap* heap) {
        return deallocate_told_slow(block, heap, bytes, 0, By);
    });
}

template <family By>
TARN_HOT void thread_heap::deallocate_aligned(void* ptr, std::size_t bytes,
                                              std::size_t alignment) noexcept {
    deallocate_or(ptr, [bytes, alignment](void* block, thread_heap* heap) {
        return deallocate_told_slow(block, heap, bytes, alignment, By);
    });
}

TARN_HOT void thread_heap::deallocate_in(page* home, void* ptr) noexcept {
    if (!home->owner.equals(this)) [[unlikely]] {
        return deallocate_slow(ptr, this);
    }
    deallocate_own(*home, ptr, &deallocate_slow);
}

template <class Slow>
TARN_HOT void thread_heap::deallocate_own(page& home, void* ptr, Slow slow) noexcept {
    block** const list = home.frees.get();
    if (ptr == *list) [[unlikely]] {
        return slow(ptr, this);
    }
    if (home.push_to(*list, ptr)) [[unlikely]] {
        return heap::deallocate_emptied(ptr, &home, this);
    }
}

}  // namespace tarn::impl::heap
