#include "debug/page_source.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "base/bits.hpp"
#include "heap/process.hpp"
#include "support/build.hpp"
#include "support/mappings.hpp"
#include "support/memory_probe.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;
using heap::family;
using heap::operation_kind;
using platform::guard_method;
using platform::os;

std::mutex found_mutex;
std::vector<finding> found;

void note(finding const& what) noexcept {
    std::lock_guard const guard{found_mutex};
    found.push_back(what);
    found.back().stack = {};
}

/// Each test runs with every way to guard that the system has.
class page_source : public ::testing::TestWithParam<guard_method> {
protected:
    void SetUp() override {
        usual_ = os::guards_by();
        if (GetParam() == guard_method::markers && usual_ != guard_method::markers) {
            GTEST_SKIP() << "this system has no guard markers";
        }
        os::guard_by(GetParam());
        found.clear();
        heap_.configure(with_page_defaults({.handler = &note}), debug::page_source());
    }

    void TearDown() override {
        heap_.empty_quarantine();
        release_idle_runs();
        EXPECT_EQ(figures_of_page_source().idle_runs, 0U);
        EXPECT_EQ(figures_of_page_source().fenced_runs, 0U);
        os::guard_by(usual_);
    }

    std::byte* allocate(std::size_t bytes, std::size_t alignment = 0,
                        operation_kind kind = operation_kind::allocate) {
        return static_cast<std::byte*>(
            heap_.allocate({.kind = alignment == 0 ? kind : operation_kind::allocate_aligned,
                            .bytes = bytes,
                            .alignment = alignment}));
    }

    bool free(void* block) {
        return heap_.deallocate({.kind = operation_kind::deallocate, .block = block});
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

    checked_heap heap_{heap_number::program, debug::page_source()};
    tarn::test::memory_probe const memory_;
    guard_method usual_ = guard_method::nothing;
};

INSTANTIATE_TEST_SUITE_P(all, page_source,
                         ::testing::Values(guard_method::markers, guard_method::protection),
                         [](auto const& each) {
                             return each.param == guard_method::markers ? "markers" : "protection";
                         });

TEST_P(page_source, blocks_of_every_size_and_alignment_end_where_nothing_can_be_accessed) {
    std::size_t const os_page = os::page_bytes();
    for (std::size_t alignment : {0UL, 16UL, 64UL, 1024UL, 4096UL, 16'384UL, 65'536UL, 1UL << 20}) {
        for (std::size_t bytes :
             {0UL, 1UL, 15UL, 16UL, 17UL, 100UL, 4095UL, 4096UL, 4097UL, 57'344UL, 70'000UL}) {
            SCOPED_TRACE(::testing::Message() << bytes << " at " << alignment);
            std::byte* const block = allocate(bytes, alignment);
            ASSERT_NE(block, nullptr);
            std::size_t const unit = std::min(std::max<std::size_t>(alignment, 16), os_page);
            EXPECT_EQ(base::address_of(block) % std::max<std::size_t>(alignment, 16), 0U);
            std::byte* const end = block + base::align_up(bytes, unit);
            EXPECT_EQ(base::address_of(end) % os_page, 0U);
            EXPECT_FALSE(memory_.readable(end));
            EXPECT_FALSE(memory_.readable(end + os_page - 1));
            std::memset(block, 1, bytes);
            for (std::size_t i = 0; i < base::align_up(bytes, unit); i += 512) {
                EXPECT_TRUE(memory_.readable(block + i));
            }
            if (alignment <= sizing::slice_bytes) {
                std::byte* const start = block - base::address_of(block) % os_page;
                EXPECT_FALSE(memory_.readable(start - 1));
            }
            EXPECT_EQ(checked_heap::find_start(block)->user, block);
            EXPECT_TRUE(free(block));
            EXPECT_FALSE(memory_.readable(block));
            EXPECT_FALSE(bytes != 0 && memory_.readable(end - 1));
        }
    }
    EXPECT_TRUE(found.empty());
    EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 0U);
}

