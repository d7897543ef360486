// statistics_test - statistics tell what the program holds in mode debug, too, and what that mode
// holds beside it. TARN_OPTIONS=mode=debug,on_misuse=ignore
#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tarn/stats.hpp"

#include "checking/checking.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

tarn_stats stats_now() {
    tarn_stats stats{};
    stats.size = sizeof stats;
    EXPECT_EQ(tarn_stats_get(&stats), 0);
    return stats;
}

std::uint64_t sum_of_parts(tarn_stats const& of) {
    return of.metadata_bytes + of.live_bytes + of.page_tail_bytes + of.fresh_bytes +
           of.held_by_threads_bytes + of.free_in_bins_bytes + of.free_in_heaps_bytes +
           of.free_runs_bytes + of.quarantined_bytes + of.guard_bytes;
}

void expect_agreement() {
    tarn_stats const now = stats_now();
    EXPECT_EQ(now.mapped_bytes + now.purged_inside_bytes, sum_of_parts(now));
    EXPECT_EQ(now.requested_bytes, now.live_bytes);
    EXPECT_EQ(now.requested_error_bytes, 0U);
    tarn_checks const checks = checks_now();
    EXPECT_EQ(now.quarantined_blocks, checks.quarantined_blocks);
    EXPECT_EQ(now.quarantined_bytes, checks.quarantined_bytes);
    EXPECT_EQ(now.guard_bytes, checks.guard_bytes);
    EXPECT_EQ(tarn_audit(nullptr), 0U);
}

TEST(statistics_of_mode_debug, count_what_was_asked_for) {
    tarn_stats const before = stats_now();
    std::vector<void*> blocks;
    std::uint64_t bytes = 0;
    for (std::size_t const size : edge_sizes(300 * kib)) {
        blocks.push_back(tarn_malloc(size));
        bytes += size;
    }
    blocks.push_back(tarn_aligned_alloc(4096, 70 * kib));
    bytes += 70 * kib;
    tarn_stats const full = stats_now();
    EXPECT_EQ(full.live_blocks - before.live_blocks, blocks.size());
    EXPECT_EQ(full.live_bytes - before.live_bytes, bytes);
    EXPECT_GE(full.live_peak_bytes, full.live_bytes);
    expect_agreement();
    for (void* const block : blocks) {
        tarn_free(block);
    }
    tarn_stats const after = stats_now();
    EXPECT_EQ(after.live_blocks, before.live_blocks);
    EXPECT_EQ(after.live_bytes, before.live_bytes);
    EXPECT_GT(after.quarantined_blocks, before.quarantined_blocks);
    expect_agreement();
}

TEST(statistics_of_mode_debug, know_the_peak_to_the_byte) {
    std::uint64_t const live = stats_now().live_bytes;
    std::uint64_t const wanted = stats_now().live_peak_bytes - live + 100'001;
    tarn_free(tarn_malloc(wanted));
    for (int i = 0; i < 1000; ++i) {
        tarn_free(tarn_malloc(100));
    }
    EXPECT_EQ(stats_now().live_peak_bytes, live + wanted);
    void* const large = tarn_malloc(2 * wanted);
    void* const cut = tarn_realloc(large, wanted + wanted / 2);
    EXPECT_GE(stats_now().live_peak_bytes, live + 2 * wanted) << "before it was cut";
    tarn_free(cut);
}

TEST(statistics_of_mode_debug, agree_after_random_work) {
    constexpr std::uint64_t seed = 5;
    SCOPED_TRACE(seed);
    random_stream random{seed};
    std::vector<void*> blocks(500);
    for (int round = 0; round < 4; ++round) {
        for (int i = 0; i < 5000; ++i) {
            void*& slot = blocks[random.below(blocks.size())];
            std::size_t const bytes = random.size_up_to(200 * kib);
            if (random.below(3) == 0) {
                tarn_free(slot);
                slot = tarn_aligned_alloc(std::size_t{16} << random.below(10), bytes);
            } else {
                slot = tarn_realloc(slot, bytes + 1);
            }
        }
        expect_agreement();
    }
    for (void* const each : blocks) {
        tarn_free(each);
    }
    expect_agreement();
}

