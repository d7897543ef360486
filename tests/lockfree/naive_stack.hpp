// lockfree/naive_stack.hpp - lists as they are often written, each wrong in one of the ways that
// docs/design/lockfree.md tells. For tests that must fail.
#pragma once

#include <atomic>

#include <tarn/detail/atomic_policy.hpp>

namespace tarn::test {

template <detail::atomic_policy Atomics>
struct naive_node {
    typename Atomics::template atomic<naive_node*> next{nullptr};
};

/// Treiber's stack by pointer, without a tag.
template <detail::atomic_policy Atomics>
class naive_stack {
public:
    using node = naive_node<Atomics>;

    void push(node& fresh) noexcept {
        node* head = head_.load(std::memory_order_relaxed);
        do {
            fresh.next.store(head, std::memory_order_relaxed);
        } while (!head_.compare_exchange_weak(head, &fresh, std::memory_order_release,
                                              std::memory_order_relaxed));
    }

    node* pop() noexcept {
        node* head = head_.load(std::memory_order_acquire);
        for (;;) {
            if (head == nullptr) {
                return nullptr;
            }
            // Story (a): the node may have gone back. Story (b): its link may be another by the
            // time that the head is the same again.
            node* const next = head->next.load(std::memory_order_relaxed);
            if (head_.compare_exchange_weak(head, next, std::memory_order_acquire,
                                            std::memory_order_acquire)) {
                return head;
            }
        }
    }

    /// Gives all nodes to `reclaim`, as a destructor does. Story (c): whoever pops may hold one.
    template <class Reclaim>
    void end(Reclaim reclaim) noexcept {
        node* next = head_.exchange(nullptr, std::memory_order_acquire);
        while (next != nullptr) {
            node& each = *next;
            next = each.next.load(std::memory_order_relaxed);
            reclaim(each);
        }
    }

private:
    typename Atomics::template atomic<node*> head_{nullptr};
};

/// Names the node that it is going to read, but does not look again whether it is still there.
template <detail::atomic_policy Atomics>
class hasty_stack {
public:
    using node = naive_node<Atomics>;

    void push(node& fresh) noexcept {
        node* head = head_.load(std::memory_order_relaxed);
        do {
            fresh.next.store(head, std::memory_order_relaxed);
        } while (!head_.compare_exchange_weak(head, &fresh, std::memory_order_release,
                                              std::memory_order_relaxed));
    }

    node* pop(unsigned thread) noexcept {
        node* head = head_.load(std::memory_order_acquire);
        for (;;) {
            named_[thread].store(head, std::memory_order_seq_cst);
            if (head == nullptr) {
                return nullptr;
            }
            node* const next = head->next.load(std::memory_order_relaxed);
            if (head_.compare_exchange_weak(head, next, std::memory_order_seq_cst,
                                            std::memory_order_acquire)) {
                named_[thread].store(nullptr, std::memory_order_release);
                return head;
            }
        }
    }

    [[nodiscard]] bool is_named(node const& gone) const noexcept {
        return named_[0].load(std::memory_order_seq_cst) == &gone ||
               named_[1].load(std::memory_order_seq_cst) == &gone;
    }

private:
    typename Atomics::template atomic<node*> head_{nullptr};
    typename Atomics::template atomic<node*> named_[2];
};

/// A thread's cache of blocks that looks whether its pool is alive, and then gives them back to it.
template <detail::atomic_policy Atomics>
struct naive_cache {
    typename Atomics::template atomic<bool> pool_lives{true};

    template <class GiveBack>
    void leave(GiveBack to_pool) noexcept {
        if (pool_lives.load(std::memory_order_acquire)) {
            to_pool();  // story (c): it may have ended in between
        }
    }
};

}  // namespace tarn::test
