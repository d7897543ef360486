// heap_class_test - tarn::heap, over the system and over given memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "tarn/allocator.hpp"
#include "tarn/heap.hpp"

#include "pool/resource_suite.hpp"
#include "support/build.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace {

using tarn::heap;
using tarn::heap_block;
using tarn::heap_statistics;
using namespace tarn::test;

constexpr std::size_t given_bytes = 16 * mib;

/// What both kinds of heap must do; the parameter: over given memory.
class any_heap : public testing::TestWithParam<bool> {
protected:
    std::unique_ptr<heap> make(tarn::heap_options const& options = {}) {
        if (!GetParam()) {
            return std::make_unique<heap>(options);
        }
        memory_.resize(given_bytes);
        return std::make_unique<heap>(std::span{memory_}, options);
    }

    std::vector<std::byte> memory_;
};

INSTANTIATE_TEST_SUITE_P(heap, any_heap, testing::Bool(),
                         [](auto const& of) { return of.param ? "given" : "system"; });

TEST_P(any_heap, passes_the_suite_of_resources) {
    auto const one = make({.name = "suite"});
    expect_blocks(*one, 100 * kib);
    testing::internal::CaptureStderr();  // impossible sizes are reported
    expect_edges(*one);
    testing::internal::GetCapturedStderr();
    expect_containers(*one);
    EXPECT_EQ(one->statistics().live_blocks, 0U);
    EXPECT_EQ(one->name(), "suite");
    EXPECT_TRUE(one->is_equal(*one));
    EXPECT_FALSE(one->is_equal(*std::pmr::new_delete_resource()));
}

TEST_P(any_heap, serves_allocators) {
    auto const one = make();
    std::list<int, tarn::resource_allocator<int, heap>> list{one.get()};
    for (int i = 0; i < 1000; ++i) {
        list.push_back(i);
    }
    EXPECT_EQ(one->statistics().live_blocks, 1000U);
    list.clear();
    EXPECT_EQ(one->statistics().live_blocks, 0U);
}

TEST_P(any_heap, gives_at_least_what_was_asked_for) {
    auto const one = make();
    for (std::size_t const bytes : {0UL, 1UL, 17UL, 100UL, 1000UL, 5000UL, 200 * kib}) {
        heap_block const got = one->allocate_at_least(bytes);
        ASSERT_GE(got.bytes, bytes);
        std::memset(got.start, 1, got.bytes);
        EXPECT_EQ(one->usable_size(got.start), got.bytes);
        one->deallocate(got.start, bytes % 2 == 0 ? bytes : got.bytes, 16);
    }
    EXPECT_EQ(one->statistics().live_blocks, 0U);
}

TEST_P(any_heap, expands_what_has_room) {
    auto const one = make();
    void* const block = one->allocate(1000);
    std::memset(block, 7, 1000);
    EXPECT_TRUE(one->try_expand(block, 1000));
    EXPECT_TRUE(one->try_expand(block, one->usable_size(block)));
    EXPECT_FALSE(one->try_expand(block, given_bytes));
    EXPECT_EQ(std::count(static_cast<char*>(block), static_cast<char*>(block) + 1000, 7), 1000);
    one->deallocate(block);
}

TEST_P(any_heap, knows_what_is_its_own) {
    auto const one = make();
    heap other;
    void* const block = one->allocate(100);
    void* const strange = other.allocate(100);
    EXPECT_TRUE(one->owns(block));
    EXPECT_FALSE(one->owns(strange));
    EXPECT_FALSE(one->owns(&other));
    EXPECT_FALSE(one->owns(nullptr));
}

TEST_P(any_heap, walks_its_blocks) {
    auto const one = make();
    std::map<void*, std::size_t> expected;
    for (std::size_t bytes = 1; bytes < 5000; bytes += 37) {
        void* const block = one->allocate(bytes);
        if (bytes % 3 == 0) {
            one->deallocate(block);
        } else {
            expected[block] = one->usable_size(block);
        }
    }
    std::map<void*, std::size_t> found;
    one->for_each_block([&](void* start, std::size_t bytes) { found[start] = bytes; });
    EXPECT_EQ(found, expected);
}

