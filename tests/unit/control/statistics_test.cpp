#include "control/statistics.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/text.hpp"
#include "base/units.hpp"

#include "tarn/tarn.h"

#include "sizing/size_class.hpp"
#include "heap/process.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::control;

/// Blocks of many classes, large ones too.
std::vector<void*> various_blocks() {
    std::vector<void*> blocks;
    for (std::size_t bytes = 1; bytes < 3 * MiB; bytes = bytes * 5 / 4 + 1) {
        for (int i = 0; i < 3; ++i) {
            blocks.push_back(tarn_malloc(bytes));
        }
    }
    return blocks;
}

void free_all(std::vector<void*>& blocks) {
    for (void* const block : blocks) {
        tarn_free(block);
    }
    blocks.clear();
}

void expect_consistent(statistics const& of) {
    std::uint64_t bytes = 0;
    std::uint64_t blocks = 0;
    for (unsigned size_class = 0; size_class < sizing::class_count; ++size_class) {
        class_statistics const& each = of.classes[size_class];
        bytes += each.live_bytes;
        blocks += each.live_blocks;
        if (size_class != 0) {
            EXPECT_EQ(each.live_bytes, each.live_blocks * sizing::class_bytes(size_class));
        }
    }
    EXPECT_EQ(bytes, of.live_bytes);
    EXPECT_EQ(blocks, of.live_blocks);
    EXPECT_GE(of.live_peak_bytes, of.live_bytes);
    EXPECT_GE(of.reserved_bytes, of.mapped_bytes);
}

TEST(statistics, of_a_process_that_allocated_nothing_are_zero_or_say_what_there_is) {
    statistics const now = collect_statistics();
    expect_consistent(now);
    EXPECT_LE(now.threads, 1U);
}

TEST(statistics, sum_of_classes_is_what_is_live) {
    statistics const before = collect_statistics();
    std::vector<void*> blocks = various_blocks();
    std::uint64_t bytes = 0;
    for (void* const block : blocks) {
        bytes += tarn_malloc_usable_size(block);
    }
    statistics const full = collect_statistics();
    expect_consistent(full);
    EXPECT_EQ(full.live_blocks - before.live_blocks, blocks.size());
    EXPECT_EQ(full.live_bytes - before.live_bytes, bytes);
    std::uint64_t allocations = 0;
    for (unsigned size_class = 0; size_class < sizing::class_count; ++size_class) {
        allocations +=
            full.classes[size_class].allocations - before.classes[size_class].allocations;
    }
    EXPECT_EQ(allocations, blocks.size());
    EXPECT_GE(full.mapped_bytes, full.live_bytes + full.held_by_threads_bytes);
    free_all(blocks);
    statistics const after = collect_statistics();
    expect_consistent(after);
    EXPECT_EQ(after.live_blocks, before.live_blocks);
    EXPECT_EQ(after.live_bytes, before.live_bytes);
}

TEST(statistics, tell_who_holds_free_memory) {
    std::vector<void*> blocks;
    std::thread{[&] {
        for (int i = 0; i < 100; ++i) {
            blocks.push_back(tarn_malloc(1000));
        }
        tarn_free(tarn_malloc(1000));
        statistics const now = collect_statistics();
        EXPECT_GT(now.held_by_threads_bytes, 0U);
        for (std::size_t i = 0; i < 50; ++i) {  // every other one, so that no page empties
            tarn_free(blocks[i]);
            blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(i));
        }
        EXPECT_GE(collect_statistics().held_by_threads_bytes, 50 * 1024U);
    }}.join();
    statistics const now = collect_statistics();
    EXPECT_GE(now.free_in_bins_bytes, 50 * 1024U);
    free_all(blocks);
    void* const large = tarn_malloc(2 * MiB);
    std::fill_n(static_cast<char*>(large), 2 * MiB, 'x');
    tarn_free(large);
    statistics const after = collect_statistics();
    EXPECT_GE(after.free_runs_bytes + after.purged_bytes, 2 * MiB);
}

TEST(statistics, count_threads_and_what_they_free_for_others) {
    statistics const before = collect_statistics();
    std::vector<void*> blocks;
    blocks.reserve(100);
    for (int i = 0; i < 100; ++i) {
        blocks.push_back(tarn_malloc(500));
    }
    std::thread{[&] {
        void* const own = tarn_malloc(1);
        EXPECT_GE(collect_statistics().threads, before.threads + 1);
        free_all(blocks);
        tarn_free(own);
    }}.join();
    statistics const after = collect_statistics();
    EXPECT_LE(after.threads, before.threads + 1);  // this thread's first allocation was above
    EXPECT_GT(after.cross_thread_frees, before.cross_thread_frees);
    EXPECT_LE(after.cross_thread_frees - before.cross_thread_frees, 100U);
    EXPECT_EQ(after.live_blocks, before.live_blocks);
}

/// "key value..." lines.
std::map<std::string, std::vector<std::uint64_t>> parse(std::string const& text,
                                                        std::vector<std::string>& order) {
    std::map<std::string, std::vector<std::uint64_t>> result;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words{line};
        std::string key;
        words >> key;
        order.push_back(key);
        for (std::uint64_t value = 0; words >> value;) {
            result[key].push_back(value);
        }
        EXPECT_TRUE(words.eof()) << line;
    }
    return result;
}

