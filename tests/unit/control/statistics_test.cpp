#include "control/statistics.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "base/units.hpp"

#include "tarn/tarn.h"

#include "sizing/size_class.hpp"
#include "heap/process.hpp"
#include "control/audit.hpp"
#include "support/build.hpp"
#include "support/random.hpp"

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
            // Guarded samples are as large as was asked for.
            std::uint64_t const whole = each.live_blocks * sizing::class_bytes(size_class);
            EXPECT_LE(each.live_bytes, whole);
            EXPECT_GE(each.live_bytes + of.guarded_blocks * sizing::class_bytes(size_class), whole);
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

std::uint64_t accounted_for(tarn_stats const& of) {
    return of.metadata_bytes + of.live_bytes + of.page_tail_bytes + of.fresh_bytes +
           of.held_by_threads_bytes + of.free_in_bins_bytes + of.free_in_heaps_bytes +
           of.free_runs_bytes;
}

TEST(statistics, account_for_every_mapped_byte) {
    std::vector<void*> blocks = various_blocks();
    statistics const full = collect_statistics();
    EXPECT_EQ(full.mapped_bytes + full.purged_inside_bytes, accounted_for(full));
    for (std::size_t i = 0; i < blocks.size(); i += 2) {
        tarn_free(blocks[i]);
        blocks[i] = nullptr;
    }
    statistics const half = collect_statistics();
    EXPECT_EQ(half.mapped_bytes + half.purged_inside_bytes, accounted_for(half));
    tarn_purge(TARN_PURGE_PROCESS);
    statistics const purged = collect_statistics();
    EXPECT_EQ(purged.mapped_bytes + purged.purged_inside_bytes, accounted_for(purged));
    EXPECT_EQ(purged.live_bytes, half.live_bytes);
    EXPECT_LE(purged.mapped_bytes, half.mapped_bytes);
    free_all(blocks);
}

/// A thread that allocates and frees at random, and then waits, alive, until it is let go.
class parked_thread {
public:
    explicit parked_thread(std::uint64_t seed) : thread_{[this, seed] { live(seed); }} {
        parked_.acquire();
    }

    ~parked_thread() {
        let_go_.release();
        thread_.join();
    }

    [[nodiscard]] std::uint64_t live_bytes() const { return live_bytes_; }

    [[nodiscard]] std::uint64_t live_blocks() const { return blocks_.size(); }

    [[nodiscard]] std::uint64_t id() const { return id_; }

private:
    void live(std::uint64_t seed) {
        id_ = static_cast<std::uint64_t>(::gettid());
        tarn::test::random_stream random{seed};
        for (int i = 0; i < 3000; ++i) {
            if (blocks_.empty() || random.below(5) < 3) {
                blocks_.push_back(tarn_malloc(random.size_up_to(64 * KiB)));
                live_bytes_ += tarn_malloc_usable_size(blocks_.back());
            } else {
                std::swap(blocks_[random.below(blocks_.size())], blocks_.back());
                live_bytes_ -= tarn_malloc_usable_size(blocks_.back());
                tarn_free(blocks_.back());
                blocks_.pop_back();
            }
        }
        parked_.release();
        let_go_.acquire();
        free_all(blocks_);
    }

    std::binary_semaphore parked_{0};
    std::binary_semaphore let_go_{0};
    std::vector<void*> blocks_;
    std::uint64_t live_bytes_ = 0;
    std::uint64_t id_ = 0;
    std::thread thread_;
};

TEST(statistics, are_exact_of_threads_at_rest) {
    std::uint64_t const start = collect_statistics().live_bytes;
    parked_thread const one{1};
    parked_thread const two{2};
    parked_thread const three{3};
    statistics now = collect_statistics();
    if (now.threads_unread != 0) {
        GTEST_SKIP() << "process_vm_readv is refused";
    }
    EXPECT_EQ(now.live_bytes - start, one.live_bytes() + two.live_bytes() + three.live_bytes());
    EXPECT_EQ(now.mapped_bytes + now.purged_inside_bytes, accounted_for(now));
    statistics found;
    EXPECT_EQ(audit(found), 0U);
    EXPECT_EQ(found.live_bytes, now.live_bytes);
}

TEST(statistics, have_a_row_for_each_thread) {
    parked_thread const one{4};
    parked_thread const two{5};
    std::vector<tarn_thread_stats> rows(100);
    statistics const now = collect_statistics(rows);
    ASSERT_GE(now.thread_count, 2U);
    ASSERT_LT(now.thread_count, rows.size());
    rows.resize(now.thread_count);
    std::uint64_t held = 0;
    for (tarn_thread_stats const& row : rows) {
        held += row.free_bytes;
    }
    EXPECT_EQ(held, now.held_by_threads_bytes);
    for (parked_thread const* const thread : {&one, &two}) {
        auto const row = std::find_if(rows.begin(), rows.end(), [thread](auto const& each) {
            return each.thread_id == thread->id();
        });
        ASSERT_NE(row, rows.end());
        EXPECT_GE(row->allocations, thread->live_blocks());
        EXPECT_GT(row->pages, 0U);
        EXPECT_GE(row->page_bytes, row->free_bytes);
    }
}

TEST(statistics, of_more_threads_than_there_is_room_for_stay_within_it) {
    parked_thread const one{6};
    parked_thread const two{7};
    std::vector<tarn_thread_stats> rows(1);
    EXPECT_LE(collect_statistics(rows).thread_count, 1U);
    EXPECT_EQ(collect_statistics({rows.data(), 0}).thread_count, 0U);
}

TEST(audit, names_what_contradicts) {
    tarn_free(tarn_malloc(48));  // this thread's page
    void* const block = tarn_malloc(48);
    heap::page& home = *heap::page_of(block);
    statistics found;
    ASSERT_EQ(audit(found), 0U);
    int const made = home.capacity.get();
    testing::internal::CaptureStderr();
    home.capacity.set(made + 1);
    EXPECT_GT(audit(found), 0U);
    home.capacity.set(made);
    std::string const said = testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find("tarn: audit: "), std::string::npos) << said;
    EXPECT_EQ(audit(found), 0U);
    tarn_free(block);
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
    for (std::uint64_t i = 0; i < tarn::test::scaled(600); ++i) {
        expect_consistent(collect_statistics());
    }
    stop.store(true, std::memory_order_relaxed);
    for (std::thread& worker : workers) {
        worker.join();
    }
}

}  // namespace
