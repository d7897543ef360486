// heap/block_cache.hpp - block_cache: where a thread's freed blocks wait in mode hardened before
// they are handed out again, a few of each class.
//
// Threads    the owner of the heap; others read how many there are
// Always     what is freed waits in line until so many more are freed (cache_delay_of()); then it
// is
//            the next one handed out. Those that wait count as outside of their pages, as if they
//            were in the heap's allocation list, and may be of several pages. Apart from blocks: no
//            overflow reaches it.
// Cost       36 KiB a thread, of which only what is used is touched
// Source     docs/design/hardened.md
// Tests      unit/heap/block_cache_test.cpp
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

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
struct cache_room {
    base::single_writer<std::uint32_t> end;     // of the stack, an index of entries
    std::uint16_t most;                         // of that; 0: closed to what is freed
    std::uint16_t least;                        // of that; all bits: closed to what is allocated
    base::single_writer<std::uint64_t> placed;  // in the ring, so far
    std::uint32_t delay;                        // entries of the ring
    std::uint32_t block_bytes;
    cached_block* entries;

    [[nodiscard]] TARN_HOT bool has_enough() const noexcept { return end.get() > least; }

    [[nodiscard]] TARN_HOT bool has_room() const noexcept { return end.get() < most; }

    /// In the stack.
    [[nodiscard]] std::uint32_t ready() const noexcept { return end.get() - delay; }

    /// In both.
    [[nodiscard]] std::uint32_t count() const noexcept {
        return ready() + static_cast<std::uint32_t>(std::min<std::uint64_t>(placed.get(), delay));
    }

    /// The next one; there is one.
    [[nodiscard]] TARN_HOT cached_block const& top() const noexcept {
        return entries[end.get() - 1];
    }

    TARN_HOT void pop() noexcept { end.set(end.get() - 1); }

    TARN_HOT void push(cached_block const& next) noexcept {
        std::uint32_t const before = end.get();
        entries[before] = next;
        // A signal handler may fork here: each block is there, though it may be so twice.
        std::atomic_signal_fence(std::memory_order_release);
        end.set(before + 1);
        std::atomic_signal_fence(std::memory_order_release);
    }

    /// There is room.
    TARN_HOT void add(block* at, block_state& state) noexcept {
        std::uint64_t const before = placed.get();
        cached_block& place = entries[before & (delay - 1)];
        if (before >= delay) [[likely]] {
            push(place);
        }
        place.at = at;
        place.state = &state;
        placed.set(before + 1);
    }
};

class block_cache {
public:
    /// Empty and open. For a new thread.
    void begin() noexcept {
        cached_block* entries = entries_.data();
        for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
            cache_room& of = rooms_[size_class];
            of.delay = cache_delay_of(size_class);
            of.end.set(of.delay);
            of.placed.set(0);
            of.block_bytes = static_cast<std::uint32_t>(sizing::class_bytes(size_class));
            of.entries = entries;
            entries += cache_room_of(size_class) + cache_delay_of(size_class);
            open(size_class);
        }
        close(0);
    }

    void open(unsigned size_class) noexcept {
        cache_room& of = rooms_[size_class];
        of.most = static_cast<std::uint16_t>(of.delay + cache_room_of(size_class));
        of.least = static_cast<std::uint16_t>(of.delay);
    }

    /// From here on neither allocations nor frees find it of use; what waits stays.
    void close(unsigned size_class) noexcept {
        rooms_[size_class].most = 0;
        rooms_[size_class].least = 0xffff;
    }

    [[nodiscard]] bool is_open(unsigned size_class) const noexcept {
        return rooms_[size_class].most != 0;
    }

    [[nodiscard]] TARN_HOT cache_room& room(unsigned size_class) noexcept {
        return rooms_[size_class];
    }

    [[nodiscard]] std::uint32_t count(unsigned size_class) const noexcept {
        return rooms_[size_class].count();
    }

    /// Of those that wait, the n-th.
    [[nodiscard]] cached_block const& entry(unsigned size_class, std::uint32_t n) const noexcept {
        cache_room const& of = rooms_[size_class];
        return n < of.ready() ? of.entries[of.delay + n] : of.entries[n - of.ready()];
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

    std::array<cache_room, sizing::class_count> rooms_{};
    std::array<cached_block, entry_count> entries_{};
};

static_assert(sizeof(block_cache) <= 36 * KiB);

}  // namespace tarn::impl::heap
