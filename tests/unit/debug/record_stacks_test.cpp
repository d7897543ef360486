#include "debug/record_stacks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/bits.hpp"
#include "debug/block_record.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;

base::node_index record(std::uint32_t number) { return static_cast<base::node_index>(number); }

template <std::size_t Count>
std::array<void const*, Count> frames_from(std::uintptr_t first) {
    std::array<void const*, Count> frames{};
    for (std::size_t i = 0; i < Count; ++i) {
        frames[i] = base::pointer_to(first + i);
    }
    return frames;
}

bool are_equal(std::span<void const* const> one, std::span<void const* const> other) {
    return std::equal(one.begin(), one.end(), other.begin(), other.end());
}

TEST(record_stacks, keeps_two_of_each_record_until_they_are_noted_anew) {
    static constinit record_stack_table table;
    auto const made = frames_from<3>(0x1000);
    auto const freed = frames_from<16>(0x2000);
    auto const allocated = table.note(record(7), stack_use::allocated, made);
    auto const released = table.note(record(7), stack_use::released, freed);
    auto const other = table.note(record(8), stack_use::allocated, freed);
    EXPECT_TRUE(are_equal(table.frames(allocated), made));
    EXPECT_TRUE(are_equal(table.frames(released), freed));
    EXPECT_TRUE(are_equal(table.frames(other), freed));
    EXPECT_EQ(table.note(record(7), stack_use::allocated, freed), allocated);
    EXPECT_TRUE(are_equal(table.frames(allocated), freed));
    EXPECT_EQ(table.note(record(7), stack_use::allocated, made), allocated);
    EXPECT_TRUE(are_equal(table.frames(allocated), made)) << "shorter than the one before";
}

TEST(record_stacks, keeps_the_innermost_frames) {
    static constinit record_stack_table table;
    auto const many = frames_from<40>(0x1000);
    auto const kept = table.frames(table.note(record(1), stack_use::allocated, many));
    EXPECT_TRUE(are_equal(kept, std::span{many}.first(record_stack_table::frames_max)));
    EXPECT_EQ(table.note(record(1), stack_use::released, {}), space::stack_id::none);
}

TEST(record_stacks, has_numbers_of_its_own) {
    static constinit record_stack_table table;
    auto const frames = frames_from<2>(0x1000);
    EXPECT_TRUE(record_stack_table::is_one(table.note(record(0), stack_use::allocated, frames)));
    EXPECT_FALSE(record_stack_table::is_one(stacks.intern(frames)));
    EXPECT_FALSE(record_stack_table::is_one(space::stack_id::none));
    EXPECT_TRUE(table.frames(space::stack_id::none).empty());
    EXPECT_TRUE(table.frames(static_cast<space::stack_id>(0x8000'ffffU)).empty());
    EXPECT_TRUE(table.frames(static_cast<space::stack_id>(0xffff'ffffU)).empty());
}

TEST(record_stacks, takes_no_more_memory_than_there_are_records) {
    static constinit record_stack_table table;
    EXPECT_EQ(table.committed_bytes(), 0U);
    for (std::uint32_t i = 0; i < 100'000; ++i) {
        auto const frames = frames_from<4>(0x1000 + 16 * i);
        ASSERT_NE(table.note(record(i % 1000), stack_use::allocated, frames),
                  space::stack_id::none);
    }
    EXPECT_EQ(table.committed_bytes(), 1 * MiB);
    EXPECT_EQ(table.note(record(300'000'000), stack_use::allocated, frames_from<1>(1)),
              space::stack_id::none);
    EXPECT_EQ(table.committed_bytes(), 1 * MiB);
}

TEST(record_stacks, threads_that_need_the_same_memory_get_it_once) {
    static constinit record_stack_table table;
    std::vector<std::thread> threads;
    for (std::uint32_t t = 0; t < 4; ++t) {
        threads.emplace_back([t] {
            for (std::uint32_t i = 0; i < 20; ++i) {
                std::uint32_t const number = i * 4096 + t;
                auto const frames = frames_from<5>(number + 1);
                auto const id = table.note(record(number), stack_use::released, frames);
                EXPECT_TRUE(are_equal(table.frames(id), frames));
            }
        });
    }
    for (std::thread& each : threads) {
        each.join();
    }
    EXPECT_LE(table.committed_bytes(), 21 * MiB);
}

}  // namespace
