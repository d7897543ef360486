#include "heap/thread_heap.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "base/units.hpp"
#include "platform/os.hpp"
#include "sizing/size_class.hpp"
#include "heap/process.hpp"
#include "heap_fixture.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using tarn::test::heap_test;
using tarn::test::scoped_heap;

using thread_heaps = heap_test;

TEST_F(thread_heaps, that_are_empty_serve_nothing_without_the_slow_path) {
    for (std::size_t bytes = 0; bytes <= 2 * sizing::small_max; bytes += 8) {
        ASSERT_EQ(empty_heap.try_allocate(bytes), nullptr);
        ASSERT_EQ(finished_heap.try_allocate(bytes), nullptr);
    }
    scoped_heap fresh;
    EXPECT_EQ(fresh->try_allocate(1), nullptr);
    void* const first = fresh->allocate(1);
    EXPECT_NE(fresh->try_allocate(16), nullptr);  // the same class
    EXPECT_EQ(fresh->try_allocate(0), nullptr);
    EXPECT_EQ(fresh->try_allocate(17), nullptr);
    void* const larger = fresh->allocate(257);
    EXPECT_NE(fresh->try_allocate(288), nullptr);
    EXPECT_EQ(fresh->try_allocate(289), nullptr);
    EXPECT_EQ(fresh->try_allocate(sizing::small_max + 1), nullptr);
    // What try_allocate gave away is not freed one by one: it lies next to the first block.
    fresh->deallocate(static_cast<std::byte*>(first) + 16);
    fresh->deallocate(first);
    fresh->deallocate(static_cast<std::byte*>(larger) + 288);
    fresh->deallocate(larger);
}

TEST_F(thread_heaps, serve_every_class_with_blocks_of_its_size) {
    scoped_heap heap;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        std::size_t const bytes = sizing::class_bytes(size_class);
        std::size_t const most =
            sizing::page_blocks(size_class, sizing::class_slices_max(size_class));
        std::vector<void*> blocks = allocate(*heap, bytes, std::min<std::size_t>(most, 300));
        std::sort(blocks.begin(), blocks.end());
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            ASSERT_TRUE(base::is_aligned(base::address_of(blocks[i]), sizing::quantum));
            ASSERT_EQ(usable_bytes(blocks[i], nullptr), bytes);
            ASSERT_EQ(home_of(blocks[i]).size_class, size_class);
            ASSERT_TRUE(i == 0 ||
                        base::address_of(blocks[i]) - base::address_of(blocks[i - 1]) >= bytes);
            std::memset(blocks[i], 0xff, bytes);
        }
        heap->audit();
        free_all(*heap, blocks);
        heap->audit();
    }
}

TEST_F(thread_heaps, fill_a_page_in_rising_order_and_touch_it_as_it_is_used) {
    scoped_heap heap;
    void* const first = heap->allocate(16);
    page& home = home_of(first);
    EXPECT_EQ(home.capacity.get(), 256);  // 4 KiB
    auto* last = static_cast<std::byte*>(first);
    std::vector<void*> blocks{first};
    for (int i = 1; i < home.reserved.get(); ++i) {
        blocks.push_back(heap->allocate(16));
        ASSERT_EQ(blocks.back(), last + 16);
        last += 16;
        // What is made ahead is at most what is used, and one step.
        ASSERT_LE(static_cast<std::size_t>(home.capacity.get()), 2 * blocks.size() + 256);
    }
    EXPECT_EQ(home.capacity.get(), home.reserved.get());
    free_all(*heap, blocks);
}

TEST_F(thread_heaps, hand_out_first_what_was_freed_last) {
    scoped_heap heap;
    std::vector<void*> blocks = allocate(*heap, 16, 10);
    std::vector<void*> const order{blocks.rbegin(), blocks.rend()};
    free_all(*heap, blocks);
    blocks = allocate(*heap, 16, 10);
    EXPECT_EQ(blocks, order);
    free_all(*heap, blocks);
}

