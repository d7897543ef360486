// support/channel.hpp - channel<T>: a bounded queue between threads.
//
// Threads    any number of senders and receivers
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace tarn::test {

template <class T>
class channel {
public:
    explicit channel(std::size_t capacity) : capacity_{capacity} {}

    void send(T item) {
        std::unique_lock lock{mutex_};
        has_room_.wait(lock, [&] { return items_.size() < capacity_; });
        items_.push_back(std::move(item));
        has_items_.notify_one();
    }

    /// The next item; nothing once the channel is closed and empty.
    std::optional<T> receive() {
        std::unique_lock lock{mutex_};
        has_items_.wait(lock, [&] { return !items_.empty() || closed_; });
        if (items_.empty()) {
            return std::nullopt;
        }
        std::optional<T> item{std::move(items_.front())};
        items_.pop_front();
        has_room_.notify_one();
        return item;
    }

    void close() {
        std::scoped_lock const lock{mutex_};
        closed_ = true;
        has_items_.notify_all();
    }

private:
    std::size_t const capacity_;
    std::mutex mutex_;
    std::condition_variable has_room_;
    std::condition_variable has_items_;
    std::deque<T> items_;
    bool closed_ = false;
};

}  // namespace tarn::test
