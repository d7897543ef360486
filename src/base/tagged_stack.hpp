// base/tagged_stack.hpp - tagged_stack: a lock-free stack of type-stable nodes.
//
// Threads    any thread may push and pop; every node lies in memory that is never unmapped and
//            stays a node, so a stale read of its link is harmless.
// Always     the head packs a node index (27 bits) and a tag (37 bits) that every pop advances:
//            a compare-exchange on a head that went away and came back fails, unless one thread
//            stalls while exactly 2^37 pops pass (hours at full speed). Treiber's stack (IBM RJ
//            5118, 1986) with the counter of the same report.
// Cost       one compare-exchange per operation without contention
#pragma once

#include <atomic>
#include <cstdint>

#include "base/check.hpp"

namespace tarn::impl::base {

inline constexpr unsigned node_index_bits = 27;

/// Index of a node; 0 is no node.
enum class node_index : std::uint32_t { none = 0 };

/// `link_of(node_index)` gives the node's std::atomic<node_index>&.
class tagged_stack {
public:
    template <class LinkOf>
    void push(node_index node, LinkOf link_of) noexcept {
        TARN_ASSERT(node != node_index::none);
        TARN_ASSERT(static_cast<std::uint64_t>(node) <= index_mask);
        std::uint64_t head = head_.load(std::memory_order_relaxed);
        do {
            link_of(node).store(index_of(head), std::memory_order_relaxed);
            // release: pairs with the acquire in pop(); publishes the link and all that the
            // pusher wrote to the node.
        } while (!head_.compare_exchange_weak(
            head, pack(node, tag_of(head)), std::memory_order_release, std::memory_order_relaxed));
    }

    /// The node last pushed, or none.
    template <class LinkOf>
    node_index pop(LinkOf link_of) noexcept {
        std::uint64_t head = head_.load(std::memory_order_acquire);
        for (;;) {
            node_index const top = index_of(head);
            if (top == node_index::none) {
                return top;
            }
            node_index const next = link_of(top).load(std::memory_order_relaxed);
            // acquire: pairs with the release in push(), also on failure, since the next round
            // reads the link of the new top.
            if (head_.compare_exchange_weak(head, pack(next, tag_of(head) + 1),
                                            std::memory_order_acquire, std::memory_order_acquire)) {
                return top;
            }
        }
    }

    /// The newest node without taking it: only a hint, except where nobody else pops.
    [[nodiscard]] node_index peek() const noexcept {
        return index_of(head_.load(std::memory_order_acquire));
    }

private:
    static constexpr std::uint64_t index_mask = (std::uint64_t{1} << node_index_bits) - 1;

    static node_index index_of(std::uint64_t head) noexcept {
        return static_cast<node_index>(head & index_mask);
    }

    static std::uint64_t tag_of(std::uint64_t head) noexcept { return head >> node_index_bits; }

    static std::uint64_t pack(node_index node, std::uint64_t tag) noexcept {
        return static_cast<std::uint64_t>(node) | (tag << node_index_bits);
    }

    std::atomic<std::uint64_t> head_{0};
};

}  // namespace tarn::impl::base
