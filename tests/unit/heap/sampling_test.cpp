// sampling_test - every block is as likely to be a sample as any other, however blocks are reused.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "sizing/size_class.hpp"
#include "heap/process.hpp"
#include "heap/sample_plan.hpp"
#include "heap_fixture.hpp"
#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using tarn::test::heap_test;
using tarn::test::scoped_heap;

// Standard errors that a measured share may be off. Heaps draw other numbers in each run: with
// four, one run in some hundreds would fail by bad luck.
constexpr double errors_most = 5.5;

TEST(sample_plan, says_for_how_many_blocks_it_stays_far) {
    random_source numbers{3};
    sample_plan plan;
    EXPECT_EQ(plan.far_for(0), ~std::uint64_t{0}) << "it begins with a refill";
    constexpr std::uint64_t allocated = 1000;
    for (int i = 0; i < 100; ++i) {
        plan.begin(allocated, {.mean = 500, .near = 4}, numbers);
        std::uint64_t const frees = plan.far_for(allocated);
        EXPECT_FALSE(plan.is_far(allocated + frees + 1)) << frees;
        EXPECT_EQ(plan.is_far(allocated), plan.is_far(allocated + frees)) << frees;
        EXPECT_EQ(plan.far_for(allocated + frees), 0U);
    }
    plan.never();
    EXPECT_GT(plan.far_for(allocated), std::uint64_t{1} << 60);
}

TEST(sample_plan, stays_near_when_blocks_go_back) {
    random_source numbers{3};
    sample_plan plan;
    plan.begin(1000, {.mean = 500, .near = 4}, numbers);
    std::uint64_t const last_far = 1000 + plan.far_for(1000);
    EXPECT_TRUE(plan.allows_reuse(last_far));
    EXPECT_FALSE(plan.allows_reuse(last_far + 1));
    plan.wait();
    EXPECT_FALSE(plan.allows_reuse(last_far)) << "whoever reuses then does so for ever";
    plan.approach(last_far + 1, {.mean = 500, .near = 4}, numbers);
    EXPECT_FALSE(plan.allows_reuse(last_far));
    plan.done(last_far + 10, {.mean = 500, .near = 4}, numbers);
    EXPECT_TRUE(plan.allows_reuse(last_far + 10));
}

TEST(random_source, draws_gaps_with_the_given_mean) {
    random_source numbers{1};
    for (std::uint64_t const mean : {1UL, 10UL, 1000UL, 1'000'000UL}) {
        constexpr int draws = 200'000;
        double sum = 0;
        double squares = 0;
        std::uint64_t least = UINT64_MAX;
        for (int i = 0; i < draws; ++i) {
            std::uint64_t const gap = numbers.gap(mean);
            least = std::min(least, gap);
            sum += static_cast<double>(gap);
            squares += static_cast<double>(gap) * static_cast<double>(gap);
        }
        // Of a geometric distribution.
        double const p = 1 - std::exp(-1 / static_cast<double>(mean));
        EXPECT_NEAR(sum / draws * p, 1, 4 / std::sqrt(draws)) << mean;
        double const variance = squares / draws - sum / draws * (sum / draws);
        EXPECT_NEAR(variance / ((1 - p) / (p * p)), 1, 0.05) << mean;
        EXPECT_GE(least, 1U);
    }
}

TEST(random_source, draws_gaps_as_often_as_they_should_be_drawn) {
    random_source numbers{2};
    constexpr int draws = 1'000'000;
    constexpr int mean = 50;
    std::array<int, 200> found{};
    for (int i = 0; i < draws; ++i) {
        std::size_t const gap = numbers.gap(mean);
        found[std::min(gap, found.size()) - 1] += 1;
    }
    double chi_squared = 0;
    for (std::size_t i = 0; i + 1 < found.size(); ++i) {
        double const wanted =
            draws * std::exp(-static_cast<double>(i) / mean) * (1 - std::exp(-1.0 / mean));
        chi_squared += (found[i] - wanted) * (found[i] - wanted) / wanted;
    }
    EXPECT_LT(chi_squared, 199 + 5 * std::sqrt(2 * 199.0));
}

/// A program that allocates at several places, all of one class, and how often each was sampled.
class sites {
public:
    explicit sites(thread_heap& heap) : heap_{heap} {}

    void* allocate(std::size_t site) {
        void* const block = heap_.allocate(bytes);
        ++counts_[site].blocks;
        counts_[site].samples += page_of(block)->kind.load() == page_kind::sampled ? 1 : 0;
        return block;
    }

    void free(void* block) { heap_.deallocate(block); }

    /// Each place near its share, and all together.
    void expect_fair(double mean) const {
        count all;
        for (count const& each : counts_) {
            all.blocks += each.blocks;
            all.samples += each.samples;
            if (each.blocks != 0) {
                double const wanted = each.blocks / (mean + 0.5);
                EXPECT_NEAR(each.samples / wanted, 1, errors_most / std::sqrt(wanted))
                    << "site " << &each - counts_.data();
            }
        }
        double const wanted = all.blocks / (mean + 0.5);
        EXPECT_NEAR(all.samples / wanted, 1, errors_most / std::sqrt(wanted));
    }

    static constexpr std::size_t bytes = 64;

private:
    struct count {
        double blocks = 0;
        double samples = 0;
    };

    thread_heap& heap_;
    std::array<count, 4> counts_{};
};

class samples : public heap_test {
protected:
    static constexpr std::uint64_t mean = 2000;

