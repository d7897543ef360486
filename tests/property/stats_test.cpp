// stats_test - tarn_stats tells what the process holds, to the block while nothing else runs.
#include "tarn/stats.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "support/build.hpp"
#include "support/pattern.hpp"
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

TEST(stats, refuses_what_it_cannot_fill) {
    EXPECT_EQ(tarn_stats_get(nullptr), EINVAL);
    tarn_stats stats{};
    EXPECT_EQ(tarn_stats_get(&stats), EINVAL);  // size 0
}

TEST(stats, counts_live_blocks_exactly_when_alone) {
    tarn_stats const before = stats_now();
    std::vector<void*> blocks;
    std::size_t bytes = 0;
    for (std::size_t const size : edge_sizes(300 * kib)) {
        blocks.push_back(tarn_malloc(size));
        ASSERT_NE(blocks.back(), nullptr);
        bytes += tarn_malloc_usable_size(blocks.back());
    }
    tarn_stats const full = stats_now();
    EXPECT_EQ(full.live_blocks - before.live_blocks, blocks.size());
    EXPECT_EQ(full.live_bytes - before.live_bytes, bytes);
    EXPECT_GE(full.live_peak_bytes, full.live_bytes);
    EXPECT_GE(full.mapped_bytes, full.live_bytes);
    EXPECT_GE(full.reserved_bytes, full.mapped_bytes);
    EXPECT_GT(full.metadata_bytes, 0U);
    EXPECT_GE(full.threads, 1U);
    EXPECT_GT(full.pages, before.pages);
    for (void* const block : blocks) {
        tarn_free(block);
    }
    tarn_stats const after = stats_now();
    EXPECT_EQ(after.live_blocks, before.live_blocks);
    EXPECT_EQ(after.live_bytes, before.live_bytes);
    EXPECT_GE(after.live_peak_bytes, full.live_bytes);
}

TEST(stats, counts_frees_from_other_threads) {
    constexpr std::size_t count = 1000;
    tarn_stats const before = stats_now();
    std::vector<void*> blocks(count);
    for (void*& block : blocks) {
        block = tarn_malloc(64);
    }
    std::thread{[&] {
        for (void* const block : blocks) {
            tarn_free(block);
        }
    }}.join();
    tarn_stats const after = stats_now();
    EXPECT_EQ(after.live_blocks, before.live_blocks);
    EXPECT_GE(after.cross_thread_frees - before.cross_thread_frees, count / 2);
    EXPECT_LE(after.cross_thread_frees - before.cross_thread_frees, count);
}

TEST(stats, of_checks_are_those_of_mode_debug_alone) {
    tarn_checks checks{};
    EXPECT_EQ(tarn_checks_get(nullptr), EINVAL);
    EXPECT_EQ(tarn_checks_get(&checks), EINVAL);  // size 0
    checks.size = sizeof checks;
    void* const block = tarn_malloc(10);
    EXPECT_EQ(tarn_checks_get(&checks), in_debug_mode() ? 0 : ENOTSUP);
    EXPECT_EQ(checks.live_blocks != 0, in_debug_mode());
    EXPECT_EQ(tarn_check_all(), 0U);
    tarn_free(block);
}

/// Blocks of which the sum of the requests is known.
struct requests {
    std::vector<void*> blocks;
    std::uint64_t bytes = 0;

    void add(std::size_t size) {
        blocks.push_back(tarn_malloc(size));
        ASSERT_NE(blocks.back(), nullptr);
        bytes += size;
    }

    void free_all() {
        for (void* const block : blocks) {
            tarn_free(block);
        }
        blocks.clear();
        bytes = 0;
    }
};

TEST(stats, estimate_what_was_asked_for) {
    random_stream random{1};
    requests live;
    std::uint64_t samples = 0;
    // In a class from 97 to 112 bytes, and others.
    for (std::size_t const extra : {0UL, 1UL, 7UL, 15UL}) {
        tarn_stats const before = stats_now();
        requests shed;
        for (std::uint64_t i = 0; i < 400'000; ++i) {
            // What goes at once is asked for differently than what stays.
            (i % 4 == 0 ? live : shed).add(97 + (i % 4 == 0 ? extra : random.below(16)));
            if (i % 64 == 0) {
                live.add(random.size_up_to(100 * kib));
                shed.free_all();
            }
        }
        live.add(1'000'000 + extra);
        shed.free_all();
        tarn_stats const now = stats_now();
        auto const estimated =
            static_cast<double>(now.requested_bytes) - static_cast<double>(before.requested_bytes);
        double const error = static_cast<double>(now.requested_error_bytes) +
                             static_cast<double>(before.requested_error_bytes);
        EXPECT_NEAR(estimated, static_cast<double>(live.bytes), 5 * error);
        EXPECT_LE(now.requested_bytes, now.live_bytes);
        EXPECT_LE(error, 0.02 * estimated);
        samples += now.sampled_blocks - before.sampled_blocks;
        live.free_all();
    }
    EXPECT_GT(samples, 0U);
    EXPECT_EQ(tarn_audit(nullptr), 0U);
}

TEST(stats, of_an_older_caller_are_cut) {
    alignas(tarn_stats) std::byte storage[sizeof(tarn_stats)];
    fill(storage, sizeof storage, 1);
    auto* const stats = reinterpret_cast<tarn_stats*>(storage);
    constexpr std::size_t known = offsetof(tarn_stats, live_blocks);
    stats->size = known;
    ASSERT_EQ(tarn_stats_get(stats), 0);
    std::byte untouched[sizeof(tarn_stats)];
    fill(untouched, sizeof untouched, 1);
    EXPECT_EQ(std::memcmp(storage + known, untouched + known, sizeof storage - known), 0);
}

TEST(stats, in_cpp_have_rows_and_texts) {
    void* const block = tarn_malloc(5 * mib);
    statistics const now = statistics::now();
    EXPECT_GE(now.totals().live_bytes, 5 * mib);
    ASSERT_GT(now.by_class().size(), 80U);
    EXPECT_EQ(now.by_class().front().block_bytes, 0U);
    EXPECT_GE(now.by_class().front().live_bytes, 5 * mib);
    ASSERT_GE(now.by_thread().size(), 1U);
    EXPECT_EQ(now.by_thread().front().thread_id, static_cast<std::uint64_t>(::gettid()));
    std::string const live = "\"live_bytes\":" + std::to_string(now.totals().live_bytes);
    EXPECT_NE(now.text(TARN_STATS_JSON).find(live), std::string::npos);
    EXPECT_NE(now.text(TARN_STATS_JSON).find("\"thread_id\":"), std::string::npos);
    EXPECT_NE(now.text(TARN_STATS_REPORT).find("5.0 MiB"), std::string::npos);
    tarn_free(block);
}

std::string text_of(void (*print)(int fd)) {
    int const file = ::memfd_create("text", 0);
    EXPECT_GE(file, 0);
    print(file);
    std::string text(64 * kib, '\0');
    ssize_t const got = ::pread(file, text.data(), text.size(), 0);
    ::close(file);
    text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return text;
}

TEST(printing, statistics_and_options_are_text) {
    EXPECT_NE(text_of(tarn_stats_print).find("live"), std::string::npos);
    EXPECT_NE(text_of(tarn_options_print).find("purge_delay_ms"), std::string::npos);
    tarn_stats_print(-1);  // a closed file is no reason to fail
    tarn_options_print(-1);
}

}  // namespace
}  // namespace tarn::test
