// oom_test - the system refuses memory, at every single call, and for good; on the fake system.
//
// Always     an allocation works or returns null with ENOMEM; blocks keep their content; nothing
//            crashes; once the system gives memory again, everything works again and nothing leaked
// How        the heap's state is one per process, so each trial is a forked child: the n-th call
// that
//            may fail does fail, for n = 0, 1, 2... until a run needs fewer calls than that
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ostream>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "tarn/tarn.h"

#include "platform/fake/fake_os.hpp"
#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

using impl::platform::fake_os;

constexpr unsigned child_seconds_max = 60;

/// In a child, where assertions of the framework have no place.
void demand(bool holds, char const* what, std::size_t number = 0) {
    if (!holds) {
        std::fprintf(stderr, "failed: %s (%zu)\n", what, number);
        std::_Exit(1);
    }
}

struct live_block {
    void* start;
    std::size_t bytes;
    std::uint64_t pattern;
};

/// Blocks of every kind, made, grown, shrunk and freed, here and in threads that end. Refusals are
/// counted, everything else is demanded.
class scenario {
public:
    [[nodiscard]] std::size_t refusals() const { return refusals_; }

    void run() {
        make_small();
        make_zeroed();
        make_aligned();
        grow_and_shrink();
        leave_blocks_of_a_thread();
        let_time_pass();
        free_every(2);
        use_a_heap();
        make_large();
        make_small();
        let_time_pass();
        grow_and_shrink();
        free_every(1);
    }

private:
    /// Asks and, where a block came, fills it. Null is a refusal and must be ENOMEM.
    template <class Allocate>
    void* ask(std::size_t bytes, std::size_t alignment, Allocate allocate) {
        errno = 0;
        void* const start = allocate();
        if (start == nullptr) {
            demand(errno == ENOMEM, "null without ENOMEM", bytes);
            ++refusals_;
            return nullptr;
        }
        demand(reinterpret_cast<std::uintptr_t>(start) % alignment == 0, "misaligned", bytes);
        demand(tarn_malloc_usable_size(start) >= bytes, "too small", bytes);
        keep(start, bytes);
        return start;
    }

    void keep(void* start, std::size_t bytes) {
        blocks_.push_back({start, bytes, ++patterns_ * golden_ratio_bits});
        fill(start, bytes, blocks_.back().pattern);
    }

    static void check(live_block const& block, std::size_t limit) {
        demand(first_wrong(block.start, block.bytes, block.pattern, limit) == intact,
               "content changed", block.bytes);
    }

    void make_small() {
        for (std::size_t const bytes : block_sizes(small_max)) {
            ask(bytes - 3, quantum, [=] { return tarn_malloc(bytes - 3); });
        }
    }

    void make_zeroed() {
        for (std::size_t const bytes : {std::size_t{40}, 3000 * quantum, 500 * kib, 3 * mib}) {
            // The block is filled by ask(), so the zeros are checked within.
            ask(bytes, quantum, [=] {
                void* const start = tarn_calloc(bytes / 8, 8);
                demand(start == nullptr || first_nonzero(start, bytes) == intact, "not zero",
                       bytes);
                return start;
            });
        }
    }

    /// A heap with blocks of every kind, which end with it.
    void use_a_heap() {
        tarn_heap_options options{};
        options.size = sizeof options;
        options.name = "of a scenario";
        errno = 0;
        tarn_heap const heap = tarn_heap_create(&options);
        if (heap.id == 0) {
            demand(errno == ENOMEM, "no heap without ENOMEM");
            ++refusals_;
            return;
        }
        std::size_t const before = blocks_.size();
        for (std::size_t const bytes : {16UL, 100UL, 1000UL, 9000UL, 40 * kib, 200 * kib}) {
            ask(bytes, quantum, [=] { return tarn_heap_malloc(heap, bytes); });
        }
        void* const huge = tarn_heap_malloc(heap, 300 * mib);  // untouched, ends with the heap
        refusals_ += huge == nullptr ? 1 : 0;
        ask(mib, quantum, [=] { return tarn_heap_calloc(heap, 1, mib); });
        ask(100, 64 * kib, [=] { return tarn_heap_aligned_alloc(heap, 64 * kib, 100); });
        for (std::size_t i = before; i < blocks_.size(); i += 3) {
            live_block& block = blocks_[i];
            check(block, block.bytes);
            void* const moved = tarn_realloc(block.start, 2 * block.bytes);
            refusals_ += moved == nullptr ? 1 : 0;
            block.start = moved == nullptr ? block.start : moved;
            check(block, block.bytes);
            demand(tarn_heap_of(block.start).id == heap.id, "left its heap");
        }
        while (blocks_.size() > before) {
            check(blocks_.back(), blocks_.back().bytes);
            if (blocks_.size() % 2 == 0) {
                tarn_heap_free(heap, blocks_.back().start);
            }
            blocks_.pop_back();
        }
        demand(tarn_heap_destroy(heap) == 0, "a heap that does not end");
    }

