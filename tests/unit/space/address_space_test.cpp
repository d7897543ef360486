// Runs on Linux, and in unit_space_fake on the fake, whose clock and refusals the tests choose.
#include "space/address_space.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/bits.hpp"
#include "base/units.hpp"
#include "platform/os.hpp"
#include "sizing/size_class.hpp"
#include "support/build.hpp"
#include "support/mappings.hpp"

namespace {

using namespace tarn::impl;
using sizing::slice_bytes;
using space::run;
using space::space_counts;

constexpr std::size_t arena_slices = 4 * MiB / slice_bytes;

bool is_zero(run const& of) {
    std::byte const* const first = of.base;
    std::byte const* const end = first + of.slices * slice_bytes;
    return std::all_of(first, end, [](std::byte each) { return each == std::byte{0}; });
}

/// Writes a byte to every OS page.
void touch(run const& of, unsigned char with = 0xa5) {
    for (std::size_t at = 0; at < of.slices * slice_bytes; at += 4 * KiB) {
        of.base[at] = static_cast<std::byte>(with);
    }
}

class address_space : public testing::Test {
protected:
    void SetUp() override {
#ifdef TARN_PLATFORM_FAKE
        platform::os::reset();
#endif
        configure({.arena_bytes = arena_slices * slice_bytes});
    }

    void TearDown() override { space_->audit(); }

    void configure(space::space_options options) {
        space_ = std::make_unique<space::address_space>();
        space_->configure(options);
    }

    run acquire(std::size_t slices, std::size_t alignment = 1, std::size_t gap = 0) {
        run const got = space_->acquire(slices, alignment, gap);
        EXPECT_NE(got.base, nullptr);
        EXPECT_EQ(got.slices, slices);
        EXPECT_TRUE(base::is_aligned(base::address_of(got.base), alignment * slice_bytes));
        space_->audit();
        return got;
    }

    void give_back(run const& owned) {
        space_->return_run(owned);
        space_->audit();
    }

