#include "debug/checked_heap.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "debug/debug_mode.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;
using heap::family;
using heap::operation_kind;

std::mutex found_mutex;
std::vector<finding> found;

void note(finding const& what) noexcept {
    std::lock_guard const guard{found_mutex};
    found.push_back(what);
    found.back().stack = {};
}

check_options const usual{.handler = &note};

/// A checked heap over the ordinary one. Where tests differ in options, each has its own.
class checked : public ::testing::Test {
protected:
    void SetUp() override {
        found.clear();
        heap_.configure(usual);
    }

    void TearDown() override { heap_.empty_quarantine(); }

    std::byte* allocate(std::size_t bytes, family by = family::malloc, std::size_t alignment = 0) {
        return static_cast<std::byte*>(heap_.allocate(
            {.kind = alignment == 0 ? operation_kind::allocate : operation_kind::allocate_aligned,
             .by = by,
             .bytes = bytes,
             .alignment = alignment}));
    }

    bool free(void* block, family by = family::malloc, std::size_t bytes = 0,
              std::size_t alignment = 0) {
        return heap_.deallocate({.kind = operation_kind::deallocate,
                                 .by = by,
                                 .block = block,
                                 .bytes = bytes,
                                 .alignment = alignment});
    }

    std::byte* resize(void* block, std::size_t bytes) {
        void* result = nullptr;
        EXPECT_TRUE(heap_.reallocate(
            {.kind = operation_kind::reallocate, .block = block, .bytes = bytes}, &result));
        return static_cast<std::byte*>(result);
    }

    static finding only() {
        EXPECT_EQ(found.size(), 1U);
        return found.empty() ? finding{} : found.front();
    }

    checked_heap heap_{heap_number::program, heap_source()};
};

TEST_F(checked, gives_aligned_filled_blocks_of_every_size_and_finds_nothing_wrong) {
    std::vector<std::byte*> blocks;
    for (std::size_t bytes : {0UL, 1UL, 15UL, 16UL, 17UL, 100UL, 4096UL, 70'000UL, 300'000UL}) {
        std::byte* const block = allocate(bytes);
        ASSERT_NE(block, nullptr);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 16, 0U);
        std::size_t const filled = std::min(bytes, usual.fill_bytes_max);
        EXPECT_TRUE(std::all_of(block, block + filled,
                                [](std::byte each) { return each == std::byte{0xA1}; }));
        std::memset(block, 1, bytes);
        blocks.push_back(block);
    }
    for (std::size_t alignment = 16; alignment <= 64 * 1024; alignment *= 2) {
        std::byte* const block = allocate(40, family::malloc, alignment);
        ASSERT_NE(block, nullptr);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0U);
        std::memset(block, 1, 40);
        blocks.push_back(block);
    }
    EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 0U);
    EXPECT_EQ(heap_.figures().live_blocks, blocks.size());
    for (std::byte* const block : blocks) {
        EXPECT_TRUE(free(block));
    }
    EXPECT_EQ(heap_.figures().live_blocks, 0U);
    EXPECT_EQ(heap_.figures().live_bytes, 0U);
    EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 0U);
    heap_.empty_quarantine();
    EXPECT_EQ(heap_.figures().quarantined_blocks, 0U);
    EXPECT_TRUE(found.empty());
}

TEST_F(checked, zeroed_blocks_are_zero) {
    for (std::size_t bytes : {1UL, 100UL, 5000UL, 3'000'000UL}) {
        for (int again = 0; again < 3; ++again) {
            auto* const block = static_cast<std::byte*>(
                heap_.allocate({.kind = operation_kind::allocate_zeroed, .bytes = bytes}));
            ASSERT_NE(block, nullptr);
            EXPECT_TRUE(std::all_of(block, block + bytes,
                                    [](std::byte each) { return each == std::byte{0}; }));
            std::memset(block, 7, bytes);
            EXPECT_TRUE(free(block));
            heap_.empty_quarantine();
        }
    }
    EXPECT_TRUE(found.empty());
}