    void make_aligned() {
        for (std::size_t alignment = 64; alignment <= 4 * mib; alignment *= 8) {
            ask(700, alignment, [=] { return tarn_aligned_alloc(alignment, 700); });
            void* out = &out;
            int error = 0;
            ask(200 * kib, alignment, [&] {
                error = tarn_posix_memalign(&out, alignment, 200 * kib);
                errno = error;
                demand(error == 0 || out == &out, "*out touched", alignment);
                return error == 0 ? out : nullptr;
            });
        }
    }

    void make_large() {
        for (std::size_t const bytes : {300 * kib, 2 * mib, 6 * mib, 20 * mib}) {
            ask(bytes, quantum, [=] { return tarn_malloc(bytes); });
        }
    }

    /// A refused realloc must leave the block as it was.
    void resize(live_block& block, std::size_t bytes) {
        errno = 0;
        void* const moved = tarn_realloc(block.start, bytes);
        if (moved == nullptr) {
            demand(errno == ENOMEM, "realloc: null without ENOMEM", bytes);
            check(block, block.bytes);
            ++refusals_;
            return;
        }
        block.start = moved;
        check(block, bytes);
        block.bytes = bytes;
        fill(block.start, bytes, block.pattern);
    }

    void grow_and_shrink() {
        if (ask(10, quantum, [] { return tarn_malloc(10); }) == nullptr) {
            return;
        }
        live_block block = blocks_.back();
        blocks_.pop_back();
        for (std::size_t bytes = 100; bytes < 8 * mib; bytes = bytes * 5 / 2) {
            resize(block, bytes);
        }
        for (std::size_t bytes = 5 * mib; bytes > 50; bytes /= 7) {
            resize(block, bytes);
        }
        blocks_.push_back(block);
    }

    void leave_blocks_of_a_thread() {
        for (int i = 0; i < 2; ++i) {
            std::thread{[this] {
                make_small();
                free_every(3);
            }}.join();
        }
    }

    static void let_time_pass() { fake_os::control().clock_ms += 100'000; }

    void free_every(std::size_t stride) {
        std::vector<live_block> kept;
        for (std::size_t i = 0; i < blocks_.size(); ++i) {
            check(blocks_[i], blocks_[i].bytes);
            if (i % stride == 0) {
                tarn_free(blocks_[i].start);
            } else {
                kept.push_back(blocks_[i]);
            }
        }
        blocks_.swap(kept);
    }

    std::vector<live_block> blocks_;
    std::uint64_t patterns_ = 0;
    std::size_t refusals_ = 0;
};

std::uint64_t live_blocks() {
    tarn_stats stats{};
    stats.size = sizeof stats;
    demand(tarn_stats_get(&stats) == 0, "no statistics");
    return stats.live_blocks;
}

/// With memory to be had, everything works and nothing of what went before is left.
int check_recovery() {
    fake_os::control().fail_after = fake_os::never;
    fake_os::control().commit_limit_bytes = ~std::size_t{0};
    fake_os::control().reserve_limit_bytes = ~std::size_t{0};
    std::uint64_t const live_before = live_blocks();  // those in the lists of a shared heap, say
    scenario again;
    again.run();
    demand(again.refusals() == 0, "refused although there is memory", again.refusals());
    demand(live_blocks() <= live_before, "blocks leaked", live_blocks());
    return 0;
}

// --- the n-th call fails ---

constexpr int untouched = 10;  // exit status: no call failed

struct failing {
    std::size_t page_bytes;
    std::uint64_t failures;  // in a row
    char const* environment;

    friend std::ostream& operator<<(std::ostream& out, failing const& how) {
        return out << how.page_bytes / kib << "k_pages_"
                   << (how.failures == fake_os::never ? "for_good" : std::to_string(how.failures))
                   << (how.environment == nullptr ? "" : "_small_arenas");
    }
};

class nth_call_fails : public testing::TestWithParam<failing> {};

int run_with_failure(failing const& how, std::uint64_t nth) {
    std::string environment = how.environment == nullptr ? "" : how.environment;
    char* entries[] = {environment.data(), nullptr};
    fake_os::control() = {.page_bytes = how.page_bytes,
                          .fail_after = nth,
                          .failures_max = how.failures,
                          .environment = entries};
    scenario first;
    first.run();
    std::uint64_t const failures = fake_os::count().failures;
    demand(failures != 0 || first.refusals() == 0, "refused although no call failed");
    check_recovery();
    return failures == 0 ? untouched : 0;
}

TEST_P(nth_call_fails, and_the_heap_goes_on) {
    constexpr std::uint64_t calls_max = 20'000;
    // Every call in a plain build; in a slow one every so-many-th after the first hundred.
    std::uint64_t const stride = is_slow ? 7 : 1;
    // Under ASan, whose shadow lies low, not from the first call: a page map that had to be small
    // then reaches no room.
    std::uint64_t nth = under_asan && GetParam().failures > 1 ? 1 : 0;
    int status = 0;
    while (status == 0 && nth < calls_max) {
        status = run_in_child(child_seconds_max, [&] { return run_with_failure(GetParam(), nth); });
        nth += nth < 100 ? 1 : stride;
    }
    std::printf("%llu calls\n", static_cast<unsigned long long>(nth - 1));
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status) << ", call " << nth - 1;
    EXPECT_EQ(WEXITSTATUS(status), untouched) << "call " << nth - 1;
}

