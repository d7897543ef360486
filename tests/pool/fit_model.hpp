// pool/fit_model.hpp - fit_model: what tarn::fit_heap must do, by the textbook and without tags.
//
// Holes and live blocks are two maps from address to size; every choice looks at every hole. An
// address here is that of the tag, 8 bytes before what the user gets.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <span>
#include <utility>

#include "tarn/fit.hpp"

namespace tarn::test {

class fit_model {
public:
    using map = std::map<std::uintptr_t, std::size_t>;

    fit_model(std::span<std::byte> span, fit policy, std::size_t unit)
        : policy_{policy}, unit_{unit}, least_{up(32, unit)} {
        auto const begin = reinterpret_cast<std::uintptr_t>(span.data());
        std::uintptr_t const first = up(begin + 8, unit);
        holes_[first - 8] = (begin + span.size() - first) / unit * unit;
    }

    [[nodiscard]] map const& holes() const { return holes_; }

    [[nodiscard]] std::size_t free_bytes() const {
        std::size_t sum = 0;
        for (auto const& [start, bytes] : holes_) {
            sum += bytes;
        }
        return sum;
    }

    [[nodiscard]] std::size_t largest_hole_bytes() const {
        std::size_t most = 0;
        for (auto const& [start, bytes] : holes_) {
            most = std::max(most, bytes);
        }
        return most;
    }

    /// What the user gets, or 0.
    std::uintptr_t allocate(std::size_t bytes, std::size_t alignment) {
        std::size_t const need = size_for(bytes);
        auto chosen = holes_.end();
        for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
            bool const fits = place_in(hole->first, alignment) + need <= hole->first + hole->second;
            if (fits && (chosen == holes_.end() || is_better(*hole, *chosen))) {
                chosen = hole;
            }
        }
        if (chosen == holes_.end()) {
            return 0;
        }
        auto const [start, size] = *chosen;
        holes_.erase(chosen);
        std::uintptr_t const place = place_in(start, alignment);
        if (place != start) {
            holes_[start] = place - start;
        }
        live_[place] = cut(place, start + size, need);
        rover_ = place + live_[place];
        return place + 8;
    }

    void deallocate(std::uintptr_t user) {
        auto const block = live_.find(user - 8);
        std::uintptr_t start = block->first;
        std::uintptr_t end = start + block->second;
        live_.erase(block);
        if (auto const behind = holes_.find(end); behind != holes_.end()) {
            end += behind->second;
            holes_.erase(behind);
        }
        auto const after = holes_.lower_bound(start);
        if (after != holes_.begin()) {
            auto const before = std::prev(after);
            if (before->first + before->second == start) {
                start = before->first;
                holes_.erase(before);
            }
        }
        holes_[start] = end - start;
    }

    bool expand(std::uintptr_t user, std::size_t bytes) {
        return resize(user, std::max(size_for(bytes), live_.at(user - 8)));
    }

    std::uintptr_t reallocate(std::uintptr_t user, std::size_t bytes, std::size_t alignment) {
        if (user % alignment == 0 && resize(user, size_for(bytes))) {
            return user;
        }
        std::uintptr_t const moved = allocate(bytes, alignment);
        if (moved != 0) {
            deallocate(user);
        }
        return moved;
    }

private:
    static std::size_t up(std::size_t number, std::size_t to) {
        return (number + to - 1) / to * to;
    }

    [[nodiscard]] std::size_t size_for(std::size_t bytes) const {
        return std::max(up(bytes + 8, unit_), least_);
    }

    /// Where a block in the hole at `start` begins: there, or so far behind that a hole remains.
    [[nodiscard]] std::uintptr_t place_in(std::uintptr_t start, std::size_t alignment) const {
        std::uintptr_t user = up(start + 8, std::max(alignment, unit_));
        while (user - 8 != start && user - 8 - start < least_) {
            user += alignment;
        }
        return user - 8;
    }

    [[nodiscard]] bool is_better(map::value_type const& one, map::value_type const& other) const {
        bool const is_lower = one.first < other.first;
        switch (policy_) {
            case fit::first:
                return is_lower;
            case fit::next: {
                bool const one_is_ahead = one.first + one.second > rover_;
                bool const other_is_ahead = other.first + other.second > rover_;
                return one_is_ahead == other_is_ahead ? is_lower : one_is_ahead;
            }
            case fit::best:
                return one.second == other.second ? is_lower : one.second < other.second;
            case fit::worst:
                return one.second == other.second ? is_lower : one.second > other.second;
        }
        return false;
    }

    /// The size of a block of at least `need` that begins at `start`; what is left until `end`
    /// becomes a hole if it is large enough for one.
    std::size_t cut(std::uintptr_t start, std::uintptr_t end, std::size_t need) {
        if (end - start - need < least_) {
            return end - start;
        }
        holes_[start + need] = end - start - need;
        return need;
    }

    bool resize(std::uintptr_t user, std::size_t need) {
        auto const block = live_.find(user - 8);
        auto const behind = holes_.find(block->first + block->second);
        std::size_t const room = block->second + (behind == holes_.end() ? 0 : behind->second);
        if (need > room) {
            return false;
        }
        if (behind != holes_.end() && need != block->second) {
            holes_.erase(behind);
            block->second = cut(block->first, block->first + room, need);
        } else if (behind == holes_.end()) {
            block->second = cut(block->first, block->first + room, need);
        }
        return true;
    }

    fit policy_;
    std::size_t unit_;
    std::size_t least_;
    std::uintptr_t rover_ = 0;
    map holes_;
    map live_;
};

}  // namespace tarn::test
