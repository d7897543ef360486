// heap_threads_test - heaps that several threads use, fork over and destroy under each other.
//
// What is freed while its heap is destroyed may turn out to have been freed after it: that is
// misuse, and only noted here (on_misuse=ignore, set by CMakeLists.txt for all of this program).
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "heap_support.hpp"
#include "support/build.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

constexpr unsigned threads = 4;

// relaxed below: barriers and joins order what they have to
int rounds() { return static_cast<int>(scaled(20'000)); }

/// Blocks in boxes that any thread empties and fills.
class exchange {
public:
    explicit exchange(tarn_heap heap) : heap_{heap} {}

    /// Makes blocks, checks and frees what others made.
    void work(std::uint64_t seed, int count) {
        random_stream random{seed};
        for (int i = 0; i < count; ++i) {
            std::size_t const bytes = 8 + random.size_up_to(random.one_in(200) ? 2 * mib : kib);
            void* made = tarn_heap_malloc(heap_, bytes);
            if (made == nullptr) {
                std::abort();
            }
            stamp(made, bytes);
            made = boxes_[random.below(boxes_.size())].exchange(made, std::memory_order_acq_rel);
            drop(made, random.one_in(2));
        }
    }

    /// The number of blocks left.
    std::size_t count() const {
        std::size_t result = 0;
        for (auto const& each : boxes_) {
            result += each.load(std::memory_order_relaxed) != nullptr ? 1 : 0;
        }
        return result;
    }

private:
    // The first word says how long the block is, the last one the same.
    static void stamp(void* block, std::size_t bytes) {
        auto* const words = static_cast<std::size_t*>(block);
        words[0] = bytes;
        words[bytes / sizeof(std::size_t) - 1] = bytes;
    }

    void drop(void* block, bool by_heap) const {
        if (block == nullptr) {
            return;
        }
        auto const* const words = static_cast<std::size_t const*>(block);
        if (words[words[0] / sizeof(std::size_t) - 1] != words[0]) {
            std::abort();
        }
        by_heap ? tarn_heap_free(heap_, block) : tarn_free(block);
    }

    tarn_heap heap_;
    std::array<std::atomic<void*>, 512> boxes_{};
};

TEST(heap_threads, allocate_and_free_each_other_s_blocks) {
    c_heap const heap{"shared"};
    exchange between{heap.handle()};
    std::vector<std::thread> running;
    for (unsigned number = 0; number < threads; ++number) {
        running.emplace_back([&between, number] { between.work(number, rounds()); });
    }
    for (std::thread& each : running) {
        each.join();
    }
    tarn_heap_stats const stats = heap.stats();
    EXPECT_EQ(stats.live_blocks, between.count());
    EXPECT_EQ(stats.allocations, std::uint64_t{threads} * static_cast<unsigned>(rounds()));
    EXPECT_EQ(walk(heap.handle()).size(), between.count());
    EXPECT_EQ(tarn_audit(nullptr), 0U);
}

TEST(heap_threads, fork_while_others_use_the_heap) {
    c_heap const heap;
    exchange between{heap.handle()};
    std::atomic<bool> done{false};
    std::vector<std::thread> running;
    for (unsigned number = 0; number < threads; ++number) {
        running.emplace_back([&between, &done, number] {
            for (std::uint64_t seed = number; !done.load(std::memory_order_relaxed);
                 seed += threads) {
                between.work(seed, 100);
            }
        });
    }
    for (int i = 0; i < static_cast<int>(scaled(200)); ++i) {
        int const status = run_in_child(20, [&heap] {
            c_heap const own;
            void* const block = own.allocate(100);
            void* const shared = heap.allocate(100);
            tarn_free(block);
            tarn_free(shared);
            return tarn_heap_destroy(heap.handle()) == 0 && tarn_audit(nullptr) == 0 ? 0 : 1;
        });
        EXPECT_EQ(status, 0);
    }
    done.store(true, std::memory_order_relaxed);
    for (std::thread& each : running) {
        each.join();
    }
    EXPECT_EQ(heap.stats().live_blocks, between.count());
}

TEST(heap_threads, destroy_a_heap_while_others_free_in_it) {
    constexpr std::size_t blocks = 400;
    std::vector<std::atomic<void*>> table(threads * blocks);
    std::barrier ready{threads + 1};
    std::atomic<bool> over{false};
    std::vector<std::thread> running;
    for (std::size_t number = 0; number < threads; ++number) {
        running.emplace_back([&, number] {
            for (;;) {
                ready.arrive_and_wait();
                if (over.load(std::memory_order_relaxed)) {
                    return;
                }
                for (std::size_t i = 0; i < blocks; ++i) {
                    tarn_free(table[number * blocks + i].load(std::memory_order_relaxed));
                }
                ready.arrive_and_wait();
            }
        });
    }
    random_stream random{1};
    for (int round = 0; round < static_cast<int>(scaled(1'000)); ++round) {
        c_heap heap;
        for (auto& each : table) {
            std::size_t const bytes = random.one_in(50) ? 200 * kib : random.size_up_to(2 * kib);
            each.store(heap.allocate(bytes), std::memory_order_relaxed);
        }
        ready.arrive_and_wait();
        for (std::uint64_t spin = random.below(2'000); spin != 0; --spin) {
            static_cast<void>(tarn_heap_of(&table));
        }
        heap.destroy();
        // Nothing may take the memory yet: what is freed too late would be its block.
        ready.arrive_and_wait();
        EXPECT_EQ(tarn_audit(nullptr), 0U);
    }
    over.store(true, std::memory_order_relaxed);
    ready.arrive_and_wait();
    for (std::thread& each : running) {
        each.join();
    }
}

TEST(heap_threads, outlive_each_other_s_heaps) {
    std::vector<std::thread> running;
    for (unsigned number = 0; number < threads; ++number) {
        running.emplace_back([number] {
            random_stream random{number};
            for (int i = 0; i < rounds() / 20; ++i) {
                c_heap const heap;
                for (int k = 0; k < 20; ++k) {
                    void* const block = heap.allocate(random.size_up_to(4 * kib));
                    if (random.one_in(2)) {
                        tarn_free(block);
                    }
                }
            }
        });
    }
    for (std::thread& each : running) {
        each.join();
    }
    EXPECT_EQ(tarn_audit(nullptr), 0U);
}

/// The policy of an address's memory; -1: the system does not tell.
int policy_of(void* address) {
    constexpr unsigned long of_address = 2;
    int policy = -1;
    return ::syscall(SYS_get_mempolicy, &policy, nullptr, 0, address, of_address) == 0 ? policy
                                                                                       : -1;
}

TEST(heap_threads, has_memory_of_the_node_it_wants) {
    tarn_heap_options options{};
    options.size = sizeof options;
    options.has_numa_node = 1;
    tarn_heap const heap = tarn_heap_create(&options);
    constexpr int preferred = 1;
    for (std::size_t const bytes : {100UL, mib}) {
        void* const block = tarn_heap_malloc(heap, bytes);
        ASSERT_NE(block, nullptr);
        *static_cast<char*>(block) = 1;
        int const policy = policy_of(block);
        EXPECT_TRUE(policy == preferred || policy == -1) << policy;
    }
    EXPECT_EQ(tarn_heap_destroy(heap), 0);
    options.numa_node = 1'000'000;  // there is none: a wish
    tarn_heap const far = tarn_heap_create(&options);
    void* const block = tarn_heap_malloc(far, 100);
    EXPECT_NE(block, nullptr);
    EXPECT_EQ(tarn_heap_destroy(far), 0);
}

}  // namespace
}  // namespace tarn::test