// Slices are whole OS pages.
constexpr std::size_t os_page_max = slice_bytes;

constexpr char const* small_arenas = "TARN_OPTIONS=arena_bytes=4M";

INSTANTIATE_TEST_SUITE_P(fake, nth_call_fails,
                         testing::Values(failing{4 * kib, 1, nullptr},
                                         failing{4 * kib, 3, small_arenas},
                                         failing{4 * kib, fake_os::never, nullptr},
                                         failing{16 * kib, 1, small_arenas},
                                         failing{os_page_max, fake_os::never, small_arenas}));

// --- limits ---

constexpr std::size_t unlimited = ~std::size_t{0};

struct limits {
    std::size_t page_bytes;
    std::size_t commit_bytes;
    std::size_t reserve_bytes;

    friend std::ostream& operator<<(std::ostream& out, limits const& of) {
        bool const is_commit = of.commit_bytes != unlimited;
        return out << of.page_bytes / kib << "k_pages_" << (is_commit ? "commit_" : "reserve_")
                   << (is_commit ? of.commit_bytes : of.reserve_bytes) / mib << "_mib";
    }
};

class under_limits : public testing::TestWithParam<limits> {};

/// Allocates until refused. Returns the bytes that came; frees them again.
std::size_t exhaust(std::size_t block_bytes) {
    constexpr std::size_t bytes_max = 4 * gib;
    std::vector<live_block> blocks;
    std::size_t total = 0;
    errno = 0;
    while (void* const start = total < bytes_max ? tarn_malloc(block_bytes) : nullptr) {
        blocks.push_back({start, block_bytes, blocks.size()});
        fill(start, block_bytes, blocks.size() - 1);
        total += block_bytes;
    }
    demand(errno == ENOMEM, "null without ENOMEM, or no limit", total);
    for (live_block const& block : blocks) {
        demand(first_wrong(block.start, block.bytes, block.pattern) == intact, "content changed");
        tarn_free(block.start);
    }
    return total;
}

int run_under_limits(limits const& of) {
    fake_os::control().page_bytes = of.page_bytes;
    fake_os::control().commit_limit_bytes = of.commit_bytes;
    fake_os::control().reserve_limit_bytes = of.reserve_bytes;
    std::size_t const limit = std::min(of.commit_bytes, of.reserve_bytes);
    for (std::size_t const block_bytes : {std::size_t{200}, 4 * kib, 100 * kib, mib}) {
        if (limit / block_bytes > 500'000) {
            continue;  // would take minutes
        }
        std::size_t const first = exhaust(block_bytes);
        demand(first >= limit / 2, "less than half of the limit", first);
        // What other sizes or the first round left behind must not be lost to the second.
        std::size_t const second = exhaust(block_bytes);
        demand(second >= first - first / 8, "the second time much less came", second);
        fake_os::control().clock_ms += 100'000;
    }
    scenario squeezed;
    squeezed.run();
    return check_recovery();
}

TEST_P(under_limits, most_of_the_memory_is_served) {
    if (under_asan && GetParam().reserve_bytes != unlimited) {
        GTEST_SKIP() << "the small page map of such a process reaches no room beside the shadow";
    }
    EXPECT_EQ(run_in_child(child_seconds_max, [] { return run_under_limits(GetParam()); }), 0);
}

INSTANTIATE_TEST_SUITE_P(fake, under_limits,
                         testing::Values(limits{4 * kib, 16 * mib, unlimited},
                                         limits{4 * kib, 64 * mib, unlimited},
                                         limits{16 * kib, 64 * mib, unlimited},
                                         limits{os_page_max, 256 * mib, unlimited},
                                         limits{4 * kib, unlimited, 64 * mib},
                                         limits{4 * kib, unlimited, 256 * mib},
                                         limits{os_page_max, unlimited, 256 * mib}));

}  // namespace
}  // namespace tarn::test
