#include "heap/block_set.hpp"

#include <gtest/gtest.h>

#include <new>
#include <vector>

#include "heap/process.hpp"
#include "heap_fixture.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using tarn::test::heap_test;
using tarn::test::scoped_heap;

/// Blocks 0 to 5 of a page, which nobody uses.
class block_sets : public heap_test {
protected:
    void SetUp() override {
        heap_test::SetUp();
        heap_ = std::make_unique<scoped_heap>();
        for (void* const each : allocate(**heap_, big_bytes, 6)) {
            blocks_.push_back(static_cast<block*>(each));
        }
        home_ = &home_of(blocks_[0]);
    }

    void TearDown() override {
        for (block* const each : blocks_) {
            (*heap_)->deallocate(each);
        }
        heap_.reset();
        heap_test::TearDown();
    }

    /// Links blocks by their numbers; returns the first.
    block* link(std::vector<std::size_t> const& numbers, block* end = nullptr) {
        for (auto each = numbers.rbegin(); each != numbers.rend(); ++each) {
            end = ::new (blocks_[*each]) block{end};
        }
        return end;
    }

    std::unique_ptr<scoped_heap> heap_;
    std::vector<block*> blocks_;
    page* home_ = nullptr;
};

TEST_F(block_sets, hold_what_lists_lead_to) {
    block_set set{*home_};
    EXPECT_EQ(set.size(), 0U);
    set.add_list(link({4, 1}));
    set.add_list(link({2}));
    set.add_list(nullptr);
    EXPECT_EQ(set.size(), 3U);
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
        std::size_t const index = home_->index_of(blocks_[i]);
        EXPECT_EQ(set.contains(index), i == 1 || i == 2 || i == 4) << i;
    }
}

TEST_F(block_sets, stop_where_a_list_makes_no_sense) {
    block* const ring = link({0, 1, 2});
    blocks_[2]->next = ring;
    block_set set{*home_};
    set.add_list(ring);
    EXPECT_EQ(set.size(), 3U);
    block elsewhere{nullptr};
    block_set other{*home_};
    other.add_list(link({3}, &elsewhere));
    EXPECT_EQ(other.size(), 1U);
    auto* const inside = reinterpret_cast<block*>(reinterpret_cast<std::byte*>(blocks_[5]) + 16);
    block_set third{*home_};
    third.add_list(link({4}, inside));
    EXPECT_EQ(third.size(), 1U);
}

}  // namespace
