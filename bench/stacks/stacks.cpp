// stacks [ROUNDS] - what a call stack costs: to walk it by each method, and to look it up.
//
// Prints, for stacks of so many frames, the median over the rounds (41 by default) of the thread's
// time for one walk in ns, everything warm. Every round measures every row once, in turns. The
// frames are of functions that differ, and each has its own call of the next. Instructions are
// counted by
//     valgrind --tool=callgrind --toggle-collect='*walk_stack*' ./stacks 1
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <utility>
#include <vector>

#include "base/attributes.hpp"
#include "platform/os.hpp"
#include "platform/stack_walk.hpp"
#include "space/stack_table.hpp"

namespace {

using namespace tarn::impl;
using platform::walk_method;

constinit space::stack_table<platform::os> table;

std::uint64_t now_ns() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
}

struct row {
    char const* name;
    walk_method by;
    bool looks_up;
    std::size_t frames = 0;
    std::vector<double> times;  // ns
};

TARN_NOINLINE void measure(row& what, std::size_t frames) {
    std::array<void const*, platform::stack_frames_max> room{};
    int const walks = what.by == walk_method::libgcc ? 500 : 10'000;
    std::uint64_t const start = now_ns();
    for (int i = 0; i < walks; ++i) {
        what.frames = platform::walk_stack(std::span{room}.first(frames), what.by, nullptr);
        if (what.looks_up) {
            table.intern(std::span{room}.first(what.frames));
        }
    }
    what.times.push_back(static_cast<double>(now_ns() - start) / walks);
}

/// Calls the same for Depth - 1, through as many functions as there are frames.
template <std::size_t Depth>
TARN_NOINLINE void descend(row& what, std::size_t frames) {
    std::array<int, Depth % 7 + 1> local;
    __asm__ volatile("" : : "r"(local.data()) : "memory");
    if constexpr (Depth == 0) {
        measure(what, frames);
    } else {
        descend<Depth - 1>(what, frames);
    }
    __asm__ volatile("" : : "r"(local.data()) : "memory");  // the call is not the last act
}

}  // namespace

int main(int count, char** arguments) {
    int const rounds = count > 1 ? std::atoi(arguments[1]) : 41;
    for (std::size_t const frames : {10U, 20U, 40U}) {
        std::array<row, 4> rows{{{"tables", walk_method::tables, false, 0, {}},
                                 {"tables and table", walk_method::tables, true, 0, {}},
                                 {"frames", walk_method::frames, false, 0, {}},
                                 {"libgcc", walk_method::libgcc, false, 0, {}}}};
        for (int round = 0; round < rounds; ++round) {
            for (row& each : rows) {
                descend<45>(each, frames);
            }
        }
        for (row& each : rows) {
            std::sort(each.times.begin(), each.times.end());
            double const median = each.times[each.times.size() / 2];
            std::printf("%-18s %2zu frames %8.1f ns  %6.2f ns a frame\n", each.name, each.frames,
                        median, median / static_cast<double>(each.frames));
        }
    }
    return 0;
}
