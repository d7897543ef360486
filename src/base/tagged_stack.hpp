// base/tagged_stack.hpp - tagged_stack: a lock-free stack of type-stable nodes.
//
// Threads    any thread may push and pop; every node lies in memory that is never unmapped and
//            stays a node, so a stale read of its link is harmless.
// Always     the algorithm of tarn/detail/tagged_stack.hpp, with 27 bits of index and 37 of tag:
//            2^37 pops are hours at full speed.
// Cost       one compare-exchange per operation without contention
#pragma once

#include <cstdint>

#include "base/check.hpp"

#include "tarn/detail/atomic_policy.hpp"
#include "tarn/detail/tagged_stack.hpp"

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
        TARN_ASSERT(static_cast<std::uint64_t>(node) <= stack::index_most);
        nodes_.push(node, link_of);
    }

    /// The node last pushed, or none.
    template <class LinkOf>
    node_index pop(LinkOf link_of) noexcept {
        return nodes_.pop(link_of);
    }

    /// The newest node without taking it: only a hint, except where nobody else pops.
    [[nodiscard]] node_index peek() const noexcept { return nodes_.peek(); }

private:
    using stack =
        tarn::detail::tagged_stack<tarn::detail::std_atomics, node_index, node_index_bits>;

    stack nodes_;
};

}  // namespace tarn::impl::base
