// tarn/detail/chunk_table.hpp - chunk_table: the set of a store's chunks, by address.
//
// Threads    one at a time
// Always     holds what was inserted and not erased. insert() follows a reserve_one(), which is
//            what may throw.
// Cost       O(1), expected; 16 to 32 bytes a chunk
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

namespace tarn::detail {

/// Open addressing with linear probing; an erased entry is filled from behind.
class chunk_table {
public:
    explicit chunk_table(std::pmr::memory_resource* upstream) : entries_{upstream} {}

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// Room for one more. Errors: what the upstream throws; the table stays as it was.
    void reserve_one() {
        if (2 * (size_ + 1) <= entries_.size()) {
            return;
        }
        std::pmr::vector<std::uintptr_t> larger{std::max<std::size_t>(8, 2 * entries_.size()),
                                                entries_.get_allocator()};
        entries_.swap(larger);
        size_ = 0;
        for (std::uintptr_t const each : larger) {
            if (each != 0) {
                insert(each);
            }
        }
    }

    /// `chunk`: not 0, not in the table.
    void insert(std::uintptr_t chunk) noexcept {
        entries_[slot_of(chunk)] = chunk;
        ++size_;
    }

    [[nodiscard]] bool contains(std::uintptr_t chunk) const noexcept {
        return !entries_.empty() && entries_[slot_of(chunk)] == chunk;
    }

    /// `chunk`: in the table.
    void erase(std::uintptr_t chunk) noexcept {
        std::size_t hole = slot_of(chunk);
        entries_[hole] = 0;
        --size_;
        for (std::size_t i = after(hole); entries_[i] != 0; i = after(i)) {
            // What was pushed on by the hole's entry moves into it.
            if (distance(home_of(entries_[i]), i) >= distance(hole, i)) {
                entries_[hole] = entries_[i];
                entries_[i] = 0;
                hole = i;
            }
        }
    }

    void clear() noexcept {
        std::fill(entries_.begin(), entries_.end(), 0);
        size_ = 0;
    }

    template <class Visit>
    void for_each(Visit visit) const {
        for (std::uintptr_t const each : entries_) {
            if (each != 0) {
                visit(each);
            }
        }
    }

private:
    [[nodiscard]] std::size_t after(std::size_t slot) const noexcept {
        return (slot + 1) & (entries_.size() - 1);
    }

    [[nodiscard]] std::size_t distance(std::size_t from, std::size_t to) const noexcept {
        return (to - from) & (entries_.size() - 1);
    }

    [[nodiscard]] std::size_t home_of(std::uintptr_t chunk) const noexcept {
        std::uint64_t const mixed = (chunk >> 12) * 0x9e37'79b9'7f4a'7c15;
        return static_cast<std::size_t>(mixed >> 32) & (entries_.size() - 1);
    }

    /// Where it lies, or else the empty slot where it would.
    [[nodiscard]] std::size_t slot_of(std::uintptr_t chunk) const noexcept {
        std::size_t slot = home_of(chunk);
        while (entries_[slot] != 0 && entries_[slot] != chunk) {
            slot = after(slot);
        }
        return slot;
    }

    std::pmr::vector<std::uintptr_t> entries_;  // 0: empty; a power of two, or none
    std::size_t size_ = 0;
};

}  // namespace tarn::detail