TEST_P(any_heap, stays_below_its_limit) {
    auto const one = make({.limit_bytes = 2 * mib});
    std::vector<void*> blocks;
    for (std::size_t const bytes : {100UL, 10'000UL, 300 * kib}) {
        while (void* const block = one->try_allocate(bytes)) {
            blocks.push_back(block);
        }
        EXPECT_THROW(static_cast<void>(one->allocate(bytes)), std::bad_alloc);
        heap_statistics const full = one->statistics();
        EXPECT_LE(full.held_bytes, 2 * mib);
        EXPECT_LE(full.held_peak_bytes, 2 * mib + (GetParam() ? 300 * kib : 0));
        EXPECT_GE(full.refusals, 2U);
        EXPECT_EQ(full.limit_bytes, 2 * mib);
        for (void* const each : blocks) {
            one->deallocate(each);
        }
        blocks.clear();
    }
    void* const block = one->allocate(mib);
    EXPECT_FALSE(one->try_expand(block, 3 * mib));
    one->set_limit(0);
    void* const large = one->allocate(4 * mib);
    one->set_limit(mib);
    EXPECT_EQ(one->try_allocate(200 * kib), nullptr);
    one->deallocate(large);
    one->deallocate(block);
    EXPECT_NE(one->try_allocate(200 * kib), nullptr);
}

TEST_P(any_heap, refuses_alignments_that_are_none) {
    auto const one = make();
    for (std::size_t const alignment : {0UL, 3UL, 24UL}) {
        EXPECT_THROW(static_cast<void>(one->allocate(10, alignment)), std::invalid_argument);
        EXPECT_EQ(one->try_allocate(10, alignment), nullptr);
    }
}

TEST_P(any_heap, reports_what_comes_after_its_end) {
    auto const one = make({.name = "gone"});
    void* const block = one->allocate(100);
    EXPECT_TRUE(one->owns(block));
    one->destroy();
    one->destroy();
    EXPECT_FALSE(one->owns(block));
    EXPECT_EQ(one->statistics().live_blocks, 0U);
    EXPECT_DEATH(one->deallocate(block), "destroyed|foreign");
    EXPECT_DEATH(static_cast<void>(one->try_allocate(1)), "destroyed|does not exist");
}

TEST_P(any_heap, reports_misuse) {
    auto const one = make({.name = "mine"});
    static_cast<void>(one->allocate(100));
    auto* const block = static_cast<char*>(one->allocate(100));
    int local = 0;
    EXPECT_DEATH(one->deallocate(&local), "foreign|outside");
    EXPECT_DEATH(one->deallocate(block + 16), "interior|inside");
    EXPECT_DEATH((one->deallocate(block), one->deallocate(block)), "double free|not live");
}

TEST_P(any_heap, serves_threads) {
    auto const one = make();
    std::array<std::atomic<void*>, 256> boxes{};
    std::vector<std::thread> running;
    int const steps = static_cast<int>(scaled(10'000));
    for (unsigned number = 0; number < 4; ++number) {
        running.emplace_back([&, number] {
            random_stream random{number};
            for (int i = 0; i < steps; ++i) {
                void* const made = one->try_allocate(random.size_up_to(2 * kib));
                // acq_rel: whoever takes a block frees it after its maker made it
                one->deallocate(
                    boxes[random.below(boxes.size())].exchange(made, std::memory_order_acq_rel));
            }
        });
    }
    for (std::thread& each : running) {
        each.join();
    }
    auto const left = std::count_if(boxes.begin(), boxes.end(),
                                    [](auto const& each) { return each.load() != nullptr; });
    EXPECT_EQ(one->statistics().live_blocks, static_cast<std::uint64_t>(left));
}

TEST(heap_over_given_memory, takes_nothing_else) {
    std::vector<std::byte> memory(64 * kib);
    heap one{std::span{memory}};
    std::size_t count = 0;
    while (void* const block = one.try_allocate(100)) {
        ASSERT_GE(static_cast<std::byte*>(block), memory.data());
        ASSERT_LE(static_cast<std::byte*>(block) + 100, memory.data() + memory.size());
        ++count;
    }
    EXPECT_GT(count, 64 * kib / 128 - 10);
    heap_statistics const full = one.statistics();
    EXPECT_EQ(full.live_blocks, count);
    EXPECT_EQ(full.metadata_bytes, 8 * count);
    EXPECT_LE(full.given_bytes, memory.size());
    EXPECT_EQ(one.handle().id, 0U);
    EXPECT_EQ(one.trim(), 0U);
}

TEST(heap_over_given_memory, needs_room_for_a_block) {
    std::array<std::byte, 16> memory{};
    EXPECT_THROW(heap{std::span{memory}}, std::invalid_argument);
    EXPECT_THROW(heap{std::span<std::byte>{}}, std::invalid_argument);
}

TEST(heap_over_given_memory, is_told_sizes_that_fit) {
    std::vector<std::byte> memory(64 * kib);
    heap one{std::span{memory}, {.name = "sized"}};
    void* const block = one.allocate(100);
    EXPECT_DEATH(one.deallocate(block, 50, 16),
                 "heap 'sized': deallocate of .*: a block of another size");
    EXPECT_DEATH(one.deallocate(block, 200, 16), "a block of another size");
    one.deallocate(block, 100, 16);
}

TEST(heap_over_given_memory, may_not_be_used_in_its_own_walk) {
    std::vector<std::byte> memory(64 * kib);
    heap one{std::span{memory}};
    static_cast<void>(one.allocate(100));
    EXPECT_DEATH(one.for_each_block([&](void* start, std::size_t) { one.deallocate(start); }),
                 "called inside for_each_block");
    EXPECT_DEATH(one.for_each_block([&](void*, std::size_t) { one.destroy(); }),
                 "called inside for_each_block");
    one.for_each_block([&](void* start, std::size_t bytes) {
        EXPECT_TRUE(one.owns(start));
        EXPECT_EQ(one.usable_size(start), bytes);
        EXPECT_EQ(one.statistics().live_blocks, 1U);
    });
}

TEST(heap_over_the_system, refuses_nodes_below_zero) {
    EXPECT_THROW(heap{{.numa_node = -1}}, std::invalid_argument);
    heap const wish{{.numa_node = 0}};
    EXPECT_NE(wish.handle().id, 0U);
}

TEST(heap_over_the_system, takes_blocks_back_by_other_names) {
    heap one;
    tarn_free(one.allocate(100));
    void* moved = tarn_realloc(one.allocate(100), 10'000);
    EXPECT_TRUE(one.owns(moved));
    tarn_free(moved);
    EXPECT_EQ(one.statistics().live_blocks, 0U);
    EXPECT_GT(one.trim(), 0U);
    EXPECT_EQ(one.statistics().held_bytes, 0U);
}

}  // namespace