TEST_F(checked, finds_each_byte_written_behind_and_before) {
    for (std::size_t bytes : {0UL, 1UL, 7UL, 16UL, 24UL, 100UL}) {
        for (std::ptrdiff_t distance = -16; distance < 64; ++distance) {
            std::ptrdiff_t const at =
                distance < 0 ? distance : static_cast<std::ptrdiff_t>(bytes) + distance;
            std::byte* const block = allocate(bytes);
            block[at] ^= std::byte{0x40};
            EXPECT_TRUE(free(block));
            finding const one = only();
            EXPECT_EQ(one.what, distance < 0 ? fault::underflow : fault::overflow);
            EXPECT_EQ(one.damage_first, at);
            EXPECT_EQ(one.damage_last, at);
            EXPECT_EQ(one.damaged_bytes, 1U);
            EXPECT_EQ(one.may_be_more, distance == -16 || (bytes % 16 == 0 && distance == 63));
            EXPECT_EQ(one.block.user, block);
            EXPECT_EQ(one.block.bytes, bytes);
            EXPECT_STREQ(one.operation, "free");
            std::ptrdiff_t const shown = at - one.dump.from;
            ASSERT_GE(shown, 0);
            ASSERT_LT(static_cast<std::size_t>(shown), one.dump.bytes);
            auto const i = static_cast<std::size_t>(shown);
            EXPECT_EQ(one.dump.found[i], one.dump.expected[i] ^ std::byte{0x40});
            found.clear();
        }
    }
    heap_.empty_quarantine();
    EXPECT_TRUE(found.empty()) << "damage is told once";
}

TEST_F(checked, tells_damage_on_both_sides_apart) {
    std::byte* const block = allocate(10);
    std::memset(block - 3, 0, 3);
    std::memset(block + 10, 0, 5);
    EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 1U);
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(found[0].what, fault::underflow);
    EXPECT_EQ(found[0].damaged_bytes, 3U);
    EXPECT_EQ(found[1].what, fault::overflow);
    EXPECT_EQ(found[1].damage_first, 10);
    EXPECT_EQ(found[1].damage_last, 14);
    EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 1U) << "still damaged";
    EXPECT_EQ(found.size(), 2U) << "and told already";
    EXPECT_TRUE(free(block));
}

TEST_F(checked, finds_writes_after_free) {
    for (std::ptrdiff_t at : {-16, -1, 0, 5, 99, 100, 163}) {
        std::byte* const block = allocate(100);
        EXPECT_TRUE(free(block));
        block[at] ^= std::byte{1};
        heap_.empty_quarantine();
        finding const one = only();
        EXPECT_EQ(one.what, fault::use_after_free);
        EXPECT_EQ(one.damage_first, at);
        EXPECT_EQ(one.block.state, block_state::freed);
        found.clear();
    }
}

TEST_F(checked, names_double_and_interior_frees) {
    std::byte* const block = allocate(50);
    EXPECT_TRUE(free(block + 16));
    EXPECT_EQ(only().what, fault::interior_free);
    EXPECT_EQ(only().block.user, block);
    found.clear();
    EXPECT_TRUE(free(block - 16));
    EXPECT_EQ(only().what, fault::interior_free);
    found.clear();
    EXPECT_TRUE(free(block));
    EXPECT_TRUE(found.empty());
    EXPECT_TRUE(free(block));
    EXPECT_EQ(only().what, fault::double_free);
    EXPECT_EQ(only().block.state, block_state::freed);
    found.clear();
    EXPECT_EQ(heap_.figures().live_blocks, 0U);
    void* result = &result;
    EXPECT_TRUE(heap_.reallocate({.kind = operation_kind::reallocate, .block = block, .bytes = 10},
                                 &result));
    EXPECT_EQ(result, nullptr);
    EXPECT_EQ(only().what, fault::double_free);
}

TEST_F(checked, leaves_to_others_what_is_not_its) {
    int on_stack = 0;
    EXPECT_FALSE(free(&on_stack));
    void* const plain = heap::perform_in_heap({.kind = operation_kind::allocate, .bytes = 100});
    EXPECT_FALSE(free(plain));
    static_cast<void>(heap::perform_in_heap({.kind = operation_kind::deallocate, .block = plain}));
    EXPECT_TRUE(found.empty());
}

TEST_F(checked, a_block_whose_tag_is_overwritten_is_not_lost) {
    std::byte* const block = allocate(50);
    std::memset(block - 16, 0xff, 16);
    EXPECT_TRUE(free(block));
    EXPECT_EQ(only().what, fault::underflow);
    EXPECT_EQ(only().damage_first, -16);
    EXPECT_EQ(heap_.figures().live_blocks, 0U);
    found.clear();
    EXPECT_TRUE(free(block));
    EXPECT_EQ(only().what, fault::double_free);
}

TEST_F(checked, a_tag_copied_from_another_block_leads_nowhere) {
    std::byte* const one = allocate(50);
    std::byte* const other = allocate(50);
    std::memcpy(other - 16, one - 16, 16);
    EXPECT_TRUE(free(other));
    EXPECT_EQ(only().block.user, other);
    EXPECT_EQ(only().what, fault::underflow);
    found.clear();
    EXPECT_TRUE(free(one));
    EXPECT_TRUE(found.empty());
}