// Else sampling by cutting the list would not be exact, and the slow path would not be met.
TEST_F(thread_heaps, put_what_is_freed_without_end_into_the_page) {
    scoped_heap heap;
    std::vector<void*> blocks = allocate(*heap, 16, 2000);
    std::size_t const listed = heap->listed(1);
    free_all(*heap, blocks);
    EXPECT_GT(heap->listed(1), listed);
    EXPECT_LE(heap->listed(1), listed + 256);
    heap->audit();
    heap->collect();
    EXPECT_EQ(heap->listed(1), 0U);
    heap->audit();
}

/// As the only thread with a heap.
class lone_heap : public heap_test {
protected:
    void SetUp() override {
        heap_test::SetUp();
        own_ = std::make_unique<scoped_heap>();
        heap_ = &**own_;
        active_ = process.active_heaps.exchange(1);  // the test's own thread may have one, too
    }

    void TearDown() override {
        process.active_heaps.store(active_);
        own_.reset();
        heap_test::TearDown();
    }

    /// Full pages of the big class that nobody owns, but for the last.
    std::vector<void*> fill(std::size_t pages) {
        return allocate(*heap_, big_bytes, pages * big_blocks);
    }

    void reuse_at_once() {
        std::vector<void*> blocks = fill(6);
        for (std::size_t first = 0; first < blocks.size(); first += big_blocks) {
            heap_->deallocate(blocks[first]);
            heap_->audit();
            EXPECT_EQ(heap_->allocate(big_bytes), blocks[first]);
        }
        heap_->audit();
        free_all(*heap_, blocks);
        heap_->audit();
        EXPECT_LE(used_slices(), 4U * big_slices);
    }

    thread_heap* heap_ = nullptr;

private:
    std::unique_ptr<scoped_heap> own_;
    std::uint32_t active_ = 0;
};

TEST_F(lone_heap, reuses_at_once_what_it_frees_into_pages_it_left) { reuse_at_once(); }

TEST_F(lone_heap, reuses_them_also_where_it_may_keep_no_pages) {
    process.options.thread_cache_bytes = 0;
    reuse_at_once();
}

TEST_F(lone_heap, does_not_hold_pages_by_what_it_could_reuse) {
    for (std::size_t const cache_bytes : {4 * MiB, std::size_t{0}}) {
        process.options.thread_cache_bytes = cache_bytes;
        std::vector<void*> blocks = fill(64);
        // The first block of each page, then the second of each, and so on.
        for (std::size_t at = 0; at < big_blocks; ++at) {
            for (std::size_t first = 0; first < blocks.size(); first += big_blocks) {
                heap_->deallocate(blocks[first + at]);
            }
            heap_->audit();
            EXPECT_LE(heap_->listed(big_class), 64U);
        }
        EXPECT_LE(used_slices(), 32U * big_slices);
        heap_->collect();
        heap_->audit();
        EXPECT_EQ(used_slices(), 0U);
    }
}

TEST_F(lone_heap, finds_what_others_free_into_pages_it_reuses) {
    std::vector<void*> blocks = fill(4);
    heap_->deallocate(blocks[0]);
    EXPECT_EQ(heap_->allocate(big_bytes), blocks[0]);
    page const& reused = home_of(blocks[0]);
    EXPECT_EQ(reused.owner.get(), heap_);
    EXPECT_TRUE(reused.is_reused());
    {
        scoped_heap other;
        for (std::size_t i = 1; i < big_blocks; ++i) {
            other->deallocate(blocks[i]);
            blocks[i] = nullptr;
        }
    }
    EXPECT_EQ(reused.remote.load().count(), big_blocks - 1U);
    // Before new memory is taken.
    std::size_t const slices = used_slices();
    std::vector<void*> more = allocate(*heap_, big_bytes, big_blocks - 1);
    EXPECT_EQ(used_slices(), slices);
    heap_->audit();
    free_all(*heap_, more);
    free_all(*heap_, blocks);
}

