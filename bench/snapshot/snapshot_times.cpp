// snapshot_times [MIB] [PER_MILLE] - what take() and map() cost: a region of so many MiB (256), of
// which so many thousandths (10) of the pages, at random, are written between snapshots.
//
// Rows: how pages that were written are found, and how many older snapshots are held meanwhile.
// Times are medians of 21 rounds, in ms, by the clock and as the thread's processor time; the first
// snapshot, which copies everything, apart. Exit status 0 always: it judges nothing.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <vector>

#include <tarn/snapshot.hpp>

namespace {

constexpr std::size_t rounds = 21;

double now_ms(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

struct span_of_time {
    double wall = now_ms(CLOCK_MONOTONIC);
    double processor = now_ms(CLOCK_THREAD_CPUTIME_ID);

    void end() {
        wall = now_ms(CLOCK_MONOTONIC) - wall;
        processor = now_ms(CLOCK_THREAD_CPUTIME_ID) - processor;
    }
};

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + rounds / 2, values.end());
    return values[rounds / 2];
}

std::uint64_t next_random() {
    static std::uint64_t state = 1;
    state = state * 6364136223846793005 + 1442695040888963407;
    return state >> 33U;
}

void measure(tarn::snapshot_tracking tracking, std::size_t held, std::size_t mib,
             std::size_t per_mille) {
    tarn::snapshot_options options;
    options.tracking = tracking;
    options.capacity_bytes = (mib + 64) << 20U;
    tarn::snapshot_memory memory{options};
    std::size_t const page_bytes = tarn::detail::os_page_bytes();
    std::size_t const bytes = mib << 20U;
    std::size_t const pages = bytes / page_bytes;
    auto* const block = static_cast<unsigned char*>(memory.allocate(bytes, page_bytes));
    std::memset(block, 1, bytes);
    std::deque<tarn::snapshot> snapshots;
    span_of_time first;
    snapshots.push_back(memory.take());
    first.end();
    std::vector<double> wall;
    std::vector<double> processor;
    std::vector<double> mapping;
    for (std::size_t round = 0; round < rounds; ++round) {
        for (std::size_t i = 0; i < pages * per_mille / 1000; ++i) {
            ++block[next_random() % pages * page_bytes + round];
        }
        while (snapshots.size() > held) {
            snapshots.pop_front();
        }
        span_of_time taking;
        snapshots.push_back(memory.take());
        taking.end();
        span_of_time viewing;
        tarn::snapshot_view const view = snapshots.back().map();
        viewing.end();
        wall.push_back(taking.wall);
        processor.push_back(taking.processor);
        mapping.push_back(viewing.processor);
    }
    bool const protects = memory.statistics().tracking == tarn::snapshot_tracking::best;
    std::printf("%-10s %6zu %10.1f %10.2f %10.2f %10.2f\n", protects ? "protection" : "copies",
                held, first.processor, median(wall), median(processor), median(mapping));
    memory.deallocate(block, bytes, page_bytes);
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): what it needs to measure was refused
int main(int count, char** words) {
    std::size_t const mib = count > 1 ? std::strtoul(words[1], nullptr, 10) : 256;
    std::size_t const per_mille = count > 2 ? std::strtoul(words[2], nullptr, 10) : 10;
    std::printf("%zu MiB, %zu of 1000 pages written; ms\n", mib, per_mille);
    std::printf("%-10s %6s %10s %10s %10s %10s\n", "found by", "held", "first", "take", "processor",
                "map");
    for (auto const tracking : {tarn::snapshot_tracking::best, tarn::snapshot_tracking::copies}) {
        for (std::size_t const held : {0UL, 1UL, 5UL}) {
            measure(tracking, held, mib, per_mille);
        }
    }
}
