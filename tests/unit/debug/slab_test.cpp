#include "debug/slab.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "support/build.hpp"

namespace {

using tarn::impl::debug::slab;
using tarn::impl::debug::slab_figures;

constexpr std::size_t slot_bytes = 112;

class slabs : public ::testing::Test {
protected:
    void SetUp() override { slab_.configure(slot_bytes); }

    void TearDown() override { slab_.release(); }

    std::byte* take(std::uint32_t thread = 0) { return slab_.take(thread, nullptr).start; }

    slab slab_;
};

TEST_F(slabs, slots_are_aligned_and_apart) {
    std::vector<std::byte*> taken;
    for (int i = 0; i < 2000; ++i) {
        taken.push_back(take());
        ASSERT_NE(taken.back(), nullptr);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(taken.back()) % 16, 0U);
        std::memset(taken.back(), i, slot_bytes);
    }
    std::sort(taken.begin(), taken.end());
    for (std::size_t i = 1; i < taken.size(); ++i) {
        EXPECT_GE(taken[i] - taken[i - 1], static_cast<std::ptrdiff_t>(slot_bytes));
    }
    slab_figures const now = slab_.figures();
    EXPECT_EQ(now.taken, 2000U);
    EXPECT_EQ(now.taken_peak, 2000U);
    EXPECT_EQ(now.takes, 2000U);
    EXPECT_GE(now.slots, 2000U);
    EXPECT_EQ(now.chunk_bytes, now.chunks * slab::chunk_bytes_min);
}

TEST_F(slabs, a_slot_that_comes_back_is_next_and_as_it_was) {
    slab::slot const first = slab_.take(0, nullptr);
    EXPECT_FALSE(first.is_recycled);
    std::memset(first.start, 0x5A, slot_bytes);
    slab_.give(first.start, 0);
    slab::slot const again = slab_.take(0, nullptr);
    EXPECT_EQ(again.start, first.start);
    EXPECT_TRUE(again.is_recycled);
    EXPECT_TRUE(std::all_of(again.start + sizeof(void*), again.start + slot_bytes,
                            [](std::byte each) { return each == std::byte{0x5A}; }));
}

TEST_F(slabs, a_lane_that_is_dry_takes_what_others_have) {
    std::set<std::byte*> given;
    std::size_t slots = 0;
    do {  // all of one chunk, by the first lane
        given.insert(take(0));
        slots = slab_.figures().slots;
    } while (given.size() < slots);
    for (std::byte* const each : given) {
        slab_.give(each, 1);
    }
    for (std::size_t i = 0; i < slots; ++i) {
        EXPECT_EQ(given.count(take(2)), 1U);
    }
    EXPECT_EQ(slab_.figures().chunks, 1U);
    EXPECT_EQ(slab_.figures().taken, slots);
    EXPECT_EQ(slab_.figures().taken_peak, slots);
}

TEST_F(slabs, finds_the_slot_around_an_address) {
    std::byte const* const one = take();
    std::byte const* const other = take(3);
    for (std::byte const* const each : {one, other}) {
        EXPECT_EQ(slab_.slot_around(each), each);
        EXPECT_EQ(slab_.slot_around(each + slot_bytes - 1), each);
    }
    EXPECT_EQ(slab_.slot_around(one - 1), nullptr);  // what a chunk begins with
    int on_stack = 0;
    EXPECT_EQ(slab_.slot_around(&on_stack), nullptr);
    EXPECT_EQ(slab_.slot_around(nullptr), nullptr);
    slab_.release();
    EXPECT_EQ(slab_.slot_around(one), nullptr);
    EXPECT_EQ(slab_.figures().slots, 0U);
}

TEST_F(slabs, a_chunk_of_large_slots_has_four_at_least) {
    slab_.configure(100'000);
    ASSERT_NE(take(), nullptr);
    EXPECT_EQ(slab_.figures().slots, slab::chunk_slots_min);
}

TEST_F(slabs, threads_never_hold_the_same_slot) {
    constexpr std::uint32_t thread_count = 6;  // more than lanes
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (std::uint32_t number = 1; number <= thread_count; ++number) {
        threads.emplace_back([this, number, &wrong] {
            std::vector<std::byte*> held;
            for (std::uint64_t i = 0; i < tarn::test::scaled(20'000); ++i) {
                if (i % 100 < 60) {
                    held.push_back(take(number));
                    std::memset(held.back(), static_cast<int>(number), slot_bytes);
                } else if (!held.empty()) {
                    std::byte* const last = held.back();
                    held.pop_back();
                    wrong += std::all_of(last, last + slot_bytes,
                                         [number](std::byte each) {
                                             return each == static_cast<std::byte>(number);
                                         })
                                 ? 0
                                 : 1;
                    slab_.give(last, number + static_cast<std::uint32_t>(i));
                }
            }
            for (std::byte* const each : held) {
                slab_.give(each, number);
            }
        });
    }
    for (std::thread& each : threads) {
        each.join();
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(slab_.figures().taken, 0U);
}

}  // namespace
