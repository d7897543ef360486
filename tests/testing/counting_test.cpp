// Counters, and scopes that nobody sees through.
#include <gtest/gtest.h>

#include <memory_resource>
#include <thread>
#include <vector>

#include "tarn/block_pool.hpp"
#include "tarn/memory_resource.hpp"
#include "tarn/object_pool.hpp"
#include "tarn/testing.hpp"

namespace {

using tarn::allocation_counter;
using tarn::allocation_counts;
using tarn::count_allocations;

TEST(allocation_counter, counts_what_its_thread_does) {
    void* const before = tarn_malloc(100);
    auto const bytes_before = static_cast<std::int64_t>(tarn_malloc_usable_size(before));
    allocation_counter const counter;
    void* const kept = tarn_malloc(1000);
    tarn_free(tarn_malloc(50));
    tarn_free(before);
    allocation_counts const counts = counter.counts();
    EXPECT_EQ(counts.allocations, 2U);
    EXPECT_EQ(counts.frees, 2U);
    EXPECT_EQ(counts.live_blocks(), 0);
    EXPECT_EQ(counts.requested_bytes, 1050U);
    EXPECT_EQ(counts.live_bytes(),
              static_cast<std::int64_t>(tarn_malloc_usable_size(kept)) - bytes_before);
    tarn_free(kept);
    EXPECT_EQ(counter.counts().live_blocks(), -1) << "a block from before was freed";
    EXPECT_LT(counter.counts().live_bytes(), 0);
}

TEST(allocation_counter, starts_again_when_told) {
    allocation_counter counter;
    tarn_free(tarn_malloc(50));
    counter.reset();
    EXPECT_EQ(counter.counts().allocations, 0U);
    EXPECT_EQ(counter.counts().peak_live_bytes, 0);
    void* block = tarn_malloc(50);
    block = tarn_realloc(block, 5000);
    tarn_free(block);
    EXPECT_EQ(counter.counts().allocations, 1U);
    EXPECT_EQ(counter.counts().reallocations, 1U);
    EXPECT_EQ(counter.counts().live_bytes(), 0);
    EXPECT_GE(counter.counts().peak_live_bytes, 5000);
}

TEST(allocation_counter, nests) {
    allocation_counter const outer;
    allocation_counts const inside = count_allocations([] { tarn_free(tarn_malloc(10)); });
    EXPECT_EQ(inside.allocations, 1U);
    tarn_free(tarn_malloc(10));
    EXPECT_EQ(outer.counts().allocations, 2U);
}

TEST(allocation_counter, is_about_one_thread) {
    allocation_counter const counter;
    std::thread{[] {
        allocation_counter const own;
        tarn_free(tarn_malloc(10));
        EXPECT_EQ(own.counts().allocations, 1U);
    }}.join();
    EXPECT_EQ(counter.counts().allocations, 0U);
}

TEST(allocation_counter, of_many_threads_at_once_are_exact) {
    std::vector<std::thread> threads;
    for (std::size_t t = 1; t <= 4; ++t) {
        threads.emplace_back([t] {
            for (std::size_t round = 1; round <= 200; ++round) {
                allocation_counts const counts = count_allocations([&] {
                    std::pmr::vector<void*> blocks(tarn::malloc_resource());
                    blocks.reserve(round);
                    for (std::size_t i = 0; i < round; ++i) {
                        blocks.push_back(tarn_malloc(i * t));
                    }
                    for (void* const block : blocks) {
                        tarn_free(block);
                    }
                });
                ASSERT_EQ(counts.allocations, round + 1);
                ASSERT_EQ(counts.frees, round + 1);
                ASSERT_EQ(counts.live_bytes(), 0);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST(allocation_counter, sees_what_a_pool_takes_from_the_core) {
    allocation_counts const counts = count_allocations([] {
        tarn::block_pool pool{{.block_bytes = 64}};
        for (int i = 0; i < 100; ++i) {
            static_cast<void>(pool.allocate());
        }
    });
    EXPECT_GT(counts.allocations, 0U);
    EXPECT_LT(counts.allocations, 100U) << "chunks, not blocks";
    EXPECT_EQ(counts.live_blocks(), 0);
}

TEST(unwatched_scope, hides_from_those_outside_of_it) {
    allocation_counter const outside;
    void* block = nullptr;
    {
        tarn::unwatched_scope const hidden;
        block = tarn_malloc(100);
        allocation_counts const inside = count_allocations([] { tarn_free(tarn_malloc(10)); });
        EXPECT_EQ(inside.allocations, 1U);
    }
    EXPECT_EQ(outside.counts().allocations, 0U);
    tarn_free(block);
    EXPECT_EQ(outside.counts().frees, 1U);
}

TEST(sees_malloc, says_that_malloc_is_not_tarns_here) {
    // Under libtarn.so it is: tests/testing/malloc_test.cpp.
    EXPECT_FALSE(tarn::sees_malloc());
}

}  // namespace
