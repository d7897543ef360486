#include "base/bits.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace {

using namespace tarn::impl::base;

constexpr auto highest = std::numeric_limits<std::uint64_t>::max();

static_assert(align_up(std::uint32_t{0}, 16) == 0);
static_assert(align_up(std::uint32_t{0xffff'ff01}, 16) == 0xffff'ff10);
static_assert(align_up(highest - 15, 16) == highest - 15);
static_assert(align_up(highest, 16) == 0);  // wraps around, as documented
static_assert(align_down(highest, 4096) == highest - 4095);
static_assert(align_down(std::uint16_t{0xffff}, 16) == 0xfff0);
static_assert(divide_up(highest, highest) == 1);
static_assert(divide_up(highest, std::uint64_t{2}) == std::uint64_t{1} << 63);
static_assert(divide_up(0U, 7U) == 0);

TEST(bits, alignment_agrees_with_division) {
    for (std::size_t alignment = 1; alignment <= std::size_t{64} * 1024; alignment *= 2) {
        for (std::size_t value = 0; value < 3 * alignment && value < 5000; ++value) {
            EXPECT_EQ(align_up(value, alignment), (value + alignment - 1) / alignment * alignment);
            EXPECT_EQ(align_down(value, alignment), value / alignment * alignment);
            EXPECT_EQ(is_aligned(value, alignment), value % alignment == 0);
        }
    }
}

TEST(bits, divide_up_covers_the_value) {
    for (unsigned value = 0; value < 100; ++value) {
        for (unsigned divisor = 1; divisor < 20; ++divisor) {
            unsigned const parts = divide_up(value, divisor);
            EXPECT_GE(parts * divisor, value);
            EXPECT_LT(parts * divisor, value + divisor);
        }
    }
}

TEST(bits, addresses_go_there_and_back) {
    int object = 0;
    EXPECT_EQ(static_cast<void*>(pointer_to(address_of(&object))), &object);
    EXPECT_EQ(address_of(nullptr), 0U);
}

}  // namespace
