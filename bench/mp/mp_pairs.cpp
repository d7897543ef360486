// mp_pairs [ROUNDS] - what a pair of mp_alloc and mp_free costs, beside malloc and free.
//
// Prints a line for each row: the median over the rounds (21 by default) of the thread's time for
// one pair in ns, and the quartiles. Rows are measured in turns, some milliseconds each, so that
// what disturbs the machine for a while disturbs all alike. Each pair is made ten calls deep.
//   malloc             the C library's: this program does not replace it
//   tables, frames     64 bytes, 10 frames noted, found by unwind tables or by frame pointers
//   none               no frames noted
//   live               64 bytes, where 64 other blocks come and go
//   large              6000 bytes
//   two threads        as tables: wall time for a pair of one of two threads that do it at once,
//   and
//                      how much more they get done together than one alone
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <thread>
#include <vector>

#include <tarn/mp.h>

namespace {

constexpr int pairs = 20'000;

void forget() { asm volatile("" ::: "memory"); }

/// Of the calling thread, in ns: other programs' work does not count.
double thread_time() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

template <class Pair>
[[gnu::noinline]] double deep(int calls, Pair& pair) {
    if (calls != 0) {
        double const result = deep(calls - 1, pair);
        forget();  // no tail call
        return result;
    }
    double const start = thread_time();
    for (int i = 0; i < pairs; ++i) {
        pair(i);
    }
    return (thread_time() - start) / pairs;
}

template <class Pair>
double measure(Pair pair) {
    return deep(10, pair);
}

template <std::size_t Bytes>
double time_mp() {
    return measure([](int) {
        void* const block = mp_alloc(Bytes);
        forget();
        mp_free(block);
    });
}

double time_malloc() {
    return measure([](int) {
        void* const block = std::malloc(64);
        forget();
        std::free(block);
    });
}

double time_live() {
    std::array<void*, 64> live{};
    double const spent = measure([&live](int i) {
        void*& slot = live[static_cast<std::size_t>(i) * 29 % live.size()];
        mp_free(slot);
        slot = mp_alloc(64);
        forget();
    });
    for (void* const each : live) {
        mp_free(each);
    }
    return spent;
}

double time_two() {
    double spent = 0;
    std::thread other{[] { time_mp<64>(); }};
    spent = time_mp<64>();
    other.join();
    return spent;
}

double under(mp_options const& options, double (*row)()) {
    if (mp_init(&options) != 0) {
        std::abort();
    }
    row();  // warms stacks and chunks
    double const spent = row();
    mp_destroy();
    return spent;
}

struct row {
    char const* name;
    std::vector<double> times{};

    [[nodiscard]] double at(double share) {
        std::sort(times.begin(), times.end());
        return times[static_cast<std::size_t>(share * static_cast<double>(times.size() - 1))];
    }
};

void ignore(char const*, size_t, void*) {}

}  // namespace

int main(int count, char** arguments) {
    int const rounds = count > 1 ? std::atoi(arguments[1]) : 21;
    mp_options tables = MP_OPTIONS_DEFAULT;
    tables.report_to = TARN_MP_CALL;
    tables.report_call = &ignore;
    mp_options frames = tables;
    frames.frame_pointers = 1;
    mp_options none = tables;
    none.frames = 0;
    mp_options bare = none;
    bare.quarantine_bytes = 0;
    std::array<row, 8> rows{{{"malloc"},
                             {"tables"},
                             {"frames"},
                             {"none"},
                             {"none, no quarantine"},
                             {"live"},
                             {"large"},
                             {"two threads"}}};
    for (int i = 0; i < rounds; ++i) {
        rows[0].times.push_back(time_malloc());
        rows[1].times.push_back(under(tables, &time_mp<64>));
        rows[2].times.push_back(under(frames, &time_mp<64>));
        rows[3].times.push_back(under(none, &time_mp<64>));
        rows[4].times.push_back(under(bare, &time_mp<64>));
        rows[5].times.push_back(under(tables, &time_live));
        rows[6].times.push_back(under(tables, &time_mp<6000>));
        rows[7].times.push_back(under(tables, &time_two));
    }
    for (row& each : rows) {
        std::printf("%-20s %7.1f ns  (%.1f to %.1f)\n", each.name, each.at(0.5), each.at(0.25),
                    each.at(0.75));
    }
    std::printf("two threads get %.2f times as much done as one\n",
                2 * rows[1].at(0.5) / rows[7].at(0.5));
    return 0;
}
