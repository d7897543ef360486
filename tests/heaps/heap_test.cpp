// heap_test - heaps of the C interface: blocks, figures, limits, destruction, misuse.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tarn/tarn.h"

#include "heap_support.hpp"
#include "support/blocks.hpp"
#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

TEST(heap, has_an_id_of_its_own) {
    std::set<std::uint64_t> ids;
    for (int i = 0; i < 100; ++i) {
        c_heap const one;
        c_heap const other;
        EXPECT_TRUE(ids.insert(one.handle().id).second);
        EXPECT_TRUE(ids.insert(other.handle().id).second);
    }
}

TEST(heap, has_a_name_that_is_cut_where_it_is_long) {
    EXPECT_STREQ(c_heap{}.stats().name, "");
    EXPECT_STREQ(c_heap{"sessions"}.stats().name, "sessions");
    std::string const name(100, 'n');
    EXPECT_EQ(c_heap{name.c_str()}.stats().name, name.substr(0, TARN_HEAP_NAME_MAX));
}

TEST(heap, knows_its_addresses) {
    c_heap const one;
    c_heap const other;
    for (std::size_t const bytes : {1UL, 100UL, 5000UL, 200 * kib, 100 * mib}) {
        auto* const block = static_cast<char*>(one.allocate(bytes));
        ASSERT_NE(block, nullptr) << bytes;
        EXPECT_EQ(tarn_heap_of(block).id, one.handle().id);
        EXPECT_EQ(tarn_heap_of(block + bytes - 1).id, one.handle().id);
        EXPECT_GE(tarn_malloc_usable_size(block), bytes);
        tarn_heap_free(one.handle(), block);
    }
    void* const plain = tarn_malloc(10);
    EXPECT_EQ(tarn_heap_of(plain).id, 0U);
    EXPECT_EQ(tarn_heap_of(&one).id, 0U);
    EXPECT_EQ(tarn_heap_of(nullptr).id, 0U);
    tarn_free(plain);
    tarn_heap_free(one.handle(), nullptr);
}

TEST(heap, refuses_what_is_wrong_with_its_options) {
    tarn_heap_options options{};
    errno = 0;
    EXPECT_EQ(tarn_heap_create(&options).id, 0U);  // size 0
    EXPECT_EQ(errno, EINVAL);
    options.size = sizeof options;
    options.has_numa_node = 1;
    options.numa_node = -1;
    errno = 0;
    EXPECT_EQ(tarn_heap_create(&options).id, 0U);
    EXPECT_EQ(errno, EINVAL);
    tarn_heap const plain = tarn_heap_create(nullptr);
    EXPECT_NE(plain.id, 0U);
    EXPECT_EQ(tarn_heap_destroy(plain), 0);
}

