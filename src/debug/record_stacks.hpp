// debug/record_stacks.hpp - record_stacks: the two stacks of a record, for as long as it is of one
// block.
//
// Threads    note(): whoever has taken the record. frames(): any thread, also in a signal handler,
//            while the record is pinned, or it does not matter whether they are of this block or
//            of the record's next; no lock.
// Always     memory is bounded by the number of records, however many different stacks there are:
//            a program that runs for months and is sampled keeps none for ever, as stack_table does
// Cost       note(): a copy. Memory: 256 bytes a record; 1 MiB of address space for 4,096 of them,
//            touched as used.
// Tests      unit/debug/record_stacks_test.cpp
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/attributes.hpp"
#include "base/tagged_stack.hpp"
#include "base/units.hpp"
#include "space/stack_table.hpp"

namespace tarn::impl::debug {

enum class stack_use : std::uint8_t { allocated, released };

class record_stack_table {
public:
    /// Of longer stacks the innermost so many are kept.
    static constexpr std::size_t frames_max = 16;

    /// Whether the number is of such a stack, and not of a stack_table's.
    [[nodiscard]] static constexpr bool is_one(space::stack_id stack) noexcept {
        return (static_cast<std::uint32_t>(stack) & mark) != 0;
    }

    /// Its number, from which on frames() tells these. None: there are none, or no memory.
    [[nodiscard]] space::stack_id note(base::node_index record, stack_use use,
                                       std::span<void const* const> frames) noexcept;

    [[nodiscard]] std::span<void const* const> frames(space::stack_id stack) const noexcept;

    [[nodiscard]] std::size_t committed_bytes() const noexcept {
        return chunk_bytes * chunks_made_.load(std::memory_order_relaxed);
    }

private:
    using frame_row = std::array<void const*, frames_max>;  // shorter ones end at a null

    static constexpr std::uint32_t mark = std::uint32_t{1} << 31;
    static constexpr std::size_t chunk_bytes = 1 * MiB;
    static constexpr std::size_t chunk_stacks = chunk_bytes / sizeof(frame_row);
    static constexpr std::size_t chunks_max = 64;

    std::array<std::atomic<frame_row*>, chunks_max> chunks_{};
    std::atomic<std::size_t> chunks_made_{0};
};

TARN_HIDDEN extern constinit record_stack_table record_stacks;

}  // namespace tarn::impl::debug
