#include "heap/run_block.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <optional>
#include <random>
#include <vector>

#include "base/units.hpp"
#include "platform/os.hpp"
#include "sizing/size_class.hpp"
#include "space/page_map.hpp"
#include "heap/process.hpp"
#include "heap_fixture.hpp"
#include "support/build.hpp"
#include "support/mappings.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using sizing::slice_bytes;
using tarn::test::heap_test;
using tarn::test::scoped_heap;

class run_blocks : public heap_test {
protected:
    void SetUp() override {
        heap_test::SetUp();
        heap_.emplace();
    }

    void TearDown() override {
        heap_.reset();
        heap_test::TearDown();
    }

    std::byte* take(std::size_t bytes, std::size_t alignment = sizing::quantum) {
        run_block const got = allocate_run(**heap_, {.bytes = bytes, .alignment = alignment});
        EXPECT_NE(got.start, nullptr);
        EXPECT_TRUE(base::is_aligned(base::address_of(got.start), alignment));
        zeroed_ = got.zeroed;
        return static_cast<std::byte*>(got.start);
    }

    static void free_run(void* block) { EXPECT_TRUE(deallocate_run(home_of(block))); }

    /// A number into every OS page, so that memory which moved is known again.
    static void stamp(std::byte* block, std::size_t bytes, std::uint64_t seed) {
        for (std::size_t at = 0; at + sizeof seed <= bytes; at += 4 * KiB) {
            std::uint64_t const number = seed ^ at;
            std::memcpy(block + at, &number, sizeof number);
        }
    }

    static bool is_stamped(std::byte const* block, std::size_t bytes, std::uint64_t seed) {
        for (std::size_t at = 0; at + sizeof seed <= bytes; at += 4 * KiB) {
            std::uint64_t number = 0;
            std::memcpy(&number, block + at, sizeof number);
            if (number != (seed ^ at)) {
                return false;
            }
        }
        return true;
    }

    /// Every slice of the block leads to it, and none of [block + bytes, until) does.
    static void expect_entered(std::byte* block, std::size_t bytes, std::size_t until) {
        page* const home = pages.find(block);
        ASSERT_NE(home, nullptr);
        std::size_t const end = base::align_up(bytes, slice_bytes);
        for (std::size_t at = 0; at < end; at += slice_bytes) {
            ASSERT_EQ(page_of(block + at), home) << at / slice_bytes;
        }
        for (std::size_t at = end; at < until; at += slice_bytes) {
            ASSERT_NE(page_of(block + at), home) << at / slice_bytes;
        }
    }

    static void expect_forgotten(std::byte const* block, std::size_t bytes) {
        for (std::size_t at = 0; at < bytes; at += slice_bytes) {
            ASSERT_EQ(page_of(block + at), nullptr) << at / slice_bytes;
        }
    }

    bool zeroed_ = false;
    std::optional<scoped_heap> heap_;
};

TEST_F(run_blocks, have_a_page_of_their_own) {
    for (std::size_t const bytes :
         {sizing::small_max + 1, 300 * KiB, 10 * MiB, 100 * MiB, huge_bytes_min, 400 * MiB + 1}) {
        process.space.purge_all();
        std::byte* const block = take(bytes);
        page const& home = home_of(block);
        EXPECT_EQ(home.start, block);
        EXPECT_EQ(home.kind.load(), bytes < huge_bytes_min ? page_kind::large : page_kind::huge);
        EXPECT_EQ(home.owner.get(), nullptr);
        EXPECT_GE(home.block_bytes.get(), bytes);
        EXPECT_LT(home.block_bytes.get(), bytes + platform::os::page_bytes());
        EXPECT_TRUE(zeroed_);
        block[0] = std::byte{1};
        block[home.block_bytes.get() - 1] = std::byte{1};
        expect_entered(block, bytes, bytes);
        free_run(block);
        expect_forgotten(block, bytes);
    }
}

TEST_F(run_blocks, say_zeroed_only_of_zero_memory) {
    process.space.purge_all();
    std::byte* const block = take(1 * MiB);
    EXPECT_TRUE(zeroed_);
    std::memset(block, 1, 1 * MiB);
    free_run(block);
    std::byte* const again = take(1 * MiB);
    EXPECT_EQ(again, block);
    EXPECT_FALSE(zeroed_);
    free_run(again);
    process.space.purge_all();
    std::byte* const purged = take(1 * MiB);
    EXPECT_TRUE(zeroed_);
    EXPECT_TRUE(
        std::all_of(purged, purged + 1 * MiB, [](std::byte each) { return each == std::byte{0}; }));
    free_run(purged);
}