TEST_F(checked, compares_how_blocks_come_and_go) {
    struct {
        family by, freed_by;
        std::size_t alignment, bytes, freed_bytes, freed_alignment;
        bool is_wrong;
        fault what;
    } const cases[]{
        {family::malloc, family::malloc, 0, 40, 0, 0, false, {}},
        {family::malloc, family::malloc, 0, 40, 40, 0, false, {}},
        {family::malloc, family::malloc, 64, 40, 0, 0, false, {}},
        {family::new_one, family::new_one, 0, 40, 40, 0, false, {}},
        {family::new_array, family::new_array, 64, 40, 40, 64, false, {}},
        {family::malloc, family::malloc, 0, 40, 40, 8, false, {}},
        {family::malloc, family::malloc, 64, 40, 40, 48, false, {}},
        {family::new_one, family::new_one, 0, 40, 40, 16, false, {}},
        {family::malloc, family::new_one, 0, 40, 0, 0, true, fault::mismatched_free},
        {family::new_one, family::malloc, 0, 40, 0, 0, true, fault::mismatched_free},
        {family::new_array, family::new_one, 0, 40, 0, 0, true, fault::mismatched_free},
        {family::new_one, family::new_one, 0, 40, 39, 0, true, fault::wrong_size},
        {family::malloc, family::malloc, 0, 40, 41, 0, true, fault::wrong_size},
        {family::new_one, family::new_one, 64, 40, 40, 0, true, fault::wrong_alignment},
        {family::new_one, family::new_one, 0, 40, 40, 64, true, fault::wrong_alignment},
        {family::new_one, family::new_one, 64, 40, 40, 32, true, fault::wrong_alignment},
    };

    for (auto const& each : cases) {
        std::byte* const block = allocate(each.bytes, each.by, each.alignment);
        EXPECT_TRUE(free(block, each.freed_by, each.freed_bytes, each.freed_alignment));
        if (each.is_wrong) {
            EXPECT_EQ(only().what, each.what);
            EXPECT_EQ(only().freed_as.by, each.freed_by);
        } else {
            EXPECT_TRUE(found.empty());
        }
        found.clear();
    }
    EXPECT_EQ(heap_.figures().live_blocks, 0U) << "a mismatched block is freed all the same";
}

TEST_F(checked, resizes_with_contents_and_exact_ends) {
    std::byte* block = allocate(10);
    for (std::size_t i = 0; i < 10; ++i) {
        block[i] = static_cast<std::byte>(i);
    }
    std::mt19937 random{7};
    std::size_t bytes = 10;
    for (std::size_t next :
         {20UL, 5UL, 100UL, 4096UL, 100'000UL, 120'000UL, 2'000'000UL, 1'900'000UL, 300UL, 9UL}) {
        std::byte* const moved = resize(block, next);
        ASSERT_NE(moved, nullptr);
        for (std::size_t i = 0; i < std::min({bytes, next, 5UL}); ++i) {
            EXPECT_EQ(moved[i], static_cast<std::byte>(i));
        }
        block = moved;
        bytes = next;
        EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 0U);
        moved[next + random() % 64] ^= std::byte{2};
        EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 1U);
        EXPECT_EQ(only().what, fault::overflow);
        found.clear();
        block = resize(moved, next + 1);  // has whole guards again
        ++bytes;
        found.clear();
        EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 0U);
    }
    EXPECT_EQ(heap_.figures().live_bytes, bytes);
    EXPECT_TRUE(free(block));
}

