// block_division_test - which offsets begin a block, for every kind of size.
#include "tarn/detail/block_division.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using tarn::detail::block_division;
using tarn::test::random_stream;

TEST(block_division, numbers_the_blocks_of_a_row_and_nothing_else) {
    for (std::size_t bytes = 1; bytes <= 600; ++bytes) {
        constexpr std::uint64_t blocks = 20;
        block_division const division{bytes};
        for (std::uint64_t offset = 0; offset < bytes * (blocks + 2); ++offset) {
            std::uint64_t const quotient = division.quotient(offset);
            bool const is_start = offset % bytes == 0 && offset / bytes < blocks;
            ASSERT_EQ(quotient < blocks, is_start) << bytes << ' ' << offset;
            ASSERT_TRUE(!is_start || quotient == offset / bytes);
        }
        for (std::uint64_t below = 1; below < 2 * bytes; ++below) {
            ASSERT_GE(division.quotient(0 - below), blocks) << bytes << ' ' << below;
        }
    }
}

TEST(block_division, holds_for_any_offset) {
    random_stream random{11};
    for (std::uint64_t i = 0; i < tarn::test::scaled(200'000); ++i) {
        std::uint64_t const bytes = random.size_up_to(std::size_t{1} << 46);
        std::uint64_t const blocks = random.between(1, (std::uint64_t{1} << 63) / bytes);
        block_division const division{bytes};
        std::uint64_t const offset =
            random.one_in(2) ? random.next() : random.below(2 * blocks) * bytes;
        ASSERT_EQ(division.quotient(offset) < blocks,
                  offset % bytes == 0 && offset / bytes < blocks)
            << bytes << ' ' << blocks << ' ' << offset;
    }
}

}  // namespace