TEST_F(run_blocks, align_to_every_power_of_two) {
    for (std::size_t alignment = sizing::quantum; alignment <= 1 * GiB; alignment *= 2) {
        std::byte* const block = take(200 * KiB, alignment);
        block[0] = std::byte{1};
        EXPECT_EQ(&home_of(block), page_of(block + 100 * KiB));
        free_run(block);
    }
}

TEST_F(run_blocks, are_freed_once) {
    page& home = home_of(take(1 * MiB));
    EXPECT_TRUE(deallocate_run(home));
    EXPECT_FALSE(deallocate_run(home));
}

TEST_F(run_blocks, refuse_the_impossible) {
    for (std::size_t const bytes :
         {std::size_t{1} << 47, std::size_t{1} << 60, std::size_t{PTRDIFF_MAX}}) {
        EXPECT_EQ(allocate_run(**heap_, {.bytes = bytes, .alignment = 16}).start, nullptr);
    }
    EXPECT_EQ(allocate_run(**heap_, {.bytes = 1, .alignment = std::size_t{1} << 62}).start,
              nullptr);
    EXPECT_EQ(used_slices(), 0U);
}

TEST_F(run_blocks, change_their_size_within_their_slices) {
    std::byte* const block = take(200 * KiB);
    page& home = home_of(block);
    stamp(block, 200 * KiB, 1);
    EXPECT_TRUE(resize_run_in_place(home, 256 * KiB));
    EXPECT_EQ(home.block_bytes.get(), 256 * KiB);
    EXPECT_TRUE(resize_run_in_place(home, 193 * KiB));
    EXPECT_TRUE(is_stamped(block, 193 * KiB, 1));
    EXPECT_EQ(used_slices(), base::divide_up(193 * KiB, slice_bytes));
    free_run(block);
}

TEST_F(run_blocks, grow_over_free_neighbours_and_shrink_off_them) {
    std::byte* const block = take(256 * KiB);
    std::byte* const fence = take(256 * KiB);
    page& home = home_of(block);
    EXPECT_FALSE(resize_run_in_place(home, 320 * KiB));
    EXPECT_EQ(home.block_bytes.get(), 256 * KiB);
    free_run(fence);
    stamp(block, 256 * KiB, 2);
    ASSERT_TRUE(resize_run_in_place(home, 1 * MiB));
    expect_entered(block, 1 * MiB, 2 * MiB);
    std::memset(block + 256 * KiB, 1, 768 * KiB);
    ASSERT_TRUE(resize_run_in_place(home, 200 * KiB));
    expect_entered(block, 200 * KiB, 2 * MiB);
    EXPECT_TRUE(is_stamped(block, 200 * KiB, 2));
    EXPECT_EQ(used_slices(), base::divide_up(200 * KiB, slice_bytes));
    std::byte* const next = take(256 * KiB);
    EXPECT_EQ(next, block + base::align_up(200 * KiB, slice_bytes));
    free_run(next);
    free_run(block);
    expect_forgotten(block, 1 * MiB);
}

// The page map enters long runs in another way than short ones: a run that becomes long, or short,
// where it lies must be found, and forgotten, as if it had always been so.
TEST_F(run_blocks, are_found_and_forgotten_whatever_sizes_they_had) {
    constexpr std::size_t unit = process_page_map::coarse_slices * slice_bytes;
    std::size_t const sizes[] = {unit / 2,           unit - slice_bytes, unit,
                                 unit + slice_bytes, 3 * unit / 2,       2 * unit - slice_bytes,
                                 2 * unit,           3 * unit,           3 * unit + slice_bytes};
    for (std::size_t const first : sizes) {
        for (std::size_t const second : sizes) {
            std::byte* const block = take(first);
            page& home = home_of(block);
            if (resize_run_in_place(home, second)) {
                expect_entered(block, second, 4 * unit);
                if (resize_run_in_place(home, first)) {
                    expect_entered(block, first, 4 * unit);
                    static_cast<void>(resize_run_in_place(home, second));
                }
            }
            free_run(block);
            expect_forgotten(block, 4 * unit);
        }
    }
}

