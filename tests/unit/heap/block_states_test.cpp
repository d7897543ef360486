#include "heap/block_states.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <set>

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;

TEST(block_states, have_room_for_the_blocks_of_a_page_and_are_free) {
    auto const tables = std::make_unique<state_tables>();
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        block_state* const first = tables->allocate(size_class);
        block_state* const other = tables->allocate(size_class);
        ASSERT_NE(first, nullptr);
        ASSERT_NE(other, nullptr);
        for (std::size_t i = 0; i < guarded_blocks(size_class); ++i) {
            first[i].store(state_live, std::memory_order_relaxed);
        }
        for (std::size_t i = 0; i < guarded_blocks(size_class); ++i) {
            ASSERT_EQ(other[i].load(std::memory_order_relaxed), state_free);
        }
        tables->deallocate(size_class, first);
        tables->deallocate(size_class, other);
    }
    EXPECT_GT(tables->committed_bytes(), 0U);
    EXPECT_GE(tables->reserved_bytes(), tables->committed_bytes());
}

TEST(block_states, serve_again_and_are_free_then) {
    auto const tables = std::make_unique<state_tables>();
    block_state* const first = tables->allocate(1);
    first[5].store(state_live, std::memory_order_relaxed);
    tables->deallocate(1, first);
    block_state* const again = tables->allocate(1);
    EXPECT_EQ(again, first);
    EXPECT_EQ(again[5].load(std::memory_order_relaxed), state_free);
    tables->deallocate(1, again);
}

TEST(block_states, leave_most_blocks_of_a_page) {
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        std::size_t const all =
            sizing::page_blocks(size_class, sizing::class_slices_max(size_class));
        EXPECT_GE(guarded_blocks(size_class) * 10, all * 9) << size_class;
    }
}

}  // namespace