    // Nothing is unmapped, as in the library.
    std::unique_ptr<space::address_space> space_;
};

TEST_F(address_space, reserves_nothing_before_it_is_asked) {
    space_counts const counts = space_->counts();
    EXPECT_EQ(counts.arenas, 0U);
    EXPECT_EQ(counts.reserved_bytes, 0U);
    EXPECT_EQ(space_->purge_all(), 0U);
    space_->purge_due();
    space_->for_each_used([](run const&) { FAIL(); });
}

TEST_F(address_space, puts_runs_that_will_grow_where_there_is_room) {
    run const first = acquire(1);
    run const middle = acquire(3);
    run const last = acquire(1);
    give_back(middle);
    run growing = acquire(1, 1, 4);
    EXPECT_EQ(growing.base, last.base + slice_bytes);
    EXPECT_EQ(acquire(2).base, middle.base);
    EXPECT_TRUE(space_->extend(growing, 3));
    // Where no gap is so long, it goes where it fits.
    EXPECT_EQ(acquire(1, 1, 2 * arena_slices).base, middle.base + 2 * slice_bytes);
    give_back(first);
    EXPECT_EQ(space_->counts().arenas, 1U);
}

TEST_F(address_space, a_run_that_comes_back_clean_is_neither_charged_nor_purged) {
    std::size_t const before = space_->budget().charged();
    run const got = acquire(5);
    touch(got);
    ASSERT_TRUE(platform::os::purge(got.base, got.slices * slice_bytes));
    space_->budget().refund(got.slices * slice_bytes);
    space_->return_clean_run(got);
    space_->audit();
    EXPECT_EQ(space_->budget().charged(), before);
    EXPECT_EQ(space_->counts().free_dirty_bytes, 0U);
    EXPECT_EQ(space_->counts().used_bytes, 0U);
    EXPECT_EQ(space_->purge_all(), 0U);
    run const again = acquire(5);
    EXPECT_EQ(again.base, got.base);
    EXPECT_TRUE(again.zeroed);
    EXPECT_TRUE(is_zero(again));
    EXPECT_EQ(space_->budget().charged(), before + 5 * slice_bytes);
}

TEST_F(address_space, hands_out_zero_memory_that_can_be_written) {
    for (std::size_t const slices : {1U, 2U, 15U, 16U, 17U}) {
        run const got = acquire(slices);
        EXPECT_TRUE(got.zeroed);
        EXPECT_TRUE(is_zero(got));
        touch(got);
    }
}

TEST_F(address_space, backs_dense_runs_by_huge_pages_once_much_is_used) {
    constexpr std::size_t huge_slices = platform::huge_page_bytes / slice_bytes;
    configure(
        {.arena_bytes = arena_slices * slice_bytes, .huge_after_bytes = platform::huge_page_bytes});
    auto const dense = [this] {
        run const got = space_->acquire(1, 1, 0, space::run_use::dense);
        EXPECT_NE(got.base, nullptr);
        EXPECT_TRUE(got.zeroed);
        space_->audit();
        return got;
    };
    run const early = dense();
    EXPECT_EQ(space_->counts().free_dirty_bytes, 0U);
    run const filler = acquire(huge_slices - 1);
    run const first = dense();
    EXPECT_TRUE(is_zero(first));
    std::size_t const dirty = space_->counts().free_dirty_bytes;
    if (dirty == 0) {
        GTEST_SKIP() << "the system has no huge page for us";
    }
    // What is free of it is there as well, so it counts as memory that can be given back.
    EXPECT_EQ(dirty, (huge_slices - 1) * slice_bytes);
    run const second = space_->acquire(1, 1, 0, space::run_use::dense);
    EXPECT_EQ(second.base, first.base + slice_bytes);
    EXPECT_EQ(space_->purge_all(), (huge_slices - 2) * slice_bytes);
    EXPECT_EQ(space_->counts().free_dirty_bytes, 0U);
    for (run const& each : {early, filler, first, second}) {
        give_back(each);
    }
}

TEST_F(address_space, leaves_sparse_runs_as_they_are) {
    configure({.arena_bytes = arena_slices * slice_bytes, .huge_after_bytes = 0});
    run const sparse = acquire(1);
    EXPECT_EQ(space_->counts().free_dirty_bytes, 0U);
    give_back(sparse);
}

TEST_F(address_space, takes_the_lowest_address_that_fits) {
    run const a = acquire(4);
    run const b = acquire(2);
    run const c = acquire(8);
    run const d = acquire(1);
    EXPECT_LT(a.base, b.base);
    EXPECT_LT(b.base, c.base);
    EXPECT_LT(c.base, d.base);
    give_back(c);
    give_back(a);
    EXPECT_EQ(acquire(2).base, a.base);
    EXPECT_EQ(acquire(3).base, c.base);  // not the two slices left of a
    EXPECT_EQ(acquire(2).base, a.base + 2 * slice_bytes);
    EXPECT_EQ(acquire(6).base, d.base + slice_bytes);
    EXPECT_EQ(acquire(5).base, c.base + 3 * slice_bytes);
}

TEST_F(address_space, joins_neighbours_in_every_order) {
    std::array<std::size_t, 3> order{0, 1, 2};
    do {
        std::array<run, 3> runs{acquire(3), acquire(4), acquire(5)};
        run const fence = acquire(1);
        for (std::size_t const each : order) {
            give_back(runs[each]);
        }
        run const whole = acquire(12);
        EXPECT_EQ(whole.base, runs[0].base);
        give_back(whole);
        give_back(fence);
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(address_space, fills_an_arena_to_its_last_slice_before_it_opens_another) {
    std::vector<run> all;
    for (std::size_t i = 0; i < arena_slices; ++i) {
        all.push_back(acquire(1));
    }
    EXPECT_EQ(space_->counts().arenas, 1U);
    run const next = acquire(1);
    EXPECT_EQ(space_->counts().arenas, 2U);
    EXPECT_EQ(next.arena, 1U);
    give_back(all.back());
    EXPECT_EQ(acquire(1).base, all.back().base);
    EXPECT_EQ(space_->counts().arenas, 2U);
}

TEST_F(address_space, opens_an_arena_as_large_as_a_request) {
    run const large = acquire(5 * arena_slices);
    touch(large);
    EXPECT_EQ(space_->counts().arenas, 1U);
    run const small = acquire(1);
    give_back(large);
    EXPECT_EQ(acquire(5 * arena_slices).base, large.base);
    EXPECT_NE(small.base, nullptr);
}

TEST_F(address_space, aligns) {
    run const first = acquire(1);
    for (std::size_t alignment = 1; alignment <= 1024; alignment *= 2) {
        run const a = acquire(3, alignment);
        run const b = acquire(1, alignment);
        EXPECT_GE(b.base > a.base ? b.base - a.base : a.base - b.base,
                  static_cast<std::ptrdiff_t>(slice_bytes));
        touch(a);
        touch(b);
    }
    // What alignment skipped is found by others.
    give_back(first);
    EXPECT_EQ(acquire(1).base, first.base);
}

TEST_F(address_space, refuses_what_no_reservation_can_hold) {
    std::size_t const most = space::address_space::arena_slices_max;
    EXPECT_EQ(space_->acquire(most + 1).base, nullptr);
    EXPECT_EQ(space_->acquire(~std::size_t{0}).base, nullptr);
    EXPECT_EQ(space_->acquire(1, 2 * most).base, nullptr);
    EXPECT_EQ(space_->counts().arenas, 0U);
}

TEST_F(address_space, lengthens_a_run_over_free_slices_alone) {
    run owned = acquire(2);
    run const fence = acquire(1);
    EXPECT_FALSE(space_->extend(owned, 1));
    EXPECT_EQ(owned.slices, 2U);
    run const next = acquire(3);
    run const behind = acquire(1);
    give_back(next);
    run longer = fence;
    EXPECT_FALSE(space_->extend(longer, 4));
    ASSERT_TRUE(space_->extend(longer, 3));
    EXPECT_EQ(longer.base, fence.base);
    EXPECT_EQ(longer.slices, 4U);
    touch(longer);
    EXPECT_FALSE(space_->extend(longer, 1));
    run last = behind;
    EXPECT_FALSE(space_->extend(last, arena_slices));  // behind the arena's end
    EXPECT_FALSE(space_->extend(last, ~std::size_t{0}));
    std::size_t const rest = arena_slices - 2 - 4 - 1;
    ASSERT_TRUE(space_->extend(last, rest));
    touch(last);
    EXPECT_FALSE(space_->extend(last, 1));
    space_->audit();
    give_back(last);
    give_back(longer);
    give_back(owned);
    EXPECT_EQ(acquire(arena_slices).base, owned.base);
}

TEST_F(address_space, says_zeroed_of_a_lengthened_run_only_where_it_is) {
    run owned = acquire(1);
    run const dirty = acquire(2);
    touch(dirty);
    give_back(dirty);
    ASSERT_TRUE(owned.zeroed);
    ASSERT_TRUE(space_->extend(owned, 1));
    EXPECT_EQ(owned.zeroed, is_zero(owned));
}

TEST_F(address_space, shortens) {
    run owned = acquire(8);
    space_->shorten(owned, 8);
    EXPECT_EQ(owned.slices, 8U);
    space_->shorten(owned, 3);
    space_->audit();
    EXPECT_EQ(owned.slices, 3U);
    EXPECT_EQ(acquire(5).base, owned.base + 3 * slice_bytes);
    space_->shorten(owned, 1);
    EXPECT_EQ(acquire(2).base, owned.base + slice_bytes);
}

TEST_F(address_space, knows_what_is_zero) {
    run const first = acquire(4);
    touch(first);
    give_back(first);
    run const again = acquire(4);
    EXPECT_EQ(again.base, first.base);
    EXPECT_FALSE(again.zeroed);
    give_back(again);
    EXPECT_EQ(space_->purge_all(), 4 * slice_bytes);
    EXPECT_EQ(space_->purge_all(), 0U);
    run const purged = acquire(4);
    EXPECT_EQ(purged.base, first.base);
    EXPECT_TRUE(purged.zeroed);
    EXPECT_TRUE(is_zero(purged));
    // One dirty slice is enough to make a run of five not zero.
    touch(purged);
    run const tail = acquire(1);
    give_back({.base = purged.base, .slices = 1, .arena = purged.arena});
    give_back(tail);
    space_->purge_all();
    give_back({.base = purged.base + slice_bytes, .slices = 3, .arena = purged.arena});
    EXPECT_FALSE(acquire(5).zeroed);
}

TEST_F(address_space, counts_what_it_holds) {
    run const a = acquire(3);
    run const b = acquire(7);
    touch(a);
    touch(b);
    space_counts counts = space_->counts();
    EXPECT_EQ(counts.used_bytes, 10 * slice_bytes);
    EXPECT_EQ(counts.committed_bytes, 10 * slice_bytes);
    EXPECT_EQ(counts.free_dirty_bytes, 0U);
    EXPECT_EQ(counts.reserved_bytes, arena_slices * slice_bytes + counts.metadata_bytes);
    give_back(a);
    counts = space_->counts();
    EXPECT_EQ(counts.used_bytes, 7 * slice_bytes);
    EXPECT_EQ(counts.committed_bytes, 10 * slice_bytes);
    EXPECT_EQ(counts.free_dirty_bytes, 3 * slice_bytes);
    EXPECT_EQ(space_->purge_all(), 3 * slice_bytes);
    counts = space_->counts();
    EXPECT_EQ(counts.committed_bytes, 7 * slice_bytes);
    EXPECT_EQ(counts.free_dirty_bytes, 0U);
    EXPECT_EQ(counts.purged_bytes, 3 * slice_bytes);
    static_cast<void>(acquire(2));
    EXPECT_EQ(space_->counts().used_bytes, 9 * slice_bytes);
}

TEST_F(address_space, visits_each_group_of_used_slices) {
    run const a = acquire(3);
    run const b = acquire(2);
    run const c = acquire(4);
    give_back(b);
    run const other = acquire(2 * arena_slices);
    std::vector<run> seen;
    space_->for_each_used([&](run const& each) { seen.push_back(each); });
    ASSERT_EQ(seen.size(), 3U);
    EXPECT_EQ(seen[0].base, a.base);
    EXPECT_EQ(seen[0].slices, 3U);
    EXPECT_EQ(seen[1].base, c.base);
    EXPECT_EQ(seen[1].slices, 4U);
    EXPECT_EQ(seen[2].base, other.base);
    EXPECT_EQ(seen[2].slices, other.slices);
    EXPECT_EQ(seen[2].arena, other.arena);
}

// Random steps against a plain list of runs, each filled with a byte of its own.
TEST_F(address_space, keeps_runs_apart_and_zero_where_it_says_so) {
    constexpr int rounds = 4000;
    std::mt19937_64 random{3};

    struct owned_run {
        run owned;
        unsigned char mark;
    };

    std::vector<owned_run> live;
    auto const expect_marked = [](owned_run const& each) {
        for (std::size_t at = 0; at < each.owned.slices * slice_bytes; at += 4 * KiB) {
            ASSERT_EQ(each.owned.base[at], static_cast<std::byte>(each.mark));
        }
    };
    std::size_t used = 0;
    for (int round = 0; round < rounds; ++round) {
        auto const mark = static_cast<unsigned char>(random() % 255 + 1);
        std::size_t const choice = random() % 16;
        if (live.empty() || (choice < 8 && used < 3 * arena_slices)) {
            std::size_t const slices = random() % 8 + 1;
            run const got = acquire(slices, std::size_t{1} << (random() % 4));
            if (got.zeroed) {
                ASSERT_TRUE(is_zero(got)) << round;
            }
            touch(got, mark);
            used += slices;
            live.push_back({got, mark});
            continue;
        }
        std::size_t const index = random() % live.size();
        owned_run& chosen = live[index];
        expect_marked(chosen);
        if (choice < 10) {
            std::size_t const extra = random() % 4 + 1;
            if (space_->extend(chosen.owned, extra)) {
                used += extra;
                touch(chosen.owned, mark);
                chosen.mark = mark;
            }
        } else if (choice < 12) {
            std::size_t const keep = random() % chosen.owned.slices + 1;
            used -= chosen.owned.slices - keep;
            space_->shorten(chosen.owned, keep);
        } else {
            used -= chosen.owned.slices;
            give_back(chosen.owned);
            live[index] = live.back();
            live.pop_back();
            if (choice == 15) {
                space_->purge_all();
            }
        }
        space_->audit();
        ASSERT_EQ(space_->counts().used_bytes, used * slice_bytes);
    }
    for (owned_run const& each : live) {
        expect_marked(each);
        give_back(each.owned);
    }
    space_counts const counts = space_->counts();
    EXPECT_EQ(counts.used_bytes, 0U);
    EXPECT_EQ(counts.free_dirty_bytes, counts.committed_bytes);
    space_->purge_all();
    EXPECT_EQ(space_->counts().committed_bytes, 0U);
}

TEST_F(address_space, serves_threads_at_once) {
    constexpr int threads = 4;
    constexpr int rounds = 400;
    std::vector<std::thread> workers;
    workers.reserve(threads);
    for (int worker = 0; worker < threads; ++worker) {
        workers.emplace_back([this, worker] {
            std::mt19937_64 random{static_cast<std::uint64_t>(worker)};
            for (int round = 0; round < rounds; ++round) {
                run owned = space_->acquire(random() % 6 + 1);
                if (owned.base == nullptr) {
                    continue;  // another thread took the new arena whole
                }
                for (std::size_t at = 0; at < owned.slices * slice_bytes; at += slice_bytes) {
                    owned.base[at] = static_cast<std::byte>(worker);
                }
                static_cast<void>(space_->extend(owned, 1));
                EXPECT_EQ(owned.base[0], static_cast<std::byte>(worker));
                space_->shorten(owned, 1);
                space_->return_run(owned);
                if (round % 64 == 0) {
                    space_->purge_all();
                }
            }
        });
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(space_->counts().used_bytes, 0U);
}

TEST_F(address_space, stays_usable_after_a_fork_is_prepared) {
    space_->lock_for_fork();
    space_->unlock_after_fork();
    static_cast<void>(acquire(1));
}

// Committed and purged memory alternate at random; the kernel may merge or split what it likes.
TEST_F(address_space, needs_few_mappings) {
    if (tarn::test::mapping_count() < 0 || tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "no /proc/self/maps, or a sanitizer's mappings among ours";
    }
    int const before = tarn::test::mapping_count();
    configure({.arena_bytes = 64 * MiB});
    std::mt19937_64 random{5};
    std::vector<run> live;
    for (int round = 0; round < 3000; ++round) {
        if (live.size() < 300 || random() % 2 == 0) {
            live.push_back(acquire(random() % 5 + 1));
            touch(live.back());
        } else {
            std::swap(live[random() % live.size()], live.back());
            give_back(live.back());
            live.pop_back();
        }
        if (round % 100 == 0) {
            space_->purge_all();
        }
    }
    // Each arena: used and unused part, its sets; the kernel's neighbours.
    auto const arenas = static_cast<int>(space_->counts().arenas);
    EXPECT_LE(tarn::test::mapping_count() - before, 4 * arenas + 4);
}

TEST_F(address_space, stays_out_of_core_dumps_where_it_is_not_used) {
    if (!tarn::test::dump_flags_are_told()) {
        GTEST_SKIP() << "no VmFlags in /proc/self/smaps, or an emulated system";
    }
    run const owned = acquire(1);
    std::string const used = tarn::test::mapping_flags(owned.base);
    EXPECT_EQ(used.find(" dd"), std::string::npos) << used;
    std::string const reserved =
        tarn::test::mapping_flags(owned.base + (arena_slices - 1) * slice_bytes);
    EXPECT_NE(reserved.find(" dd"), std::string::npos) << reserved;
}

#ifdef TARN_PLATFORM_FAKE

using platform::fake_os;

constexpr std::uint32_t delay_ms = 100;

TEST_F(address_space, purges_by_age) {
    configure({.arena_bytes = arena_slices * slice_bytes, .purge_delay_ms = delay_ms});
    fake_os::control().clock_ms = 10'000;
    run const early = acquire(2);
    run const fence = acquire(1);
    run const late = acquire(4);
    run const last = acquire(1);
    space_->purge_due();
    give_back(early);
    std::uint64_t late_since = 0;
    std::uint64_t early_gone = 0;
    std::uint64_t late_gone = 0;
    for (std::uint64_t now = 0; now <= 4 * delay_ms; ++now) {
        fake_os::control().clock_ms = 10'000 + now;
        space_->purge_due();
        space_->audit();
        if (now == delay_ms + delay_ms / 2) {
            give_back(late);
            late_since = now;
        }
        std::uint64_t const purged = space_->counts().purged_bytes / slice_bytes;
        early_gone = early_gone == 0 && purged >= 2 ? now : early_gone;
        late_gone = late_gone == 0 && purged >= 6 ? now : late_gone;
    }
    EXPECT_GE(early_gone, delay_ms);
    EXPECT_LE(early_gone, 2 * delay_ms);
    EXPECT_GE(late_gone - late_since, delay_ms);
    EXPECT_LE(late_gone - late_since, 2 * delay_ms);
    EXPECT_EQ(space_->counts().purged_bytes, 6 * slice_bytes);
    EXPECT_EQ(space_->counts().free_dirty_bytes, 0U);
    give_back(fence);
    give_back(last);
}

TEST_F(address_space, purges_inside_of_used_huge_pages_at_every_second_pass) {
    constexpr std::size_t huge_slices = platform::huge_page_bytes / slice_bytes;
    configure({.arena_bytes = 16 * platform::huge_page_bytes,
               .purge_delay_ms = delay_ms,
               .huge_after_bytes = 0});
    auto const take = [this](std::size_t slices) {
        return space_->acquire(slices, 1, 0, space::run_use::dense);
    };
    run const half = take(huge_slices / 2);  // the first huge page
    run const rest = take(huge_slices / 2);
    run const whole = take(huge_slices);  // the second
    auto const pass = [this] {
        fake_os::control().clock_ms += delay_ms;
        return space_->purge_due();
    };
    give_back(half);
    give_back(whole);
    std::vector<std::size_t> purged;
    for (int i = 0; i < 5; ++i) {
        purged.push_back(pass());
    }
    EXPECT_EQ(std::accumulate(purged.begin(), purged.end(), std::size_t{0}),
              (huge_slices + huge_slices / 2) * slice_bytes);
    // The whole one goes once it has aged, the half of the other at the next pass or with it.
    auto const first = std::find_if(purged.begin(), purged.end(), [](auto b) { return b != 0; });
    EXPECT_GE(*first, huge_slices * slice_bytes);
    EXPECT_EQ(std::accumulate(first, first + 2, std::size_t{0}),
              (huge_slices + huge_slices / 2) * slice_bytes);
    give_back(rest);
    EXPECT_EQ(space_->purge_all(), huge_slices / 2 * slice_bytes);
}

TEST_F(address_space, purges_used_huge_pages_less_often_but_not_if_broken) {
    constexpr std::size_t huge_slices = platform::huge_page_bytes / slice_bytes;
    configure({.arena_bytes = 16 * platform::huge_page_bytes,
               .purge_delay_ms = delay_ms,
               .huge_after_bytes = 0});
    std::vector<run> all;
    for (std::size_t i = 0; i < huge_slices; ++i) {
        all.push_back(space_->acquire(1, 1, 0, space::run_use::dense));
    }
    auto const passes_until_purged = [&](run const& freed) {
        give_back(freed);
        int count = 0;
        std::size_t bytes = 0;
        while (bytes == 0 && count < 10) {
            fake_os::control().clock_ms += delay_ms;
            bytes = space_->purge_due();
            ++count;
        }
        EXPECT_EQ(bytes, slice_bytes);
        return count;
    };
    int const unbroken = passes_until_purged(all[3]);
    EXPECT_GE(unbroken, 2);
    EXPECT_LE(unbroken, 3);
    EXPECT_EQ(passes_until_purged(all[5]), 2);  // the huge page is broken already
    EXPECT_EQ(passes_until_purged(all[7]), 2);
}

TEST_F(address_space, spares_what_was_used_meanwhile) {
    configure({.arena_bytes = arena_slices * slice_bytes, .purge_delay_ms = delay_ms});
    run const busy = acquire(1);
    for (int pass = 0; pass < 10; ++pass) {  // freed for an instant before each pass
        give_back(busy);
        EXPECT_EQ(acquire(1).base, busy.base);
        fake_os::control().clock_ms += delay_ms;
        space_->purge_due();
    }
    EXPECT_EQ(space_->counts().purged_bytes, 0U);
}

TEST_F(address_space, looks_only_at_the_clock_when_nothing_is_due) {
    run const owned = acquire(1);
    space_->purge_due();
    give_back(owned);
    std::uint64_t const purges = fake_os::count().purges;
    for (int i = 0; i < 100; ++i) {
        space_->purge_due();
    }
    EXPECT_EQ(fake_os::count().purges, purges);
}

TEST_F(address_space, purges_many_separate_ranges) {
    constexpr std::size_t ranges = 1000;  // far more than one hold of the lock covers
    configure({.arena_bytes = 256 * MiB});
    std::vector<run> kept;
    std::vector<run> given;
    for (std::size_t i = 0; i < ranges; ++i) {
        given.push_back(acquire(1));
        kept.push_back(acquire(1));
        touch(given.back());
    }
    std::for_each(given.begin(), given.end(), [this](run const& each) { give_back(each); });
    EXPECT_EQ(space_->purge_all(), ranges * slice_bytes);
    EXPECT_EQ(space_->counts().free_dirty_bytes, 0U);
    // Adjacent ranges go in one call, across words of the sets too.
    std::for_each(kept.begin(), kept.end(), [this](run const& each) { give_back(each); });
    run const all = acquire(2 * ranges);
    give_back(all);
    std::uint64_t const purges = fake_os::count().purges;
    EXPECT_EQ(space_->purge_all(), 2 * ranges * slice_bytes);
    EXPECT_EQ(fake_os::count().purges - purges, 1U);
}

TEST_F(address_space, keeps_what_the_system_refuses_to_purge) {
    run const owned = acquire(3);
    touch(owned);
    give_back(owned);
    fake_os::control().fail_after = 0;
    EXPECT_EQ(space_->purge_all(), 0U);
    space_->audit();
    EXPECT_EQ(space_->counts().free_dirty_bytes, 3 * slice_bytes);
    fake_os::reset();
    EXPECT_FALSE(acquire(3).zeroed);
}

TEST_F(address_space, commits_what_is_needed_when_more_is_refused) {
    configure({.arena_bytes = arena_slices * slice_bytes});
    static_cast<void>(acquire(1));
    fake_os::control().commit_limit_bytes = fake_os::count().committed_bytes + 2 * slice_bytes;
    run got{};
    for (std::size_t i = 0; i <= 1 * MiB / slice_bytes; ++i) {  // one more than is committed
        got = acquire(1);
    }
    touch(got);
}

TEST_F(address_space, loses_nothing_when_memory_is_refused) {
    constexpr std::size_t committed_slices = 1 * MiB / slice_bytes;  // by the first request
    run const first = acquire(committed_slices);
    std::size_t const before = space_->counts().committed_bytes;
    fake_os::control().commit_limit_bytes = fake_os::count().committed_bytes;
    EXPECT_EQ(space_->acquire(4).base, nullptr);
    run longer = first;
    EXPECT_FALSE(space_->extend(longer, 4));
    EXPECT_EQ(longer.slices, committed_slices);
    space_->audit();
    EXPECT_EQ(space_->counts().used_bytes, committed_slices * slice_bytes);
    EXPECT_EQ(space_->counts().committed_bytes, before);  // what never came is not there
    EXPECT_EQ(space_->counts().free_dirty_bytes, 0U);
    EXPECT_EQ(space_->purge_all(), 0U);  // nor can it be given back
    fake_os::control().commit_limit_bytes = ~std::size_t{0};
    run const second = acquire(4);
    EXPECT_EQ(second.base, first.base + committed_slices * slice_bytes);
    EXPECT_TRUE(is_zero(second));
}

TEST_F(address_space, takes_a_smaller_reservation_when_a_large_one_is_refused) {
    configure({.arena_bytes = 1 * GiB});
    fake_os::control().reserve_limit_bytes = fake_os::count().reserved_bytes + 40 * MiB;
    static_cast<void>(acquire(1));
    space_counts const counts = space_->counts();
    EXPECT_GE(counts.reserved_bytes, 16 * MiB);
    EXPECT_LE(counts.reserved_bytes, 40 * MiB);
}

TEST_F(address_space, survives_the_failure_of_every_system_call) {
    constexpr std::size_t block_slices = 320 * KiB / slice_bytes;
    for (std::uint64_t n = 0;; ++n) {
        fake_os::reset();
        configure({.arena_bytes = arena_slices * slice_bytes});
        fake_os::control().fail_after = n;
        fake_os::control().failures_max = 1;
        std::vector<run> live;
        for (int i = 0; i < 20; ++i) {
            run owned = space_->acquire(block_slices, i % 4 == 0 ? 8 : 1);
            if (owned.base != nullptr) {
                touch(owned);
                static_cast<void>(space_->extend(owned, 2));
                live.push_back(owned);
            }
            space_->audit();
        }
        EXPECT_GE(live.size(), 19U);
        for (run const& each : live) {
            give_back(each);
        }
        EXPECT_EQ(space_->counts().used_bytes, 0U);
        space_->purge_all();
        space_->audit();
        if (fake_os::count().failures == 0) {
            EXPECT_GE(n, 10U);
            break;
        }
    }
}

#endif

}  // namespace