TEST_F(lone_heap, clears_what_calloc_takes_from_mixed_lists) {
    std::vector<void*> blocks = fill(3);
    for (void* const block : blocks) {
        std::memset(block, 0xa5, big_bytes);
    }
    std::size_t const small = 2 * KiB;
    std::vector<void*> dirty = allocate(*heap_, small, 40);
    for (void* const block : dirty) {
        std::memset(block, 0xa5, small);
    }
    free_all(*heap_, blocks);
    free_all(*heap_, dirty);
    for (std::size_t const bytes : {small, big_bytes}) {
        for (int i = 0; i < 60; ++i) {
            auto* const block = static_cast<unsigned char*>(allocate_zeroed(heap_, bytes, nullptr));
            ASSERT_NE(block, nullptr);
            EXPECT_EQ(std::count(block, block + bytes, 0), static_cast<std::ptrdiff_t>(bytes));
            std::memset(block, 0xa5, bytes);
            blocks.push_back(block);
            if (i % 3 == 0) {
                heap_->deallocate(blocks.back());
                blocks.pop_back();
            }
        }
    }
    free_all(*heap_, blocks);
}

TEST_F(thread_heaps, keep_one_empty_page_a_class_within_a_cap) {
    scoped_heap heap;
    std::vector<void*> blocks = allocate(*heap, big_bytes, std::size_t{5} * big_blocks);
    EXPECT_EQ(used_slices(), 5U * big_slices);
    // Pages that were left full are claimed back by the first free into each.
    free_all(*heap, blocks);
    heap->audit();
    EXPECT_LE(used_slices(), 2U * big_slices);  // the current one and one kept
    process.options.thread_empty_bytes = 0;
    blocks = allocate(*heap, big_bytes, std::size_t{5} * big_blocks);
    free_all(*heap, blocks);
    // The current one, and what blocks that will be handed out next hold: it may be alone.
    EXPECT_LE(used_slices(), 2U * big_slices);
}

TEST_F(thread_heaps, find_blocks_that_others_freed) {
    scoped_heap owner;
    scoped_heap other;
    std::vector<void*> blocks = allocate(*owner, big_bytes, big_blocks);
    page& home = home_of(blocks[0]);
    EXPECT_EQ(home.owner.get(), &*owner);
    std::uint64_t const before = other->cross_thread_frees.load();
    other->deallocate(blocks[3]);
    EXPECT_EQ(other->cross_thread_frees.load() - before, 1U);
    EXPECT_EQ(home.remote.load().count(), 1U);
    EXPECT_EQ(owner->allocate(big_bytes), blocks[3]);
    EXPECT_EQ(home.remote.load().bits, 0U);
    free_all(*owner, blocks);
}

TEST_F(thread_heaps, let_a_full_page_drift_to_whoever_frees_into_it) {
    scoped_heap owner;
    scoped_heap other;
    std::vector<void*> blocks = allocate(*owner, big_bytes, big_blocks + 1);
    page& full = home_of(blocks[0]);
    EXPECT_EQ(full.owner.get(), nullptr);
    EXPECT_EQ(full.remote.load().how(), hold::adrift);
    std::uint64_t const before = other->cross_thread_frees.load();
    other->deallocate(blocks[2]);
    EXPECT_EQ(full.owner.get(), &*other);
    EXPECT_EQ(full.remote.load().how(), hold::held);
    EXPECT_EQ(other->cross_thread_frees.load(), before);  // its own by then
    other->audit();
    EXPECT_EQ(other->allocate(big_bytes), blocks[2]);  // no new page
    EXPECT_EQ(used_slices(), 2U * big_slices);
    // The former owner's free goes the other way now.
    owner->deallocate(blocks[0]);
    EXPECT_EQ(full.remote.load().count(), 1U);
    blocks.erase(blocks.begin());
    free_all(*other, blocks);
}

TEST_F(thread_heaps, stay_with_a_full_page_into_which_a_block_came_back) {
    scoped_heap owner;
    scoped_heap other;
    std::vector<void*> blocks = allocate(*owner, big_bytes, big_blocks);
    page& home = home_of(blocks[0]);
    other->deallocate(blocks[0]);
    EXPECT_FALSE(home.remote.set_adrift());
    EXPECT_EQ(owner->allocate(big_bytes), blocks[0]);
    EXPECT_EQ(home.owner.get(), &*owner);
    EXPECT_EQ(used_slices(), big_slices);
    free_all(*owner, blocks);
}

