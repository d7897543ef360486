// compare/estimate.hpp - what interleaved runs say about the ratio of two columns.
//
// Machines drift: the same program takes 30 % longer a minute later, for every allocator. So a
// round's runs, which lie close in time, are compared with each other alone. On logarithms: each
// round's level (the median of its columns) is taken out; a column's effect is the trimmed mean of
// what remains. That is the first sweep of a median polish (J. W. Tukey, "Exploratory Data
// Analysis", 1977), with a mean that wastes less than a median when rounds are few.
//
// The standard error of a difference of two columns comes from their differences round by round,
// winsorized as the mean is trimmed (J. W. Tukey, D. H. McLaughlin, 1963). With few rounds such an
// error is itself a matter of luck, so it is at least the median of the errors of all pairs.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace tarn::compare {

/// Without the lowest and the highest fifth, once there are eight values. `values` is not empty.
double trimmed_mean(std::vector<double> values);

/// Standard error of trimmed_mean(values); nothing for fewer than two.
std::optional<double> standard_error(std::vector<double> values);

/// The middle one, or the mean of the middle two. `values` is not empty.
double median(std::vector<double> values);

struct ratio_estimate {
    double ratio = 1;
    std::optional<double> error;  // of the ratio's logarithm, so about relative; nothing: unknown

    /// Whether the difference from 1 is below two standard errors. Unknown errors make no tie.
    [[nodiscard]] bool is_tie() const;
};

/// One quantity of one row, as measured: rounds of the same columns.
class samples {
public:
    /// The first `ranked` columns say what a round's level is; further ones are only compared.
    explicit samples(std::size_t ranked) : ranked_{ranked} {}

    /// One value for each column, each above 0; every round has as many.
    void add_round(std::vector<double> const& values);

    [[nodiscard]] std::size_t rounds() const { return logarithms_.size(); }

    /// The column's value at the median level of the rounds.
    [[nodiscard]] double value(std::size_t column) const;

    /// Column a's value over column b's.
    [[nodiscard]] ratio_estimate ratio(std::size_t a, std::size_t b) const;

    /// The ranked column of the least value.
    [[nodiscard]] std::size_t best() const;

private:
    [[nodiscard]] std::vector<double> residuals(std::size_t column) const;
    [[nodiscard]] double effect(std::size_t column) const;
    [[nodiscard]] std::optional<double> pair_error(std::size_t a, std::size_t b) const;
    [[nodiscard]] std::optional<double> typical_error() const;

    std::size_t ranked_;
    std::vector<std::vector<double>> logarithms_;  // of each round
    std::vector<double> levels_;                   // of each round, as logarithms
};

/// The geometric mean of ratios of several rows, with its error. `ratios` is not empty.
ratio_estimate geometric_mean(std::vector<ratio_estimate> const& ratios);

}  // namespace tarn::compare
