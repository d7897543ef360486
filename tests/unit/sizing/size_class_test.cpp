#include "sizing/size_class.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "platform/os.hpp"

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
        std::size_t const bytes = class_bytes(size_class);
        std::size_t const least = class_slices_min(size_class);
        std::size_t const most = class_slices_max(size_class);
        EXPECT_LE(least, most) << size_class;
        EXPECT_LE(most, page_slices_max) << size_class;
        for (std::size_t slices = least; slices <= most; ++slices) {
            std::size_t const page_bytes = slices * slice_bytes;
            std::size_t const blocks = page_blocks(size_class, slices);
            EXPECT_GE(blocks, blocks_per_page_min) << size_class;
            EXPECT_LE(blocks, 0xffffU) << size_class;
            EXPECT_LE(blocks * bytes, page_bytes);
            EXPECT_GT((blocks + 1) * bytes, page_bytes);  // one more would not fit
        }
        // The smallest page is a slice, or as long as the blocks that it should hold.
        EXPECT_TRUE(page_blocks(size_class, least) >= blocks_per_page_wanted ||
                    least * slice_bytes >= grown_page_bytes)
            << size_class;
        EXPECT_LT((least - 1) * slice_bytes,
                  std::max(blocks_per_page_wanted, blocks_per_page_min) * bytes);
        EXPECT_LE(least * slice_bytes, std::max(grown_page_bytes, 2 * small_max)) << size_class;
    }
}

// Blocks of a page start at multiples of the block size: aligned whenever the class is.
TEST(size_class, slices_are_whole_os_pages) {
    EXPECT_EQ(slice_bytes % platform::os::page_bytes(), 0U);
}

}  // namespace
