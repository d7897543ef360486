// fit_policies [--csv FILE] [--svg FILE] - the policies of tarn::fit_heap on one trace.
//
// The trace is that of a server on 16 MiB: requests of up to 1 KiB that end soon, sessions, and a
// cache whose entries live long and are larger from the middle on. It is the same for all policies
// and on all machines: a request that was refused is not returned later, and that is all that
// differs. Prints two tables: what the trace costs and leaves, and how the time of a pair of
// allocate and deallocate grows with the number of holes. Times are the least of five runs.
//
// --csv  the figures over time
// --svg  a chart of the requests refused and of external fragmentation over time
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <queue>
#include <span>
#include <string>

#include <tarn/fit_heap.hpp>

#include "../workloads/support.hpp"

namespace {

using namespace bench;
using tarn::fit;
using tarn::fit_heap;

constexpr std::size_t span_bytes = std::size_t{16} << 20;
constexpr std::size_t arrivals = 1'000'000;
constexpr std::size_t arrivals_per_sample = 5000;
constexpr int repetitions = 5;

struct policy_name {
    fit policy;
    char const* name;
    char const* colour;
};

constexpr std::array<policy_name, 4> policies{{{fit::first, "first", "#0072b2"},
                                               {fit::next, "next", "#d55e00"},
                                               {fit::best, "best", "#009e73"},
                                               {fit::worst, "worst", "#cc79a7"}}};

// ---- the trace ----

/// Allocates block `block` of `bytes`, or, where `bytes` is 0, returns it.
struct event {
    std::uint32_t block;
    std::uint32_t bytes;
};

/// An exponential distribution: ends are as likely at any time.
double lifetime(double mean, random_stream& random) {
    double const uniform = static_cast<double>(random.next() >> 11U) * 0x1p-53;
    return -mean * std::log1p(-uniform);
}

std::vector<event> make_trace() {
    struct end {
        double time;
        std::uint32_t block;
    };

    auto const is_later = [](end const& left, end const& right) { return left.time > right.time; };
    std::priority_queue<end, std::vector<end>, decltype(is_later)> ends{is_later};
    random_stream random{2026};
    std::vector<event> trace;
    trace.reserve(2 * arrivals);
    for (std::uint32_t block = 0; block < arrivals; ++block) {
        for (; !ends.empty() && ends.top().time <= block; ends.pop()) {
            trace.push_back({ends.top().block, 0});
        }
        std::uint64_t const kind = random.below(1000);
        std::uint64_t bytes = 0;
        double mean = 0;
        if (kind < 850) {
            bytes = random.size_up_to(1024);
            mean = 300;
        } else if (kind < 980) {
            bytes = random.between(64, 2048);
            mean = 20'000;
        } else {
            bool const is_late = block >= arrivals / 2;
            bytes = is_late ? random.between(2000, 12'000) : random.between(500, 7000);
            mean = is_late ? 70'000 : 130'000;
        }
        trace.push_back({block, static_cast<std::uint32_t>(bytes)});
        ends.push({block + lifetime(mean, random), block});
    }
    return trace;
}

// ---- running it ----

struct sample {
    tarn::fit_figures figures;
    std::size_t refused;  // so far
};

struct result {
    double ns_per_operation = std::numeric_limits<double>::infinity();
    std::vector<sample> samples;
};

double now_ns() {
    return std::chrono::duration<double, std::nano>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

std::vector<sample> run_once(std::span<event const> trace, std::span<std::byte> memory,
                             fit policy) {
    fit_heap heap{memory, {.policy = policy}};
    std::vector<void*> blocks(arrivals);
    std::vector<sample> samples;
    samples.reserve(arrivals / arrivals_per_sample);
    std::size_t refused = 0;
    for (auto const& [block, bytes] : trace) {
        if (bytes == 0) {
            if (heap.try_deallocate(blocks[block]) != tarn::fit_return::done) {
                fail("a block was refused");
            }
            continue;
        }
        blocks[block] = heap.try_allocate(bytes);
        refused += blocks[block] == nullptr ? 1 : 0;
        if (block % arrivals_per_sample == arrivals_per_sample - 1) {
            samples.push_back({heap.figures(), refused});
        }
    }
    if (heap.check()) {
        fail("the heap is not sound");
    }
    return samples;
}

result run(std::span<event const> trace, std::span<std::byte> memory, fit policy) {
    result best;
    for (int i = 0; i < repetitions; ++i) {
        double const start = now_ns();
        best.samples = run_once(trace, memory, policy);
        best.ns_per_operation =
            std::min(best.ns_per_operation, (now_ns() - start) / static_cast<double>(trace.size()));
    }
    return best;
}

/// Nanoseconds of a pair in a heap with so many holes of 24 to 1,000 bytes between live blocks.
double pair_ns(std::size_t holes, fit policy) {
    constexpr std::size_t pairs = 100'000;
    std::vector<std::byte> memory(holes * 700 + 100'000);
    fit_heap heap{memory, {.policy = policy}};
    random_stream random{holes};
    std::vector<void*> blocks;
    for (std::size_t i = 0; i < holes; ++i) {
        blocks.push_back(heap.allocate(random.between(24, 1000)));
        static_cast<void>(heap.allocate(24));
    }
    shuffle(blocks, random);
    for (void* const block : blocks) {
        heap.deallocate(block);
    }
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < repetitions; ++i) {
        double const start = now_ns();
        for (std::size_t pair = 0; pair < pairs; ++pair) {
            heap.deallocate(heap.try_allocate(random.between(24, 1000)));
        }
        best = std::min(best, (now_ns() - start) / pairs);
    }
    return best;
}

// ---- what is shown ----

void print_table(std::array<result, policies.size()> const& results) {
    std::printf(
        "policy  ns/operation  refused  live KiB  holes  largest hole KiB  "
        "external  internal\n");
    for (std::size_t i = 0; i < policies.size(); ++i) {
        // The means over the second half, when the cache has its full size.
        auto const& samples = results[i].samples;
        std::size_t const from = samples.size() / 2;
        double live = 0;
        double holes = 0;
        double largest = 0;
        double external = 0;
        double internal = 0;
        for (std::size_t at = from; at < samples.size(); ++at) {
            auto const& figures = samples[at].figures;
            live += static_cast<double>(figures.live_bytes) / 1024;
            holes += static_cast<double>(figures.holes);
            largest += static_cast<double>(figures.largest_hole_bytes) / 1024;
            external += 100 * figures.external_fragmentation();
            internal += 100 * figures.internal_fragmentation();
        }
        auto const count = static_cast<double>(samples.size() - from);
        std::printf("%-6s  %12.0f  %7zu  %8.0f  %5.0f  %16.1f  %6.1f %%  %6.1f %%\n",
                    policies[i].name, results[i].ns_per_operation, samples.back().refused,
                    live / count, holes / count, largest / count, external / count,
                    internal / count);
    }
}

void print_growth() {
    constexpr std::array<std::size_t, 5> holes{10, 1000, 10'000, 100'000, 1'000'000};
    std::printf("\nns per pair, holes:");
    for (std::size_t const count : holes) {
        std::printf(" %9zu", count);
    }
    for (auto const& [policy, name, colour] : policies) {
        std::printf("\n%-19s", name);
        for (std::size_t const count : holes) {
            std::printf(" %9.0f", pair_ns(count, policy));
        }
    }
    std::printf("\n");
}

void write_file(char const* name, std::string const& text) {
    std::FILE* const file = std::fopen(name, "w");
    if (file == nullptr || std::fputs(text.c_str(), file) < 0 || std::fclose(file) != 0) {
        fail("cannot write a file");
    }
}

/// printf to the end of a string.
template <class... Arguments>
void append(std::string& text, char const* format, Arguments... arguments) {
    std::array<char, 512> line{};
    // NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): every caller's is a literal
    std::snprintf(line.data(), line.size(), format, arguments...);
    text += line.data();
}

std::string csv(std::array<result, policies.size()> const& results) {
    std::string text =
        "policy,arrivals,live_bytes,holes,largest_hole_bytes,"
        "external_fragmentation,refused\n";
    for (std::size_t i = 0; i < policies.size(); ++i) {
        std::size_t done = 0;
        for (auto const& [figures, refused] : results[i].samples) {
            done += arrivals_per_sample;
            append(text, "%s,%zu,%zu,%zu,%zu,%.4f,%zu\n", policies[i].name, done,
                   figures.live_bytes, figures.holes, figures.largest_hole_bytes,
                   figures.external_fragmentation(), refused);
        }
    }
    return text;
}

/// One chart: a frame, lines across at quarters of `most`, and a line for each policy.
class panel {
public:
    panel(std::string& text, double top, double most) : text_{text}, top_{top}, most_{most} {}

    void frame(char const* title, char const* format) {
        append(text_, "<text x='%.0f' y='%.0f' font-weight='bold'>%s</text>\n", left, top_ - 10,
               title);
        for (int quarter = 0; quarter <= 4; ++quarter) {
            double const value = most_ * quarter / 4;
            append(text_, "<path d='M%.0f %.1fH%.0f' stroke='#ccc'/>\n", left, y_of(value),
                   left + width);
            append(text_, "<text x='%.0f' y='%.1f' text-anchor='end'>", left - 6, y_of(value) + 4);
            append(text_, format, value);
            text_ += "</text>\n";
        }
    }

    template <class Value>
    void line(std::vector<sample> const& samples, char const* colour, Value value) {
        append(text_, "<polyline fill='none' stroke='%s' stroke-width='1.5' points='", colour);
        for (std::size_t i = 0; i < samples.size(); ++i) {
            double const x =
                left + width * static_cast<double>(i + 1) / static_cast<double>(samples.size());
            append(text_, "%.1f,%.1f ", x, y_of(value(samples[i])));
        }
        text_ += "'/>\n";
    }

    static constexpr double left = 70;
    static constexpr double width = 620;
    static constexpr double height = 180;

private:
    [[nodiscard]] double y_of(double value) const { return top_ + height * (1 - value / most_); }

    std::string& text_;
    double top_;
    double most_;
};

std::string svg(std::array<result, policies.size()> const& results) {
    constexpr double first_top = 60;
    constexpr double second_top = 300;
    std::string text =
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 720 540' "
        "font-family='sans-serif' font-size='12'>\n"
        "<rect width='720' height='540' fill='white'/>\n";
    double most_refused = 4;
    for (result const& each : results) {
        most_refused = std::max(most_refused, static_cast<double>(each.samples.back().refused));
    }
    double const step = std::pow(10, std::floor(std::log10(most_refused)));
    panel fragmentation{text, first_top, 100};
    panel refusals{text, second_top, std::ceil(most_refused / step) * step};
    fragmentation.frame("external fragmentation, %", "%.0f");
    refusals.frame("requests refused so far", "%.0f");
    for (std::size_t i = 0; i < policies.size(); ++i) {
        auto const& [policy, name, colour] = policies[i];
        fragmentation.line(results[i].samples, colour, [](sample const& at) {
            return 100 * at.figures.external_fragmentation();
        });
        refusals.line(results[i].samples, colour,
                      [](sample const& at) { return static_cast<double>(at.refused); });
        double const x = panel::left + 120 * static_cast<double>(i);
        append(text, "<path d='M%.0f 20h24' stroke='%s' stroke-width='3'/>", x, colour);
        append(text, "<text x='%.0f' y='24'>%s fit</text>\n", x + 30, name);
    }
    for (int quarter = 0; quarter <= 4; ++quarter) {
        append(text, "<text x='%.0f' y='500' text-anchor='middle'>%zu</text>\n",
               panel::left + panel::width * quarter / 4,
               arrivals / 4000 * static_cast<std::size_t>(quarter));
    }
    append(text,
           "<text x='%.0f' y='522' text-anchor='middle'>thousands of requests</text>\n</svg>\n",
           panel::left + panel::width / 2);
    return text;
}

}  // namespace

int main(int argc, char** argv) {
    char const* csv_file = nullptr;
    char const* svg_file = nullptr;
    for (int i = 1; i < argc; i += 2) {
        std::string_view const option{argv[i]};
        if (i + 1 == argc || (option != "--csv" && option != "--svg")) {
            std::fprintf(stderr, "usage: fit_policies [--csv FILE] [--svg FILE]\n");
            return 2;
        }
        (option == "--csv" ? csv_file : svg_file) = argv[i + 1];
    }
    std::vector<event> const trace = make_trace();
    std::vector<std::byte> memory(span_bytes);
    std::array<result, policies.size()> results;
    for (std::size_t i = 0; i < policies.size(); ++i) {
        results[i] = run(trace, memory, policies[i].policy);
    }
    print_table(results);
    if (csv_file != nullptr) {
        write_file(csv_file, csv(results));
    }
    if (svg_file != nullptr) {
        write_file(svg_file, svg(results));
    }
    print_growth();
}
