// heap/block_cache.hpp - block_cache: where a thread's freed blocks wait in mode hardened before
// they are handed out again, a few of each class.
//
// Threads    the owner of the heap; others read how many there are
// Always     what is freed waits in line until so many more are freed (cache_delay_of()); then it
//            is the next one handed out. What the straight paths of malloc and free have to know
//            of a class is one line, and two comparisons each tell them whether they may serve.
//            Those that wait count as outside of their pages, as if they were in the heap's
//            allocation list, and may be of several pages. Apart from blocks: no overflow reaches
//            it.
// Cost       40 KiB a thread, of which only what is used is touched
// Source     docs/design/hardened.md
// Tests      unit/heap/block_cache_test.cpp
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/attributes.hpp"
#include "base/single_writer.hpp"
#include "base/tagged_stack.hpp"
#include "base/units.hpp"
#include "sizing/size_class.hpp"
#include "heap/block_states.hpp"
#include "heap/free_block.hpp"

namespace tarn::impl::heap {

struct cached_block {
    block* at;
    block_state* state;
};

/// Entries of a class from which blocks are handed out.
constexpr std::uint32_t cache_room_of(unsigned size_class) noexcept {
    constexpr std::size_t bytes_wanted = 16 * KiB;
    return static_cast<std::uint32_t>(std::bit_floor(std::clamp<std::size_t>(
        bytes_wanted / std::max<std::size_t>(sizing::class_bytes(size_class), 1), 4, 64)));
}

/// Frees until a block may be handed out again, a power of two.
constexpr std::uint32_t cache_delay_of(unsigned size_class) noexcept {
    return cache_room_of(size_class) / 4;
}

/// Of one class: a ring of those that wait, and behind it a stack of those that are next.
struct alignas(64) cache_room {
    base::single_writer<cached_block*> top;     // behind the uppermost of the stack
    cached_block* floor;                        // of the stack; the last address: closed to malloc
    cached_block* ceiling;                      // of the stack
    base::single_writer<std::uint64_t> placed;  // in the ring, as long as the record is in use
    std::uint64_t stop;                         // as far as free() may place; 0: it may not
    std::atomic<cached_block*> entries;  // null: it never began; set once, after what is constant
    std::uint64_t reciprocal;            // sizing::class_reciprocal()
    std::uint32_t block_bytes;
    std::uint16_t ring_mask;                          // entries of the ring, less 1
    base::single_writer<std::uint16_t> never_placed;  // of those, since it was empty

    /// add() has room.
    [[nodiscard]] bool has_room() const noexcept {
        return never_placed.get() != 0 || top.get() < ceiling;
    }

    /// Of the ring; behind it lies the stack.
    [[nodiscard]] TARN_HOT cached_block* first() const noexcept {
        return entries.load(std::memory_order_relaxed);
    }

    /// Entries of the ring.
    [[nodiscard]] std::uint32_t delay() const noexcept { return ring_mask + 1U; }

    /// In the stack.
    [[nodiscard]] std::uint32_t ready() const noexcept {
        return static_cast<std::uint32_t>(top.get() - first()) - delay();
    }

    /// In the ring.
    [[nodiscard]] std::uint32_t waiting() const noexcept { return delay() - never_placed.get(); }

    /// Where the next one lies; null: malloc() may not take it, or there is none.
    [[nodiscard]] TARN_HOT cached_block* next() const noexcept {
        cached_block* const end = top.get();
        return end > floor ? end - 1 : nullptr;
    }

    /// The same for whoever knows that there is one.
    [[nodiscard]] cached_block const& last() const noexcept { return top.get()[-1]; }

    void pop() noexcept { top.set(top.get() - 1); }

    TARN_HOT void push(cached_block const& ready) noexcept {
        cached_block* const before = top.get();
        *before = ready;
        // A signal handler may fork here: each block is there, though it may be so twice.
        std::atomic_signal_fence(std::memory_order_release);
        top.set(before + 1);
        std::atomic_signal_fence(std::memory_order_release);
    }

    /// free() may place().
    [[nodiscard]] TARN_HOT bool may_place() const noexcept {
        return placed.get() < stop && top.get() < ceiling;
    }

    /// For whoever asked may_place().
    TARN_HOT void place(block* at, block_state& state) noexcept {
        std::uint64_t const before = placed.get();
        cached_block& place = first()[before & ring_mask];
        push(place);
        place.at = at;
        place.state = &state;
        placed.set(before + 1);
    }