TEST_P(page_source, guard_bytes_tell_what_pages_do_not) {
    for (std::size_t bytes : {1UL, 8UL, 24UL, 100UL, 4095UL}) {
        std::size_t const behind = base::align_up(bytes, 16) - bytes;
        for (std::size_t i = 0; i < behind; ++i) {
            std::byte* const block = allocate(bytes);
            block[bytes + i] ^= std::byte{1};
            EXPECT_TRUE(free(block));
            EXPECT_EQ(only().what, fault::overflow);
            EXPECT_EQ(only().damage_first, static_cast<std::ptrdiff_t>(bytes + i));
            EXPECT_EQ(only().damaged_bytes, 1U);
            found.clear();
        }
    }
    std::byte* const block = allocate(40);
    std::size_t const front = base::address_of(block) % os::page_bytes();
    block[-1] ^= std::byte{1};
    block[-static_cast<std::ptrdiff_t>(front)] ^= std::byte{1};
    EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 1U);
    EXPECT_EQ(only().what, fault::underflow);
    EXPECT_EQ(only().damage_first, -static_cast<std::ptrdiff_t>(front));
    EXPECT_EQ(only().damage_last, -1);
    EXPECT_TRUE(free(block));
}

TEST_P(page_source, double_and_interior_frees_are_told_and_do_not_fault) {
    for (std::size_t bytes : {0UL, 50UL, 4096UL, 1'000'000UL}) {
        std::byte* const block = allocate(bytes);
        EXPECT_TRUE(free(block + 1));
        EXPECT_EQ(only().what, fault::interior_free);
        EXPECT_EQ(only().block.user, block);
        found.clear();
        EXPECT_TRUE(free(block));
        EXPECT_TRUE(found.empty());
        EXPECT_TRUE(free(block));
        EXPECT_EQ(only().what, fault::double_free);
        found.clear();
        EXPECT_EQ(resize(block, 10), nullptr);
        EXPECT_EQ(only().what, fault::double_free);
        found.clear();
    }
    std::byte* const block = allocate(50);
    EXPECT_TRUE(free(block));
    heap_.empty_quarantine();
    EXPECT_TRUE(free(block)) << "its run waits to be used again";
    EXPECT_EQ(only().what, fault::double_free);
}

