// tarn/detail/tagged_stack.hpp - tagged_stack: a lock-free stack of type-stable nodes, by number.
//
// Threads    any thread may push and pop
// Always     Every node's link lies in memory that stays readable as an atomic while anybody may
//            pop, also while the node is not in the stack: a stale read of it is then harmless.
//            The head packs a node's number (IndexBits, 0: none) and a tag (the other bits) that
//            every pop advances: a compare-exchange on a head that went away and came back fails,
//            unless one thread stalls while exactly 2^(64 - IndexBits) pops pass, or a multiple.
// Cost       one compare-exchange on one 64-bit word per operation without contention
// Source     Treiber's stack (IBM RJ 5118, 1986) with the counter of the same report;
//            docs/design/lockfree.md
#pragma once

#include <atomic>
#include <cstdint>

#include <tarn/detail/atomic_policy.hpp>

namespace tarn::detail {

/// `Index`: an unsigned integer or an enumeration over one. `link_of(Index)` gives the node's
/// Atomics::atomic<Index>&.
template <atomic_policy Atomics, class Index, unsigned IndexBits>
class tagged_stack {
    static_assert(IndexBits >= 1 && IndexBits <= 8 * sizeof(Index) && IndexBits < 64);

public:
    static constexpr std::uint64_t index_most = (std::uint64_t{1} << IndexBits) - 1;

    /// `node`: from 1 to index_most, and in no stack.
    template <class LinkOf>
    void push(Index node, LinkOf link_of) noexcept {
        std::uint64_t head = head_.load(std::memory_order_relaxed);
        do {
            link_of(node).store(index_of(head), std::memory_order_relaxed);
            // release: pairs with the acquire in pop(); publishes the link and all that the
            // pusher wrote to the node.
        } while (!head_.compare_exchange_weak(
            head, pack(node, tag_of(head)), std::memory_order_release, std::memory_order_relaxed));
    }

    /// The node last pushed, or 0.
    template <class LinkOf>
    Index pop(LinkOf link_of) noexcept {
        std::uint64_t head = head_.load(std::memory_order_acquire);
        for (;;) {
            Index const top = index_of(head);
            if (top == Index{}) {
                return top;
            }
            Index const next = link_of(top).load(std::memory_order_relaxed);
            // acquire: pairs with the release in push(), also on failure, since the next round
            // reads the link of the new top.
            if (head_.compare_exchange_weak(head, pack(next, tag_of(head) + 1),
                                            std::memory_order_acquire, std::memory_order_acquire)) {
                return top;
            }
        }
    }

    /// The newest node without taking it: only a hint, except where nobody else pops.
    [[nodiscard]] Index peek() const noexcept {
        return index_of(head_.load(std::memory_order_acquire));
    }

    /// Empties it, where nobody else uses it.
    void forget() noexcept {
        std::uint64_t const head = head_.load(std::memory_order_relaxed);
        head_.store(pack(Index{}, tag_of(head) + 1), std::memory_order_relaxed);
    }

private:
    static Index index_of(std::uint64_t head) noexcept {
        return static_cast<Index>(head & index_most);
    }

    static std::uint64_t tag_of(std::uint64_t head) noexcept { return head >> IndexBits; }

    static std::uint64_t pack(Index node, std::uint64_t tag) noexcept {
        return static_cast<std::uint64_t>(node) | (tag << IndexBits);
    }

    typename Atomics::template atomic<std::uint64_t> head_{0};
};

}  // namespace tarn::detail
