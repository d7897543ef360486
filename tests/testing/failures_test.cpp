// Allocations that fail as planned.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <map>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tarn/block_pool.hpp"
#include "tarn/memory_resource.hpp"
#include "tarn/region.hpp"
#include "tarn/testing.hpp"

namespace {

using tarn::fail_plan;
using tarn::fail_scope;
using tarn::failing;
using tarn::failure_run;
using tarn::for_each_failure;

/// Which of the first `count` allocations of `bytes` bytes fail, as a text of 'x' and '.'.
std::string pattern_of(fail_plan const& plan, int count, std::size_t bytes = 10) {
    std::string pattern;
    fail_scope const scope{plan};
    for (int i = 0; i < count; ++i) {
        void* const block = tarn_malloc(bytes);
        pattern += block == nullptr ? 'x' : '.';
        tarn_free(block);
    }
    return pattern;
}

TEST(fail_plan, fails_what_it_says) {
    EXPECT_EQ(pattern_of(fail_plan::nth(1), 5), "x....");
    EXPECT_EQ(pattern_of(fail_plan::nth(3), 5), "..x..");
    EXPECT_EQ(pattern_of(fail_plan::every(1), 5), "xxxxx");
    EXPECT_EQ(pattern_of(fail_plan::every(3), 10), "..x..x..x.");
    EXPECT_EQ(pattern_of(fail_plan::from(3), 5), "..xxx");
    EXPECT_EQ(pattern_of(fail_plan::always(), 3), "xxx");
    EXPECT_EQ(pattern_of(fail_plan::randomly(0.0, 1), 100), std::string(100, '.'));
    EXPECT_EQ(pattern_of(fail_plan::randomly(1.0, 1), 100), std::string(100, 'x'));
}

TEST(fail_plan, of_chance_is_replayed_by_its_seed) {
    std::string const first = pattern_of(fail_plan::randomly(0.3, 42), 10'000);
    EXPECT_EQ(pattern_of(fail_plan::randomly(0.3, 42), 10'000), first);
    EXPECT_NE(pattern_of(fail_plan::randomly(0.3, 43), 10'000), first);
    // Five standard deviations about the mean.
    auto const failures = static_cast<double>(std::count(first.begin(), first.end(), 'x'));
    EXPECT_NEAR(failures, 3000.0, 5 * 45.8);

    fail_plan const chosen = fail_plan::randomly(0.5);
    EXPECT_EQ(pattern_of(fail_plan::randomly(0.5, chosen.seed()), 200), pattern_of(chosen, 200));
    EXPECT_NE(fail_plan::randomly(0.5).seed(), fail_plan::randomly(0.5).seed());
}

TEST(fail_plan, above_a_size_counts_only_what_is_larger) {
    fail_scope const scope{fail_plan::nth(2).above(100)};
    std::string pattern;
    for (std::size_t const bytes : {10UL, 101UL, 100UL, 100'000UL, 10UL, 101UL}) {
        void* const block = tarn_malloc(bytes);
        pattern += block == nullptr ? 'x' : '.';
        tarn_free(block);
    }
    EXPECT_EQ(pattern, "...x..");
    EXPECT_EQ(scope.seen(), 3U);
    EXPECT_EQ(scope.failed(), 1U);
    ASSERT_TRUE(scope.first_failure().has_value());
    EXPECT_EQ(scope.first_failure()->bytes, 100'000U);
}

TEST(fail_plan, that_makes_no_sense_is_refused_by_name) {
    auto const text_of = [](auto make) -> std::string {
        try {
            static_cast<void>(make());
        } catch (std::invalid_argument const& error) {
            return error.what();
        }
        return "accepted";
    };
    EXPECT_EQ(text_of([] { return fail_plan::nth(0); }),
              "tarn::fail_plan::nth: counts from 1, not from 0");
    EXPECT_EQ(text_of([] { return fail_plan::every(0); }),
              "tarn::fail_plan::every: counts from 1, not from 0");
    EXPECT_EQ(text_of([] { return fail_plan::from(0); }),
              "tarn::fail_plan::from: counts from 1, not from 0");
    for (double const wrong : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::infinity()}) {
        EXPECT_EQ(text_of([wrong] { return fail_plan::randomly(wrong, 1); }),
                  "tarn::fail_plan::randomly: probability not from 0 to 1");
    }
}

TEST(fail_scope, fails_every_kind_of_allocation) {
    void* const block = tarn_malloc(100);
    {
        fail_scope const scope{fail_plan::always()};
        auto const fails = [](void* result) { return result == nullptr && errno == ENOMEM; };
        errno = 0;
        EXPECT_TRUE(fails(tarn_malloc(1)));
        EXPECT_TRUE(fails(tarn_calloc(1, 1)));
        EXPECT_TRUE(fails(tarn_realloc(nullptr, 1)));
        EXPECT_TRUE(fails(tarn_realloc(block, 5000)));
        EXPECT_TRUE(fails(tarn_reallocarray(block, 10, 500)));
        EXPECT_TRUE(fails(tarn_aligned_alloc(4096, 1)));
        void* out = nullptr;
        EXPECT_EQ(tarn_posix_memalign(&out, 64, 1), ENOMEM);
        EXPECT_THROW(static_cast<void>(tarn::malloc_resource()->allocate(10)), std::bad_alloc);
        EXPECT_EQ(scope.failed(), 8U);
        EXPECT_EQ(scope.counts().failures, 8U);
    }
    EXPECT_GE(tarn_malloc_usable_size(block), 100U) << "the block stays";
    tarn_free(block);
}

TEST(fail_scope, nests_and_is_about_one_thread) {
    fail_scope const outer{fail_plan::nth(3)};
    std::thread{[] {
        for (int i = 0; i < 5; ++i) {
            void* const block = tarn_malloc(10);
            EXPECT_NE(block, nullptr);
            tarn_free(block);
        }
    }}.join();
    EXPECT_EQ(pattern_of(fail_plan::nth(1), 4), "x..x")
        << "what the inner plan refuses the outer does not count";
}

/// Keeps a promise under every failure: both are there, or neither.
class pair_of_blocks {
public:
    pair_of_blocks() {
        std::pmr::memory_resource& from = *tarn::malloc_resource();
        first_ = from.allocate(bytes);
        try {
            second_ = from.allocate(bytes);
        } catch (...) {
            from.deallocate(first_, bytes);
            throw;
        }
    }

    pair_of_blocks(pair_of_blocks const&) = delete;
    pair_of_blocks& operator=(pair_of_blocks const&) = delete;

    ~pair_of_blocks() {
        tarn::malloc_resource()->deallocate(first_, bytes);
        tarn::malloc_resource()->deallocate(second_, bytes);
    }

private:
    static constexpr std::size_t bytes = 100;
    void* first_;
    void* second_;
};

TEST(for_each_failure, fails_each_allocation_once) {
    std::vector<failure_run> runs;
    std::uint64_t const failures =
        for_each_failure([] { pair_of_blocks const pair; },
                         [&runs](failure_run const& run) { runs.push_back(run); });
    EXPECT_EQ(failures, 2U);
    ASSERT_EQ(runs.size(), 3U);
    for (std::size_t i = 0; i < runs.size(); ++i) {
        EXPECT_EQ(runs[i].nth, i + 1);
        EXPECT_EQ(runs[i].threw, i < 2);
        EXPECT_EQ(runs[i].failure.has_value(), i < 2);
        EXPECT_EQ(runs[i].counts.live_blocks(), 0)
            << "no leak when allocation " << i + 1 << " fails";
        EXPECT_EQ(runs[i].counts.allocations, i);
    }
}

TEST(for_each_failure, finds_the_run_that_leaks) {
    std::vector<void*> leaked;
    std::uint64_t leaks = 0;
    static_cast<void>(for_each_failure(
        [&leaked] {
            void* const first = tarn_malloc(10);
            void* const second = first == nullptr ? nullptr : tarn_malloc(10);
            if (second == nullptr) {
                leaked.push_back(first);  // forgotten
                return;
            }
            tarn_free(second);
            tarn_free(first);
        },
        [&leaks](failure_run const& run) {
            leaks += run.counts.live_blocks() != 0 ? run.nth : 0;
        }));
    EXPECT_EQ(leaks, 2U) << "the second allocation, and only that";
    for (void* const block : leaked) {
        tarn_free(block);
    }
}

TEST(for_each_failure, goes_through_containers) {
    std::uint64_t const failures = for_each_failure(
        [] {
            std::pmr::map<int, std::pmr::string> map{tarn::malloc_resource()};
            for (int i = 0; i < 10; ++i) {
                map.emplace(i, "a text that is too long for the room inside a string object");
            }
            tarn::block_pool pool{{.block_bytes = 100}};
            pool.deallocate(pool.allocate());
            tarn::region region;
            static_cast<void>(region.allocate(100'000));
        },
        [](failure_run const& run) { EXPECT_EQ(run.counts.live_blocks(), 0) << run.nth; });
    EXPECT_GE(failures, 20U) << "a node and a text for each entry";
}

TEST(for_each_failure, can_leave_memory_out_from_then_on) {
    // A retry helps against the first kind of failure alone.
    auto const with_a_retry = [] {
        void* block = tarn_malloc(10);
        if (block == nullptr) {
            block = tarn_malloc(10);
        }
        bool const served = block != nullptr;
        tarn_free(block);
        return served;
    };
    int served = 0;
    int runs = 0;
    auto const function = [&] {
        ++runs;
        served += with_a_retry() ? 1 : 0;
    };
    EXPECT_EQ(for_each_failure(function), 1U);
    EXPECT_EQ(served, runs);
    served = runs = 0;
    EXPECT_EQ(for_each_failure(function, {.how = failing::from_then_on}), 1U);
    EXPECT_EQ(runs, 2);
    EXPECT_EQ(served, 1);
}

TEST(for_each_failure, passes_over_small_requests_where_told) {
    auto const function = [] {
        tarn_free(tarn_malloc(10));
        tarn_free(tarn_malloc(1000));
        tarn_free(tarn_malloc(10));
    };
    EXPECT_EQ(for_each_failure(function), 3U);
    EXPECT_EQ(for_each_failure(function, {.above_bytes = 10}), 1U);
}

TEST(for_each_failure, of_what_allocates_nothing_runs_once) {
    int runs = 0;
    EXPECT_EQ(for_each_failure([&runs] { ++runs; }), 0U);
    EXPECT_EQ(runs, 1);
}

TEST(for_each_failure, gives_up_on_what_never_ends) {
    std::size_t more = 0;
    auto const ever_more = [&more] {
        ++more;
        for (std::size_t i = 0; i < more; ++i) {
            tarn_free(tarn_malloc(10));
        }
    };
    try {
        static_cast<void>(for_each_failure(ever_more, {.runs_most = 50}));
        FAIL() << "it ended";
    } catch (std::runtime_error const& error) {
        EXPECT_STREQ(error.what(), "tarn::for_each_failure: still failing after 50 runs");
    }
    EXPECT_EQ(more, 50U);
}

TEST(for_each_failure, passes_on_what_is_not_its_own) {
    EXPECT_THROW(static_cast<void>(for_each_failure([] { throw std::logic_error{"a bug"}; })),
                 std::logic_error);
    EXPECT_THROW(static_cast<void>(for_each_failure([] { throw std::bad_alloc{}; })),
                 std::bad_alloc)
        << "no allocation was made to fail";
    void* const block = tarn_malloc(10);
    EXPECT_NE(block, nullptr) << "its scope has ended";
    tarn_free(block);
}

}  // namespace
