// shm/naive_pool.hpp - naive_pool: what the harness of kill_steps_test must find to lose chunks.
//
// Threads    any process that shares it
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace tarn::test {

/// Chunks in a list; who takes one off writes down afterwards that it is his. Lists and records
/// are right while nobody dies.
class naive_pool {
public:
    static constexpr std::uint32_t chunks = 8;
    static constexpr std::uint32_t none = chunks;

    naive_pool() {
        for (std::uint32_t i = 0; i < chunks; ++i) {
            next_[i] = i + 1;
        }
    }

    std::uint32_t allocate(std::uint32_t me) {
        std::uint64_t head = head_.load(std::memory_order_acquire);
        std::uint32_t number = 0;
        do {
            number = static_cast<std::uint32_t>(head);
            if (number == none) {
                return none;
            }
            // acquire: pairs with release()'s push.
        } while (!head_.compare_exchange_weak(
            head, tag_after(head) | next_[number].load(std::memory_order_relaxed),
            std::memory_order_acquire));
        owner_[number].store(me, std::memory_order_relaxed);
        return number;
    }

    void release(std::uint32_t number) {
        owner_[number].store(0, std::memory_order_relaxed);
        std::uint64_t head = head_.load(std::memory_order_relaxed);
        do {
            next_[number].store(static_cast<std::uint32_t>(head), std::memory_order_relaxed);
            // release: pairs with allocate()'s pop.
        } while (!head_.compare_exchange_weak(head, tag_after(head) | number,
                                              std::memory_order_release));
    }

    void recover(std::uint32_t dead) {
        for (std::uint32_t i = 0; i < chunks; ++i) {
            if (owner_[i].load(std::memory_order_relaxed) == dead) {
                release(i);
            }
        }
    }

private:
    static std::uint64_t tag_after(std::uint64_t head) { return ((head >> 32) + 1) << 32; }

    std::atomic<std::uint64_t> head_{0};
    std::array<std::atomic<std::uint32_t>, chunks> next_{};
    std::array<std::atomic<std::uint32_t>, chunks> owner_{};
};

}  // namespace tarn::test
