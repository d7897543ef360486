// tarn/detail/hazard_stack.hpp - hazard_stack: a lock-free stack of nodes by pointer, whose memory
// may go back while others use the stack.
//
// Role       The cure for stale reads where nodes cannot be numbered: a thread says which node it
//            is about to read, and nobody reclaims a node that somebody has named. Where nodes lie
//            in memory that stays, tagged_stack is cheaper.
// Threads    Each has a guest of its own; at most Guests at a time. The stack's end: alone.
// Always     A node that was popped comes to push(), or to its end, only through retire(), which
//            calls the stack's reclaim function once no other thread can read the node: so a node
//            that a thread looks at neither vanishes nor comes back (no ABA).
//            After close() nothing is pushed or popped, and what was in the stack is retired; pops
//            that had begun end well.
// Cost       pop(): a store that waits for all earlier ones, and a compare-exchange. retire(): a
//            look at all guests' names for each 2 * Guests nodes; so many nodes a guest may wait.
// Source     M. M. Michael, "Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects", 2004;
//            docs/design/lockfree.md; tests/model/hazard_stack.pml
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <utility>

#include <tarn/detail/atomic_policy.hpp>

namespace tarn::detail {

/// What a node derives from.
template <atomic_policy Atomics>
struct hazard_node {
    typename Atomics::template atomic<hazard_node*> next{nullptr};
    hazard_node* next_retired = nullptr;
};

template <atomic_policy Atomics, unsigned Guests = 64>
class hazard_stack {
    struct place;

public:
    using node = hazard_node<Atomics>;

    /// Called with a node that only the caller knows any more. It may push it, by the caller's
    /// guest, but not retire it.
    using reclaimer = void (*)(node& gone, void* context) noexcept;

    hazard_stack(reclaimer reclaim, void* context) noexcept
        : reclaim_{reclaim}, context_{context} {}

    hazard_stack(hazard_stack const&) = delete;
    hazard_stack& operator=(hazard_stack const&) = delete;

    /// No guest may be left. Reclaims what waits; what is in the stack is the caller's.
    ~hazard_stack() {
        node* next = waiting_.load(std::memory_order_acquire);
        while (next != nullptr) {
            reclaim_(*std::exchange(next, next->next_retired), context_);
        }
    }

    /// A thread's part in the stack. Errors: std::length_error where there are Guests already.
    class guest {
    public:
        explicit guest(hazard_stack& of) : of_{of}, mine_{of.take_place()} {}

        guest(guest const&) = delete;
        guest& operator=(guest const&) = delete;

        ~guest() {
            scan();
            while (retired_ != nullptr) {
                of_.leave_waiting(*std::exchange(retired_, retired_->next_retired));
            }
            // release: pairs with the acquire in take_place().
            mine_.is_taken.store(false, std::memory_order_release);
        }

        /// False: the stack is closed, and the node still the caller's.
        [[nodiscard]] bool push(node& fresh) noexcept {
            node* head = of_.head_.load(std::memory_order_relaxed);
            do {
                if (head == closed()) {
                    return false;
                }
                fresh.next.store(head, std::memory_order_relaxed);
                // release: pairs with the loads of head_ in pop().
            } while (!of_.head_.compare_exchange_weak(head, &fresh, std::memory_order_release,
                                                      std::memory_order_relaxed));
            return true;
        }

        /// The node last pushed; null: there is none, or the stack is closed.
        [[nodiscard]] node* pop() noexcept {
            node* top = of_.head_.load(std::memory_order_relaxed);
            for (;;) {
                if (top == nullptr || top == closed()) {
                    mine_.named.store(nullptr, std::memory_order_release);
                    return nullptr;
                }
                // seq_cst, this store and the load after it: pairs with removal and is_named().
                // Either they see the name, or the second look sees the node removed.
                mine_.named.store(top, std::memory_order_seq_cst);
                node* const again = of_.head_.load(std::memory_order_seq_cst);
                if (again != top) {
                    top = again;
                    continue;
                }
                node* const next = top->next.load(std::memory_order_relaxed);
                // acquire (in seq_cst): pairs with the release in push().
                if (of_.head_.compare_exchange_weak(top, next, std::memory_order_seq_cst,
                                                    std::memory_order_relaxed)) {
                    // release: pairs with is_named(); what was read of the node comes before.
                    mine_.named.store(nullptr, std::memory_order_release);
                    return top;
                }
            }
        }