/// A page of the calling thread's heap that was full, was freed into, and is full again.
class resting_page : public heap_test {
protected:
    static constexpr std::size_t bytes = 512;

    void SetUp() override {
        heap_test::SetUp();
        other_ = std::make_unique<scoped_heap>();
        heap_ = std::make_unique<scoped_heap>();
        blocks_.push_back((*heap_)->allocate(bytes));
        home_ = &home_of(blocks_[0]);
        allocate_until_it_leaves();
        (*heap_)->deallocate(take_one());
        EXPECT_EQ(home_->owner.get(), &**heap_);
        while (!home_->counts_down() || home_->is_reused()) {  // until it is full, and not current
            blocks_.push_back((*heap_)->allocate(bytes));
            ASSERT_LT(blocks_.size(), 1000U);
        }
    }

    void TearDown() override {
        free_all(**heap_, blocks_);
        heap_.reset();
        other_.reset();
        heap_test::TearDown();
    }

    void allocate_until_it_leaves() {
        while (home_->owner.get() != nullptr) {
            blocks_.push_back((*heap_)->allocate(bytes));
            ASSERT_LT(blocks_.size(), 1000U);
        }
        EXPECT_EQ(home_->remote.load().how(), hold::adrift);
    }

    /// Takes a block that lies in the page out of those to free at the end.
    void* take_one() {
        auto const found = std::find_if(blocks_.begin(), blocks_.end(),
                                        [this](void* block) { return page_of(block) == home_; });
        void* const block = *found;
        blocks_.erase(found);
        return block;
    }

    std::unique_ptr<scoped_heap> other_;
    std::unique_ptr<scoped_heap> heap_;
    page* home_ = nullptr;
    std::vector<void*> blocks_;
};

TEST_F(resting_page, stays_with_its_owner_until_an_eighth_is_free) {
    int const frees = home_->reserved.get() / 8;
    ASSERT_GT(frees, 1);
    for (int i = 0; i < frees; ++i) {
        EXPECT_EQ(home_->owner.get(), &**heap_);
        EXPECT_TRUE(home_->counts_down());
        EXPECT_EQ(home_->outside(), home_->reserved.get() - i);
        (*heap_)->audit();
        (*heap_)->deallocate(take_one());
    }
    EXPECT_FALSE(home_->counts_down());
    EXPECT_EQ(home_->outside(), home_->reserved.get() - frees);
    (*heap_)->audit();
}

TEST_F(resting_page, serves_before_new_memory_is_taken) {
    void* const freed = take_one();
    (*heap_)->deallocate(freed);
    EXPECT_TRUE(home_->counts_down());
    std::size_t const slices = used_slices();
    while (blocks_.back() != freed) {
        blocks_.push_back((*heap_)->allocate(bytes));
        ASSERT_EQ(used_slices(), slices);
    }
}

TEST_F(resting_page, goes_adrift_again_where_others_free_into_it) {
    void* const freed = take_one();
    (*other_)->deallocate(freed);
    EXPECT_EQ(home_->remote.load().count(), 1U);
    while (blocks_.back() != freed) {
        blocks_.push_back((*heap_)->allocate(bytes));
        ASSERT_LT(blocks_.size(), 1000U);
    }
    allocate_until_it_leaves();
}

TEST_F(resting_page, leaves_with_its_heap) {
    (*heap_)->deallocate(take_one());
    (*heap_)->leave();
    EXPECT_EQ(home_->remote.load().how(), hold::binned);
    EXPECT_FALSE(home_->counts_down());
    home_->audit();
}

TEST_F(resting_page, goes_adrift_where_its_heap_may_keep_none) {
    process.options.thread_cache_bytes = 0;
    (*heap_)->deallocate(take_one());
    allocate_until_it_leaves();
}

