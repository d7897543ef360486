// heap/block_states.hpp - block_state: what is known of a block apart from it, a byte for each
// block of a page, in mode hardened. state_tables: where these bytes lie.
//
// Values     0 free, in its page; 1 the same, and zero but for its seal; 2 away: free, and in a
//            thread's cache, or amid a free; 3 to 254 live, with so many bytes less 3 behind those
//            that were asked for; 255 live, with more, noted in the block (heap/hardening.hpp)
// Threads    the holder of a page takes free blocks out of it, and hands out what is away, without
//            a read-modify-write. Whoever frees a block makes it away: the page's owner, or a
//            thread that is alone, in the same way, any other by try_claim(), so that of two that
//            free one block at once one is told. A free by the owner at the same moment as
//            another's is not: then the block is found live, or free, when it would be handed out
//            once more, and is not. What is away becomes free when its seal is written, before
//            anybody counts it: so a page has at least as many free blocks as it counts.
// Always     apart from blocks, in type-stable memory, as descriptors are: no overflow reaches it,
//            and a stale pointer to a state reads one
// Cost       a byte per block, rounded up to a power of two less 8, from 56 on; committed in steps
//            of 64 KiB, never given back
// Source     docs/design/hardened.md
// Tests      unit/heap/block_states_test.cpp
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "base/ranked_mutex.hpp"
#include "base/tagged_stack.hpp"
#include "platform/os.hpp"
#include "sizing/size_class.hpp"
#include "space/record_table.hpp"

namespace tarn::impl::heap {

using block_state = std::atomic<std::uint8_t>;

inline constexpr std::uint8_t state_free = 0;
inline constexpr std::uint8_t state_zero = 1;
inline constexpr std::uint8_t state_away = 2;
inline constexpr std::uint8_t state_live = 3;  // with nothing behind what was asked for
inline constexpr std::uint8_t state_noted = 255;
inline constexpr std::size_t slack_in_state_max = state_noted - state_live - 1;

/// Blocks of a page whose blocks have states: as the largest page of the class has, less what a
/// guard page takes, or, where blocks are so large that this would be one of a few, with room for
/// it.
constexpr std::size_t guarded_blocks(unsigned size_class) noexcept {
    std::size_t const bytes = sizing::class_bytes(size_class);
    std::size_t const slices = sizing::class_slices_max(size_class);
    constexpr std::size_t guard_bytes = platform::os_page_bytes_min;
    return bytes <= guard_bytes ? (slices * sizing::slice_bytes - guard_bytes) / bytes
                                : sizing::page_blocks(size_class, slices);
}

/// Of 8 states, which are free, in their page: the lowest bit of a byte each. `first`: at a
/// multiple of 8. A hint: each is to be looked at again.
[[nodiscard]] inline std::uint64_t free_among(block_state const* first) noexcept {
    // Little-endian, as all that the project runs on.
    using eight = std::uint64_t __attribute__((may_alias));
    std::uint64_t const states =
        __atomic_load_n(reinterpret_cast<eight const*>(first), __ATOMIC_RELAXED);
    constexpr std::uint64_t low_bits = 0x7f7f'7f7f'7f7f'7f7f;
    std::uint64_t const others = states & 0xfefe'fefe'fefe'fefe;
    return ~(((others & low_bits) + low_bits) | others | low_bits) >> 7;
}

/// Of a live block, by who frees it while others may: makes it away. False: it is not live. What
/// is free stays so, since its page counts it.
[[nodiscard]] inline bool try_claim(block_state& state) noexcept {
    std::uint8_t before = state.load(std::memory_order_relaxed);
    while (before >= state_live) {
        // relaxed: what its freer writes, the store of state_free orders.
        if (state.compare_exchange_weak(before, state_away, std::memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

class state_tables {
public:
    constexpr state_tables() noexcept = default;

    /// States for a page of a class, all free. Null: out of memory.
    [[nodiscard]] block_state* allocate(unsigned size_class) noexcept;

    /// Gives them back. They stay readable.
    void deallocate(unsigned size_class, block_state* states) noexcept;

    [[nodiscard]] std::size_t committed_bytes() const noexcept;
    [[nodiscard]] std::size_t reserved_bytes() const noexcept;

    void lock_for_fork() noexcept;
    void unlock_after_fork() noexcept;

private:
    template <std::size_t Bytes>
    struct record {
        std::atomic<base::node_index> node_link;
        base::node_index self_index;
        std::array<block_state, Bytes - 2 * sizeof(base::node_index)> states;
    };

    template <std::size_t Bytes>
    using table = space::record_table<record<Bytes>, platform::os, base::lock_rank::state_records>;

    /// Calls use(table) with the one whose records have room for the states of a class.
    template <class Use>
    static auto with_table(auto& tables, unsigned size_class, Use use) noexcept;

    std::tuple<table<64>, table<128>, table<256>, table<512>, table<1024>, table<2048>, table<4096>>
        tables_;
};

}  // namespace tarn::impl::heap