TEST_F(checked, a_mistaken_realloc_is_told_once) {
    for (std::size_t const bytes : {40UL, 500'000UL}) {
        std::byte* const block = allocate(bytes, family::new_array);
        std::byte* const resized = resize(block, bytes - 1);
        EXPECT_EQ(resized == block, bytes > 40) << "the large one is resized in place";
        EXPECT_EQ(only().what, fault::mismatched_free);
        EXPECT_EQ(only().block.by, family::new_array);
        EXPECT_EQ(only().block.bytes, bytes);
        EXPECT_TRUE(free(resized));
        EXPECT_EQ(found.size(), 1U);
        found.clear();
    }
}

TEST_F(checked, a_large_block_that_grows_in_small_steps_stays) {
    std::byte* block = allocate(200'000);
    int moves = 0;
    for (std::size_t bytes = 200'000; bytes < 2'000'000; bytes += 1000) {
        std::byte* const next = resize(block, bytes);
        moves += next != block ? 1 : 0;
        block = next;
    }
    EXPECT_LE(moves, 8);
    EXPECT_TRUE(free(block));
    EXPECT_TRUE(found.empty());
}

TEST_F(checked, keeps_freed_blocks_for_a_while_and_not_for_ever) {
    check_options small = usual;
    small.quarantine_bytes = 100'000;
    heap_.configure(small);
    std::byte* const first = allocate(1000);
    EXPECT_TRUE(free(first));
    std::vector<std::byte*> later;
    for (int i = 0; i < 50; ++i) {
        later.push_back(allocate(1000));
        EXPECT_NE(later.back(), first);
        EXPECT_TRUE(free(later.back()));
    }
    for (int i = 0; i < 1000; ++i) {
        EXPECT_TRUE(free(allocate(1000)));
        EXPECT_LE(heap_.figures().quarantined_bytes, 101'000U);
    }
    EXPECT_GT(heap_.figures().quarantined_bytes, 50'000U);
}

TEST_F(checked, refuses_what_can_not_be) {
    errno = 0;
    EXPECT_EQ(allocate(PTRDIFF_MAX / 2 + 1), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    std::byte* const block = allocate(10);
    EXPECT_EQ(resize(block, PTRDIFF_MAX / 2 + 1), nullptr);
    EXPECT_TRUE(free(block)) << "it stays as it was";
    EXPECT_TRUE(found.empty());
}

TEST_F(checked, names_neighbours) {
    std::array<std::byte*, 3> blocks{};
    for (std::byte*& each : blocks) {
        each = allocate(20);
    }
    std::sort(blocks.begin(), blocks.end());
    if (blocks[2] - blocks[0] > 1024) {
        GTEST_SKIP() << "they lie apart";
    }
    blocks[1][20] ^= std::byte{1};
    EXPECT_TRUE(free(blocks[1]));
    EXPECT_EQ(only().before.user, blocks[0]);
    EXPECT_EQ(only().after.user, blocks[2]);
    EXPECT_TRUE(free(blocks[0]));
    EXPECT_TRUE(free(blocks[2]));
}

TEST_F(checked, keyed_guards_do_not_pass_elsewhere) {
    check_options keyed = usual;
    keyed.guards.key = 0x1234567;
    heap_.configure(keyed);
    std::byte* const one = allocate(16);
    std::byte* const other = allocate(16);
    std::memcpy(one + 16, other + 16, 64);
    EXPECT_TRUE(free(one));
    EXPECT_EQ(only().what, fault::overflow);
    EXPECT_TRUE(free(other));
    EXPECT_EQ(found.size(), 1U);
}

TEST_F(checked, threads_free_each_others_blocks_while_one_checks) {
    constexpr std::size_t threads = 3;
    constexpr std::size_t slots = 64;
    std::array<std::atomic<std::byte*>, slots> shared{};
    std::atomic<bool> done{false};
    std::vector<std::thread> workers;
    std::uint64_t const rounds = tarn::test::scaled(20'000);
    for (std::size_t t = 0; t < threads; ++t) {
        workers.emplace_back([&, t] {
            std::mt19937 random{static_cast<unsigned>(t)};
            for (std::uint64_t i = 0; i < rounds; ++i) {
                std::size_t const bytes = random() % 200;
                std::byte* mine = allocate(bytes);
                std::memset(mine, 1, bytes);
                mine = shared[random() % slots].exchange(mine, std::memory_order_acq_rel);
                if (mine != nullptr) {
                    EXPECT_TRUE(free(mine));
                }
            }
        });
    }
    std::thread checker{[&] {
        while (!done.load(std::memory_order_relaxed)) {
            EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 0U);
        }
    }};
    for (std::thread& worker : workers) {
        worker.join();
    }
    done = true;
    checker.join();
    for (auto& slot : shared) {
        if (std::byte* const rest = slot.load()) {
            EXPECT_TRUE(free(rest));
        }
    }
    EXPECT_TRUE(found.empty());
    EXPECT_EQ(heap_.figures().live_blocks, 0U);
    EXPECT_EQ(heap_.figures().allocations, threads * rounds);
}

TEST_F(checked, of_two_threads_that_free_at_once_one_is_told) {
    std::uint64_t const rounds = tarn::test::scaled(2000);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        std::byte* const block = allocate(30);
        std::thread other{[&] { EXPECT_TRUE(free(block)); }};
        EXPECT_TRUE(free(block));
        other.join();
        EXPECT_EQ(only().what, fault::double_free);
        found.clear();
    }
}

}  // namespace