TEST_F(thread_heaps, leave_their_partly_free_pages_to_others) {
    scoped_heap heir;
    std::vector<void*> blocks;
    {
        scoped_heap heap;
        blocks = allocate(*heap, big_bytes, 3);
        heap->deallocate(blocks.back());
        blocks.pop_back();
    }
    page& home = home_of(blocks[0]);
    EXPECT_EQ(home.owner.get(), nullptr);
    EXPECT_EQ(home.remote.load().how(), hold::binned);
    EXPECT_EQ(home.out.get(), 2);
    home.audit();
    std::vector<void*> more = allocate(*heir, big_bytes, big_blocks - 2);
    EXPECT_EQ(used_slices(), big_slices);
    EXPECT_EQ(home.owner.get(), &*heir);
    free_all(*heir, blocks);
    free_all(*heir, more);
}

TEST_F(thread_heaps, leave_full_pages_adrift_and_empty_ones_to_nobody) {
    std::vector<void*> full;
    {
        scoped_heap heap;
        full = allocate(*heap, big_bytes, big_blocks);
        std::vector<void*> empty = allocate(*heap, 100, 5);
        free_all(*heap, empty);
    }
    EXPECT_EQ(used_slices(), big_slices);
    EXPECT_EQ(home_of(full[0]).remote.load().how(), hold::adrift);
    scoped_heap other;
    free_all(*other, full);
}

TEST_F(thread_heaps, put_blocks_that_were_listed_back_before_they_leave) {
    std::uint64_t const handed = [] {
        std::uint64_t sum = 0;
        process.heaps.for_each([&](thread_heap& each) { sum += each.handed[1].load(); });
        return sum;
    }();
    void* block = nullptr;
    {
        scoped_heap heap;
        block = heap->allocate(16);
        EXPECT_GT(heap->listed(1), 0U);
    }
    EXPECT_EQ(home_of(block).out.get(), 1);
    std::uint64_t after = 0;
    process.heaps.for_each([&](thread_heap& each) { after += each.handed[1].load(); });
    EXPECT_EQ(after - handed, 1U);
    scoped_heap other;
    other->deallocate(block);
}

TEST_F(thread_heaps, part_with_pages_beyond_their_cap_when_there_are_others) {
    process.options.thread_cache_bytes = 4 * sizing::slice_bytes;
    scoped_heap owner;
    std::vector<void*> blocks = allocate(*owner, big_bytes, std::size_t{20} * big_blocks);
    auto const free_one_in_each = [&](std::size_t which) {
        for (std::size_t first = 0; first < blocks.size(); first += big_blocks) {
            owner->deallocate(blocks[first + which]);
            blocks[first + which] = nullptr;
        }
    };
    free_one_in_each(0);
    int owned = 0;
    int binned = 0;
    process.descriptors.for_each([&](page& each) {
        if (each.kind.load() == page_kind::small) {
            owned += each.owner.get() == &*owner ? 1 : 0;
            binned += each.remote.load().how() == hold::binned ? 1 : 0;
        }
    });
    if (process.active_heaps.load() > 1) {
        EXPECT_LE(owned, 5);
    } else {
        EXPECT_EQ(binned, 0) << "alone: nobody would take them";
    }
    scoped_heap other;
    free_one_in_each(1);
    owned = 0;
    process.descriptors.for_each([&](page& each) {
        owned += each.kind.load() == page_kind::small && each.owner.get() == &*owner ? 1 : 0;
    });
    owner->audit();
    std::vector<void*> taken = allocate(*other, big_bytes, 10);
    for (void* const block : blocks) {
        other->deallocate(block);
    }
    free_all(*other, taken);
}

TEST_F(thread_heaps, holds_little_when_parked_beside_others) {
    process.options.thread_cache_bytes = 4 * sizing::slice_bytes;
    scoped_heap other;
    scoped_heap owner;
    std::vector<void*> blocks = allocate(*owner, big_bytes, std::size_t{40} * big_blocks);
    for (std::size_t i = 0; i < blocks.size(); ++i) {  // one block of each page stays
        if (i % big_blocks != 0) {
            owner->deallocate(blocks[i]);
            blocks[i] = nullptr;
        }
    }
    int owned = 0;
    process.descriptors.for_each([&](page& each) {
        owned += each.kind.load() == page_kind::small && each.owner.get() == &*owner ? 1 : 0;
    });
    EXPECT_LE(owned, 4 + 1 + 1);  // the cap, the current page, one in the hands of keep()
    // The rest serves others without new memory.
    std::size_t const before = used_slices();
    std::vector<void*> served = allocate(*other, big_bytes, std::size_t{30} * (big_blocks - 1));
    EXPECT_EQ(used_slices(), before);
    free_all(*other, served);
    for (void* const block : blocks) {
        owner->deallocate(block);
    }
}

