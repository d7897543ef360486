// space/address_space.hpp - runs of slices out of a few large reservations.
//
// Threads    every function: any thread; takes lock_rank::space for bit arithmetic only, never
//            over a system call
// Always     a slice is free or belongs to exactly one run; freed neighbours coalesce by
//            themselves, since a run is nothing but bits. A clean slice reads as zero.
//            What lies in a huge page that is partly used is purged at every second pass only: it
//            breaks the huge page.
//            A run is taken at the lowest address that fits, so the upper ends fall idle and are
//            purged. Mappings: a handful per reservation.
// Cost       acquire(): one lock, a scan that starts at the lowest free slice; a commit per MiB of
//            new memory. return_run(): one lock. Ageing: one pass per purge delay.
// Errors     out of memory, or out of budget: a run with base null
// Source     docs/design/space.md
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/ranked_mutex.hpp"
#include "base/units.hpp"
#include "platform/os.hpp"
#include "sizing/size_class.hpp"
#include "space/budget.hpp"
#include "space/slice_set.hpp"

namespace tarn::impl::space {

/// Adjacent slices. base null: none.
struct run {
    std::byte* base = nullptr;
    std::uint32_t slices = 0;
    std::uint16_t arena = 0;
    bool zeroed = false;  // every byte reads as zero
};

/// What a run is for. What is dense is soon touched everywhere.
enum class run_use : std::uint8_t { sparse, dense };

struct space_options {
    std::size_t arena_bytes = 1 * GiB;    // size of a reservation, where the system grants it
    std::uintptr_t ceiling = 0;           // all memory below this address; 0: anywhere
    std::uint32_t purge_delay_ms = 1000;  // age at which free memory goes back
    std::size_t huge_after_bytes = ~std::size_t{0};  // used bytes from which dense runs are huge
};

struct space_counts {
    std::size_t reserved_bytes = 0;
    std::size_t committed_bytes = 0;  // without what is purged
    std::size_t metadata_bytes = 0;
    std::size_t free_dirty_bytes = 0;  // free and not given back
    std::size_t free_dirty_runs = 0;   // in so many stretches
    std::size_t peak_bytes = 0;        // highest used_bytes + free_dirty_bytes
    std::size_t used_bytes = 0;        // in runs
    std::uint64_t purged_bytes = 0;    // in total
    std::size_t arenas = 0;
};

class address_space {
public:
    constexpr address_space() noexcept = default;
    address_space(address_space const&) = delete;
    address_space& operator=(address_space const&) = delete;

    /// Once, before the first acquire().
    void configure(space_options options) noexcept { options_ = options; }

    /// `slices` > 0 adjacent slices, the first at a multiple of `alignment_slices`, a power of two;
    /// if there is one, at the start of a free gap of `gap_slices`, in which the run can grow.
    /// What the system must give for it is charged to the budget, as `wants` allows.
    [[nodiscard]] run acquire(std::size_t slices, std::size_t alignment_slices = 1,
                              std::size_t gap_slices = 0, run_use use = run_use::sparse,
                              allowance wants = allowance::ordinary) noexcept;

    /// All memory of the process that holds blocks: what the runs here hold, free and dirty ones
    /// too, and what others charge.
    [[nodiscard]] class budget& budget() noexcept { return budget_; }

    /// Makes `owned` longer by `extra` slices where they follow it and are free. False: they are
    /// not, or memory is refused.
    [[nodiscard]] bool extend(run& owned, std::size_t extra) noexcept;

    /// Gives the slices behind the first `keep` > 0 back.
    void shorten(run& owned, std::size_t keep) noexcept;

    /// Gives a run back. Its contents count as dirty; a purge_due() is asked for.
    void return_run(run const& owned) noexcept;

    /// The same for a run that reads as zero, and for which nothing is charged.
    void return_clean_run(run const& owned) noexcept;

    /// Purges what has been free for a purge delay; `now` is os::monotonic_ms(). Returns the bytes
    /// given back.
    std::size_t purge_due(std::uint64_t now) noexcept;

    std::size_t purge_due() noexcept { return purge_due(platform::os::monotonic_ms()); }

    /// Whether there is free memory that a later pass will give back.
    [[nodiscard]] bool has_dirty() noexcept;

    /// So much free memory is not purged by age. ~0: none is.
    void set_keep_bytes(std::size_t bytes) noexcept {
        keep_bytes_.store(bytes, std::memory_order_relaxed);
    }

    /// Asks for a purge_due() at the next purge_if_asked(): memory has come or gone.
    void ask_for_purge() noexcept { purge_asked_.store(true, std::memory_order_relaxed); }

    /// The same where the budget holds more than somebody watches for.
    void ask_if_watched() noexcept {
        if (budget_.is_above_watched()) [[unlikely]] {
            ask_for_purge();
        }
    }

    /// The time, where it was asked for, and looked at; else 0.
    std::uint64_t purge_if_asked() noexcept {
        if (!purge_asked_.load(std::memory_order_relaxed)) {
            return 0;
        }
        purge_asked_.store(false, std::memory_order_relaxed);
        std::uint64_t const now = platform::os::monotonic_ms();
        purge_due(now);
        return now;
    }

    /// Purges every free slice now. Returns the bytes given back.
    std::size_t purge_all() noexcept;

    /// Gives the address space of wholly free reservations back; for when it has run out.
    void release_idle_arenas() noexcept;

    [[nodiscard]] space_counts counts() noexcept;

    /// Calls visit(run) for each maximal group of used slices, under the lock.
    template <class Visit>
    void for_each_used(Visit visit) noexcept;

    void lock_for_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS { mutex_.lock(); }

