// tarn/detail/fit_holes.hpp - fit_holes: the holes of a span in the order of a placement policy.
//
// Structure  A treap inside the holes: a search tree in the policy's order in which the hash of a
//            place is its priority, so that its shape does not hang on the order of operations.
//            Each node knows the largest hole from it downwards; so one search, for the first hole
//            in order that is large enough, serves every policy.
// Always     A link is followed only from a hole whose seal is good. When it is not, is_broken()
//            from then on, nothing is found any more, and what began may stay half done.
// Cost       O(log n) expected in the number of holes
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <tarn/detail/fit_blocks.hpp>
#include <tarn/fit.hpp>

namespace tarn::detail {

class fit_holes {
public:
    fit_holes(fit_blocks& blocks, fit policy) noexcept : blocks_{blocks}, policy_{policy} {}

    [[nodiscard]] std::size_t count() const noexcept { return count_; }

    [[nodiscard]] fit policy() const noexcept { return policy_; }

    [[nodiscard]] bool is_broken() const noexcept { return is_broken_; }

    /// For who finds that tags outside of the tree were overwritten.
    void give_up() noexcept { is_broken_ = true; }

    /// Forgets all holes.
    void clear() noexcept {
        root_ = fit_nowhere;
        count_ = 0;
        is_broken_ = false;
    }

    [[nodiscard]] fit_units largest() const noexcept {
        return fit_holes{*this}.get(root_).links.largest;  // a copy: asking breaks nothing
    }

    /// Whether `left` comes before `right` in the policy's order.
    [[nodiscard]] bool is_before(fit_block const& left, fit_block const& right) const noexcept {
        if (left.units != right.units && policy_ == fit::best) {
            return left.units < right.units;
        }
        if (left.units != right.units && policy_ == fit::worst) {
            return left.units > right.units;
        }
        return left.at < right.at;
    }

    /// The first hole of at least `units` of which passed(hole) is false. Whatever comes before a
    /// hole that is passed must be passed, too.
    template <class Passed>
    [[nodiscard]] fit_block find(fit_units units, Passed passed) noexcept {
        fit_block turn;  // the last one not passed at which we went left, if it can serve
        fit_block here = get(root_);
        while (!is_broken_) {
            if (here.links.largest < units) {
                // Nothing here; and what lies behind `turn` comes after it, and is not passed.
                if (turn.units >= units || turn.at == fit_nowhere) {
                    return turn;
                }
                here = get(turn.links.right);
                turn = {};
            } else if (passed(here)) {
                here = get(here.links.right);
            } else {
                if (here.units >= units || get(here.links.right).links.largest >= units) {
                    turn = here;
                }
                here = get(here.links.left);
            }
        }
        return {};
    }

    /// `hole`: without links. Writes all of it.
    void insert(fit_block hole) noexcept {
        hole.links = {};
        fit_block above;
        fit_block here = get(root_);
        while (here.at != fit_nowhere && is_above(here.at, hole.at)) {
            if (here.links.largest < hole.units) {
                here.links.largest = hole.units;
                blocks_.write(here);
            }
            above = here;
            here = get(is_before(hole, here) ? here.links.left : here.links.right);
        }
        split(here, hole);
        if (is_broken_) {
            return;
        }
        hole.links.above = above.at;
        hole.links.largest = largest_from(hole);
        blocks_.write(hole);
        blocks_.write_foot(hole);
        hang(above, is_before(hole, above), hole.at);
        ++count_;
    }

    void erase(fit_units at) noexcept {
        fit_block const hole = get(at);
        fit_block low = get(hole.links.above);
        bool is_left = low.links.left == at;
        fit_block left = get(hole.links.left);
        fit_block right = get(hole.links.right);
        // The two trees below become one: of their roots, the upper one comes next.
        while (left.at != fit_nowhere && right.at != fit_nowhere) {
            bool const takes_left = is_above(left.at, right.at);
            fit_block& upper = takes_left ? left : right;
            hang(low, is_left, upper.at);
            upper.links.above = low.at;
            low = upper;
            is_left = !takes_left;
            upper = get(is_left ? low.links.left : low.links.right);
        }
        fit_block& rest = left.at != fit_nowhere ? left : right;
        hang(low, is_left, rest.at);
        if (rest.at != fit_nowhere) {
            rest.links.above = low.at;
            blocks_.write(rest);
        }
        for (bool is_new = true; low.at != fit_nowhere; low = get(low.links.above)) {
            is_new = is_new && low.at != hole.links.above;
            fit_units const largest = largest_from(low);
            if (largest != low.links.largest) {
                low.links.largest = largest;
                blocks_.write(low);
            } else if (!is_new) {
                break;  // nor does anything above it change
            }
        }
        --count_;
    }