TEST_F(thread_heaps, give_zeroed_memory_also_where_blocks_were_used) {
    scoped_heap heap;
    for (unsigned size_class = 1; size_class < sizing::class_count; size_class += 3) {
        std::size_t const bytes = sizing::class_bytes(size_class);
        for (int round = 0; round < 3; ++round) {
            std::vector<void*> blocks;
            for (int i = 0; i < 20; ++i) {
                auto* const block =
                    static_cast<unsigned char*>(heap->allocate_class_zeroed(size_class, bytes));
                ASSERT_NE(block, nullptr);
                ASSERT_TRUE(
                    std::all_of(block, block + bytes, [](unsigned char each) { return each == 0; }))
                    << bytes << ' ' << round << ' ' << i;
                std::memset(block, 0xff, bytes);
                blocks.push_back(block);
            }
            std::swap(blocks[3], blocks.back());
            free_all(*heap, blocks);
        }
    }
}

TEST_F(thread_heaps, collect_what_others_emptied) {
    scoped_heap owner;
    scoped_heap other;
    std::vector<void*> blocks = allocate(*owner, big_bytes, std::size_t{4} * big_blocks);
    for (std::size_t first = 0; first < blocks.size(); first += big_blocks) {
        owner->deallocate(blocks[first]);  // claims each page
        blocks[first] = nullptr;
    }
    for (void* const block : blocks) {
        other->deallocate(block);
    }
    EXPECT_EQ(used_slices(), 4U * big_slices);
    owner->collect();
    owner->audit();
    EXPECT_EQ(used_slices(), 0U);
}

TEST_F(thread_heaps, trim_gives_os_pages_inside_their_pages_back) {
    if (platform::os::page_bytes() > platform::os_page_bytes_min) {
        GTEST_SKIP() << "its pages are no longer than an OS page";
    }
    scoped_heap other;
    scoped_heap heap;
    std::vector<void*> blocks = allocate(*heap, 512, 1000);
    std::vector<void*> kept;
    std::set<page*> homes;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        if (homes.insert(&home_of(blocks[i])).second) {
            std::memset(blocks[i], 0x77, 512);
            kept.push_back(blocks[i]);
        } else {
            heap->deallocate(blocks[i]);
        }
    }
    std::uint64_t const outside = measure_outside().blocks;
    EXPECT_GT(heap->trim(), 1000 * 512 * 3 / 4U);
    heap->audit();
    EXPECT_EQ(measure_outside().blocks, kept.size());
    EXPECT_GE(outside, kept.size());
    EXPECT_EQ(heap->trim(), 0U);
    for (void* const block : kept) {
        auto const* const bytes = static_cast<unsigned char const*>(block);
        EXPECT_TRUE(std::all_of(bytes, bytes + 512, [](unsigned char b) { return b == 0x77; }));
    }
    // All of it serves again before new memory is taken.
    std::size_t const slices = used_slices();
    std::vector<void*> again = allocate(*heap, 512, 1000 - kept.size());
    EXPECT_EQ(used_slices(), slices);
    std::set<void*> distinct{again.begin(), again.end()};
    distinct.insert(kept.begin(), kept.end());
    EXPECT_EQ(distinct.size(), 1000U);
    heap->audit();
    free_all(*heap, again);
    free_all(*heap, kept);
}

