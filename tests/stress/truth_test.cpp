// truth_test - statistics, the allocator's own walk and glibc's introspection agree to the byte.
//
// Shape      lanes allocate, reallocate and free at random, also what other lanes made, and meet;
//            while they rest the last one asks everybody, and compares with what the lanes know.
// Replay     TARN_TEST_SEED=N; the seed is printed
// Soak       TARN_SOAK=1 multiplies the rounds
#include <gtest/gtest.h>
#if TARN_TEST_GLIBC_NAMES
#include <malloc.h>
#endif

#include <array>
#include <atomic>
#include <barrier>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "support/build.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

constexpr unsigned lanes = 4;
constexpr std::size_t slots_per_lane = 400;
constexpr int steps_per_round = 3000;

std::uint64_t seed_of_run() {
    char const* const asked = std::getenv("TARN_TEST_SEED");
    std::uint64_t const seed =
        asked != nullptr ? std::strtoull(asked, nullptr, 10) : std::random_device{}();
    std::printf("TARN_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    return seed;
}

/// Blocks that anybody may take, and whose bytes and number the lanes keep count of.
struct stock {
    std::array<std::atomic<void*>, lanes * slots_per_lane> slots{};
    std::atomic<std::uint64_t> blocks{0};  // relaxed: read while everybody rests
    std::atomic<std::uint64_t> bytes{0};

    void count(void* block) {
        blocks.fetch_add(1, std::memory_order_relaxed);
        bytes.fetch_add(tarn_malloc_usable_size(block), std::memory_order_relaxed);
    }

    void forget(void* block) {
        blocks.fetch_sub(1, std::memory_order_relaxed);
        bytes.fetch_sub(tarn_malloc_usable_size(block), std::memory_order_relaxed);
    }

    void drop(void* block) {
        if (block != nullptr) {
            forget(block);
            tarn_free(block);
        }
    }
};

std::size_t draw_size(random_stream& random) {
    if (random.one_in(3000)) {
        return random.between(256 * mib, 300 * mib);  // a mapping of its own
    }
    return random.size_up_to(random.one_in(30) ? 3 * mib : 20 * kib);
}

void step(stock& all, random_stream& random) {
    std::atomic<void*>& slot = all.slots[random.below(all.slots.size())];
    void* block = slot.exchange(nullptr, std::memory_order_acq_rel);
    if (block != nullptr && random.one_in(3)) {
        all.forget(block);
        block = tarn_realloc(block, draw_size(random));
        ASSERT_NE(block, nullptr);
        all.count(block);
    } else if (block != nullptr) {
        all.drop(block);
        return;
    } else {
        block = random.one_in(8) ? tarn_aligned_alloc(std::size_t{16} << random.below(12),
                                                      random.size_up_to(100 * kib))
                                 : tarn_malloc(draw_size(random));
        ASSERT_NE(block, nullptr);
        all.count(block);
    }
    all.drop(slot.exchange(block, std::memory_order_acq_rel));
}

tarn_stats stats_at_rest() {
    tarn_stats stats{};
    stats.size = sizeof stats;
    EXPECT_EQ(tarn_stats_get(&stats), 0);
    return stats;
}

#if TARN_TEST_GLIBC_NAMES
/// malloc_info's text, by a stream whose memory does not come from malloc while it is used.
class info_text {
public:
    info_text() : stream_{::fmemopen(room_.data(), room_.size(), "w")} {
        std::setvbuf(stream_, buffer_.data(), _IOFBF, buffer_.size());
    }

    info_text(info_text const&) = delete;
    info_text& operator=(info_text const&) = delete;

    ~info_text() { std::fclose(stream_); }

    std::string_view read() {
        room_.fill(0);  // the last text may have been longer
        std::rewind(stream_);
        EXPECT_EQ(::malloc_info(0, stream_), 0);
        std::fflush(stream_);
        return room_.data();
    }

private:
    std::array<char, 64 * kib> room_{};
    std::array<char, 64 * kib> buffer_{};
    std::FILE* stream_;
};

/// The number behind the last `mark` in the text.
std::uint64_t last_number(std::string_view text, std::string_view mark) {
    std::size_t const at = text.rfind(mark);
    std::uint64_t value = 0;
    if (at == std::string_view::npos) {
        ADD_FAILURE() << "no " << mark;
        return 0;
    }
    char const* const first = text.data() + at + mark.size();
    std::from_chars(first, text.data() + text.size(), value);
    return value;
}

void expect_glibc_says_the_same(tarn_stats const& said, info_text& info) {
    struct mallinfo2 const now = ::mallinfo2();
    EXPECT_EQ(now.uordblks + now.hblkhd, said.live_bytes);
    EXPECT_EQ(now.hblkhd, said.huge_bytes);
    EXPECT_EQ(now.hblks, said.huge_blocks);
    EXPECT_EQ(now.arena + now.hblkhd + said.metadata_bytes, said.mapped_bytes);
    EXPECT_EQ(now.arena, now.uordblks + now.fordblks);
    EXPECT_EQ(now.keepcost, said.free_runs_bytes);
    std::string_view const text = info.read();
    EXPECT_EQ(last_number(text, "<total type=\"fast\" count=\"") +
                  last_number(text, "<total type=\"rest\" count=\""),
              now.ordblks);
    std::string_view const rest = text.substr(text.rfind("type=\"rest\""));
    std::string_view const fast = text.substr(text.rfind("type=\"fast\""));
    std::string_view const mmap = text.substr(text.rfind("type=\"mmap\""));
    auto const size_in = [](std::string_view element) {
        return last_number(element.substr(0, element.find("/>")), "size=\"");
    };
    EXPECT_EQ(size_in(fast) + size_in(rest), now.fordblks);
    EXPECT_EQ(size_in(mmap), now.hblkhd);
    EXPECT_EQ(last_number(text, "<system type=\"current\" size=\""), now.arena);
}
#else
struct info_text {};

void expect_glibc_says_the_same(tarn_stats const&, info_text&) {}
#endif

void compare_at_rest(stock const& all, tarn_stats const& start, info_text& info) {
    tarn_stats walked{};
    walked.size = sizeof walked;
    EXPECT_EQ(tarn_audit(&walked), 0U);
    tarn_stats const said = stats_at_rest();
    EXPECT_EQ(said.mapped_bytes, walked.mapped_bytes);
    EXPECT_EQ(said.mapped_bytes + said.purged_inside_bytes,
              said.metadata_bytes + said.live_bytes + said.page_tail_bytes + said.fresh_bytes +
                  said.held_by_threads_bytes + said.free_in_bins_bytes + said.free_in_heaps_bytes +
                  said.free_runs_bytes + said.quarantined_bytes + said.guard_bytes);
    std::uint64_t const usable = all.bytes.load(std::memory_order_relaxed);
    if (in_hardened_mode()) {  // a block has more bytes than may be used
        EXPECT_GT(walked.live_bytes - start.live_bytes, usable);
        EXPECT_LT(walked.live_bytes - start.live_bytes, usable + usable / 6);
    } else {
        EXPECT_EQ(walked.live_bytes - start.live_bytes, usable);
    }
    if (said.threads_unread == 0) {
        EXPECT_EQ(said.live_bytes, walked.live_bytes);
        EXPECT_EQ(said.live_blocks - start.live_blocks, all.blocks.load(std::memory_order_relaxed));
    }
    expect_glibc_says_the_same(said, info);
}

TEST(truth, at_rest_all_say_the_same_to_the_byte) {
    std::uint64_t const seed = seed_of_run();
    auto const rounds = static_cast<int>(scaled(6));
    static stock all;
    static info_text info;
    std::barrier<> meet{lanes + 1};
    std::vector<std::thread> threads;
    threads.reserve(lanes);
    for (unsigned lane = 0; lane < lanes; ++lane) {
        threads.emplace_back([&, lane] {
            random_stream random{mix(seed) ^ mix(lane + 1)};
            std::free(std::malloc(1));
            meet.arrive_and_wait();  // all are there: what threads cost is allocated
            meet.arrive_and_wait();
            for (int round = 0; round < rounds; ++round) {
                for (int i = 0; i < steps_per_round; ++i) {
                    step(all, random);
                }
                if (round % 3 == 2) {
                    tarn_purge(round % 2 == 0 ? TARN_PURGE_THREAD : TARN_PURGE_PROCESS);
                }
                meet.arrive_and_wait();
                meet.arrive_and_wait();
            }
        });
    }
    meet.arrive_and_wait();
    tarn_stats start{};
    start.size = sizeof start;
    EXPECT_EQ(tarn_audit(&start), 0U);
    meet.arrive_and_wait();
    for (int round = 0; round < rounds; ++round) {
        meet.arrive_and_wait();
        compare_at_rest(all, start, info);
        meet.arrive_and_wait();
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (auto& slot : all.slots) {
        all.drop(slot.exchange(nullptr, std::memory_order_relaxed));
    }
    EXPECT_EQ(all.blocks.load(std::memory_order_relaxed), 0U);
    tarn_stats walked{};
    walked.size = sizeof walked;
    EXPECT_EQ(tarn_audit(&walked), 0U);
}

}  // namespace
}  // namespace tarn::test
