// debug/block_record.hpp - block_record: what a checked block is, apart from the block.
//
// Threads    `state` decides who may touch the rest: whoever has made it `taken` alone writes; a
//            record that is pinned stays as it is until it is unpinned
// Always     type-stable (space/record_table.hpp): a stale index leads to some record, and that
//            says which block it is of. A record lies apart from blocks; what leads from a block to
//            it is a tag before the block, which is believed only when the record agrees.
// Cost       48 bytes a block
// Tests      unit/debug/checked_heap_test.cpp
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/attributes.hpp"
#include "base/tagged_stack.hpp"
#include "platform/os.hpp"
#include "space/record_table.hpp"
#include "space/stack_table.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::debug {

enum class block_state : std::uint8_t {
    unused,  // the record is of no block; it still says which block it was of
    live,
    taken,  // one thread has it in hand: is being made, freed or resized
    freed   // in quarantine
};

/// Which checked heap a block is of.
enum class heap_number : std::uint8_t { none, program, mp, sampled };

inline constexpr std::size_t heap_numbers = 4;

struct block_record {
    static constexpr std::uint32_t state_mask = 0xff;
    static constexpr std::uint32_t pinned = 0x100;
    static constexpr std::uint32_t told = 0x200;    // damage of this block was reported
    static constexpr std::uint32_t kept = 0x400;    // unused, and of its memory: its next block's
    static constexpr std::uint32_t sealed = 0x800;  // nobody can read it, or write to it
    static constexpr std::uint32_t lasting = told | sealed;

    std::atomic<std::uint32_t> state{0};  // a block_state, and the bits above
    std::atomic<base::node_index> node_link{base::node_index::none};  // free list or quarantine
    base::node_index self_index{base::node_index::none};

    heap::family by;               // what it was allocated with
    heap_number owner;             // the checked heap
    std::uint8_t alignment_shift;  // of what was asked for; 0: nothing was
    std::uint8_t size_class;       // the source's own
    std::byte* user;               // what the program has
    std::size_t bytes;             // as asked for
    space::stack_id allocated;
    space::stack_id released;        // when freed
    std::uint32_t allocated_thread;  // as the system numbers it
    std::uint32_t released_thread;

    [[nodiscard]] block_state current() const noexcept {
        // acquire: pairs with the release in settle(); the record is as whoever settled it wrote
        // it.
        return static_cast<block_state>(state.load(std::memory_order_acquire) & state_mask);
    }

    /// From `from` to `taken`: false if it is in another state. Waits while it is pinned.
    [[nodiscard]] bool try_take(block_state from) noexcept {
        for (;;) {
            std::uint32_t seen = state.load(std::memory_order_relaxed);
            if ((seen & state_mask) != static_cast<std::uint32_t>(from)) {
                return false;
            }
            std::uint32_t const wanted =
                (seen & lasting) | static_cast<std::uint32_t>(block_state::taken);
            // acquire: as in current().
            if ((seen & pinned) == 0 &&
                state.compare_exchange_weak(seen, wanted, std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
                return true;
            }
            if ((seen & pinned) != 0) {
                platform::os::wait_for(state, seen, 1);  // nobody wakes: pins are short
            }
        }
    }

    /// Waits while another thread has it in hand, but not for ever.
    void wait_until_settled() noexcept {
        for (int tries = 0; tries < 100; ++tries) {
            // acquire: as in current().
            std::uint32_t const seen = state.load(std::memory_order_acquire);
            if (static_cast<block_state>(seen & state_mask) != block_state::taken) {
                return;
            }
            // Nobody wakes: that would be a system call for each operation.
            platform::os::wait_for(state, seen, 1);
        }
    }

    /// Of a record that is taken, or new: what it holds counts from here on.
    void settle(block_state to) noexcept {
        std::uint32_t const still =
            to == block_state::unused ? 0 : state.load(std::memory_order_relaxed) & lasting;
        state.store(still | static_cast<std::uint32_t>(to), std::memory_order_release);
    }

    /// As settle(unused), of a record that waits for the next block at the same place.
    void keep() noexcept {
        state.store(kept | static_cast<std::uint32_t>(block_state::unused),
                    std::memory_order_release);
    }

    [[nodiscard]] bool is_kept() const noexcept {
        // acquire: as in current().
        return state.load(std::memory_order_acquire) ==
               (kept | static_cast<std::uint32_t>(block_state::unused));
    }

    /// From there to `taken`.
    [[nodiscard]] bool try_take_kept() noexcept {
        std::uint32_t seen = kept | static_cast<std::uint32_t>(block_state::unused);
        return state.compare_exchange_strong(seen, static_cast<std::uint32_t>(block_state::taken),
                                             std::memory_order_acquire, std::memory_order_relaxed);
    }

    /// Keeps a live or freed block as it is until unpin(). False: it is neither. Only under the
    /// lock `checks`, so that a fork finds nothing pinned, and not over a call of a handler.
    [[nodiscard]] bool try_pin() noexcept {
        std::uint32_t seen = state.load(std::memory_order_relaxed);
        auto const now = static_cast<block_state>(seen & state_mask);
        return (now == block_state::live || now == block_state::freed) && (seen & pinned) == 0 &&
               // acquire: as in current().
               state.compare_exchange_strong(seen, seen | pinned, std::memory_order_acquire,
                                             std::memory_order_relaxed);
    }

    void unpin() noexcept {
        // release: whoever takes the block next comes after what was read of it.
        state.fetch_and(~pinned, std::memory_order_release);
    }

    /// For whoever has taken it.
    void mark_sealed() noexcept { state.fetch_or(sealed, std::memory_order_relaxed); }

    [[nodiscard]] bool is_sealed() const noexcept {
        return (state.load(std::memory_order_relaxed) & sealed) != 0;
    }

    /// False: its damage was reported before. For whoever has taken or pinned it.
    [[nodiscard]] bool tell_once() noexcept {
        return (state.fetch_or(told, std::memory_order_relaxed) & told) == 0;
    }
};

static_assert(sizeof(block_record) == 48);

using record_table =
    space::record_table<block_record, platform::os, base::lock_rank::block_records>;
using stack_table = space::stack_table<platform::os>;

/// Of all checked heaps.
TARN_HIDDEN extern constinit record_table records;
TARN_HIDDEN extern constinit stack_table stacks;

}  // namespace tarn::impl::debug
