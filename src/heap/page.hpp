// heap/page.hpp - page: the descriptor of a run of slices that holds blocks of one size.
//
// Threads    line 0 is the owner's to write; others read `owner`, `start`, `divisor` and the
//            atomic counters. `remote` is everybody's. A page without owner is changed only by
//            whoever just took it (heap/remote_word.hpp).
// Always     outside() + length(local) + unlisted() == capacity <= reserved. outside() counts what
//            is live, in the owner's allocation list, or in `remote`; unlisted() the blocks that
//            are free and overlap an OS page that was given back inside this page (`purged`).
//            `frees` is where the owner's frees go: to `local`, or, while the page is reused,
//            straight to the owner's allocation list; then outside() stays as it was. While it is
//            reused or rests, `out` counts down to the next look, from `countdown`.
//            Descriptors lie in a record_table, apart from blocks, and are never unmapped.
//            Where blocks have states (heap/block_states.hpp: a thread's pages in mode hardened)
//            there are no lists: `local` is null, and what `remote` points at leads nowhere.
//            `divisor` is 0, so that no fast path frees into the page, and it is never reused.
// Cost       128 bytes per page or large block: a line that the owner's frees touch, and one that
//            the frees of others and the slow path touch. malloc's fast path touches neither.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "base/attributes.hpp"
#include "base/bits.hpp"
#include "base/check.hpp"
#include "base/single_writer.hpp"
#include "base/tagged_stack.hpp"
#include "sizing/size_class.hpp"
#include "space/address_space.hpp"
#include "heap/block_states.hpp"
#include "heap/remote_word.hpp"

namespace tarn::impl::heap {

class thread_heap;
struct heap_lane;

enum class page_kind : std::uint8_t {
    none,     // the descriptor is unused
    small,    // blocks of a size class, a thread's
    user,     // the same, of a heap that the program made
    sampled,  // one block of a size class in a run of its own
    guarded,  // the same between inaccessible pages, and so for ever: the host's, see host.hpp
    large,    // one block in a run of its own
    huge      // one block in a mapping of its own
};

struct alignas(128) page {
    base::single_writer<thread_heap*> owner;  // null: nobody; every free then takes the slow path
    std::byte* start;                         // of the first block
    std::uint64_t divisor;                    // ceil(2^64 / block bytes), see is_block_start()

    union {
        base::single_writer<block**> frees;        // &local, or the owner's allocation list
        base::single_writer<block_state*> states;  // in place of that, where blocks have states
        std::atomic<heap_lane*> lane;              // of user heaps, while it is in one
    };

    union {
        block* local;                            // freed by the owner, not yet handed out again
        std::atomic<base::node_index> attached;  // of runs: what their user notes; none at first
    };

    base::single_writer<int> out;       // outside(), or a count-down
    base::single_writer<int> capacity;  // blocks made so far; the rest is untouched memory
    base::single_writer<std::size_t> block_bytes;
    std::atomic<page_kind> kind;
    std::uint8_t size_class;
    bool list_zeroed : 1;                   // the owner's allocation list is zero but for the links
    bool has_guard : 1;                     // the OS page behind its blocks is inaccessible
    bool fresh_zeroed;                      // memory behind capacity is zero
    base::single_writer<int> outside_then;  // outside() when the count-down began

    alignas(64) remote_word remote;
    base::single_writer<std::int32_t> reserved;  // blocks that fit

    union {
        base::single_writer<std::int32_t> accounted;    // outside() when the owner last told the
                                                        // statistics
        std::atomic<std::uint32_t> life;                // of user heaps: odd in a lane
        base::single_writer<std::uint32_t> held_bytes;  // guarded: of the system's memory
    };

    page* list_next;
    page* list_prev;

    union {
        base::single_writer<std::uint64_t> purged;  // small: a bit for each OS page given back
        base::single_writer<std::uint64_t> requested_bytes;  // others: what was asked for
    };

    base::single_writer<std::uint32_t> slices;  // of the run
    std::uint16_t arena;                        // that it lies in
    std::atomic<bool> serves_user_heaps;        // for ever, once it is so
    bool prefers_node;                          // its memory is bound to a NUMA node
    base::single_writer<int> countdown;         // what `out` counts down from; below 0: from as
                                                // much, and it is reused; 0: it does not
    base::node_index left_by;                   // the heap that last left the page, full, to others
    std::atomic<base::node_index> node_link;
    base::node_index self_index;

    /// Whether `ptr`, an address inside the page, is the start of a block: n * ceil(2^64/d) wraps
    /// to less than ceil(2^64/d) exactly for multiples of d (D. Lemire et al., "Faster remainder
    /// by direct computation", 2019; n and d below 2^32).
    [[nodiscard]] TARN_HOT bool is_block_start(void const* ptr) const noexcept {
        auto const offset = static_cast<std::uint64_t>(static_cast<std::byte const*>(ptr) - start);
        return offset * divisor < divisor;
    }

