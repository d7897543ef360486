// debug/leak_groups.hpp - leak_groups<Os>: blocks counted by where they were allocated.
//
// Threads    one at a time
// Always     every block that was added is counted once: in its group, or, where there was no
//            memory for a group of its own, in uncounted(). Memory comes from the system and goes
//            back to it.
// Cost       add(): a hash and a cache line or two: 10 ns in known groups, 200 ns where
//            all of millions of blocks are groups of their own, growth included.
//            Memory: 40 bytes a group, up to 8 times that while it grows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bits.hpp"
#include "platform/os_memory.hpp"
#include "space/stack_table.hpp"
#include "heap/thread_heap.hpp"
#include "debug/block_record.hpp"

namespace tarn::impl::debug {

/// What the program can still do with a block.
enum class reachability : std::uint8_t {
    unknown,  // nobody looked
    lost,
    indirect,  // only lost blocks lead to it
    possible,  // only pointers into it do
    reachable
};

inline constexpr std::size_t reachability_count = 5;

struct leaked_block {
    space::stack_id allocated = space::stack_id::none;
    std::size_t bytes = 0;
    heap::family by = heap::family::malloc;
    heap_number owner = heap_number::none;
    reachability reach = reachability::unknown;
};

struct leak_group {
    space::stack_id allocated = space::stack_id::none;
    heap::family by = heap::family::malloc;
    heap_number owner = heap_number::none;
    reachability reach = reachability::unknown;
    bool is_suppressed = false;
    std::uint64_t blocks = 0;
    std::uint64_t bytes = 0;
    std::uint64_t smallest_bytes = 0;
    std::uint64_t largest_bytes = 0;

    [[nodiscard]] bool is_of(leaked_block const& block) const noexcept {
        return allocated == block.allocated && by == block.by && owner == block.owner &&
               reach == block.reach;
    }

    void add(std::uint64_t block_bytes) noexcept {
        smallest_bytes = blocks == 0 ? block_bytes : std::min(smallest_bytes, block_bytes);
        largest_bytes = std::max(largest_bytes, block_bytes);
        ++blocks;
        bytes += block_bytes;
    }
};

template <class Os>
class leak_groups {
public:
    constexpr leak_groups() noexcept = default;
    leak_groups(leak_groups const&) = delete;
    leak_groups& operator=(leak_groups const&) = delete;

    ~leak_groups() { release(cells_, capacity_); }

    /// Not after sorted().
    void add(leaked_block const& block) noexcept {
        // Three quarters full at most: searches stay short. Where the system refuses more, one cell
        // stays empty: searches end.
        if (count_ >= capacity_ / 4 * 3 && !cannot_grow_) [[unlikely]] {
            cannot_grow_ = !grow();
        }
        if (capacity_ == 0) [[unlikely]] {
            uncounted_.add(block.bytes);
            return;
        }
        leak_group& group = *find(block);
        if (group.blocks == 0) {
            if (count_ + 1 == capacity_) [[unlikely]] {
                uncounted_.add(block.bytes);
                return;
            }
            group = {.allocated = block.allocated,
                     .by = block.by,
                     .owner = block.owner,
                     .reach = block.reach};
            ++count_;
        }
        group.add(block.bytes);
    }

    /// All groups, most bytes first, in an order that does not change between equal runs.
    [[nodiscard]] std::span<leak_group> sorted() noexcept {
        if (cells_ == nullptr) {
            return {};
        }
        leak_group* const end = std::remove_if(
            cells_, cells_ + capacity_, [](leak_group const& each) { return each.blocks == 0; });
        std::sort(cells_, end, [](leak_group const& a, leak_group const& b) {
            return a.bytes != b.bytes     ? a.bytes > b.bytes
                   : a.blocks != b.blocks ? a.blocks > b.blocks
                   : a.allocated != b.allocated
                       ? a.allocated < b.allocated
                       : key_of(a.by, a.owner, a.reach) < key_of(b.by, b.owner, b.reach);
        });
        return {cells_, end};
    }

    /// Blocks in no group: there was no memory.
    [[nodiscard]] leak_group const& uncounted() const noexcept { return uncounted_; }

private:
    static constexpr std::size_t first_capacity = 1024;

    static std::uint32_t key_of(heap::family by, heap_number owner, reachability reach) noexcept {
        return static_cast<std::uint32_t>(by) << 16 | static_cast<std::uint32_t>(owner) << 8 |
               static_cast<std::uint32_t>(reach);
    }

    static std::size_t mapped_bytes(std::size_t capacity) noexcept {
        return base::align_up(capacity * sizeof(leak_group), Os::page_bytes());
    }

    static void release(leak_group* cells, std::size_t capacity) noexcept {
        if (cells != nullptr) {
            Os::release(cells, mapped_bytes(capacity));
        }
    }

    /// The block's group, or the empty cell for it. Not when all cells are taken.
    [[nodiscard]] leak_group* find(leaked_block const& block) const noexcept {
        std::uint64_t mixed = std::uint64_t{static_cast<std::uint32_t>(block.allocated)} << 32 |
                              key_of(block.by, block.owner, block.reach);
        mixed *= 0x9e37'79b9'7f4a'7c15;  // 2^64 divided by the golden ratio
        for (std::size_t at = mixed >> 32;; ++at) {
            leak_group& cell = cells_[at & (capacity_ - 1)];
            if (cell.blocks == 0 || cell.is_of(block)) {
                return &cell;
            }
        }
    }

    [[nodiscard]] bool grow() noexcept {
        std::size_t const wanted = std::max(first_capacity, capacity_ * 2);
        void* const fresh = Os::reserve(mapped_bytes(wanted), {});
        if (fresh == nullptr) {
            return false;
        }
        if (!Os::commit(fresh, mapped_bytes(wanted))) {
            Os::release(fresh, mapped_bytes(wanted));
            return false;
        }
        leak_group* const old = cells_;
        std::size_t const old_capacity = capacity_;
        cells_ = static_cast<leak_group*>(fresh);  // zero: no cell has blocks
        capacity_ = wanted;
        for (std::size_t i = 0; i < old_capacity; ++i) {
            if (old[i].blocks != 0) {
                *find({.allocated = old[i].allocated,
                       .by = old[i].by,
                       .owner = old[i].owner,
                       .reach = old[i].reach}) = old[i];
            }
        }
        release(old, old_capacity);
        return true;
    }

    leak_group* cells_ = nullptr;
    std::size_t capacity_ = 0;  // a power of two, or 0
    std::size_t count_ = 0;
    bool cannot_grow_ = false;
    leak_group uncounted_;
};

}  // namespace tarn::impl::debug
