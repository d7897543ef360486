#include "heap/page.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "base/bits.hpp"
#include "platform/os.hpp"
#include "sizing/size_class.hpp"
#include "heap/process.hpp"
#include "heap_fixture.hpp"
#include "support/fatal_text.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using tarn::test::heap_test;
using tarn::test::scoped_heap;

/// A page whose memory is only numbers.
struct numbered_page : page {
    numbered_page(std::size_t bytes, std::uintptr_t first) : page{} {
        start = base::pointer_to(first);
        divisor = divisor_for(bytes);
        block_bytes.set(bytes);
    }
};

TEST(page, tells_block_starts_from_other_addresses) {
    constexpr std::uintptr_t start = 0x7000'0000'0000;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        std::size_t const bytes = sizing::class_bytes(size_class);
        numbered_page const tested{bytes, start};
        std::size_t const end = sizing::class_slices_max(size_class) * sizing::slice_bytes;
        for (std::size_t block = 0; block < end; block += bytes) {
            for (std::size_t const inside : {std::size_t{0}, std::size_t{1}, std::size_t{8},
                                             std::size_t{16}, bytes / 2, bytes - 1}) {
                std::size_t const offset = block + inside % bytes;
                void const* const ptr = base::pointer_to(start + offset);
                ASSERT_EQ(tested.is_block_start(ptr), offset == block) << bytes << ' ' << offset;
                ASSERT_EQ(tested.block_of(ptr), base::pointer_to(start + block));
            }
        }
    }
}

TEST(page, tells_every_offset_of_odd_sizes) {
    constexpr std::uintptr_t start = 0x10'0000;
    for (unsigned const size_class : {1U, 3U, 7U, 17U, 20U, 31U}) {
        std::size_t const bytes = sizing::class_bytes(size_class);
        numbered_page const tested{bytes, start};
        for (std::size_t offset = 0; offset < sizing::slice_bytes; ++offset) {
            ASSERT_EQ(tested.is_block_start(base::pointer_to(start + offset)), offset % bytes == 0);
        }
    }
}

TEST(page, counts_what_its_owner_frees) {
    page tested{};
    tested.frees.set(&tested.local);
    std::array<block, 4> blocks{};
    tested.out.set(3);
    EXPECT_FALSE(tested.push(&blocks[0]));
    EXPECT_FALSE(tested.push(&blocks[1]));
    EXPECT_EQ(tested.out.get(), 1);
    EXPECT_TRUE(tested.push(&blocks[2]));
    EXPECT_EQ(tested.out.get(), 0);
    EXPECT_TRUE(tested.push(&blocks[3]));  // a double free: nothing was outside
    EXPECT_EQ(tested.out.get(), -1);
    EXPECT_EQ(tested.local, &blocks[3]);
    EXPECT_EQ(tested.local->next, &blocks[2]);
    EXPECT_EQ(blocks[0].next, nullptr);
}

TEST(page, counts_down_while_its_frees_go_to_an_allocation_list) {
    page tested{};
    tested.frees.set(&tested.local);
    tested.capacity.set(4);
    tested.out.set(4);
    std::array<block, 4> blocks{};
    block* list = nullptr;
    tested.out.set(3);  // one is in its own list, and stays there
    tested.reuse(list, 3);
    EXPECT_TRUE(tested.is_reused());
    EXPECT_EQ(tested.outside(), 3);
    EXPECT_FALSE(tested.push(&blocks[0]));
    EXPECT_FALSE(tested.push(&blocks[1]));
    EXPECT_EQ(tested.reused(), 2);
    EXPECT_TRUE(tested.push(&blocks[2]));  // the end of the budget
    EXPECT_EQ(list, &blocks[2]);
    EXPECT_EQ(list->next, &blocks[1]);
    EXPECT_EQ(tested.local, nullptr);
    EXPECT_EQ(tested.outside(), 3);  // in the allocation list is outside, too
    EXPECT_EQ(tested.reused(), 3);
    tested.end_countdown();
    EXPECT_FALSE(tested.is_reused());
    EXPECT_EQ(tested.out.get(), 3);
    EXPECT_EQ(tested.reused(), 0);
    tested.end_countdown();  // has ended already
    EXPECT_EQ(tested.out.get(), 3);
}

class page_lists : public heap_test {
protected:
    void free_remotely(page& home, void* ptr) {
        remote_state seen = home.remote.load();
        while (!home.remote.try_push(seen, static_cast<block*>(ptr))) {
        }
    }