    /// The same where blocks have states, too. For pages with blocks of a class.
    [[nodiscard]] bool starts_block(void const* ptr) const noexcept {
        std::uint64_t const by = divisor != 0 ? divisor : sizing::class_reciprocal(size_class);
        auto const offset = static_cast<std::uint64_t>(static_cast<std::byte const*>(ptr) - start);
        return offset * by < by;
    }

    static constexpr std::uint64_t divisor_for(std::size_t bytes) noexcept {
        return ~std::uint64_t{0} / bytes + 1;
    }

    /// Whether one of its blocks begins at `ptr`, any address, that was made.
    [[nodiscard]] bool has_made(void const* ptr) const noexcept {
        auto const offset = base::address_of(ptr) - base::address_of(start);
        return offset < bytes() && starts_block(ptr) &&
               index_of(ptr) < static_cast<std::size_t>(capacity.get());
    }

    /// What follows a free block in one of its lists. Null: nothing, or, where links are sealed,
    /// somebody wrote into the block.
    [[nodiscard]] block* next_in_list(block const* at) const noexcept {
        block* const next = read_link(at);
        return !hardening.on || has_made(next) ? next : nullptr;
    }

    [[nodiscard]] bool has_states() const noexcept {
        return hardening.on && divisor == 0 &&
               kind.load(std::memory_order_relaxed) == page_kind::small;
    }

    /// The run that the page lies in; huge blocks have none, but a mapping of this length.
    [[nodiscard]] space::run memory() const noexcept {
        return {.base = start, .slices = slices.get(), .arena = arena};
    }

    void lie_in(space::run const& run) noexcept {
        start = run.base;
        slices.set(run.slices);
        arena = run.arena;
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return slices.get() * sizing::slice_bytes; }

    /// Start of the block that holds `ptr`.
    [[nodiscard]] std::byte* block_of(void const* ptr) const noexcept {
        return start + index_of(ptr) * block_bytes.get();
    }

    [[nodiscard]] bool is_reused() const noexcept { return countdown.get() < 0; }

    [[nodiscard]] bool counts_down() const noexcept { return countdown.get() != 0; }

    [[nodiscard]] int outside() const noexcept {
        if (!counts_down()) {
            return std::min(out.get(), capacity.get());
        }
        return outside_then.get() - (is_reused() ? 0 : counted());
    }

    /// Owner's free. True: nothing is outside any more, or (a double free) nothing was before, or
    /// the count-down has ended.
    [[nodiscard]] bool push(void* ptr) noexcept {
        TARN_ASSERT(!has_states());
        return push_to(*frees.get(), ptr);
    }

    /// The same of a block that has a state, and is away and sealed.
    [[nodiscard]] bool put_back(block_state& state) noexcept {
        state.store(state_free, std::memory_order_relaxed);
        return out.decrement_to_zero();
    }

    /// push() with what `frees` leads to, which free() has read already.
    [[nodiscard]] TARN_HOT bool push_to(block*& list, void* ptr) noexcept {
        auto* const freed = ::new (ptr) block{list};
        // A signal handler may fork here: the list is whole at every instruction.
        std::atomic_signal_fence(std::memory_order_release);
        list = freed;
        return out.decrement_to_zero();
    }

    /// From here on the owner's frees go to `list`, its allocation list, and push() is true after
    /// `budget` of them.
    void reuse(block*& list, int budget) noexcept {
        TARN_ASSERT(!hardening.on);
        rest(budget);
        countdown.set(-budget);
        frees.set(&list);
    }

    /// From here on push() is true after `frees` frees, not when nothing is outside any more.
    void rest(int frees_most) noexcept {
        TARN_ASSERT(!counts_down());
        outside_then.set(out.get());
        countdown.set(frees_most);
        out.set(frees_most);
    }

    /// Ends either, if it was so.
    void end_countdown() noexcept {
        out.set(outside());
        if (is_reused()) {
            frees.set(&local);
        }
        countdown.set(0);
    }

    /// Counts down from there again.
    void begin_countdown_again() noexcept { out.set(std::abs(countdown.get())); }

    /// Blocks reused since then: allocations that no refill counted.
    [[nodiscard]] int reused() const noexcept { return is_reused() ? counted() : 0; }

    /// Whether the owner has blocks of it that are free.
    [[nodiscard]] bool has_free() const noexcept {
        return has_states() ? free_counted() > 0 : local != nullptr;
    }

