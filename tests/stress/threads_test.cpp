// threads_test - blocks that cross threads, and threads that come and go.
//
// Always     every block keeps its pattern; when all are freed, none is counted as live
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <mutex>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "support/blocks.hpp"
#include "support/build.hpp"
#include "support/channel.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

/// Fails the test when more or fewer blocks are live at the end than at the start.
class threads : public testing::Test {
protected:
    void TearDown() override { EXPECT_EQ(stats_now().live_blocks, live_before_); }

private:
    std::uint64_t const live_before_ = stats_now().live_blocks;
};

template <class Body>
void run_threads(unsigned count, Body body) {
    std::vector<std::thread> running;
    for (unsigned number = 0; number < count; ++number) {
        running.emplace_back([&body, number] { body(number); });
    }
    for (std::thread& thread : running) {
        thread.join();
    }
}

TEST_F(threads, producers_feed_consumers) {
    constexpr unsigned producers = 3;
    constexpr unsigned consumers = 3;
    constexpr std::size_t batch_blocks = 32;
    using batch = std::array<stamped_block, batch_blocks>;
    channel<batch> queue{16};
    std::atomic<unsigned> producing{producers};
    run_threads(producers + consumers, [&](unsigned number) {
        if (number < producers) {
            random_stream random{number};
            for (std::uint64_t i = 0; i < scaled(1500); ++i) {
                batch made;
                for (stamped_block& block : made) {
                    block = make_block(random, random.one_in(100) ? mib : 4 * kib);
                }
                queue.send(made);
            }
            // acq_rel: the last one closes after the sends of all
            if (producing.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                queue.close();
            }
            return;
        }
        while (auto received = queue.receive()) {
            std::for_each(received->begin(), received->end(), drop_block);
        }
    });
}

TEST_F(threads, workers_in_a_ring_free_what_their_neighbour_made) {
    constexpr unsigned workers = 6;
    constexpr std::size_t batch_blocks = 200;
    std::vector<std::vector<stamped_block>> trays(workers);
    std::barrier handed_over{workers};
    run_threads(workers, [&](unsigned number) {
        random_stream random{number};
        for (std::uint64_t round = 0; round < scaled(150); ++round) {
            std::vector<stamped_block>& mine = trays[number];
            for (std::size_t i = 0; i < batch_blocks; ++i) {
                mine.push_back(make_block(random, 8 * kib));
            }
            handed_over.arrive_and_wait();
            std::vector<stamped_block>& neighbours = trays[(number + 1) % workers];
            std::for_each(neighbours.begin(), neighbours.end(), drop_block);
            neighbours.clear();
            handed_over.arrive_and_wait();
        }
    });
}

// Larson and Krishnan, "Memory allocation for long-running server applications", 1998: each thread
// replaces random blocks of a table and leaves the table to a new thread.
TEST_F(threads, blocks_bleed_through_generations_of_threads) {
    constexpr unsigned lanes = 6;
    constexpr std::size_t table_blocks = 1000;
    run_threads(lanes, [&](unsigned number) {
        random_stream random{number};
        std::vector<stamped_block> table(table_blocks);
        for (std::uint64_t generation = 0; generation < scaled(40); ++generation) {
            std::thread{[&] {
                for (std::size_t i = 0; i < table_blocks; ++i) {
                    stamped_block& block = table[random.below(table_blocks)];
                    drop_block(block);
                    block = make_block(random, 2 * kib);
                }
            }}.join();
        }
        std::for_each(table.begin(), table.end(), drop_block);
    });
}

TEST_F(threads, ten_thousand_short_ones_leave_blocks_to_others) {
    constexpr unsigned lanes = 8;  // so many run at a time
    constexpr std::size_t blocks_per_thread = 24;
    std::mutex mutex;
    std::vector<stamped_block> left_behind;  // guarded by mutex
    run_threads(lanes, [&](unsigned number) {
        for (std::uint64_t i = 0; i < scaled(10'000) / lanes; ++i) {
            std::thread{[&, i] {
                random_stream random{i * lanes + number};
                std::array<stamped_block, blocks_per_thread> blocks;
                for (stamped_block& block : blocks) {
                    block = make_block(random, random.one_in(50) ? 256 * kib : kib);
                }
                auto const half = blocks.begin() + blocks_per_thread / 2;
                std::for_each(blocks.begin(), half, drop_block);
                std::vector<stamped_block> inherited(half, blocks.end());
                {
                    std::scoped_lock const lock{mutex};
                    left_behind.swap(inherited);
                }
                std::for_each(inherited.begin(), inherited.end(), drop_block);
            }}.join();
        }
    });
    std::for_each(left_behind.begin(), left_behind.end(), drop_block);
}

TEST_F(threads, end_with_live_blocks_whose_pages_serve_others) {
    constexpr std::size_t bytes_per_thread = 4 * mib;
    constexpr std::uint64_t allowed_growth_bytes = 3 * bytes_per_thread;
    random_stream random{1};
    std::uint64_t mapped_after_first = 0;
    for (int round = 0; round < 30; ++round) {
        std::vector<stamped_block> left;
        std::thread{[&] {
            for (std::size_t bytes = 0; bytes < bytes_per_thread; bytes += left.back().bytes) {
                left.push_back(make_block(random, 16 * kib));
            }
        }}.join();
        std::for_each(left.begin(), left.end(), drop_block);  // by a thread that never allocated
        if (round == 0) {
            mapped_after_first = stats_now().mapped_bytes;
        }
    }
    EXPECT_LE(stats_now().mapped_bytes, mapped_after_first + allowed_growth_bytes);
}

TEST_F(threads, that_are_parked_hold_little) {
    constexpr unsigned parked = 8;
    // The defaults of thread_cache_bytes and thread_empty_bytes.
    constexpr std::uint64_t held_per_thread_max = 4 * mib + mib;
    std::barrier step{parked + 1};
    std::thread observer{[&] {
        step.arrive_and_wait();
        EXPECT_LE(stats_now().held_by_threads_bytes, (parked + 1) * held_per_thread_max);
        step.arrive_and_wait();
    }};
    run_threads(parked, [&](unsigned number) {
        random_stream random{number};
        std::vector<stamped_block> blocks;
        for (std::size_t bytes = 0; bytes < 8 * mib; bytes += blocks.back().bytes) {
            blocks.push_back(make_block(random, 32 * kib));
        }
        std::for_each(blocks.begin(), blocks.end(), drop_block);
        step.arrive_and_wait();
        step.arrive_and_wait();
    });
    observer.join();
}

TEST_F(threads, use_the_heap_in_destructors_of_thread_local_objects) {
    struct late_user {
        stamped_block block = make_block(100, 1);

        ~late_user() {
            stamped_block other = make_block(50'000, 2);
            drop_block(block);
            drop_block(other);
        }
    };

    run_threads(16, [](unsigned) {
        for (int i = 0; i < 20; ++i) {
            std::thread{[] {
                thread_local late_user user;
                check_block(user.block);
            }}.join();
        }
    });
}

}  // namespace
}  // namespace tarn::test