TEST_F(run_blocks, move_whole_or_stay) {
    struct step {
        std::size_t from;
        std::size_t to;
    };

    for (step const each : {step{1 * MiB, 4 * MiB}, step{100 * MiB, 300 * MiB},
                            step{300 * MiB, 600 * MiB}, step{600 * KiB, 90 * MiB}}) {
        std::byte* const block = take(each.from);
        stamp(block, each.from, each.to);
        void* const moved = move_run(home_of(block), each.to);
        if (moved == nullptr) {  // the kernel can, or will, not move these pages
            EXPECT_TRUE(is_stamped(block, each.from, each.to));
            expect_entered(block, each.from, each.from);
            free_run(block);
            continue;
        }
        ASSERT_NE(moved, block);
        EXPECT_TRUE(
            is_stamped(static_cast<std::byte*>(moved), std::min(each.from, each.to), each.to));
        EXPECT_GE(home_of(moved).block_bytes.get(), each.to);
        expect_forgotten(block, each.from);
        static_cast<std::byte*>(moved)[each.to - 1] = std::byte{1};
        free_run(moved);
    }
}

TEST_F(run_blocks, that_are_short_are_copied_by_others) {
    std::byte* const block = take(move_bytes_min - slice_bytes);
    EXPECT_EQ(move_run(home_of(block), 1 * MiB), nullptr);
    free_run(block);
}

// A process may have 65,530 mappings. A block that moved has one of its own, with room to grow; the
// arena it left, and the system when it is freed, look as if it had never been.
TEST_F(run_blocks, need_few_mappings_however_often_they_move) {
    if (tarn::test::mapping_count() < 0 || tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "no /proc/self/maps, or a sanitizer's mappings among ours";
    }
    int const before = tarn::test::mapping_count();
    std::mt19937_64 random{19};
    std::vector<void*> blocks(400, nullptr);
    for (std::uint64_t round = 0; round < tarn::test::scaled(8000); ++round) {
        void*& chosen = blocks[random() % blocks.size()];
        std::size_t const bytes = 300 * KiB + random() % (900 * KiB);
        chosen = chosen == nullptr ? (*heap_)->allocate(bytes)
                                   : reallocate(&**heap_, chosen, bytes, nullptr);
        ASSERT_NE(chosen, nullptr);
        static_cast<std::byte*>(chosen)[bytes - 1] = std::byte{1};
    }
    EXPECT_LT(tarn::test::mapping_count() - before, 20 + 2 * static_cast<int>(blocks.size()));
    for (void* const block : blocks) {
        (*heap_)->deallocate(block);
    }
    EXPECT_LT(tarn::test::mapping_count() - before, 20);
}

TEST_F(run_blocks, that_are_huge_change_their_size_where_they_lie) {
    std::byte* const block = take(600 * MiB);
    page& home = home_of(block);
    stamp(block, 600 * MiB, 3);
    std::uint64_t const before = process.huge_bytes.load();
    ASSERT_TRUE(resize_run_in_place(home, 300 * MiB + 1));
    EXPECT_EQ(process.huge_bytes.load(), before - 300 * MiB + platform::os::page_bytes());
    EXPECT_TRUE(is_stamped(block, 300 * MiB, 3));
    EXPECT_EQ(page_of(block + 599 * MiB), &home);  // the address space stays
    ASSERT_TRUE(resize_run_in_place(home, 600 * MiB));
    EXPECT_TRUE(is_stamped(block, 300 * MiB, 3));
    EXPECT_EQ(block[400 * MiB], std::byte{0});
    block[600 * MiB - 1] = std::byte{1};
    EXPECT_FALSE(resize_run_in_place(home, 600 * MiB + slice_bytes));
    free_run(block);
    expect_forgotten(block, 600 * MiB);
}

TEST_F(run_blocks, have_room_once_they_moved) {
    std::byte* const block = take(8 * MiB);
    auto* const moved = static_cast<std::byte*>(move_run(home_of(block), 16 * MiB));
    if (moved == nullptr) {
        free_run(block);
        GTEST_SKIP() << "pages can't be moved here";
    }
    EXPECT_TRUE(resize_run_in_place(home_of(moved), 24 * MiB));
    moved[24 * MiB - 1] = std::byte{1};
    EXPECT_EQ(used_slices(), 0U);  // what it left is free
    free_run(moved);
}

