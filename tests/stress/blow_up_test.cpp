// blow_up_test - resident memory stays near what is live, whoever frees it.
//
// Bound      growth of resident memory over the start <= growth_factor × the peak of live bytes,
//            plus what each thread may hold, plus a constant. Asserted after every round, with
//            every byte of every block touched.
// Build      release alone: the bound is about Tarn, not about a sanitizer's shadow
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <cstring>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "support/process.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

constexpr double growth_factor = 1.3;
constexpr std::size_t held_per_thread_bytes = 2 * mib;
constexpr std::size_t constant_bytes = 4 * mib;

/// Blocks of one owner; its memory is there from the start, so it is not measured.
class tray {
public:
    explicit tray(std::size_t capacity) : blocks_(capacity) {
        std::memset(static_cast<void*>(blocks_.data()), 0, capacity * sizeof(void*));
    }

    /// Adds touched blocks of sizes in [bytes_min, bytes_max] until they are `bytes` together.
    /// Returns the bytes asked for.
    std::size_t load(random_stream& random, std::size_t bytes, std::size_t bytes_min,
                     std::size_t bytes_max) {
        std::size_t loaded = 0;
        while (loaded < bytes && count_ < blocks_.size()) {
            std::size_t const size = std::clamp(random.size_up_to(bytes_max), bytes_min, bytes_max);
            void* const block = tarn_malloc(size);
            if (block == nullptr) {
                ADD_FAILURE() << "out of memory";
                break;
            }
            std::memset(block, 1, size);
            blocks_[count_++] = block;
            loaded += size;
        }
        return loaded;
    }

    void unload() {
        std::for_each(blocks_.begin(), blocks_.begin() + static_cast<std::ptrdiff_t>(count_),
                      tarn_free);
        count_ = 0;
    }

private:
    std::vector<void*> blocks_;
    std::size_t count_ = 0;
};

/// Compares resident memory with the bound. Used by one thread at a time.
class resident_bound {
public:
    explicit resident_bound(std::size_t threads) : threads_{threads} {}

    /// Call when all threads run and none has allocated.
    void start() { start_ = resident_bytes(); }

    /// Call while `live_bytes` are live.
    void observe(std::size_t live_bytes) {
        peak_live_ = std::max(peak_live_, live_bytes);
        std::size_t const now = resident_bytes();
        growth_ = std::max(growth_, now > start_ ? now - start_ : 0);
    }

    void expect_kept() const {
        auto const allowed =
            static_cast<std::size_t>(growth_factor * static_cast<double>(peak_live_)) +
            threads_ * held_per_thread_bytes + constant_bytes;
        std::printf("peak of live bytes %.1f MiB, resident growth %.1f MiB, allowed %.1f MiB\n",
                    in_mib(peak_live_), in_mib(growth_), in_mib(allowed));
        EXPECT_GT(start_, 0U) << "no /proc";
        EXPECT_GE(growth_, peak_live_ / 2) << "the blocks were not touched";
        EXPECT_LE(growth_, allowed);
    }

private:
    static double in_mib(std::size_t bytes) {
        return static_cast<double>(bytes) / static_cast<double>(mib);
    }

    std::size_t const threads_;
    std::size_t start_ = 0;
    std::size_t peak_live_ = 0;
    std::size_t growth_ = 0;
};

/// One thread allocates `bytes` in each round, another frees them all.
void hand_over(unsigned rounds, std::size_t bytes, std::size_t bytes_min, std::size_t bytes_max) {
    tray blocks{2 * bytes / bytes_min + 1};
    resident_bound bound{2};
    std::barrier step{2};
    std::thread freeing{[&] {
        step.arrive_and_wait();
        for (unsigned round = 0; round < rounds; ++round) {
            step.arrive_and_wait();
            blocks.unload();
            step.arrive_and_wait();
        }
    }};
    step.arrive_and_wait();
    bound.start();
    random_stream random{bytes_max};
    for (unsigned round = 0; round < rounds; ++round) {
        bound.observe(blocks.load(random, bytes, bytes_min, bytes_max));
        step.arrive_and_wait();
        step.arrive_and_wait();
        bound.observe(0);
    }
    freeing.join();
    bound.expect_kept();
}

TEST(blow_up, of_a_thread_that_only_frees_is_bounded) { hand_over(60, 48 * mib, 16, 8 * kib); }

TEST(blow_up, of_one_size_handed_over_is_bounded) { hand_over(60, 48 * mib, 100, 100); }

TEST(blow_up, of_a_large_hand_off_is_bounded) { hand_over(40, 200 * mib, 200 * kib, 4 * mib); }

TEST(blow_up, of_a_worker_ring_is_bounded) {
    constexpr unsigned workers = 6;
    constexpr std::size_t bytes_each = 10 * mib;
    constexpr unsigned rounds = 40;
    std::vector<tray> trays;
    for (unsigned number = 0; number < workers; ++number) {
        trays.emplace_back(2 * bytes_each / 16 + 1);
    }
    resident_bound bound{workers};
    std::barrier step{workers + 1};
    std::vector<std::size_t> loaded(workers);
    std::vector<std::thread> running;
    for (unsigned number = 0; number < workers; ++number) {
        running.emplace_back([&, number] {
            random_stream random{number};
            step.arrive_and_wait();
            for (unsigned round = 0; round < rounds; ++round) {
                loaded[number] = trays[number].load(random, bytes_each, 16, 16 * kib);
                step.arrive_and_wait();  // measured here
                step.arrive_and_wait();
                trays[(number + 1) % workers].unload();
                step.arrive_and_wait();
            }
        });
    }
    bound.start();
    step.arrive_and_wait();
    for (unsigned round = 0; round < rounds; ++round) {
        step.arrive_and_wait();
        std::size_t live = 0;
        for (std::size_t const bytes : loaded) {
            live += bytes;
        }
        bound.observe(live);
        step.arrive_and_wait();
        step.arrive_and_wait();
    }
    for (std::thread& thread : running) {
        thread.join();
    }
    bound.expect_kept();
}

// The classic trap of private heaps: each phase frees one half of what another thread made and
// allocates it anew, so every thread's pages end up half empty.
TEST(blow_up, of_threads_that_take_turns_is_bounded) {
    constexpr std::size_t bytes = 32 * mib;
    constexpr unsigned threads = 16;
    tray blocks{2 * bytes / 16 + 1};
    resident_bound bound{threads};
    bound.start();
    for (unsigned number = 0; number < threads; ++number) {
        std::thread{[&] {
            random_stream random{number};
            blocks.unload();
            bound.observe(blocks.load(random, bytes, 16, 4 * kib));
        }}.join();
    }
    blocks.unload();
    bound.expect_kept();
}

}  // namespace
}  // namespace tarn::test
