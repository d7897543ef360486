// instructions FILE - how many instructions the operations of a malloc take.
//
// Run it under callgrind, which counts them, with the malloc to measure preloaded:
//     valgrind --tool=callgrind --collect-atstart=no --callgrind-out-file=FILE ./instructions FILE
// Tarn needs TARN_OPTIONS=valgrind=stay for that: it steps aside for Valgrind's tools.
// Each figure warms up, then has instructions counted during a fixed number of operations only;
// callgrind writes the count to FILE.1, FILE.2 and so on. In the end the program reads these and
// prints `NAME VALUE instructions` for each figure, per operation. The files stay. What each means
// is said in main(); a "pair" is malloc and free. The loop around the operations is part of all
// figures. Time is in none, so a busy machine changes nothing.
//
// Source     valgrind's manual, "Callgrind: client requests"
#if __has_include(<valgrind/callgrind.h>)
#define TARN_BENCH_HAS_CALLGRIND 1
#include <valgrind/callgrind.h>
#else
#define TARN_BENCH_HAS_CALLGRIND 0
#endif

#include <array>
#include <fstream>
#include <new>
#include <string>

#include "../workloads/support.hpp"

namespace {

using namespace bench;

#if TARN_BENCH_HAS_CALLGRIND

inline void forget_counts() { CALLGRIND_ZERO_STATS; }

/// Off at first: --collect-atstart=no.
inline void switch_counting() { CALLGRIND_TOGGLE_COLLECT; }

inline void write_counts(char const* name) { CALLGRIND_DUMP_STATS_AT(name); }

/// What is missing here, or null.
char const* obstacle() {
    return RUNNING_ON_VALGRIND != 0 ? nullptr : "instructions: run it under valgrind, like this:";
}

#else

inline void forget_counts() {}

inline void switch_counting() {}

inline void write_counts(char const* /*name*/) {}

char const* obstacle() {
    return "instructions: it was built without <valgrind/callgrind.h>, of the package valgrind.\n"
           "Build it again with that and run it like this:";
}

#endif

struct figure {
    char const* name;
    std::uint64_t operations;
};

std::vector<figure> figures;

/// Counts what work(), which does so many operations, takes; once before, to warm up.
template <class Work>
void measure(char const* name, std::uint64_t operations, Work work) {
    work();
    forget_counts();
    switch_counting();
    work();
    switch_counting();
    write_counts(name);
    figures.push_back({name, operations});
}

void measure_pairs(char const* name, std::size_t bytes) {
    constexpr std::uint64_t pairs = 10'000;
    measure(name, pairs, [bytes] {
        for (std::uint64_t count = pairs; count != 0; --count) {
            void* const block = std::malloc(bytes);
            escape(block);
            std::free(block);
        }
    });
}

enum class burst_half { allocate, deallocate };

/// Bursts of 200 blocks allocated, then freed in the order they came, of which only one half
/// counts.
void measure_bursts(char const* name, std::size_t bytes, burst_half counted) {
    constexpr std::uint64_t bursts = 50;
    std::array<void*, 200> blocks{};
    // A switch of counting takes a few instructions itself: too few for a burst to tell.
    auto const switch_for = [counted](burst_half half) {
        if (half == counted) {
            switch_counting();
        }
    };
    auto const burst = [&] {
        switch_for(burst_half::allocate);
        for (void*& block : blocks) {
            block = std::malloc(bytes);
        }
        switch_for(burst_half::allocate);
        escape(blocks.data());
        switch_for(burst_half::deallocate);
        for (void* const block : blocks) {
            std::free(block);
        }
        switch_for(burst_half::deallocate);
    };
    burst();
    forget_counts();
    for (std::uint64_t count = bursts; count != 0; --count) {
        burst();
    }
    write_counts(name);
    figures.push_back({name, bursts * blocks.size()});
}

void measure_new_and_sized_delete(char const* name, std::size_t bytes) {
    constexpr std::uint64_t pairs = 10'000;
    measure(name, pairs, [bytes] {
        for (std::uint64_t count = pairs; count != 0; --count) {
            void* const block = ::operator new(bytes);
            escape(block);
            ::operator delete(block, bytes);
        }
    });
}

void measure_calloc(char const* name, std::size_t bytes) {
    constexpr std::uint64_t pairs = 10'000;
    measure(name, pairs, [bytes] {
        for (std::uint64_t count = pairs; count != 0; --count) {
            void* const block = std::calloc(1, bytes);
            escape(block);
            std::free(block);
        }
    });
}

void measure_live(char const* name, std::size_t count, std::size_t bytes) {
    std::vector<void*> blocks(count);
    std::vector<void**> order;
    order.reserve(count);
    for (void*& block : blocks) {
        order.push_back(&block);
    }
    random_stream random{count};
    shuffle(order, random);
    measure(name, count, [&] {
        for (void*& block : blocks) {
            block = std::malloc(bytes);
        }
        escape(blocks.data());
        for (void** const block : order) {
            std::free(*block);
        }
    });
}

void measure_churn(char const* name, std::size_t live, std::size_t most_bytes) {
    struct step {
        void** block;
        std::size_t bytes;
    };

    random_stream random{live};
    std::vector<void*> blocks(live);
    std::vector<step> steps(2 * live);
    for (void*& block : blocks) {
        block = must_allocate(random.between(1, most_bytes));
    }
    for (step& next : steps) {
        next = {&blocks[random.below(live)], random.between(1, most_bytes)};
    }
    measure(name, steps.size(), [&] {
        for (step const& next : steps) {
            std::free(*next.block);
            *next.block = std::malloc(next.bytes);
            escape(*next.block);
        }
    });
    for (void* const block : blocks) {
        std::free(block);
    }
}

void measure_growth(char const* name, std::size_t first_bytes, std::size_t last_bytes) {
    constexpr std::uint64_t growths = 100;
    measure(name, growths, [=] {
        for (std::uint64_t count = growths; count != 0; --count) {
            void* block = std::malloc(first_bytes);
            for (std::size_t bytes = 2 * first_bytes; bytes <= last_bytes; bytes *= 2) {
                block = std::realloc(block, bytes);
                escape(block);
            }
            std::free(block);
        }
    });
}

/// The count in a file of callgrind's, which has to be that of the figure with this name.
std::uint64_t read_count(std::string const& path, std::string const& name) {
    std::string const total = "totals: ";
    std::ifstream file{path};
    bool named = false;
    for (std::string line; std::getline(file, line);) {
        named = named || line == "desc: Trigger: Client Request: " + name;
        if (named && line.starts_with(total)) {
            return std::strtoull(line.c_str() + total.size(), nullptr, 10);
        }
    }
    std::fprintf(stderr, "%s: %s is not there\n", path.c_str(), name.c_str());
    fail("instructions: was FILE the one in --callgrind-out-file?");
}

void print_figures(std::string const& path) {
    std::size_t number = 0;
    for (figure const& next : figures) {
        ++number;
        std::uint64_t const count = read_count(path + '.' + std::to_string(number), next.name);
        // Not even the loops: then counting was off when it should have been on.
        if (count < next.operations) {
            fail("instructions: was --collect-atstart=no left out?");
        }
        std::printf("%s %.2f instructions\n", next.name,
                    static_cast<double>(count) / static_cast<double>(next.operations));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: instructions FILE\n");
        return 2;
    }
    if (char const* const text = obstacle()) {
        std::fprintf(stderr,
                     "%s\nvalgrind --tool=callgrind --collect-atstart=no "
                     "--callgrind-out-file=FILE ./instructions FILE\n",
                     text);
        return EXIT_FAILURE;
    }
    figures.reserve(16);
    // Pairs of one size, one after the other.
    measure_pairs("pair16", 16);
    // The halves of that, in bursts of 200 blocks.
    measure_bursts("malloc16", 16, burst_half::allocate);
    measure_bursts("free16", 16, burst_half::deallocate);
    measure_pairs("pair256", 256);
    measure_pairs("pair4k", 4096);
    measure_pairs("pair64k", 65'536);
    // operator new, and operator delete with the size.
    measure_new_and_sized_delete("newdel48", 48);
    // calloc and free.
    measure_calloc("calloc64", 64);
    // Per pair: 20,000 blocks of 64 bytes allocated, then freed in random order.
    measure_live("live", 20'000, 64);
    // A random one of 10,000 live blocks of 1 to 512 bytes freed, and another allocated.
    measure_churn("churn_512", 10'000, 512);
    // Per growth: 16 bytes doubled by realloc until they are 64 KiB, free. Copying is part of it.
    measure_growth("realloc_growth", 16, 65'536);
    print_figures(argv[1]);
    return std::fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