TEST_F(run_blocks, keep_count_of_huge_memory) {
    std::uint64_t const before = process.huge_bytes.load();
    std::uint64_t const released = process.huge_released_bytes.load();
    std::byte* const block = take(300 * MiB);
    EXPECT_EQ(process.huge_bytes.load() - before, 300 * MiB);
    void* const moved = move_run(home_of(block), 500 * MiB);
    if (moved == nullptr) {
        free_run(block);
        GTEST_SKIP() << "pages can't be moved here";
    }
    EXPECT_EQ(process.huge_bytes.load() - before, 500 * MiB);
    free_run(moved);
    EXPECT_EQ(process.huge_bytes.load(), before);
    EXPECT_EQ(process.huge_released_bytes.load() - released, 800 * MiB);
}

// Contents survive any sequence of sizes, whichever way each change takes.
TEST_F(run_blocks, take_over_what_reallocate_lets_grow) {
    auto* block = static_cast<std::byte*>((*heap_)->allocate(8 * KiB));
    stamp(block, 8 * KiB, 1);
    void* const run = reallocate(&**heap_, block, 16 * KiB, nullptr);
    EXPECT_EQ(home_of(run).kind.load(), page_kind::large);
    EXPECT_TRUE(is_stamped(static_cast<std::byte*>(run), 8 * KiB, 1));
    for (std::size_t bytes = 24 * KiB; bytes <= 4 * slice_bytes; bytes += 8 * KiB) {
        EXPECT_EQ(reallocate(&**heap_, run, bytes, nullptr), run);
        EXPECT_EQ(home_of(run).block_bytes.get(),
                  base::align_up(bytes, platform::os::page_bytes()));
        std::memset(static_cast<std::byte*>(run) + bytes - 1, 1, 1);
    }
    // What shrinks stays, until a small block does.
    EXPECT_EQ(reallocate(&**heap_, run, 12 * KiB, nullptr), run);
    void* const small = reallocate(&**heap_, run, 1 * KiB, nullptr);
    EXPECT_EQ(home_of(small).kind.load(), page_kind::small);
    EXPECT_TRUE(is_stamped(static_cast<std::byte*>(small), 1 * KiB, 1));
    (*heap_)->deallocate(small);
}

TEST_F(run_blocks, that_calloc_hands_out_again_are_zero) {
    for (std::size_t const bytes : {200 * KiB, 2 * MiB, 5 * MiB + 1, 20 * MiB}) {
        for (int round = 0; round < 2; ++round) {
            auto* const block = static_cast<std::byte*>(allocate_zeroed(&**heap_, bytes, nullptr));
            ASSERT_NE(block, nullptr);
            EXPECT_TRUE(
                std::all_of(block, block + bytes, [](std::byte b) { return b == std::byte{0}; }));
            std::memset(block, 0xff, bytes);
            free_run(block);
        }
    }
}

TEST_F(run_blocks, keep_their_contents_through_reallocate) {
    std::mt19937_64 random{17};
    std::size_t const sizes[] = {sizing::small_max, 200 * KiB, 300 * KiB, 1 * MiB,   5 * MiB,
                                 40 * MiB,          80 * MiB,  130 * MiB, 260 * MiB, 400 * MiB};
    std::size_t bytes = 1 * MiB;
    std::uint64_t seed = 0;
    void* block = (*heap_)->allocate(bytes);
    stamp(static_cast<std::byte*>(block), bytes, seed);
    std::uint64_t const rounds = tarn::test::scaled(20);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        std::size_t const next = sizes[random() % std::size(sizes)] + random() % (64 * KiB);
        block = reallocate(&**heap_, block, next, nullptr);
        ASSERT_NE(block, nullptr);
        ASSERT_TRUE(is_stamped(static_cast<std::byte*>(block), std::min(bytes, next), seed))
            << bytes << " to " << next;
        bytes = next;
        ++seed;
        stamp(static_cast<std::byte*>(block), bytes, seed);
    }
    (*heap_)->deallocate(block);
}

}  // namespace