TEST(statistics, export_parses_and_says_the_same) {
    std::vector<void*> blocks = various_blocks();
    statistics const now = collect_statistics();
    base::text_buffer<statistics_text_bytes> text;
    export_statistics(now, text);
    EXPECT_FALSE(text.truncated());
    std::string all{text.view()};
    EXPECT_EQ(all.back(), '\n');
    std::size_t const first_end = all.find('\n');
    EXPECT_EQ(all.substr(0, first_end),
              std::string{"tarn "} + tarn_version() + " pid " + std::to_string(::getpid()));
    std::vector<std::string> order;
    auto const values = parse(all.substr(first_end + 1), order);

    struct row {
        char const* key;
        std::uint64_t value;
    };

    for (row const& each :
         {row{"live_bytes", now.live_bytes}, row{"live_peak_bytes", now.live_peak_bytes},
          row{"live_blocks", now.live_blocks}, row{"mapped_bytes", now.mapped_bytes},
          row{"reserved_bytes", now.reserved_bytes}, row{"metadata_bytes", now.metadata_bytes},
          row{"held_by_threads_bytes", now.held_by_threads_bytes},
          row{"free_in_bins_bytes", now.free_in_bins_bytes},
          row{"free_runs_bytes", now.free_runs_bytes}, row{"purged_bytes", now.purged_bytes},
          row{"cross_thread_frees", now.cross_thread_frees}, row{"threads", now.threads},
          row{"page_count", now.page_count}}) {
        ASSERT_TRUE(values.contains(each.key)) << each.key;
        EXPECT_EQ(values.at(each.key), std::vector<std::uint64_t>{each.value}) << each.key;
    }
    for (char const* const key : {"resident_bytes", "peak_resident_bytes", "page_faults"}) {
        EXPECT_TRUE(values.contains(key)) << key;
    }
    // The busiest classes, each as size, allocations, live blocks; the busiest first.
    auto const classes = std::count(order.begin(), order.end(), "class");
    EXPECT_EQ(classes, 12);
    std::vector<std::uint64_t> const& numbers = values.at("class");
    ASSERT_EQ(numbers.size(), 36U);
    for (std::size_t i = 0; i < numbers.size(); i += 3) {
        unsigned const size_class = numbers[i] == 0 ? 0 : sizing::class_of(numbers[i]);
        EXPECT_EQ(sizing::class_bytes(size_class), numbers[i]);
        EXPECT_EQ(now.classes[size_class].allocations, numbers[i + 1]);
        EXPECT_EQ(now.classes[size_class].live_blocks, numbers[i + 2]);
        EXPECT_TRUE(i == 0 || numbers[i + 1] <= numbers[i - 2]);
    }
    free_all(blocks);
}

TEST(statistics, report_fits_with_the_largest_numbers) {
    statistics huge;
    std::uint64_t const most = ~std::uint64_t{0};
    for (std::uint64_t statistics::*const each :
         {&statistics::live_bytes, &statistics::live_peak_bytes, &statistics::live_blocks,
          &statistics::mapped_bytes, &statistics::reserved_bytes, &statistics::metadata_bytes,
          &statistics::held_by_threads_bytes, &statistics::free_in_bins_bytes,
          &statistics::free_runs_bytes, &statistics::purged_bytes, &statistics::cross_thread_frees,
          &statistics::threads, &statistics::page_count}) {
        huge.*each = most;
    }
    huge.classes.fill({.allocations = most, .live_blocks = most, .live_bytes = most});
    base::text_buffer<statistics_text_bytes> text;
    describe_statistics(huge, text);
    EXPECT_FALSE(text.truncated());
    text.clear();
    export_statistics(huge, text);
    EXPECT_FALSE(text.truncated());
    text.clear();
    describe_statistics(statistics{}, text);
    EXPECT_NE(text.view().find("live in blocks"), std::string_view::npos);
}

// Collected while others work: never a crash or a race, and what it says holds together.
TEST(statistics, are_collected_while_threads_allocate) {
    std::atomic<bool> stop{false};
    std::vector<std::thread> workers;
    workers.reserve(2);
    for (int worker = 0; worker < 2; ++worker) {
        workers.emplace_back([&stop, worker] {
            std::vector<void*> mine;
            for (auto i = static_cast<std::size_t>(worker); !stop.load(std::memory_order_relaxed);
                 i += 2) {
                std::size_t const bytes = 9000 + i * 1111 % (200 * KiB);
                for (int block = 0; block < 100; ++block) {  // whole pages, each time of a class
                    mine.push_back(tarn_malloc(bytes));
                }
                free_all(mine);
            }
        });
    }
    for (std::uint64_t i = 0; i < tarn::test::scaled(4000); ++i) {
        expect_consistent(collect_statistics());
    }
    stop.store(true, std::memory_order_relaxed);
    for (std::thread& worker : workers) {
        worker.join();
    }
}

}  // namespace
