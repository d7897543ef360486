#include "sizing/size_class.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>

namespace {

using namespace tarn::impl;
using namespace tarn::impl::sizing;

constexpr auto highest = std::numeric_limits<std::size_t>::max();

TEST(size_class, sizes_rise_and_are_multiples_of_the_quantum) {
    EXPECT_EQ(class_bytes(0), 0U);
    for (unsigned size_class = 1; size_class < class_count; ++size_class) {
        EXPECT_GT(class_bytes(size_class), class_bytes(size_class - 1));
        EXPECT_EQ(class_bytes(size_class) % quantum, 0U);
        EXPECT_EQ(class_bytes(size_class), class_bytes_computed(size_class));
    }
    EXPECT_EQ(class_bytes(class_count - 1), small_max);
}

TEST(size_class, is_the_smallest_that_holds_the_request) {
    EXPECT_EQ(class_of(0), 1U);
    for (std::size_t bytes = 1; bytes <= small_max; ++bytes) {
        unsigned const size_class = class_of(bytes);
        ASSERT_LT(size_class, class_count) << bytes;
        ASSERT_GE(class_bytes(size_class), bytes);
        ASSERT_LT(class_bytes(size_class - 1), bytes);
    }
}

TEST(size_class, geometric_half_agrees_where_the_linear_one_ends) {
    for (std::size_t bytes = linear_max / 2 + 1; bytes <= linear_max; ++bytes) {
        EXPECT_EQ(class_of_geometric(bytes), class_of(bytes)) << bytes;
    }
}

TEST(size_class, loses_at_most_an_eighth_of_the_request) {
    for (std::size_t bytes = 129; bytes <= small_max; ++bytes) {
        std::size_t const lost = class_bytes(class_of(bytes)) - bytes;
        ASSERT_LE(lost * 8, bytes) << bytes;
    }
}

TEST(size_class, loses_nothing_for_a_few_multiples_of_a_power_of_two) {
    for (std::size_t unit = quantum; unit <= slice_bytes; unit *= 2) {
        for (std::size_t count = 1; count <= 16 && unit * count <= small_max; ++count) {
            EXPECT_EQ(class_bytes(class_of(unit * count)), unit * count);
            EXPECT_EQ(class_bytes(class_of_aligned(unit * count, unit)), unit * count);
        }
    }
}

TEST(size_class, aligned_class_holds_and_aligns) {
    for (std::size_t alignment = 1; alignment <= slice_bytes; alignment *= 2) {
        for (std::size_t bytes = 0; bytes <= small_max; bytes += bytes < 2048 ? 1 : 61) {
            unsigned const size_class = class_of_aligned(bytes, alignment);
            ASSERT_LT(size_class, class_count);
            if (size_class == 0) {
                ASSERT_GT(base::align_up(bytes, alignment), small_max);
                continue;
            }
            ASSERT_GE(class_bytes(size_class), std::max<std::size_t>(bytes, 1));
            ASSERT_EQ(class_bytes(size_class) % alignment, 0U) << bytes << " at " << alignment;
        }
    }
}

TEST(size_class, aligned_class_is_the_plain_one_up_to_the_quantum) {
    for (std::size_t bytes = 0; bytes <= 4096; ++bytes) {
        EXPECT_EQ(class_of_aligned(bytes, 1), class_of(bytes));
        EXPECT_EQ(class_of_aligned(bytes, quantum), class_of(bytes));
    }
}

TEST(size_class, aligned_class_refuses_what_needs_a_run) {
    for (std::size_t alignment = 1; alignment != 0; alignment *= 2) {
        EXPECT_EQ(class_of_aligned(small_max + 1, alignment), 0U);
        EXPECT_EQ(class_of_aligned(highest, alignment), 0U);  // must not wrap around
        EXPECT_EQ(class_of_aligned(highest - alignment + 1, alignment), 0U);
        if (alignment > slice_bytes) {
            EXPECT_EQ(class_of_aligned(1, alignment), 0U);
        }
    }
}

TEST(size_class, pages_hold_enough_blocks_and_waste_little) {
    for (unsigned size_class = 1; size_class < class_count; ++size_class) {
        std::size_t const page_bytes = class_slices(size_class) * slice_bytes;
        std::size_t const blocks = class_blocks(size_class);
        EXPECT_GE(blocks, blocks_per_page_min) << size_class;
        EXPECT_LE(blocks, 0xffffU) << size_class;
        EXPECT_LE(blocks * class_bytes(size_class), page_bytes);
        // One more block would not fit, and one slice less would be too few.
        EXPECT_GT((blocks + 1) * class_bytes(size_class), page_bytes);
        EXPECT_LT(page_bytes - slice_bytes, blocks_per_page_min * class_bytes(size_class));
        EXPECT_LE(class_slices(size_class), page_slices_max);
    }
}

// Blocks of a page start at multiples of the block size: aligned whenever the class is.
TEST(size_class, slices_are_whole_os_pages) {
    for (std::size_t os_page = 4 * KiB; os_page <= 64 * KiB; os_page *= 2) {
        EXPECT_EQ(slice_bytes % os_page, 0U);
    }
}

}  // namespace
