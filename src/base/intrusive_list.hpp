// base/intrusive_list.hpp - intrusive_list<T>: a doubly linked list through T's own links.
//
// Threads    the owner's, or under the owner's lock
// Always     T has members `T* list_next` and `T* list_prev`; a node is in at most one list
// Cost       O(1) each
#pragma once

#include "base/check.hpp"

namespace tarn::impl::base {

template <class T>
class intrusive_list {
public:
    [[nodiscard]] T* front() const noexcept { return front_; }

    [[nodiscard]] bool empty() const noexcept { return front_ == nullptr; }

    void push_front(T& node) noexcept {
        TARN_ASSERT(node.list_next == nullptr);
        TARN_ASSERT(node.list_prev == nullptr);
        TARN_ASSERT(front_ != &node);
        node.list_next = front_;
        if (front_ != nullptr) {
            front_->list_prev = &node;
        } else {
            back_ = &node;
        }
        front_ = &node;
    }

    void push_back(T& node) noexcept {
        TARN_ASSERT(node.list_next == nullptr);
        TARN_ASSERT(node.list_prev == nullptr);
        TARN_ASSERT(back_ != &node);
        node.list_prev = back_;
        if (back_ != nullptr) {
            back_->list_next = &node;
        } else {
            front_ = &node;
        }
        back_ = &node;
    }

    void remove(T& node) noexcept {
        TARN_ASSERT((node.list_prev != nullptr ? node.list_prev->list_next : front_) == &node);
        TARN_ASSERT((node.list_next != nullptr ? node.list_next->list_prev : back_) == &node);
        (node.list_prev != nullptr ? node.list_prev->list_next : front_) = node.list_next;
        (node.list_next != nullptr ? node.list_next->list_prev : back_) = node.list_prev;
        node.list_next = nullptr;
        node.list_prev = nullptr;
    }

    [[nodiscard]] T* back() const noexcept { return back_; }

private:
    T* front_ = nullptr;
    T* back_ = nullptr;
};

}  // namespace tarn::impl::base
