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
    void SetUp() override { cache_->begin(true); }

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
        EXPECT_EQ(room.next(), nullptr);
        EXPECT_EQ(cache_->count(2), i + 1);
        EXPECT_EQ(cache_->waiting(2, 0).at, at(i));
    }
    room.add(at(delay), state_);
    ASSERT_NE(room.next(), nullptr);
    EXPECT_EQ(room.next()->at, at(0)) << "it has waited";
    room.pop();
    EXPECT_EQ(room.next(), nullptr);
    EXPECT_EQ(cache_->count(2), delay);
}

TEST_F(block_caches, have_each_block_once) {
    cache_room& room = cache_->room(2);
    std::set<block const*> added;
    for (std::size_t i = 0; room.has_room(); ++i) {
        room.add(at(i), state_);
        added.insert(at(i));
    }
    EXPECT_EQ(cache_->count(2), cache_room_of(2) + cache_delay_of(2));
    std::set<block const*> found;
    for (std::uint32_t n = 0; n < cache_->count(2); ++n) {
        found.insert(cache_->entry(2, n).at);
    }
    EXPECT_EQ(found, added);
}

TEST_F(block_caches, may_be_placed_into_as_often_as_allowed_once_the_ring_is_full) {
    cache_room& room = cache_->room(2);
    cache_->allow(2, 100);
    EXPECT_FALSE(room.may_place()) << "the ring is empty";
    for (std::size_t i = 0; i < cache_delay_of(2); ++i) {
        room.add(at(i), state_);
    }
    EXPECT_FALSE(room.may_place());
    cache_->allow(2, 3);
    int placed = 0;
    for (; room.may_place(); ++placed) {
        room.place(at(200), state_);
    }
    EXPECT_EQ(placed, 3);
    cache_->allow(2, ~std::uint64_t{0});
    for (; room.may_place(); ++placed) {
        room.place(at(201), state_);
    }
    EXPECT_EQ(placed, cache_room_of(2));
    EXPECT_FALSE(room.has_room());
}

TEST_F(block_caches, whose_ring_was_cleared_fill_it_anew_and_go_on_counting) {
    cache_room& room = cache_->room(2);
    for (std::size_t i = 0; i < cache_delay_of(2) + 5; ++i) {
        room.add(at(i), state_);
    }
    std::uint64_t const placed = room.placed.get();
    cache_->clear_waiting(2);
    EXPECT_EQ(cache_->count(2), 5U);
    cache_->allow(2, 100);
    EXPECT_FALSE(room.may_place());
    room.add(at(100), state_);
    EXPECT_EQ(cache_->count(2), 6U);
    EXPECT_EQ(cache_->entry(2, 5).at, at(100));
    EXPECT_EQ(room.placed.get(), placed + 1);
}

TEST_F(block_caches, closed_ones_serve_neither_malloc_nor_free) {
    cache_room& room = cache_->room(3);
    while (room.ready() == 0) {
        room.add(at(0), state_);
    }
    cache_->close(3);
    cache_->allow(3, 100);
    EXPECT_FALSE(cache_->is_open(3));
    EXPECT_EQ(room.next(), nullptr);
    EXPECT_FALSE(room.may_place());
    EXPECT_EQ(cache_->count(3), cache_delay_of(3) + 1U);
    cache_->open(3);
    cache_->allow(3, 100);
    EXPECT_NE(room.next(), nullptr);
    EXPECT_TRUE(room.may_place());
}

TEST_F(block_caches, that_are_to_be_cleared_are_served_by_slow_paths_alone) {
    cache_->begin(false);
    cache_room& room = cache_->room(3);
    while (room.ready() == 0) {
        room.add(at(0), state_);
    }
    cache_->allow(3, 100);
    EXPECT_TRUE(cache_->is_open(3));
    EXPECT_EQ(room.next(), nullptr);
    EXPECT_FALSE(room.may_place());
}

TEST_F(block_caches, have_nothing_for_class_0) {
    EXPECT_EQ(cache_->room(0).next(), nullptr);
    EXPECT_FALSE(cache_->room(0).may_place());
    EXPECT_EQ(cache_->count(0), 0U);
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
