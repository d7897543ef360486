#include "heap/block_cache.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <memory>
#include <set>

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;

class block_caches : public ::testing::Test {
protected:
    void SetUp() override { cache_->begin(); }

    block* at(std::size_t number) { return &blocks_[number]; }

    std::unique_ptr<block_cache> cache_ = std::make_unique<block_cache>();
    std::array<block, 256> blocks_{};
    block_state state_{state_free};
};

TEST_F(block_caches, keep_what_is_freed_from_the_next_so_many_allocations) {
    cache_room& room = cache_->room(2);
    std::size_t const delay = cache_delay_of(2);
    for (std::size_t i = 0; i < delay; ++i) {
        room.add(at(i), state_);
        EXPECT_FALSE(room.has_enough());
        EXPECT_EQ(room.count(), i + 1);
    }
    room.add(at(delay), state_);
    ASSERT_TRUE(room.has_enough());
    EXPECT_EQ(room.top().at, at(0)) << "it has waited";
    room.pop();
    EXPECT_FALSE(room.has_enough());
    EXPECT_EQ(room.count(), delay);
}

TEST_F(block_caches, have_each_block_once) {
    cache_room& room = cache_->room(2);
    std::set<block const*> added;
    for (std::size_t i = 0; room.has_room(); ++i) {
        room.add(at(i), state_);
        added.insert(at(i));
    }
    EXPECT_EQ(room.count(), cache_room_of(2) + cache_delay_of(2));
    std::set<block const*> found;
    for (std::uint32_t n = 0; n < cache_->count(2); ++n) {
        found.insert(cache_->entry(2, n).at);
    }
    EXPECT_EQ(found, added);
}

TEST_F(block_caches, closed_ones_have_neither_blocks_nor_room) {
    cache_room& room = cache_->room(3);
    room.push({.at = at(0), .state = &state_});
    cache_->close(3);
    EXPECT_FALSE(cache_->is_open(3));
    EXPECT_FALSE(room.has_enough());
    EXPECT_FALSE(room.has_room());
    EXPECT_EQ(cache_->count(3), 1U);
    cache_->open(3);
    EXPECT_TRUE(room.has_enough());
    EXPECT_TRUE(room.has_room());
}

TEST_F(block_caches, have_nothing_for_class_0) {
    EXPECT_FALSE(cache_->room(0).has_enough());
    EXPECT_FALSE(cache_->room(0).has_room());
}

TEST_F(block_caches, have_rooms_that_do_not_overlap) {
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        cache_room& room = cache_->room(size_class);
        while (room.has_room()) {
            room.add(at(size_class), state_);
        }
    }
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        for (std::uint32_t n = 0; n < cache_->count(size_class); ++n) {
            ASSERT_EQ(cache_->entry(size_class, n).at, at(size_class)) << size_class;
        }
    }
}

}  // namespace
