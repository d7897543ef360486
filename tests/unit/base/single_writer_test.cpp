#include "base/single_writer.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <thread>

namespace {

using tarn::impl::base::single_writer;

TEST(single_writer, starts_at_zero_or_as_told) {
    constinit static single_writer<int> zero;
    constinit static single_writer<std::uint64_t> seven{7};
    EXPECT_EQ(zero.get(), 0);
    EXPECT_EQ(seven.get(), 7U);
    static_assert(sizeof(zero) == sizeof(int));
}

TEST(single_writer, sets_and_adds) {
    single_writer<int> number;
    number.set(5);
    number.add(-7);
    EXPECT_EQ(number.get(), -2);
}

TEST(single_writer, compares_all_bits) {
    single_writer<std::uint64_t> number{0x1234'5678'0000'0001};
    EXPECT_TRUE(number.equals(0x1234'5678'0000'0001));
    EXPECT_FALSE(number.equals(0x0000'0000'0000'0001));
    EXPECT_FALSE(number.equals(0x1234'5678'0000'0000));
    EXPECT_FALSE(number.equals(0));
}

TEST(single_writer, compares_pointers) {
    int objects[2] = {};
    single_writer<int*> where{&objects[0]};
    EXPECT_TRUE(where.equals(&objects[0]));
    EXPECT_FALSE(where.equals(&objects[1]));
    EXPECT_FALSE(where.equals(nullptr));
    where.set(nullptr);
    EXPECT_TRUE(where.equals(nullptr));
}

TEST(single_writer, counts_down_to_zero_and_below) {
    single_writer<int> number{3};
    EXPECT_FALSE(number.decrement_to_zero());
    EXPECT_FALSE(number.decrement_to_zero());
    EXPECT_TRUE(number.decrement_to_zero());
    EXPECT_EQ(number.get(), 0);
    EXPECT_TRUE(number.decrement_to_zero());
    EXPECT_EQ(number.get(), -1);
    number.set(std::numeric_limits<int>::max());
    EXPECT_FALSE(number.decrement_to_zero());
    EXPECT_EQ(number.get(), std::numeric_limits<int>::max() - 1);
}

// The reader sees every change sooner or later, and never a value that was not there.
TEST(single_writer, is_seen_by_other_threads) {
    constexpr int rounds = 100'000;
    single_writer<int> number{rounds};
    std::atomic<bool> done{false};
    std::thread reader{[&] {
        int last = rounds;
        while (!done) {
            int const now = number.get();
            EXPECT_LE(now, last);
            EXPECT_GE(now, 0);
            last = now;
        }
        EXPECT_EQ(number.get(), 0);
    }};
    while (!number.decrement_to_zero()) {
    }
    done = true;
    reader.join();
}

}  // namespace