    static std::size_t length(block const* list) {
        std::size_t count = 0;
        for (; list != nullptr; list = list->next) {
            ++count;
        }
        return count;
    }
};

TEST_F(page_lists, take_in_what_others_freed) {
    scoped_heap heap;
    std::vector<void*> blocks = allocate(*heap, big_bytes, 6);
    page& home = home_of(blocks[0]);
    home.end_countdown();  // as while it is not current
    int const out = home.out.get();
    home.collect_remote();  // nothing there
    EXPECT_EQ(home.out.get(), out);
    free_remotely(home, blocks[0]);
    free_remotely(home, blocks[1]);
    EXPECT_EQ(home.out.get(), out);  // the owner has not looked yet
    home.audit();
    home.collect_remote();
    EXPECT_EQ(home.out.get(), out - 2);
    EXPECT_EQ(length(home.local), 2U);
    home.audit();
    // Joined to what the owner freed itself.
    heap->deallocate(blocks[2]);
    free_remotely(home, blocks[3]);
    home.collect_remote();
    EXPECT_EQ(home.out.get(), out - 4);
    EXPECT_EQ(length(home.local), 4U);
    EXPECT_EQ(home.remote.load().bits, 0U);
    home.audit();
    heap->deallocate(blocks[4]);
    heap->deallocate(blocks[5]);
}

TEST_F(page_lists, leave_a_bin_with_the_list_and_without) {
    scoped_heap heap;
    std::vector<void*> blocks = allocate(*heap, big_bytes, 2);
    page& home = home_of(blocks[0]);
    home.end_countdown();  // as while it is not current
    home.remote.set_binned();
    home.collect_remote();
    EXPECT_EQ(home.remote.load().how(), hold::held);
    home.remote.set_binned();
    free_remotely(home, blocks[0]);
    home.collect_remote();
    EXPECT_EQ(home.remote.load().how(), hold::held);
    EXPECT_EQ(length(home.local), 1U);
    heap->deallocate(blocks[1]);
}

TEST_F(page_lists, refuse_more_blocks_than_were_outside) {
    scoped_heap heap;
    void* const kept = heap->allocate(big_bytes);
    page& home = home_of(kept);
    home.end_countdown();  // as while it is not current
    free_remotely(home, kept);
    free_remotely(home, kept);  // a ring
    home.collect_remote();
    auto const events = reported();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].kind, misuse_kind::double_free);
    EXPECT_EQ(events[0].ptr, kept);
    EXPECT_EQ(home.out.get(), 1);
    EXPECT_EQ(home.local, nullptr);
    EXPECT_EQ(home.remote.load().bits, 0U);
    home.audit();
    heap->deallocate(kept);
}

/// A page full of live blocks of one size, that no heap looks at meanwhile.
class purged_page : public page_lists {
protected:
    void SetUp() override {
        page_lists::SetUp();
        heap_ = std::make_unique<scoped_heap>();
    }

    void TearDown() override {
        heap_.reset();
        page_lists::TearDown();
    }

    void fill(std::size_t bytes) {
        bytes_ = sizing::class_bytes(sizing::class_of(bytes));
        blocks_.push_back((*heap_)->allocate(bytes));
        home_ = &home_of(blocks_[0]);
        while (static_cast<int>(blocks_.size()) < home_->reserved.get()) {
            blocks_.push_back((*heap_)->allocate(bytes));
        }
        home_->end_countdown();
        std::sort(blocks_.begin(), blocks_.end());
        for (std::size_t i = 0; i < blocks_.size(); ++i) {
            std::memset(blocks_[i], static_cast<int>(i % 251) + 1, bytes_);
        }
    }

    void expect_live_as_they_were() {
        for (std::size_t i = 0; i < blocks_.size(); ++i) {
            auto const* const bytes = static_cast<unsigned char const*>(blocks_[i]);
            if (live_[i]) {
                EXPECT_EQ(bytes[0], i % 251 + 1);
                EXPECT_EQ(bytes[bytes_ - 1], i % 251 + 1);
            }
        }
    }

    /// OS pages that hold a part of a live block.
    std::set<std::uintptr_t> os_pages_in_use() {
        std::set<std::uintptr_t> used;
        std::size_t const os_page = platform::os::page_bytes();
        for (std::size_t i = 0; i < blocks_.size(); ++i) {
            for (std::uintptr_t at = base::address_of(blocks_[i]);
                 live_[i] && at < base::address_of(blocks_[i]) + bytes_; ++at) {
                used.insert(at / os_page);
            }
        }
        return used;
    }

