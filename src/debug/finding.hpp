// debug/finding.hpp - finding: a misuse of a checked block, as data.
//
// Threads    a finding belongs to the thread that made it and lives as long as its handler runs
// Always     holds copies: the block may be overwritten, freed or reused meanwhile
// Tests      unit/debug/checked_heap_test.cpp unit/debug/report_test.cpp
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "space/stack_table.hpp"
#include "debug/block_record.hpp"

namespace tarn::impl::debug {

enum class fault : std::uint8_t {
    overflow,         // written behind the end
    underflow,        // written before the start
    use_after_free,   // written after it was freed
    double_free,      // freed, or resized, once more
    interior_free,    // not the start of the block
    foreign_free,     // of no block at all
    mismatched_free,  // malloc and delete, new[] and delete, ...
    wrong_size,       // told as freed with another size than it has
    wrong_alignment,
    bad_access,  // debug=pages: read or written where nothing may be
    lost_record  // the block's own data are overwritten and lead nowhere
};

/// What a record said of its block.
struct block_facts {
    std::byte const* user = nullptr;  // null: no block
    std::size_t bytes = 0;
    block_state state = block_state::unused;
    heap::family by = heap::family::malloc;
    heap_number owner = heap_number::none;
    std::size_t alignment = 0;  // 0: none was asked for
    space::stack_id allocated = space::stack_id::none;
    space::stack_id released = space::stack_id::none;
    std::uint32_t allocated_thread = 0;
    std::uint32_t released_thread = 0;
};

[[nodiscard]] block_facts facts_of(block_record const& record) noexcept;

enum class access_kind : std::uint8_t { unknown, read, write };

struct finding {
    fault what = fault::overflow;
    // What found it: "free", "realloc", "operator delete", "check", "exit", "quarantine", ...
    char const* operation = "";
    void const* ptr = nullptr;  // what was freed; bad_access: the address
    block_facts block;          // null user: of no block

    // Damage: bytes of the block's memory that are not as they were left, from the first to the
    // last, relative to block.user: negative before it, from block.bytes on behind it.
    std::ptrdiff_t damage_first = 0;
    std::ptrdiff_t damage_last = 0;
    std::size_t damaged_bytes = 0;  // not as they were left, between those two
    bool may_be_more = false;       // they reach the last byte that is checked

    // A copy of memory around the damage, and what should be there; for a dump.
    struct dump {
        std::ptrdiff_t from = 0;  // relative to block.user
        std::size_t bytes = 0;
        std::array<std::byte, 96> found{};
        std::array<std::byte, 96> expected{};
    } dump;

    heap::told freed_as{.by = heap::family::malloc};  // mismatched_free, wrong_size, ...
    access_kind access = access_kind::unknown;
    std::uint32_t thread = 0;            // that found it
    std::span<void const* const> stack;  // where; may be empty
    block_facts before;                  // neighbours in memory, as far as they are known
    block_facts after;
};

}  // namespace tarn::impl::debug
