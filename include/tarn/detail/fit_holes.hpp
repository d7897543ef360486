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
        hole.links = {.largest = hole.units};
        fit_block above = get(root_);
        while (above.at != fit_nowhere) {
            if (above.links.largest < hole.units) {
                above.links.largest = hole.units;
                blocks_.write(above);
            }
            fit_units& child = is_before(hole, above) ? above.links.left : above.links.right;
            if (child == fit_nowhere) {
                child = hole.at;
                blocks_.write(above);
                break;
            }
            above = get(child);
        }
        if (is_broken_) {
            return;
        }
        hole.links.above = above.at;
        if (above.at == fit_nowhere) {
            root_ = hole.at;
        }
        blocks_.write(hole);
        blocks_.write_foot(hole);
        ++count_;
        while (hole.links.above != fit_nowhere && is_above(hole.at, hole.links.above)) {
            hole = rotate_up(hole.at);
        }
    }

    void erase(fit_units at) noexcept {
        fit_block hole = get(at);
        while (hole.links.left != fit_nowhere || hole.links.right != fit_nowhere) {
            rotate_up(upper(hole.links.left, hole.links.right));
            hole = get(at);
        }
        replace_child(hole.links.above, hole.at, fit_nowhere);
        for (fit_block above = get(hole.links.above); above.at != fit_nowhere;
             above = get(above.links.above)) {
            fit_units const largest = largest_from(above);
            if (largest == above.links.largest) {
                break;
            }
            above.links.largest = largest;
            blocks_.write(above);
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

    [[nodiscard]] static fit_units upper(fit_units left, fit_units right) noexcept {
        if (left == fit_nowhere || right == fit_nowhere) {
            return left == fit_nowhere ? right : left;
        }
        return is_above(left, right) ? left : right;
    }

    [[nodiscard]] fit_units largest_from(fit_block const& hole) noexcept {
        return std::max(
            {hole.units, get(hole.links.left).links.largest, get(hole.links.right).links.largest});
    }

    void replace_child(fit_units above, fit_units old_child, fit_units child) noexcept {
        if (above == fit_nowhere) {
            root_ = child;
            return;
        }
        fit_block parent = get(above);
        if (parent.at != fit_nowhere) {
            (parent.links.left == old_child ? parent.links.left : parent.links.right) = child;
            blocks_.write(parent);
        }
    }

    /// Lifts the hole at `at` above the one it hangs on, and returns it.
    fit_block rotate_up(fit_units at) noexcept {
        fit_block hole = get(at);
        fit_block parent = get(hole.links.above);
        bool const is_left = parent.links.left == at;
        fit_units const moved = is_left ? hole.links.right : hole.links.left;
        fit_block grandchild = get(moved);
        if (is_broken_) {
            return {};
        }
        if (grandchild.at != fit_nowhere) {
            grandchild.links.above = parent.at;
            blocks_.write(grandchild);
        }
        (is_left ? parent.links.left : parent.links.right) = moved;
        (is_left ? hole.links.right : hole.links.left) = parent.at;
        replace_child(parent.links.above, parent.at, at);
        hole.links.above = parent.links.above;
        hole.links.largest = parent.links.largest;
        parent.links.above = at;
        parent.links.largest = largest_from(parent);
        blocks_.write(parent);
        blocks_.write(hole);
        return hole;
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