    void check(std::size_t bytes, std::uint64_t seed) {
        fill(bytes);
        live_.assign(blocks_.size(), true);
        std::mt19937_64 random{seed};
        for (std::size_t i = 0; i < blocks_.size(); ++i) {
            if (random() % 8 != 0) {
                live_[i] = false;
                (*heap_)->deallocate(blocks_[i]);
            }
        }
        if (std::find(live_.begin(), live_.end(), true) == live_.end()) {
            return;  // the page is gone
        }
        std::size_t const os_page = platform::os::page_bytes();
        std::size_t const in_use = os_pages_in_use().size();
        std::size_t const touched = base::divide_up(blocks_.size() * bytes_, os_page);
        EXPECT_EQ(home_->purge_inside(), (touched - in_use) * os_page) << bytes;
        home_->audit();
        expect_live_as_they_were();
        EXPECT_EQ(home_->purge_inside(), 0U) << "twice";
        // All come back, each once, some from the list and the others by and by.
        std::set<void*> back;
        for (block* each = home_->local; each != nullptr; each = each->next) {
            EXPECT_TRUE(back.insert(each).second);
        }
        home_->out.set(home_->capacity.get() - home_->unlisted());
        home_->local = nullptr;
        block* list = nullptr;
        while (int const count = home_->relist(list, space::allowance::ordinary)) {
            EXPECT_EQ(length(list), static_cast<std::size_t>(count));
            home_->out.set(home_->out.get() + count);
            home_->audit();
            for (block* each = std::exchange(list, nullptr); each != nullptr; each = each->next) {
                EXPECT_TRUE(back.insert(each).second);
            }
        }
        expect_live_as_they_were();
        EXPECT_TRUE(home_->is_full());
        for (std::size_t i = 0; i < blocks_.size(); ++i) {
            EXPECT_NE(live_[i], back.contains(blocks_[i])) << i;
        }
        for (void* const block : blocks_) {
            (*heap_)->deallocate(block);
        }
    }

    std::unique_ptr<scoped_heap> heap_;
    page* home_ = nullptr;
    std::size_t bytes_ = 0;
    std::vector<void*> blocks_;
    std::vector<bool> live_;
};

TEST_F(purged_page, keeps_the_os_pages_of_live_blocks_alone_16) { check(16, 1); }

TEST_F(purged_page, keeps_the_os_pages_of_live_blocks_alone_48) { check(48, 2); }

TEST_F(purged_page, keeps_the_os_pages_of_live_blocks_alone_1280) { check(1280, 3); }

TEST_F(purged_page, keeps_the_os_pages_of_live_blocks_alone_4096) { check(4096, 4); }

TEST_F(purged_page, keeps_the_os_pages_of_live_blocks_alone_5120) { check(5120, 5); }

TEST_F(purged_page, keeps_the_os_pages_of_live_blocks_alone_8192) { check(8192, 6); }

using page_audit = page_lists;

TEST_F(page_audit, names_what_broke) {
    scoped_heap heap;
    std::vector<void*> blocks = allocate(*heap, big_bytes, 4);
    page& home = home_of(blocks[0]);
    home.end_countdown();  // as while it is not current
    heap->deallocate(blocks[0]);
    heap->deallocate(blocks[1]);
    home.audit();
    EXPECT_DEATH(
        {
            home.out.set(home.out.get() + 1);
            home.audit();
        },
        "length . unlisted.. == capacity");
    EXPECT_DEATH(
        {
            home.out.set(-1);
            home.audit();
        },
        "out.get\\(\\) >= 0");
    EXPECT_DEATH(
        {
            home.capacity.set(home.reserved.get() + 1);
            home.audit();
        },
        "reserved");
    EXPECT_DEATH(
        {
            home.local->next = home.local;
            home.audit();
        },
        "length . unlisted.. == capacity");
    EXPECT_DEATH(
        {
            home.local->next = reinterpret_cast<block*>(static_cast<std::byte*>(blocks[2]) + 16);
            home.audit();
        },
        "starts_block");
    EXPECT_DEATH(
        {
            block foreign{};
            home.local->next = &foreign;
            home.audit();
        },
        "pages.find");
    heap->deallocate(blocks[2]);
    heap->deallocate(blocks[3]);
}

}  // namespace
