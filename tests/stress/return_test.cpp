// return_test - memory goes back: by itself while the program idles, at once when asked.
//
// Bound      after churn to 1 GiB in 16 and in 32 threads, all freed and the threads parked: at
//            most a tenth of the growth is resident after a few idle seconds, without any call;
//            a twentieth after tarn_purge(TARN_PURGE_PROCESS). After all but one block of each page
//            was freed: 15 % above the OS pages that hold a live block.
// Build      release alone: it is about Tarn, not about a sanitizer's shadow
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "support/process.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

constexpr std::size_t peak_bytes = gib;
constexpr std::chrono::seconds idle_most{5};

struct piece {
    void* block = nullptr;
    std::size_t bytes = 0;
};

/// What a thread and its neighbour allocate; the neighbour frees a part of it.
struct share {
    explicit share(std::size_t capacity) : pieces(capacity) {}

    std::vector<piece> pieces;  // its memory is there before the measurement begins
    std::size_t count = 0;
};

class churn {
public:
    explicit churn(std::size_t threads)
        : shares_(threads, share{4 * peak_bytes / threads / kib}),
          meet_{static_cast<std::ptrdiff_t>(threads) + 1} {
        for (share& each : shares_) {
            std::fill(each.pieces.begin(), each.pieces.end(), piece{});
        }
        for (std::size_t i = 0; i < threads; ++i) {
            threads_.emplace_back([this, i] { live(i); });
        }
    }

    ~churn() {
        for (std::thread& each : threads_) {
            each.join();
        }
    }

    churn(churn const&) = delete;
    churn& operator=(churn const&) = delete;

    /// Waits until all threads are in their next phase: filled, freed, parked for good.
    void next_phase() { meet_.arrive_and_wait(); }

private:
    void live(std::size_t number) {
        random_stream random{number + 1};
        share& own = shares_[number];
        std::size_t const target = peak_bytes / shares_.size();
        meet_.arrive_and_wait();  // all are there
        std::size_t bytes = 0;
        while (bytes < target && own.count < own.pieces.size()) {
            std::size_t const size = random.between(1, 8) == 1 ? random.size_up_to(64 * kib)
                                                               : random.size_up_to(2 * kib);
            void* const block = tarn_malloc(size);
            std::memset(block, 1, size);
            bytes += size;
            if (own.count != 0 && random.one_in(2)) {  // churn: replaces one
                piece& old = own.pieces[random.below(own.count)];
                bytes -= old.bytes;
                tarn_free(old.block);
                old = {block, size};
            } else {
                own.pieces[own.count++] = {block, size};
            }
        }
        meet_.arrive_and_wait();  // filled
        meet_.arrive_and_wait();  // the peak was seen
        // A part by its own thread, a part by the neighbour.
        free_every(own, 0, 2);
        free_every(shares_[(number + 1) % shares_.size()], 1, 2);
        meet_.arrive_and_wait();  // freed
        meet_.arrive_and_wait();  // may end
    }

    static void free_every(share& of, std::size_t first, std::size_t step) {
        for (std::size_t i = first; i < of.count; i += step) {
            tarn_free(of.pieces[i].block);
        }
    }

    std::vector<share> shares_;
    std::barrier<> meet_;
    std::vector<std::thread> threads_;
};

std::size_t growth_over(std::size_t start) {
    std::size_t const now = resident_bytes();
    return now > start ? now - start : 0;
}

class returned : public testing::TestWithParam<std::size_t> {};

TEST_P(returned, while_idle_and_at_once_when_asked) {
    churn work{GetParam()};
    std::size_t const start = resident_bytes();
    work.next_phase();  // begin
    work.next_phase();  // filled
    std::size_t const peak = growth_over(start);
    EXPECT_GE(peak, peak_bytes);
    work.next_phase();
    work.next_phase();  // freed, parked
    // No call into the allocator from here: nothing below allocates.
    auto const end = std::chrono::steady_clock::now() + idle_most;
    std::size_t left = growth_over(start);
    while (left > peak / 10 && std::chrono::steady_clock::now() < end) {
        ::poll(nullptr, 0, 50);  // there is no event to wait for
        left = growth_over(start);
    }
    tarn_purge(TARN_PURGE_PROCESS);
    std::size_t const least = growth_over(start);
    std::printf("%zu threads: peak %zu KiB, idle %zu KiB, purged %zu KiB\n", GetParam(), peak / kib,
                left / kib, least / kib);
    EXPECT_LE(left, peak / 10);
    EXPECT_LE(least, peak / 20);
    work.next_phase();
}

INSTANTIATE_TEST_SUITE_P(threads, returned, testing::Values(16, 32),
                         [](auto const& each) { return std::to_string(each.param); });

TEST(purge, leaves_the_os_pages_of_live_blocks) {
    auto const os_page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    constexpr std::size_t bytes = 256;
    constexpr std::size_t count = peak_bytes / bytes;
    constexpr std::size_t stride = 64 * kib / bytes;  // a page has no more blocks
    std::vector<void*> blocks(count);
    std::fill(blocks.begin(), blocks.end(), nullptr);
    std::size_t const start = resident_bytes();
    for (void*& each : blocks) {
        each = tarn_malloc(bytes);
        std::memset(each, 1, bytes);
    }
    for (std::size_t i = 0; i < count; ++i) {
        if (i % stride != 0) {
            tarn_free(blocks[i]);
        }
    }
    std::size_t const needed = count / stride * os_page;  // each in an OS page of its own
    EXPECT_GT(tarn_purge(TARN_PURGE_PROCESS), peak_bytes / 2);
    std::size_t const left = growth_over(start);
    std::printf("needed %zu KiB, resident %zu KiB\n", needed / kib, left / kib);
    EXPECT_LE(left, needed + needed * 15 / 100);
    for (std::size_t i = 0; i < count; i += stride) {
        tarn_free(blocks[i]);
    }
}

}  // namespace
}  // namespace tarn::test