    void unlock_after_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock(); }

    /// Checks that the sets of every reservation agree.
    void audit() noexcept;

    static constexpr std::size_t arena_slices_max = 4 * GiB / sizing::slice_bytes;
    static constexpr std::size_t arenas_max = 4096;

private:
    static constexpr std::size_t huge_page_slices = platform::huge_page_bytes / sizing::slice_bytes;

    /// Which of an arena's huge pages were made, and not broken since.
    class huge_page_set {
    public:
        void insert(slice_range whole) noexcept;
        /// What is purged of a huge page breaks it.
        void remove(slice_range part) noexcept;

        [[nodiscard]] bool contains(std::size_t page) const noexcept {
            return (words_[page / 64] >> (page % 64) & 1) != 0;
        }

    private:
        std::array<std::uint64_t, arena_slices_max / huge_page_slices / 64> words_{};
    };

    struct arena {  // base null: a place that a later reservation takes
        std::byte* base = nullptr;
        std::size_t slices = 0;
        std::size_t lowest_free = 0;   // no free slice below
        std::size_t longest_free = 0;  // no free run is longer; an upper bound
        slice_set free;
        slice_set committed;
        slice_set clean;   // reads as zero
        slice_set ageing;  // free and dirty since before the last ageing pass
        huge_page_set huge;
        std::size_t metadata_bytes = 0;
    };

    enum class purge_scope { aged_but_huge, aged, everything };

    using mutex = base::ranked_mutex<base::lock_rank::space, platform::os>;

    /// A range just taken, before its memory is sure.
    struct claim {
        arena* in = nullptr;  // null: nothing fits
        std::size_t index = 0;
        slice_range range;
        bool wants_huge = false;
        bool committed = false;
        bool zeroed = false;
        bool refused = false;  // something would fit, but the budget does not allow it
    };

    /// What acquire() was asked for.
    struct request {
        std::size_t slices;
        std::size_t alignment;
        std::size_t gap;
        run_use use;
        allowance wants;
    };

    [[nodiscard]] claim take(request const& wanted) noexcept;
    [[nodiscard]] claim claim_locked(std::size_t index, slice_range range, run_use use,
                                     allowance wants) noexcept TARN_REQUIRES(mutex_);
    [[nodiscard]] bool commit(claim const& taken) noexcept;
    [[nodiscard]] bool populate(arena const& in, slice_range range) noexcept;
    /// Gives back what could not be committed.
    void undo(claim const& taken) noexcept;
    void mark_free_locked(arena& in, slice_range range) noexcept TARN_REQUIRES(mutex_);
    void give_back(std::size_t index, slice_range range) noexcept;
    [[nodiscard]] std::size_t arenas() noexcept;
    [[nodiscard]] std::uint64_t* allocate_bits(std::size_t bytes) noexcept;
    void release_bits(std::uint64_t* bits, std::size_t bytes) noexcept;
    [[nodiscard]] bool add_arena(std::size_t slices, std::size_t alignment) noexcept;
    std::size_t purge(purge_scope scope) noexcept;
    std::size_t purge_arena(std::size_t index, purge_scope scope) noexcept;
    std::size_t take_for_purge_locked(arena& in, purge_scope scope, std::size_t& word,
                                      slice_range* ranges) noexcept TARN_REQUIRES(mutex_);

    static std::uint64_t in_used_huge_pages(arena const& in, std::size_t word) noexcept;
    static std::size_t next_dirty(arena const& in, std::size_t from) noexcept;
    static slice_range find_fit(arena& in, std::size_t slices, std::size_t alignment) noexcept;
    static slice_range range_of(arena const& in, std::byte const* base,
                                std::size_t slices) noexcept;

    mutex mutex_;
    // All zero until configure(), so that the object lies in .bss.
    space_options options_{
        .arena_bytes = 0, .ceiling = 0, .purge_delay_ms = 0, .huge_after_bytes = 0};
    class budget budget_;
    std::array<arena, arenas_max> arenas_ TARN_GUARDED_BY(mutex_){};
    std::size_t arena_count_ TARN_GUARDED_BY(mutex_) = 0;
    std::size_t used_slices_ TARN_GUARDED_BY(mutex_) = 0;
    std::size_t dirty_free_slices_ TARN_GUARDED_BY(mutex_) = 0;
    std::size_t peak_slices_ TARN_GUARDED_BY(mutex_) = 0;
    std::atomic<std::size_t> keep_bytes_{0};
    std::atomic<std::uint64_t> next_pass_ms_{0};
    std::atomic<std::uint32_t> passes_{0};
    std::atomic<std::uint64_t> purged_bytes_{0};
    std::atomic<bool> purge_asked_{false};
    std::atomic<int> huge_pages_to_skip_{0};
    // The sets of one arena of up to 1 GiB: a process that starts asks the system for less.
    std::atomic<bool> first_bits_taken_{false};
    std::array<std::uint64_t, 4 * (1 * GiB / sizing::slice_bytes) / 64> first_bits_{};
};

template <class Visit>
void address_space::for_each_used(Visit visit) noexcept {
    base::lock_guard const guard{mutex_};
    for (std::size_t index = 0; index < arena_count_; ++index) {
        arena& in = arenas_[index];
        for (std::size_t first = in.free.next_absent(0, in.slices); first < in.slices;) {
            std::size_t const end = in.free.next_present(first, in.slices);
            visit(run{.base = in.base + first * sizing::slice_bytes,
                      .slices = static_cast<std::uint32_t>(end - first),
                      .arena = static_cast<std::uint16_t>(index)});
            first = in.free.next_absent(end, in.slices);
        }
    }
}

}  // namespace tarn::impl::space