TEST_F(thread_heaps, collect_puts_the_lists_they_allocate_from_back) {
    scoped_heap heap;
    void* const kept = heap->allocate(16);
    void* const block = heap->allocate(16);
    heap->deallocate(block);
    heap->collect();
    EXPECT_EQ(heap->listed(1), 0U);
    EXPECT_EQ(used_slices(), big_slices);
    heap->audit();
    heap->deallocate(heap->allocate(16));
    heap->deallocate(kept);
    heap->collect();
    EXPECT_EQ(used_slices(), 0U);
}

TEST_F(thread_heaps, count_what_they_hand_out) {
    scoped_heap heap;
    std::uint64_t const before = heap->handed[big_class].load();
    std::uint64_t const runs = heap->handed[0].load();
    std::vector<void*> blocks = allocate(*heap, big_bytes, 100);
    EXPECT_EQ(heap->handed[big_class].load() - before - heap->listed(big_class), 100U);
    void* const large = heap->allocate(1 * MiB);
    EXPECT_EQ(heap->handed[0].load() - runs, 1U);
    heap->deallocate(large);
    free_all(*heap, blocks);
}

TEST_F(thread_heaps, keep_their_pages_apart_in_the_heap_that_is_shared_late) {
    void* const block = with_heap(&finished_heap, [](thread_heap& late) {
        EXPECT_EQ(&late, &late_heap);
        return late.allocate_class(big_class);
    });
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(home_of(block).owner.get(), &late_heap);
    finished_heap.deallocate(block);
    EXPECT_EQ(finished_heap.try_allocate(big_bytes), nullptr);
    EXPECT_EQ(finished_heap.current(big_class), nullptr);
}

// Several heaps in turn allocate, free each other's blocks and end, while a shadow keeps count.
TEST_F(thread_heaps, agree_with_a_shadow_at_every_step) {
    constexpr std::size_t heap_count = 4;
    std::uint64_t const rounds = tarn::test::scaled(60'000);
    process.options.thread_cache_bytes = 3 * sizing::slice_bytes;
    process.options.thread_empty_bytes = 2 * sizing::slice_bytes;
    std::mt19937_64 random{11};
    std::vector<std::unique_ptr<scoped_heap>> heaps;
    for (std::size_t i = 0; i < heap_count; ++i) {
        heaps.push_back(std::make_unique<scoped_heap>());
    }

    struct live_block {
        unsigned char* start;
        std::size_t bytes;
        unsigned char mark;
    };

    std::vector<live_block> live;
    std::size_t const sizes[] = {1, 16, 100, 1024, 8 * KiB, 40 * KiB, 128 * KiB, 200 * KiB};
    std::size_t target = 0;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        std::size_t const index = random() % heap_count;
        thread_heap& heap = **heaps[index];
        if (round % 2000 == 0) {
            target = random() % 600;  // grows and shrinks, so that pages fill and empty
        }
        if (random() % 400 == 0) {
            heaps[index].reset();
            heaps[index] = std::make_unique<scoped_heap>();
        } else if (random() % 3000 == 0) {
            reclaim(heap);
        } else if (live.size() <= target ? random() % 4 != 0 : random() % 4 == 0) {
            std::size_t const bytes = sizes[random() % std::size(sizes)];
            auto* const start = static_cast<unsigned char*>(heap.allocate(bytes));
            ASSERT_NE(start, nullptr);
            auto const mark = static_cast<unsigned char>(random() % 256);
            std::memset(start, mark, std::min<std::size_t>(bytes, 64));
            start[bytes - 1] = mark;
            live.push_back({start, bytes, mark});
        } else if (!live.empty()) {
            std::swap(live[random() % live.size()], live.back());
            live_block const gone = live.back();
            live.pop_back();
            ASSERT_EQ(gone.start[0], gone.mark);
            ASSERT_EQ(gone.start[gone.bytes - 1], gone.mark);
            heap.deallocate(gone.start);
        }
        if (round % 64 == 0) {
            heap.audit();
            std::uint64_t listed = 0;
            for (auto const& each : heaps) {
                for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
                    listed += (*each)->listed(size_class);
                }
            }
            ASSERT_EQ(measure_outside().blocks, live.size() + listed) << round;
        }
    }
    for (live_block const& each : live) {
        (*heaps[0])->deallocate(each.start);
    }
}

}  // namespace
