// support/shadow_map.hpp - shadow_map: which address ranges are live, so that overlaps show.
//
// Threads    the caller's lock
// Cost       O(log n), on the system's allocator
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>

namespace tarn::test {

class shadow_map {
public:
    /// False when the range overlaps a live one. A range of 0 bytes takes up one.
    [[nodiscard]] bool insert(void const* block, std::size_t bytes) {
        auto const first = reinterpret_cast<std::uintptr_t>(block);
        std::uintptr_t const last = first + (bytes == 0 ? 1 : bytes);
        auto const next = live_.lower_bound(first);
        if (next != live_.end() && next->first < last) {
            return false;
        }
        if (next != live_.begin() && std::prev(next)->second > first) {
            return false;
        }
        live_.emplace_hint(next, first, last);
        return true;
    }

    /// False when no live range starts there.
    [[nodiscard]] bool erase(void const* block) {
        return live_.erase(reinterpret_cast<std::uintptr_t>(block)) == 1;
    }

    [[nodiscard]] std::size_t size() const { return live_.size(); }

private:
    std::map<std::uintptr_t, std::uintptr_t> live_;  // first byte -> one past the last
};

}  // namespace tarn::test