TEST(heap, refuses_impossible_sizes) {
    c_heap const heap;
    testing::internal::CaptureStderr();  // each is reported
    for (std::size_t const bytes : {SIZE_MAX, SIZE_MAX / 2 + 1}) {
        errno = 0;
        EXPECT_EQ(heap.allocate(bytes), nullptr);
        EXPECT_EQ(errno, ENOMEM);
    }
    errno = 0;
    EXPECT_EQ(tarn_heap_calloc(heap.handle(), SIZE_MAX / 2, 3), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_NE(testing::internal::GetCapturedStderr().find("size overflow"), std::string::npos);
    errno = 0;
    EXPECT_EQ(heap.allocate(SIZE_MAX / 4), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(tarn_heap_aligned_alloc(heap.handle(), SIZE_MAX, 1), nullptr);
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(heap.stats().held_bytes, 0U);
}

/// Random work on a heap beside a model of it.
class heap_and_model {
public:
    explicit heap_and_model(std::uint64_t seed) : random_{seed} {}

    void step() {
        switch (random_.below(8)) {
            case 0:
            case 1:
            case 2:
                return add();
            case 3:
            case 4:
            case 5:
                return remove();
            case 6:
                return resize();
            default:
                return expand();
        }
    }

    void compare() {
        std::vector<live_block> expected;
        std::uint64_t bytes = 0;
        for (auto const& [start, block] : live_) {
            std::size_t const usable = tarn_malloc_usable_size(start);
            expected.push_back({start, usable});
            bytes += usable;
            ASSERT_EQ(first_wrong(start, block.bytes, block.pattern), intact);
        }
        std::vector<live_block> found = walk(heap_.handle());
        std::sort(found.begin(), found.end());
        EXPECT_EQ(found, expected);
        tarn_heap_stats const stats = heap_.stats();
        EXPECT_EQ(stats.live_blocks, live_.size());
        EXPECT_EQ(stats.live_bytes, bytes);
        EXPECT_EQ(stats.allocations, allocations_);
        EXPECT_GE(stats.held_bytes, bytes);
        EXPECT_LE(stats.held_bytes, stats.held_peak_bytes);
        EXPECT_EQ(tarn_audit(nullptr), 0U);
    }

    void trim() { tarn_heap_trim(heap_.handle()); }

    [[nodiscard]] c_heap& heap() { return heap_; }

private:
    struct content {
        std::size_t bytes;
        std::uint64_t pattern;
    };

    void enter(void* start, std::size_t bytes) {
        ASSERT_NE(start, nullptr);
        content const made{bytes, random_.next()};
        fill(start, bytes, made.pattern);
        ASSERT_TRUE(live_.emplace(start, made).second);
    }

    void add() {
        std::size_t const bytes =
            random_.one_in(50) ? random_.size_up_to(4 * mib) : random_.size_up_to(2 * kib);
        ++allocations_;
        if (random_.one_in(4)) {
            auto* const start =
                static_cast<unsigned char*>(tarn_heap_calloc(heap_.handle(), 1, bytes));
            ASSERT_NE(start, nullptr);
            ASSERT_EQ(std::count(start, start + bytes, 0), static_cast<std::ptrdiff_t>(bytes));
            enter(start, bytes);
        } else if (random_.one_in(4)) {
            std::size_t const alignment = std::size_t{1} << random_.below(16);
            void* const start = tarn_heap_aligned_alloc(heap_.handle(), alignment, bytes);
            ASSERT_EQ(reinterpret_cast<std::uintptr_t>(start) % alignment, 0U);
            enter(start, bytes);
        } else {
            enter(heap_.allocate(bytes), bytes);
        }
    }

    auto any() {
        auto at = live_.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(random_.below(live_.size())));
        return at;
    }

    void remove() {
        if (live_.empty()) {
            return;
        }
        auto const at = any();
        ASSERT_EQ(first_wrong(at->first, at->second.bytes, at->second.pattern), intact);
        if (random_.one_in(2)) {
            tarn_free(at->first);
        } else {
            tarn_heap_free(heap_.handle(), at->first);
        }
        live_.erase(at);
    }

    void resize() {
        if (live_.empty()) {
            return;
        }
        auto const at = any();
        content const before = at->second;
        std::size_t const bytes =
            random_.one_in(20) ? random_.size_up_to(4 * mib) : random_.size_up_to(2 * kib);
        void* const moved = tarn_realloc(at->first, bytes);
        ASSERT_NE(moved, nullptr);
        ASSERT_EQ(tarn_heap_of(moved).id, heap_.handle().id);
        ASSERT_EQ(first_wrong(moved, std::min(bytes, before.bytes), before.pattern), intact);
        allocations_ += moved != at->first ? 1 : 0;
        live_.erase(at);
        enter(moved, bytes);
    }

    void expand() {
        if (live_.empty()) {
            return;
        }
        auto const at = any();
        std::size_t const bytes = at->second.bytes + random_.size_up_to(at->second.bytes);
        if (tarn_expand(at->first, bytes) != 0) {
            ASSERT_GE(tarn_malloc_usable_size(at->first), bytes);
            ASSERT_EQ(first_wrong(at->first, at->second.bytes, at->second.pattern), intact);
            fill(at->first, bytes, at->second.pattern);
            at->second.bytes = bytes;
        }
    }

    random_stream random_;
    c_heap heap_;
    std::map<void*, content> live_;
    std::uint64_t allocations_ = 0;
};

TEST(heap, agrees_with_a_model) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        SCOPED_TRACE(seed);
        heap_and_model both{seed};
        for (int i = 0; i < 6000; ++i) {
            both.step();
            if (i % 1000 == 999) {
                both.compare();
            }
            if (i % 2500 == 0) {
                both.trim();
                both.compare();
            }
        }
        if (HasFatalFailure()) {
            return;
        }
        std::uint64_t const before = stats_now().live_blocks;
        std::uint64_t const own = both.heap().stats().live_blocks;
        both.heap().destroy();
        EXPECT_EQ(stats_now().live_blocks, before - own);
        EXPECT_EQ(tarn_audit(nullptr), 0U);
    }
}