        /// `gone`: of pop(), by any guest; given up by the caller.
        void retire(node& gone) noexcept {
            gone.next_retired = std::exchange(retired_, &gone);
            if (++retired_count_ >= retired_most) {
                scan();
            }
        }

        /// Reclaims all retired nodes that nobody reads, those of guests that left, too.
        void scan() noexcept {
            // acquire: pairs with the release in leave_waiting().
            node* left = of_.waiting_.exchange(nullptr, std::memory_order_acquire);
            while (left != nullptr) {
                node& each = *std::exchange(left, left->next_retired);
                each.next_retired = std::exchange(retired_, &each);
            }
            node* next = std::exchange(retired_, nullptr);
            retired_count_ = 0;
            while (next != nullptr) {
                node& each = *std::exchange(next, next->next_retired);
                if (of_.is_named(each)) {
                    each.next_retired = std::exchange(retired_, &each);
                    ++retired_count_;
                } else {
                    of_.reclaim_(each, of_.context_);
                }
            }
        }

        /// From here on nothing comes in or out; retires what is in the stack.
        void close() noexcept {
            // seq_cst: a removal, as in pop().
            node* next = of_.head_.exchange(closed(), std::memory_order_seq_cst);
            while (next != nullptr && next != closed()) {
                node& each = *next;
                next = each.next.load(std::memory_order_relaxed);
                retire(each);
            }
            scan();
        }

    private:
        static constexpr std::size_t retired_most = std::size_t{2} * Guests;

        hazard_stack& of_;
        place& mine_;
        node* retired_ = nullptr;  // linked by next_retired
        std::size_t retired_count_ = 0;
    };

private:
    struct alignas(64) place {
        typename Atomics::template atomic<node*> named{nullptr};
        typename Atomics::template atomic<bool> is_taken{false};
    };

    static node* closed() noexcept { return reinterpret_cast<node*>(std::size_t{1}); }

    [[nodiscard]] place& take_place() {
        for (place& each : places_) {
            bool seen = false;
            // acquire: pairs with the release in ~guest().
            if (each.is_taken.compare_exchange_strong(seen, true, std::memory_order_acquire,
                                                      std::memory_order_relaxed)) {
                return each;
            }
        }
        throw std::length_error{"tarn: a hazard_stack has more guests than it was made for"};
    }

    [[nodiscard]] bool is_named(node const& gone) const noexcept {
        // seq_cst: see pop(). acquire (in it): what a reader read comes before the reclaiming.
        return std::any_of(places_.begin(), places_.end(), [&gone](place const& each) {
            return each.named.load(std::memory_order_seq_cst) == &gone;
        });
    }

    /// A guest leaves with a node that somebody reads.
    void leave_waiting(node& gone) noexcept {
        node* first = waiting_.load(std::memory_order_relaxed);
        do {
            gone.next_retired = first;
            // release: pairs with the acquire in scan(), which takes all at once (no ABA).
        } while (!waiting_.compare_exchange_weak(first, &gone, std::memory_order_release,
                                                 std::memory_order_relaxed));
    }

    reclaimer reclaim_;
    void* context_;
    alignas(64) typename Atomics::template atomic<node*> head_{nullptr};
    typename Atomics::template atomic<node*> waiting_{nullptr};  // linked by next_retired
    std::array<place, Guests> places_{};
};

}  // namespace tarn::detail