    /// The same whatever the ring has, for whoever asked has_room().
    void add(block* at, block_state& state) noexcept {
        if (never_placed.get() == 0) {
            return place(at, state);
        }
        first()[placed.get() & ring_mask] = {.at = at, .state = &state};
        std::atomic_signal_fence(std::memory_order_release);
        placed.add(1);
        std::atomic_signal_fence(std::memory_order_release);
        never_placed.set(static_cast<std::uint16_t>(never_placed.get() - 1));
    }
};

static_assert(sizeof(cache_room) == 64);

class block_cache {
    std::array<cache_room, sizing::class_count> rooms_{};  // first: an instruction less

public:
    /// Empty and open. For a new thread. `is_quick`: malloc() and free() need not clear anything.
    void begin(bool is_quick) noexcept {
        is_quick_ = is_quick;
        cached_block* entries = entries_.data();
        for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
            cache_room& of = rooms_[size_class];
            bool const is_first = of.first() == nullptr;
            if (is_first) {
                of.ring_mask = static_cast<std::uint16_t>(cache_delay_of(size_class) - 1);
                of.block_bytes = static_cast<std::uint32_t>(sizing::class_bytes(size_class));
                of.reciprocal = sizing::class_reciprocal(size_class);
                of.ceiling = entries + of.delay() + cache_room_of(size_class);
            }
            of.top.set(entries + of.delay());
            of.never_placed.set(static_cast<std::uint16_t>(of.delay()));
            if (is_first) {
                // release: pairs with the acquire in count().
                of.entries.store(entries, std::memory_order_release);
            }
            entries = of.ceiling;
            open(size_class);
        }
        close(0);
    }

    void open(unsigned size_class) noexcept {
        cache_room& of = rooms_[size_class];
        of.floor = is_quick_ ? of.first() + of.delay() : last_address();
        of.stop = 0;
        is_open_[size_class] = true;
    }

    /// From here on neither allocations nor frees find it of use; what waits stays.
    void close(unsigned size_class) noexcept {
        rooms_[size_class].stop = 0;
        rooms_[size_class].floor = last_address();
        is_open_[size_class] = false;
    }

    [[nodiscard]] bool is_open(unsigned size_class) const noexcept { return is_open_[size_class]; }

    /// free() may place so many blocks more.
    void allow(unsigned size_class, std::uint64_t frees) noexcept {
        cache_room& of = rooms_[size_class];
        std::uint64_t const placed = of.placed.get();
        bool const may = is_quick_ && is_open(size_class) && of.never_placed.get() == 0;
        of.stop = may ? placed + std::min(frees, ~placed) : 0;
    }

    [[nodiscard]] TARN_HOT cache_room& room(unsigned size_class) noexcept {
        return rooms_[size_class];
    }

    [[nodiscard]] cache_room const& room(unsigned size_class) const noexcept {
        return rooms_[size_class];
    }

    [[nodiscard]] std::uint32_t count(unsigned size_class) const noexcept {
        cache_room const& of = rooms_[size_class];
        // acquire: others may ask; what is constant is there.
        bool const began = of.entries.load(std::memory_order_acquire) != nullptr;
        return began ? of.ready() + of.waiting() : 0;
    }

    /// Of those that wait, the n-th.
    [[nodiscard]] cached_block const& entry(unsigned size_class, std::uint32_t n) const noexcept {
        cache_room const& of = rooms_[size_class];
        std::uint32_t const ready = of.ready();
        return n < ready ? of.first()[of.delay() + n] : waiting(size_class, n - ready);
    }

    /// Of those in the ring, the n-th from the last.
    [[nodiscard]] cached_block const& waiting(unsigned size_class, std::uint32_t n) const noexcept {
        cache_room const& of = rooms_[size_class];
        return of.first()[(of.placed.get() - 1 - n) & of.ring_mask];
    }

    /// The ring is empty from here on.
    void clear_waiting(unsigned size_class) noexcept {
        rooms_[size_class].stop = 0;
        rooms_[size_class].never_placed.set(static_cast<std::uint16_t>(rooms_[size_class].delay()));
    }

    std::atomic<base::node_index> node_link{base::node_index::none};
    base::node_index self_index{base::node_index::none};

private:
    static constexpr std::size_t entry_count = [] {
        std::size_t sum = 0;
        for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
            sum += cache_room_of(size_class) + cache_delay_of(size_class);
        }
        return sum;
    }();

    static cached_block* last_address() noexcept {
        return reinterpret_cast<cached_block*>(~std::uintptr_t{0});
    }

    std::array<bool, sizing::class_count> is_open_{};
    bool is_quick_ = false;
    std::array<cached_block, entry_count> entries_{};
};

static_assert(sizeof(block_cache) <= 40 * KiB);

}  // namespace tarn::impl::heap