    static std::uint64_t rounds() { return tarn::test::scaled(4'000'000); }

    void SetUp() override {
        heap_test::SetUp();
        process.options.sample_interval_bytes = mean * sites::bytes;
    }

    void TearDown() override {
        heap_test::TearDown();
        forget_idle_heaps();
    }
};

TEST_F(samples, are_taken_of_pairs) {
    scoped_heap heap;
    sites program{*heap};
    for (std::uint64_t i = 0; i < rounds(); ++i) {
        program.free(program.allocate(0));
    }
    program.expect_fair(mean);
}

TEST_F(samples, are_taken_of_what_stays_and_of_what_goes_at_once) {
    scoped_heap heap;
    sites program{*heap};
    std::vector<void*> kept(10'000);
    for (std::uint64_t i = 0; i < rounds(); ++i) {
        void*& place = kept[i % kept.size()];
        program.free(place);
        place = program.allocate(0);
        program.free(program.allocate(1));
    }
    for (void* const each : kept) {
        program.free(each);
    }
    program.expect_fair(mean);
}

TEST_F(samples, are_taken_where_a_few_old_blocks_change) {
    scoped_heap heap;
    sites program{*heap};
    std::vector<void*> kept(10'000);
    for (void*& each : kept) {
        each = program.allocate(3);
    }
    for (std::uint64_t i = 0; i < rounds(); ++i) {
        void*& place = kept[i % 32];
        program.free(place);
        place = program.allocate(i % 2);
    }
    for (void* const each : kept) {
        program.free(each);
    }
    program.expect_fair(mean);
}

TEST_F(samples, are_taken_of_regular_changes_of_old_blocks) {
    scoped_heap heap;
    sites program{*heap};
    std::vector<void*> kept(30'000);
    for (void*& each : kept) {
        each = program.allocate(3);
    }
    tarn::test::random_stream random{1};
    auto const change = [&](std::size_t site) {
        void*& place = kept[random.below(kept.size())];
        return std::exchange(place, program.allocate(site));
    };
    for (std::uint64_t i = 0; i < rounds(); ++i) {
        void* const first = change(0);
        void* const second = change(1);
        program.free(first);
        program.free(second);
        program.free(change(2));
    }
    for (void* const each : kept) {
        program.free(each);
    }
    program.expect_fair(mean);
}

/// What was sampled of blocks of any size, and what should have been.
class shares {
public:
    shares(thread_heap& heap, std::uint64_t interval_bytes)
        : heap_{heap}, interval_bytes_{static_cast<double>(interval_bytes)} {}

    void* allocate(std::size_t bytes) {
        constexpr std::size_t counted_most = 256;
        void* const block = heap_.allocate(bytes);
        std::size_t const counted =
            std::min(sizing::class_bytes(sizing::class_of(bytes)), counted_most);
        // A gap is half a block longer on average.
        wanted_ += 1 / (std::floor(interval_bytes_ / static_cast<double>(counted)) + 0.5);
        samples_ += page_of(block)->kind.load() == page_kind::sampled ? 1 : 0;
        return block;
    }

    void expect_within(double part) const {
        EXPECT_NEAR(samples_ / wanted_, 1, std::max(part, errors_most / std::sqrt(wanted_)))
            << samples_ << " samples";
    }

private:
    thread_heap& heap_;
    double interval_bytes_;
    double wanted_ = 0;
    double samples_ = 0;
};

TEST_F(samples, of_mixed_sizes_are_a_hundredth_from_their_share_at_most) {
    constexpr std::uint64_t interval_bytes = 8 * KiB;
    process.options.sample_interval_bytes = interval_bytes;
    scoped_heap heap;
    shares all{*heap, interval_bytes};
    constexpr std::array<std::size_t, 8> sizes{16, 24, 100, 250, 256, 700, 5000, 20'000};
    constexpr std::array<std::size_t, 16> choice{0, 1, 2, 2, 1, 0, 3, 4, 2, 4, 1, 2, 5, 5, 6, 7};
    tarn::test::random_stream random{1};
    std::vector<void*> kept(4000);
    for (std::uint64_t i = 0; i < 2 * rounds(); ++i) {
        void*& place = kept[i % 3 == 0 ? random.below(kept.size()) : random.below(32)];
        heap->deallocate(place);
        place = all.allocate(sizes[choice[random.below(choice.size())]]);
        heap->deallocate(all.allocate(sizes[choice[random.below(choice.size())]]));
    }
    for (void* const each : kept) {
        heap->deallocate(each);
    }
    all.expect_within(0.01);
}

TEST_F(samples, of_blocks_above_the_largest_class_come_as_often_as_they_should) {
    constexpr std::uint64_t runs_per_sample = 20;
    process.options.sample_interval_bytes = 256 * runs_per_sample;
    scoped_heap heap;
    double due = 0;
    std::uint64_t const blocks = tarn::test::scaled(100'000);
    for (std::uint64_t i = 0; i < blocks; ++i) {
        if (heap->is_run_sample_due()) {
            due += 1;
            heap->note_sample(0);
        }
        heap->count_run(0);
    }
    double const wanted = static_cast<double>(blocks) / (runs_per_sample + 0.5);
    EXPECT_NEAR(due / wanted, 1, errors_most / std::sqrt(wanted));
    process.options.sample_interval_bytes = 0;
    EXPECT_FALSE(heap->is_run_sample_due());
}

}  // namespace
