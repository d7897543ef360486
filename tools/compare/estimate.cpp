#include "compare/estimate.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tarn::compare {

namespace {

/// How many of `count` values are cut off at each end.
std::size_t trimmed_at_each_end(std::size_t count) {
    // Of fewer values so little would be left that its error can't be told.
    constexpr std::size_t fewest = 8;
    return count < fewest ? 0 : count / 5;
}

double mean(std::vector<double> const& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

double trimmed_mean(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    auto const cut = static_cast<std::ptrdiff_t>(trimmed_at_each_end(values.size()));
    return mean({values.begin() + cut, values.end() - cut});
}

std::optional<double> standard_error(std::vector<double> values) {
    std::size_t const count = values.size();
    if (count < 2) {
        return std::nullopt;
    }
    std::sort(values.begin(), values.end());
    std::size_t const cut = trimmed_at_each_end(count);
    for (double& value : values) {
        value = std::clamp(value, values[cut], values[count - 1 - cut]);
    }
    double const centre = mean(values);
    double squares = 0;
    for (double const value : values) {
        squares += (value - centre) * (value - centre);
    }
    double const deviation = std::sqrt(squares / static_cast<double>(count - 1));
    auto const kept = static_cast<double>(count - 2 * cut);
    return deviation * std::sqrt(static_cast<double>(count)) / kept;
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    std::size_t const half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

bool ratio_estimate::is_tie() const {
    return error.has_value() && std::abs(std::log(ratio)) <= 2 * *error;
}

void samples::add_round(std::vector<double> const& values) {
    std::vector<double> logarithms;
    logarithms.reserve(values.size());
    for (double const value : values) {
        logarithms.push_back(std::log(value));
    }
    auto const end = logarithms.begin() + static_cast<std::ptrdiff_t>(ranked_);
    levels_.push_back(median({logarithms.begin(), end}));
    logarithms_.push_back(std::move(logarithms));
}

std::vector<double> samples::residuals(std::size_t column) const {
    std::vector<double> result;
    result.reserve(rounds());
    for (std::size_t round = 0; round < rounds(); ++round) {
        result.push_back(logarithms_[round][column] - levels_[round]);
    }
    return result;
}

double samples::effect(std::size_t column) const { return trimmed_mean(residuals(column)); }

double samples::value(std::size_t column) const {
    return std::exp(median(levels_) + effect(column));
}

std::optional<double> samples::pair_error(std::size_t a, std::size_t b) const {
    std::vector<double> differences;
    differences.reserve(rounds());
    for (std::vector<double> const& round : logarithms_) {
        differences.push_back(round[a] - round[b]);
    }
    return standard_error(std::move(differences));
}

std::optional<double> samples::typical_error() const {
    std::vector<double> errors;
    std::size_t const columns = logarithms_.front().size();
    for (std::size_t a = 0; a < columns; ++a) {
        for (std::size_t b = a + 1; b < columns; ++b) {
            std::optional<double> const error = pair_error(a, b);
            if (!error) {
                return std::nullopt;
            }
            errors.push_back(*error);
        }
    }
    return errors.empty() ? std::nullopt : std::optional{median(std::move(errors))};
}

ratio_estimate samples::ratio(std::size_t a, std::size_t b) const {
    ratio_estimate result{std::exp(effect(a) - effect(b)), pair_error(a, b)};
    if (result.error) {
        result.error = std::max(*result.error, typical_error().value_or(0));
    }
    return result;
}

std::size_t samples::best() const {
    std::size_t least = 0;
    for (std::size_t column = 1; column < ranked_; ++column) {
        if (effect(column) < effect(least)) {
            least = column;
        }
    }
    return least;
}

ratio_estimate geometric_mean(std::vector<ratio_estimate> const& ratios) {
    auto const count = static_cast<double>(ratios.size());
    double sum = 0;
    double squares = 0;
    bool known = true;
    for (ratio_estimate const& one : ratios) {
        sum += std::log(one.ratio);
        squares += one.error.value_or(0) * one.error.value_or(0);
        known = known && one.error.has_value();
    }
    ratio_estimate result{std::exp(sum / count), std::nullopt};
    if (known) {
        result.error = std::sqrt(squares) / count;
    }
    return result;
}

}  // namespace tarn::compare