TEST(heap, counts_in_the_figures_of_the_process) {
    c_heap const heap;
    tarn_stats const before = stats_now();
    std::vector<void*> blocks;
    for (int i = 0; i < 1000; ++i) {
        blocks.push_back(heap.allocate(1000));
    }
    void* const large = heap.allocate(mib);
    tarn_stats const with = stats_now();
    EXPECT_EQ(with.live_blocks - before.live_blocks, 1001U);
    EXPECT_EQ(with.allocations - before.allocations, 1001U);
    for (void* const each : blocks) {
        tarn_free(each);
    }
    tarn_free(large);
    tarn_stats const after = stats_now();
    EXPECT_EQ(after.live_blocks, before.live_blocks);
    EXPECT_GT(after.free_in_heaps_bytes, before.free_in_heaps_bytes);
    EXPECT_EQ(after.mapped_bytes + after.purged_inside_bytes,
              after.metadata_bytes + after.live_bytes + after.page_tail_bytes + after.fresh_bytes +
                  after.held_by_threads_bytes + after.free_in_bins_bytes +
                  after.free_in_heaps_bytes + after.free_runs_bytes + after.quarantined_bytes +
                  after.guard_bytes);
    EXPECT_EQ(tarn_audit(nullptr), 0U);
    EXPECT_GT(tarn_heap_trim(heap.handle()), 0U);
    EXPECT_EQ(heap.stats().held_bytes, 0U);
    EXPECT_EQ(stats_now().free_in_heaps_bytes, before.free_in_heaps_bytes);
}

TEST(heap, is_listed_with_all_others) {
    std::size_t const before = tarn_heaps_get_all(nullptr, 0);
    c_heap const one{"one"};
    c_heap const two{"two"};
    void* const block = two.allocate(100);
    EXPECT_EQ(tarn_heaps_get_all(nullptr, 0), before + 2);
    std::vector<tarn_heap_stats> rows(before + 2);
    rows[0].size = sizeof(tarn_heap_stats);
    ASSERT_EQ(tarn_heaps_get_all(rows.data(), rows.size()), before + 2);
    std::map<std::string, std::uint64_t> live;
    for (tarn_heap_stats const& each : rows) {
        live[each.name] = each.live_blocks;
    }
    EXPECT_EQ(live.at("one"), 0U);
    EXPECT_EQ(live.at("two"), 1U);
    tarn_free(block);
}

TEST(heap, is_among_those_that_hold_memory) {
    c_heap const one{"twin"};
    c_heap const two{"twin"};
    void* const block = two.allocate(100);
    std::vector<tarn_owner_stats> rows(100);
    rows.resize(tarn_owners_get(rows.data(), rows.size()));
    auto const row = std::find_if(rows.begin(), rows.end(), [](tarn_owner_stats const& each) {
        return std::string{each.kind} == "heap" && std::string{each.name} == "twin";
    });
    ASSERT_NE(row, rows.end());
    EXPECT_EQ(row->owners, 2U);
    EXPECT_EQ(row->live_bytes, tarn_malloc_usable_size(block));
    EXPECT_EQ(row->held_bytes, two.stats().held_bytes);
    tarn_free(block);
}