TEST_P(page_source, zeroed_blocks_are_zero) {
    for (std::size_t bytes : {1UL, 100UL, 5000UL, 100'000UL, 3'000'000UL}) {
        for (int again = 0; again < 3; ++again) {
            std::byte* const block = allocate(bytes, 0, operation_kind::allocate_zeroed);
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

TEST_P(page_source, resizes_with_contents) {
    std::byte* block = allocate(10);
    std::memset(block, 3, 10);
    std::mt19937 random{3};
    for (std::size_t bytes : {20UL, 5UL, 100UL, 4096UL, 100'000UL, 104'000UL, 140'000UL,
                              2'000'000UL, 1'900'000UL, 1'000'001UL, 300UL, 9UL}) {
        block = resize(block, bytes);
        ASSERT_NE(block, nullptr);
        EXPECT_EQ(block[0], std::byte{3});
        EXPECT_EQ(block[4], std::byte{3});
        std::memset(block, 3, bytes);
        std::byte* const page_end =
            block + bytes - base::address_of(block + bytes) % os::page_bytes();
        EXPECT_FALSE(memory_.readable(page_end + os::page_bytes()));
        if (base::address_of(block + bytes) % os::page_bytes() != 0) {
            block[bytes] ^= std::byte{1};
            EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 1U);
            block[bytes] ^= std::byte{1};
        }
        EXPECT_EQ(heap_.check_all("check", nullptr).damaged_blocks, 0U);
        found.clear();
    }
    EXPECT_TRUE(free(block));
    EXPECT_EQ(heap_.figures().live_bytes, 0U);
}

TEST_P(page_source, a_large_block_that_grows_in_small_steps_stays) {
    std::byte* block = allocate(200'000);
    int moves = 0;
    for (std::size_t bytes = 200'000; bytes < 2'000'000; bytes += 1000) {
        std::byte* const next = resize(block, bytes);
        moves += next != block ? 1 : 0;
        block = next;
        block[bytes - 1] = std::byte{1};
    }
    EXPECT_LE(moves, 8);
    EXPECT_TRUE(free(block));
    EXPECT_TRUE(found.empty());
}

TEST_P(page_source, freed_blocks_have_no_memory) {
    constexpr std::size_t blocks = 64;
    constexpr std::size_t bytes = 400'000;
    heap::process.space.purge_all();
    std::size_t const charged = heap::process.space.budget().charged();
    std::vector<std::byte*> all;
    for (std::size_t i = 0; i < blocks; ++i) {
        all.push_back(allocate(bytes));
        std::memset(all.back(), 1, bytes);
    }
    EXPECT_GE(heap::process.space.budget().charged(), charged + blocks * bytes);
    EXPECT_LE(heap::process.space.budget().charged(),
              charged + blocks * (bytes + os::page_bytes()));
    std::size_t const before = tarn::test::resident_bytes();
    for (std::byte* const each : all) {
        EXPECT_TRUE(free(each));
    }
    EXPECT_EQ(heap_.figures().quarantined_blocks, blocks);
    EXPECT_LE(heap::process.space.budget().charged(), charged);
    if (before != 0 && !tarn::test::is_slow) {
        EXPECT_LT(tarn::test::resident_bytes(), before - blocks * bytes / 2);
    }
}

TEST_P(page_source, small_blocks_are_charged_what_they_hold_and_runs_are_used_again) {
    EXPECT_TRUE(free(allocate(100)));
    heap_.empty_quarantine();
    std::size_t const charged = heap::process.space.budget().charged();
    for (int i = 0; i < 100; ++i) {
        std::byte* const block = allocate(100);
        EXPECT_EQ(heap::process.space.budget().charged(), charged + os::page_bytes());
        std::memset(block, 1, 100);
        EXPECT_TRUE(free(block));
        heap_.empty_quarantine();
        EXPECT_EQ(heap::process.space.budget().charged(), charged);
    }
    EXPECT_EQ(figures_of_page_source().idle_runs, 1U);
}

TEST_P(page_source, the_quarantine_is_of_address_space) {
    constexpr std::size_t bytes_max = 10'000'000;
    check_options small = with_page_defaults({.handler = &note});
    small.quarantine_bytes = bytes_max;
    heap_.configure(small);
    std::size_t const block_bytes = small.quarantine_block_bytes + 100;
    for (std::size_t i = 0; i < 2 * bytes_max / block_bytes; ++i) {
        EXPECT_TRUE(free(allocate(100)));
        EXPECT_LE(heap_.figures().quarantined_blocks, bytes_max / block_bytes + 1);
    }
    EXPECT_GE(heap_.figures().quarantined_blocks, bytes_max / block_bytes - 8);
}

std::atomic<int> refusals{0};

TEST_P(page_source, where_guards_are_refused_blocks_work_and_that_is_told_once) {
    when_guards_are_refused([]() noexcept { refusals.fetch_add(1); });
    os::guard_by(guard_method::nothing);
    int const told_before = refusals.load();
    std::uint64_t const before = figures_of_page_source().unfenced_blocks;
    for (std::size_t bytes : {0UL, 10UL, 5000UL, 300'000UL}) {
        SCOPED_TRACE(bytes);
        std::byte* block = allocate(bytes);
        ASSERT_NE(block, nullptr);
        std::memset(block, 1, bytes);
        block = resize(block, 2 * bytes);
        block[2 * bytes] ^= std::byte{1};
        EXPECT_TRUE(free(block));
        EXPECT_EQ(only().what, fault::overflow);
        found.clear();
        EXPECT_TRUE(free(block));
        EXPECT_EQ(only().what, fault::double_free);
        found.clear();
    }
    std::byte* const block = allocate(100);
    EXPECT_TRUE(free(block));
    block[5] ^= std::byte{1};
    heap_.empty_quarantine();
    EXPECT_EQ(only().what, fault::use_after_free) << "seen by its fill";
    EXPECT_GT(figures_of_page_source().unfenced_blocks, before);
    EXPECT_LE(refusals.load(), 1);
    EXPECT_TRUE(told_before == 1 || refusals.load() == 1);
    when_guards_are_refused(nullptr);
}

TEST_P(page_source, takes_no_mapping_a_block_where_there_are_markers) {
    std::vector<std::byte*> all;
    all.push_back(allocate(10));
    int const before = tarn::test::mapping_count();
    for (int i = 0; i < 300; ++i) {
        all.push_back(allocate(10));
    }
    if (GetParam() == guard_method::markers && before > 0 && !tarn::test::is_slow) {
        EXPECT_LE(tarn::test::mapping_count(), before + 8);
    }
    for (std::byte* const each : all) {
        EXPECT_TRUE(free(each));
    }
}

TEST_P(page_source, refuses_what_can_not_be) {
    errno = 0;
    EXPECT_EQ(allocate(PTRDIFF_MAX / 2 + 1), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    std::byte* const block = allocate(10);
    EXPECT_EQ(resize(block, PTRDIFF_MAX / 2 + 1), nullptr);
    EXPECT_TRUE(free(block));
    EXPECT_TRUE(found.empty());
}

TEST_P(page_source, blocks_of_the_ordinary_heap_beside_inaccessible_runs_are_left_alone) {
    std::vector<std::byte*> guarded;
    std::vector<void*> plain;
    for (int i = 0; i < 50; ++i) {
        guarded.push_back(allocate(10));
        plain.push_back(
            heap::perform_in_heap({.kind = operation_kind::allocate, .bytes = 200'000}));
    }
    for (void* const each : plain) {
        EXPECT_FALSE(free(each)) << "a look before its start would fault";
        static_cast<void>(
            heap::perform_in_heap({.kind = operation_kind::deallocate, .block = each}));
    }
    for (std::byte* const each : guarded) {
        EXPECT_TRUE(free(each));
    }
}

TEST_P(page_source, a_forked_child_has_the_same_blocks) {
    std::byte* const live = allocate(100);
    std::byte* const freed = allocate(100);
    EXPECT_TRUE(free(freed));
    int const status = tarn::test::run_in_child(20, [&] {
        tarn::test::memory_probe const there;
        bool const is_same =
            there.readable(live) && !there.readable(live + 112) && !there.readable(freed);
        std::memset(live, 1, 100);
        bool const is_freed = free(live);
        heap_.empty_quarantine();
        std::byte* const other = allocate(5000);
        std::memset(other, 1, 5000);
        return is_same && is_freed && free(other) && found.empty() ? 0 : 1;
    });
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(memory_.readable(live));
    EXPECT_TRUE(free(live));
}

TEST_P(page_source, threads_free_each_others_blocks_while_one_checks) {
    constexpr std::size_t threads = 3;
    constexpr std::size_t slots = 64;
    std::array<std::atomic<std::byte*>, slots> shared{};
    std::atomic<bool> done{false};
    std::vector<std::thread> workers;
    std::uint64_t const rounds = tarn::test::scaled(3000);
    check_options small = with_page_defaults({.handler = &note});
    small.quarantine_bytes = 4 * MiB;
    heap_.configure(small);
    for (std::size_t t = 0; t < threads; ++t) {
        workers.emplace_back([&, t] {
            std::mt19937 random{static_cast<unsigned>(t)};
            for (std::uint64_t i = 0; i < rounds; ++i) {
                std::size_t const bytes = i % 64 == 0 ? random() % 200'000 : random() % 9000;
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
}

TEST_P(page_source, an_opened_page_is_closed_before_its_run_is_used_again) {
    std::byte* const block = allocate(100);
    EXPECT_TRUE(free(block));
    EXPECT_TRUE(open_page(block));
    EXPECT_TRUE(memory_.readable(block));
    heap_.empty_quarantine();
    std::byte* const again = allocate(3 * os::page_bytes());
    EXPECT_FALSE(memory_.readable(again + 3 * os::page_bytes()));
    EXPECT_TRUE(free(again));
}

}  // namespace