    /// How many, where blocks have states. More may look so: others are about to count them.
    [[nodiscard]] int free_counted() const noexcept {
        return capacity.get() - outside() - unlisted();
    }

    /// Where blocks have states: makes at most so many that are free away, and outside; calls
    /// take(block, state, what that was) for each before. No more than free_counted(). Looks from
    /// `cursor` on, and around.
    template <class Take>
    [[nodiscard]] int take_free(std::size_t& cursor, int most, Take take) noexcept;

    /// Whether no block can be had from it but for what others may have freed.
    [[nodiscard]] bool is_full() const noexcept {
        return !has_free() && capacity.get() == reserved.get() && purged.get() == 0;
    }

    /// Gives whole OS pages back in which no block is outside, but for those already given back.
    /// For whoever holds the page; it must not count down. Returns the bytes given back.
    std::size_t purge_inside() noexcept;

    /// Makes `to`, which is null, a list of blocks that purge_inside() took off the local list:
    /// those of one OS page, or one block. Returns their number; 0: there are none, or the budget
    /// refuses their memory. Where blocks have states they are free again, and in no list.
    [[nodiscard]] int relist(block*& to, space::allowance wants) noexcept;

    /// Blocks made that are free and in no list.
    [[nodiscard]] int unlisted() const noexcept { return purged.get() == 0 ? 0 : count_unlisted(); }

    /// Whether a made block is one of those.
    [[nodiscard]] bool is_unlisted(std::size_t index) const noexcept;

    /// From here on the OS pages that hold these blocks, not made yet, count as used. False: the
    /// budget refuses their memory, or that of made blocks beside them.
    [[nodiscard]] bool touch(std::size_t first_index, std::size_t count,
                             space::allowance wants) noexcept;

    /// From here on all do.
    void touch_all() noexcept;

    /// Adds what other threads freed to the local list. For whoever holds the page. A list longer
    /// than what was out is reported as a double free and dropped, since it may be a ring.
    void collect_remote() noexcept;

    /// Makes the list again of a page without live blocks, whose list a double free has torn.
    void rebuild_empty() noexcept;

    /// Checks the invariants above, as far as the owner may look.
    void audit() const noexcept;

    /// The number of the block that holds `ptr`.
    [[nodiscard]] std::size_t index_of(void const* ptr) const noexcept {
        auto const offset = static_cast<std::size_t>(static_cast<std::byte const*>(ptr) - start);
        if (has_states()) [[unlikely]] {  // where many ask
            __extension__ using wide = unsigned __int128;
            return static_cast<std::size_t>(wide{offset} * sizing::class_reciprocal(size_class) >>
                                            64);
        }
        return offset / block_bytes.get();
    }

private:
    [[nodiscard]] int count_unlisted() const noexcept;
    /// Says which OS pages are given back, and to the budget what that changes.
    void set_purged(std::uint64_t now) noexcept;
    [[nodiscard]] std::uint64_t os_pages_of(std::size_t first_index,
                                            std::size_t count) const noexcept;

    [[nodiscard]] int counted() const noexcept {
        return std::max(std::abs(countdown.get()) - out.get(), 0);
    }
};

static_assert(sizeof(page) == 128);

template <class Take>
int page::take_free(std::size_t& cursor, int most, Take take) noexcept {
    auto const made = static_cast<std::size_t>(capacity.get());
    block_state* const all = states.get();
    std::size_t const begin = cursor < made ? cursor : 0;
    int taken = 0;
    auto const look = [&](std::size_t from, std::size_t to) {
        for (std::size_t at = from - from % 8; at < to && taken < most; at += 8) {
            std::uint64_t found = free_among(all + at);
            if (at < from) {
                found &= ~std::uint64_t{0} << 8 * (from - at);
            }
            for (; found != 0 && taken < most; found &= found - 1) {
                std::size_t const index = at + static_cast<unsigned>(std::countr_zero(found)) / 8;
                if (index >= to) {
                    return;
                }
                // acquire: pairs with the release in free_elsewhere(); the seal is written.
                std::uint8_t const before = all[index].load(std::memory_order_acquire);
                if (before > state_zero || (purged.get() != 0 && is_unlisted(index))) [[unlikely]] {
                    continue;
                }
                take(reinterpret_cast<block*>(start + index * block_bytes.get()), all[index],
                     before);
                // A signal handler may fork here: an entry of what is free in its page counts not.
                std::atomic_signal_fence(std::memory_order_release);
                all[index].store(state_away, std::memory_order_relaxed);
                ++taken;
                cursor = index + 1;
            }
        }
    };
    look(begin, made);
    look(0, begin);
    out.set(out.get() + taken);
    return taken;
}

}  // namespace tarn::impl::heap