TEST(heap, stays_below_its_limit) {
    c_heap const heap{"limited", 4 * mib};
    std::vector<void*> blocks;
    blocks.reserve(10'000);
    for (int round = 0; round < 3; ++round) {
        errno = 0;
        while (void* const block = heap.allocate(round == 1 ? 1000 : 200 * kib)) {
            blocks.push_back(block);
        }
        EXPECT_EQ(errno, ENOMEM);
        tarn_heap_stats const full = heap.stats();
        EXPECT_LE(full.held_peak_bytes, 4 * mib);
        EXPECT_GE(full.live_bytes, 3 * mib);
        EXPECT_GT(full.limit_refusals, 0U);
        for (void* const each : blocks) {
            tarn_free(each);
        }
        blocks.clear();
    }
    EXPECT_EQ(tarn_heap_set_limit(heap.handle(), 64 * kib), 0);
    EXPECT_EQ(heap.allocate(mib), nullptr);
    EXPECT_EQ(tarn_heap_set_limit(heap.handle(), 0), 0);
    void* const block = heap.allocate(8 * mib);
    EXPECT_NE(block, nullptr);
    EXPECT_EQ(tarn_heap_set_limit(heap.handle(), mib), 0);  // below what is held
    EXPECT_EQ(heap.allocate(1), nullptr);
    EXPECT_EQ(tarn_expand(block, 16 * mib), 0);
    tarn_free(block);
    void* const small = heap.allocate(1);
    EXPECT_NE(small, nullptr);
}

TEST(heap, gives_its_pages_back_as_they_empty) {
    c_heap const heap;
    std::vector<void*> blocks;
    for (int i = 0; i < 20'000; ++i) {
        blocks.push_back(heap.allocate(500));
    }
    for (void* const each : blocks) {
        tarn_free(each);
    }
    EXPECT_LE(heap.stats().held_bytes, heap.stats().held_peak_bytes / 4);
}

TEST(heap, ends_with_all_its_blocks) {
    for (std::size_t const bytes : {16UL, 3000UL, 300 * kib, 300 * mib}) {
        tarn_stats const before = stats_now();
        c_heap heap;
        for (int i = 0; i < 5; ++i) {
            ASSERT_NE(heap.allocate(bytes), nullptr);
        }
        EXPECT_EQ(stats_now().live_blocks, before.live_blocks + 5);
        heap.destroy();
        tarn_stats const after = stats_now();
        EXPECT_EQ(after.live_blocks, before.live_blocks);
        EXPECT_EQ(after.live_bytes, before.live_bytes);
        EXPECT_EQ(after.pages, before.pages);
        EXPECT_EQ(tarn_audit(nullptr), 0U);
    }
}

TEST(heap, is_unknown_once_destroyed) {
    tarn_heap const gone = tarn_heap_create(nullptr);
    ASSERT_EQ(tarn_heap_destroy(gone), 0);
    tarn_heap_stats stats{};
    stats.size = sizeof stats;
    auto const visit = [](void*, std::size_t, void*) { return 0; };
    for (tarn_heap const which : {gone, tarn_heap{0}, tarn_heap{12345}, tarn_heap{UINT64_MAX}}) {
        EXPECT_EQ(tarn_heap_destroy(which), EINVAL);
        EXPECT_EQ(tarn_heap_stats_get(which, &stats), EINVAL);
        EXPECT_EQ(tarn_heap_set_limit(which, 1), EINVAL);
        EXPECT_EQ(tarn_heap_walk(which, visit, nullptr), EINVAL);
        EXPECT_EQ(tarn_heap_trim(which), 0U);
        void* block = nullptr;
        EXPECT_DEATH(block = tarn_heap_malloc(which, 1),
                     "tarn_heap_malloc in a heap that does not exist: ");
        EXPECT_EQ(block, nullptr);
    }
}

TEST(heap, reports_what_is_freed_after_it) {
    for (std::size_t const bytes : {16UL, 5000UL, 200 * kib, 300 * mib}) {
        c_heap heap;
        void* const block = heap.allocate(bytes);
        tarn_heap const gone = heap.handle();
        heap.destroy();
        char const* const text = "foreign";  // pointer, or in mode debug foreign-free
        EXPECT_DEATH(tarn_free(block), text);
        EXPECT_DEATH(tarn_heap_free(gone, block), text);
        EXPECT_DEATH(static_cast<void>(tarn_realloc(block, 10)), text);
        EXPECT_DEATH(static_cast<void>(tarn_malloc_usable_size(block)), text);
    }
}

/// What a destroyed heap leaves in the page map must not show in large blocks there.
TEST(heap, leaves_nothing_where_it_was) {
    c_heap heap;
    for (std::size_t held = 0; held < 300 * mib; held += 100 * kib) {
        ASSERT_NE(heap.allocate(100 * kib), nullptr);
    }
    heap.destroy();
    auto* const large = static_cast<char*>(tarn_malloc(160 * mib));
    for (std::size_t at = 0; at < 160 * mib; at += mib) {
        void* start = nullptr;
        EXPECT_GE(tarn_find_block(large + at, &start), 160 * mib);
        EXPECT_EQ(start, large);
    }
    EXPECT_EQ(tarn_audit(nullptr), 0U);
    tarn_free(large);
}

TEST(heap, is_not_any_by_number) {
    c_heap const heap;
    void* const block = heap.allocate(10);
    for (tarn_heap const which : {tarn_heap{0}, tarn_heap{UINT64_MAX}}) {
        EXPECT_DEATH(tarn_heap_free(which, block), "block of another heap");
        EXPECT_EQ(tarn_heap_trim(which), 0U);
    }
    EXPECT_EQ(heap.stats().live_blocks, 1U);
}

TEST(heap, reports_misuse) {
    if (in_debug_mode()) {
        GTEST_SKIP() << "mode debug says it in its own words";
    }
    c_heap const heap;
    c_heap const other;
    void* const filler = heap.allocate(64);
    auto* const block = static_cast<char*>(heap.allocate(64));
    void* const large = heap.allocate(300 * kib);
    void* const plain = tarn_malloc(64);
    int local = 0;
    EXPECT_DEATH(tarn_heap_free(other.handle(), block), "a 64-byte block of another heap");
    EXPECT_DEATH(tarn_heap_free(other.handle(), large), "block of another heap");
    EXPECT_DEATH(tarn_heap_free(heap.handle(), plain), "a 64-byte block of another heap");
    EXPECT_DEATH(tarn_heap_free(heap.handle(), &local), "of a foreign pointer");
    EXPECT_DEATH(tarn_heap_free(heap.handle(), block + 16), "16 bytes into the 64-byte block");
    EXPECT_DEATH(tarn_free(static_cast<char*>(large) + 16), "of an interior pointer");
    EXPECT_DEATH((tarn_free(block), tarn_free(block)), "double free of 0x[0-9a-f]+, a 64-byte");
    EXPECT_DEATH((tarn_free(large), tarn_free(large)), "of a foreign pointer");
    EXPECT_DEATH((tarn_free(block), tarn_free(filler), tarn_free(block)), "double free");
    EXPECT_DEATH(tarn_free(block + 64 * 100), "double free");  // never allocated
    tarn_free(plain);
}

TEST(heap, walks_blocks_that_the_visitor_frees) {
    c_heap const heap;
    for (int i = 0; i < 1000; ++i) {
        ASSERT_NE(heap.allocate(static_cast<std::size_t>(i)), nullptr);
    }
    ASSERT_NE(heap.allocate(mib), nullptr);
    auto const free_it = [](void* start, std::size_t, void* count) {
        tarn_free(start);
        ++*static_cast<int*>(count);
        return 0;
    };
    int count = 0;
    EXPECT_EQ(tarn_heap_walk(heap.handle(), free_it, &count), 0);
    EXPECT_EQ(count, 1001);
    EXPECT_EQ(heap.stats().live_blocks, 0U);
}

TEST(heap, ends_a_walk_when_told) {
    c_heap const heap;
    for (int i = 0; i < 100; ++i) {
        ASSERT_NE(heap.allocate(100), nullptr);
    }
    auto const visit = [](void*, std::size_t, void* count) {
        return ++*static_cast<int*>(count) == 10 ? 1 : 0;
    };
    int count = 0;
    EXPECT_EQ(tarn_heap_walk(heap.handle(), visit, &count), 0);
    EXPECT_EQ(count, 10);
}

TEST(heap, expands_blocks_of_threads_too) {
    void* const block = tarn_malloc(100);
    EXPECT_EQ(tarn_expand(block, tarn_malloc_usable_size(block)), 1);
    if (in_hardened_mode()) {  // it has more bytes than may be used
        EXPECT_EQ(tarn_expand(block, 110), 1);
        EXPECT_EQ(tarn_malloc_usable_size(block), 110U);
    }
    EXPECT_EQ(tarn_expand(block, 113), 0);
    EXPECT_EQ(tarn_expand(nullptr, 1), 0);
    tarn_free(block);
    auto* const large = static_cast<char*>(tarn_malloc(mib));
    bool const has_grown = tarn_expand(large, 2 * mib) != 0;
    EXPECT_EQ(tarn_malloc_usable_size(large), has_grown ? 2 * mib : mib);
    EXPECT_EQ(tarn_expand(large, SIZE_MAX), 0);
    tarn_free(large);
}

TEST(heap, survives_fork) {
    c_heap const heap;
    std::vector<void*> blocks;
    for (int i = 0; i < 100; ++i) {
        blocks.push_back(heap.allocate(100));
    }
    int const status = run_in_child(20, [&] {
        for (void* const each : blocks) {
            tarn_free(each);
        }
        bool const ok = heap.stats().live_blocks == 0 && heap.allocate(100) != nullptr &&
                        tarn_heap_destroy(heap.handle()) == 0 && tarn_audit(nullptr) == 0;
        return ok ? 0 : 1;
    });
    EXPECT_EQ(status, 0);
    EXPECT_EQ(heap.stats().live_blocks, 100U);
}

}  // namespace
}  // namespace tarn::test
