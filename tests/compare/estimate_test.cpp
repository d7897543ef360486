#include "compare/estimate.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace {

using namespace tarn::compare;

TEST(estimate, trims_a_fifth_at_each_end) {
    EXPECT_DOUBLE_EQ(trimmed_mean({5}), 5);
    EXPECT_DOUBLE_EQ(trimmed_mean({1, 2, 6}), 3);  // too few to trim
    EXPECT_DOUBLE_EQ(trimmed_mean({900, 1, 2, 3, 4, 5, 6, -50}), 3.5);
    EXPECT_DOUBLE_EQ(trimmed_mean({0, 0, 1, 2, 3, 4, 5, 6, 900, 900}), 3.5);
}

TEST(estimate, error_of_a_mean_is_the_textbook_s_while_nothing_is_trimmed) {
    EXPECT_FALSE(standard_error({3}).has_value());
    // Deviation 2 of four values, by hand: {1, 1, 5, 5} has variance 16/3.
    EXPECT_NEAR(*standard_error({1, 1, 5, 5}), std::sqrt(16.0 / 3 / 4), 1e-12);
}

TEST(estimate, error_of_a_trimmed_mean_is_not_moved_by_one_outlier) {
    double const calm = *standard_error({1, 2, 3, 4, 5, 6, 7, 8});
    EXPECT_NEAR(*standard_error({1, 2, 3, 4, 5, 6, 7, 8000}), calm, 1e-12);
}

TEST(estimate, median_of_even_and_odd_counts) {
    EXPECT_DOUBLE_EQ(median({3, 1, 2}), 2);
    EXPECT_DOUBLE_EQ(median({4, 1, 2, 3}), 2.5);
}

TEST(samples, a_drift_common_to_all_columns_leaves_no_trace) {
    samples measured{2};
    for (double const drift : {1.0, 1.3, 0.7, 2.0, 1.1, 0.9}) {
        measured.add_round({drift, 1.25 * drift});
    }
    ratio_estimate const ratio = measured.ratio(1, 0);
    EXPECT_NEAR(ratio.ratio, 1.25, 1e-12);
    EXPECT_LT(*ratio.error, 1e-9);
    EXPECT_EQ(measured.best(), 0U);
}

TEST(samples, one_disturbed_run_changes_little) {
    samples measured{3};
    for (int round = 0; round < 8; ++round) {
        measured.add_round({1, 1.1, round == 3 ? 9.0 : 1.2});
    }
    EXPECT_NEAR(measured.ratio(2, 0).ratio, 1.2, 1e-9);
    EXPECT_NEAR(measured.value(2) / measured.value(1), 1.2 / 1.1, 1e-9);
}

TEST(samples, values_are_those_at_the_median_level) {
    samples measured{1};
    for (double const value : {2.0, 8.0, 4.0}) {
        measured.add_round({value});
    }
    EXPECT_NEAR(measured.value(0), 4, 1e-12);
}

TEST(samples, columns_beyond_the_ranked_ones_move_nothing) {
    samples measured{2};
    for (int round = 0; round < 5; ++round) {
        measured.add_round({1, 2, 0.001});
    }
    EXPECT_EQ(measured.best(), 0U);
    EXPECT_NEAR(measured.value(1), 2, 1e-12);
    EXPECT_NEAR(measured.ratio(2, 0).ratio, 0.001, 1e-12);
}

TEST(samples, one_round_has_no_error_and_makes_no_tie) {
    samples measured{2};
    measured.add_round({1, 1});
    EXPECT_FALSE(measured.ratio(1, 0).error.has_value());
    EXPECT_FALSE(measured.ratio(1, 0).is_tie());
}

struct noise {
    double usual = 0.04;   // standard deviation of a run
    double of_one = 0.04;  // of column 2
};

/// How many of 1,000 comparisons of the first column with the last, which takes `ratio` as much,
/// end in a tie. Machines drift, runs scatter, and one in seven is disturbed by up to a third.
int ties(double ratio, std::size_t columns, int rounds, noise scatter = {}) {
    std::mt19937 random{1};
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform;
    int result = 0;
    for (int trial = 0; trial < 1000; ++trial) {
        samples measured{columns - 1};
        double level = 0;
        for (int round = 0; round < rounds; ++round) {
            level += 0.1 * normal(random);
            std::vector<double> values;
            for (std::size_t column = 0; column < columns; ++column) {
                double const disturbance =
                    uniform(random) < 1.0 / 7 ? 8 * scatter.usual * uniform(random) : 0;
                double const deviation = column == 2 ? scatter.of_one : scatter.usual;
                values.push_back(std::exp(level + deviation * normal(random) + disturbance));
            }
            values.back() *= ratio;
            measured.add_round(values);
        }
        result += measured.ratio(columns - 1, 0).is_tie() ? 1 : 0;
    }
    return result;
}

TEST(samples, what_is_equal_mostly_ties) {
    EXPECT_GT(ties(1, 7, 8), 940);
    EXPECT_GT(ties(1, 7, 12), 940);
    EXPECT_GT(ties(1, 3, 8), 910);
    EXPECT_GT(ties(1, 7, 5), 900);
    EXPECT_GT(ties(1, 3, 5), 860);
}

TEST(samples, what_differs_does_not_tie) {
    EXPECT_LT(ties(1.2, 7, 8), 150);
    EXPECT_LT(ties(0.8, 7, 8), 150);
}

TEST(samples, one_noisy_column_hides_no_difference_of_others) {
    EXPECT_LT(ties(1.05, 7, 8, {.usual = 0.01, .of_one = 0.3}), 150);
}

TEST(samples, values_that_never_differ_tie) {
    samples measured{2};
    measured.add_round({1.5, 1.5});
    measured.add_round({1.5, 1.5});
    EXPECT_TRUE(measured.ratio(1, 0).is_tie());
}

TEST(geometric_mean, multiplies_ratios_and_adds_errors) {
    ratio_estimate const mean = geometric_mean({{2, 0.03}, {8, 0.04}});
    EXPECT_NEAR(mean.ratio, 4, 1e-12);
    EXPECT_NEAR(*mean.error, 0.025, 1e-12);
    EXPECT_FALSE(geometric_mean({{2, 0.03}, {8, std::nullopt}}).error.has_value());
}

}  // namespace