TEST(statistics_of_mode_debug, agree_when_threads_have_ended) {
    { busy_threads const some{4}; }
    expect_agreement();
}

TEST(statistics_of_mode_debug, count_blocks_of_heaps_by_their_size) {
    tarn_stats const before = stats_now();
    tarn_heap const heap = tarn_heap_create(nullptr);
    void* const block = tarn_heap_malloc(heap, 1000);
    tarn_stats const after = stats_now();
    EXPECT_EQ(after.live_blocks - before.live_blocks, 1U);
    EXPECT_EQ(after.live_bytes - before.live_bytes, tarn_malloc_usable_size(block));
    expect_agreement();
    EXPECT_EQ(tarn_heap_destroy(heap), 0);
    expect_agreement();
}

TEST(statistics_of_mode_debug, are_in_all_texts) {
    tarn_free(tarn_malloc(12'345));
    statistics const now = statistics::now();
    std::string const quarantined = std::to_string(now.totals().quarantined_bytes);
    EXPECT_NE(now.text(TARN_STATS_JSON).find("\"quarantined_bytes\":" + quarantined),
              std::string::npos);
    EXPECT_NE(now.text(TARN_STATS_KEYS).find("quarantined_bytes " + quarantined),
              std::string::npos);
    EXPECT_NE(now.text(TARN_STATS_REPORT).find("freed, in quarantine"), std::string::npos);
}

TEST(limits_in_mode_debug, leave_room_for_what_was_freed) {
    tarn_limits none{};
    none.size = sizeof none;
    tarn_limits tight = none;
    tarn_stats const now = stats_now();
    tight.hard_bytes = now.mapped_bytes - now.metadata_bytes + 24 * mib;
    ASSERT_EQ(tarn_limits_set(&tight), 0);
    void* const kept = tarn_malloc(10 * mib);
    EXPECT_NE(kept, nullptr);
    for (int round = 0; round < 10; ++round) {
        errno = 77;
        void* const block = tarn_malloc(8 * mib);
        EXPECT_NE(block, nullptr) << "what is in quarantine is in its way";
        EXPECT_EQ(errno, 77);
        tarn_free(block);
    }
    tarn_free(kept);
    EXPECT_EQ(tarn_limits_set(&none), 0);
    expect_agreement();
}

TEST(watches_in_mode_debug, count_what_the_program_does) {
    tarn_watch watch{};
    watch.size = sizeof watch;
    ASSERT_EQ(tarn_watch_begin(&watch), 0);
    void* block = tarn_malloc(100);
    block = tarn_realloc(block, 300);
    tarn_free(block);
    ASSERT_EQ(tarn_watch_end(&watch), 0);
    EXPECT_EQ(watch.allocations, 1U);
    EXPECT_EQ(watch.reallocations, 1U);
    EXPECT_EQ(watch.frees, 1U);
    EXPECT_EQ(watch.requested_bytes, 400U);
    EXPECT_EQ(watch.allocated_bytes, 400U);
    EXPECT_EQ(watch.freed_bytes, 400U);
}

void* freed_by_callbacks = nullptr;

int free_and_allocate(tarn_operation const* /*asked*/, void* /*context*/) {
    tarn_free(freed_by_callbacks);
    freed_by_callbacks = tarn_malloc(200);
    return 0;
}

TEST(callbacks_in_mode_debug, are_served_as_the_program_is) {
    freed_by_callbacks = tarn_malloc(100);
    tarn_checks const before = checks_now();
    tarn_watch watch{};
    watch.size = sizeof watch;
    watch.decide = &free_and_allocate;
    ASSERT_EQ(tarn_watch_begin(&watch), 0);
    tarn_free(tarn_malloc(1000));
    ASSERT_EQ(tarn_watch_end(&watch), 0);
    EXPECT_EQ(watch.allocations, 1U) << "not what its own callback asks for";
    EXPECT_EQ(watch.frees, 1U);
    tarn_checks const after = checks_now();
    EXPECT_EQ(after.live_blocks, before.live_blocks);
    EXPECT_EQ(after.live_bytes, before.live_bytes + 100);
    EXPECT_EQ(after.findings, before.findings);
    tarn_free(freed_by_callbacks);
    expect_agreement();
}

}  // namespace
}  // namespace tarn::test