    /// What is wrong with the tree, and where; empty when nothing is. Each hole of the span must
    /// have been read before.
    [[nodiscard]] std::string_view fault(fit_units& where) const noexcept {
        return fit_holes{*this}.find_fault(where);
    }

private:
    [[nodiscard]] std::string_view find_fault(fit_units& where) noexcept {
        fit_block last;
        fit_units from = fit_nowhere;
        fit_units at = root_;
        std::size_t seen = 0;
        // Each hole is met at most three times: from above, from the left, and from the right.
        for (std::size_t steps = 3 * count_ + 1; at != fit_nowhere; --steps) {
            fit_block const here = get(at);
            where = at;
            if (is_broken_) {
                return "a link of a hole leads to no hole";
            }
            if (steps == 0) {
                return "the links of holes lead in circles";
            }
            if (from == here.links.above) {
                if (auto const text = fault_of(here); !text.empty()) {
                    return text;
                }
            }
            fit_units next = here.links.above;
            if (from == here.links.above && here.links.left != fit_nowhere) {
                next = here.links.left;
            } else if (from != here.links.right || from == fit_nowhere) {
                if (last.at != fit_nowhere && !is_before(last, here)) {
                    return "holes are not in order";
                }
                last = here;
                ++seen;
                if (here.links.right != fit_nowhere) {
                    next = here.links.right;
                }
            }
            from = at;
            at = next;
        }
        return seen == count_ ? "" : "a hole is missing in the tree";
    }

    /// The hole at `at`; one without size and links where there is none.
    [[nodiscard]] fit_block get(fit_units at) noexcept {
        fit_block hole;
        if (at == fit_nowhere || is_broken_) {
            return hole;
        }
        if (blocks_.read(at, hole) && !hole.is_live) {
            return hole;
        }
        is_broken_ = true;
        return {};
    }

    /// Murmur's finalizer: neighbours get priorities that have nothing to do with each other.
    [[nodiscard]] static std::uint32_t priority(fit_units at) noexcept {
        at ^= at >> 16U;
        at *= 0x85eb'ca6b;
        at ^= at >> 13U;
        at *= 0xc2b2'ae35;
        return at ^ at >> 16U;  // every step can be undone: no two places have the same
    }

    /// Whether the hole at `left` belongs above the one at `right`.
    [[nodiscard]] static bool is_above(fit_units left, fit_units right) noexcept {
        return priority(left) > priority(right);
    }

    [[nodiscard]] fit_units largest_from(fit_block const& hole) noexcept {
        return std::max(
            {hole.units, get(hole.links.left).links.largest, get(hole.links.right).links.largest});
    }

    /// Makes `child` the left or right one below `above`, or the root, and writes `above`.
    void hang(fit_block& above, bool is_left, fit_units child) noexcept {
        if (above.at == fit_nowhere) {
            root_ = child;
            return;
        }
        (is_left ? above.links.left : above.links.right) = child;
        blocks_.write(above);
    }

    /// Hangs what is before `hole` in the tree `here` to its left, and what is behind to its right.
    void split(fit_block here, fit_block& hole) noexcept {
        std::array<fit_block, 2> lowest;  // of the two new trees, at the cut
        while (here.at != fit_nowhere) {
            bool const is_left = is_before(here, hole);
            fit_block& low = lowest[is_left ? 0 : 1];
            if (low.at == fit_nowhere) {
                (is_left ? hole.links.left : hole.links.right) = here.at;
                here.links.above = hole.at;
            } else {
                hang(low, !is_left, here.at);
                here.links.above = low.at;
            }
            low = here;
            here = get(is_left ? here.links.right : here.links.left);
        }
        for (bool const is_left : {true, false}) {
            fit_block low = lowest[is_left ? 0 : 1];
            (is_left ? low.links.right : low.links.left) = fit_nowhere;
            while (low.at != fit_nowhere) {
                low.links.largest = largest_from(low);
                blocks_.write(low);
                // `hole` is not written yet.
                low = low.links.above == hole.at ? fit_block{} : get(low.links.above);
            }
        }
    }

    /// What is wrong between a hole and those below it.
    [[nodiscard]] std::string_view fault_of(fit_block const& hole) noexcept {
        for (fit_units const child : {hole.links.left, hole.links.right}) {
            if (child == fit_nowhere) {
                continue;
            }
            if (get(child).links.above != hole.at) {
                return "a link of a hole is not answered";
            }
            if (!is_above(hole.at, child)) {
                return "holes are not in the order of priorities";
            }
        }
        return largest_from(hole) == hole.links.largest ? "" : "a largest hole is not the largest";
    }

    fit_blocks& blocks_;
    fit_units root_ = fit_nowhere;
    std::size_t count_ = 0;
    fit policy_;
    bool is_broken_ = false;
};

}  // namespace tarn::detail
