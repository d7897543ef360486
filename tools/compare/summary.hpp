// compare/summary.hpp - what a campaign says: ratios to the best, ties, geometric means.
//
// The A/A column, where there is one, is left out of ranking and means; it is only compared with
// its twin.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compare/campaign.hpp"
#include "compare/estimate.hpp"

namespace tarn::compare {

enum class quantity { wall, cpu, peak, final, faults, figure };

enum class verdict { best, tie, behind, unknown, missing, is_void };

struct quantity_text {
    std::string_view key;    // in CSV and JSON
    std::string_view title;  // in tables
    std::string_view unit;
};

/// Texts of all but `figure`, whose unit is its row's.
quantity_text describe(quantity what);

/// What whole processes are compared by.
inline constexpr std::array process_quantities{quantity::wall, quantity::cpu, quantity::peak,
                                               quantity::final, quantity::faults};

/// The error of a cell whose runs were good but did not yield this quantity.
inline constexpr std::string_view not_measured = "not measured";

struct cell {
    std::string error;  // why there is no value; empty: there is one
    double value = 0;   // in the unit of its comparison
    ratio_estimate to_best;
};

/// One quantity of one row.
struct comparison {
    std::string row;
    std::string group;
    std::string about;
    quantity what = quantity::wall;
    std::string unit;
    std::size_t rounds = 0;
    std::vector<cell> cells;           // of every column, the A/A column too
    std::optional<std::size_t> best;   // nothing: no column has a value
    std::optional<ratio_estimate> aa;  // the A/A column over its twin
};

/// What to say of a column's cell: `unknown` when there is no error to judge by, `missing` when the
/// runs were good but did not yield the quantity.
verdict judge(comparison const& row, std::size_t column);

/// "best", "tie", ... as files name it.
std::string_view describe(verdict what);

/// A geometric mean over the rows of a group in which every ranked column has a value.
struct mean {
    quantity what = quantity::wall;
    std::string group;  // empty: all rows that are whole processes
    std::size_t rows = 0;
    std::vector<ratio_estimate> of;  // ranked columns
};

struct summary {
    std::vector<std::string> columns;     // ranked ones
    std::optional<std::size_t> twin;      // of the A/A column
    std::vector<comparison> comparisons;  // in the order of rows
    std::vector<mean> means;
};

summary summarize(campaign_result const& result);

/// A line "ROW on ALLOCATOR: why" for each row that is void on an allocator.
std::vector<std::string> void_rows(campaign_result const& result);

/// The comparisons of one quantity, and of one group unless it is empty.
std::vector<comparison const*> of_quantity(summary const& summary, quantity what,
                                           std::string const& group = {});

/// The mean of one quantity; null when no row had all values.
mean const* find_mean(summary const& summary, quantity what, std::string const& group);

/// Groups of rows that print figures, in their order.
std::vector<std::string> figure_groups(summary const& summary);

/// Of the rows with an A/A run and a known error: those that tie with their twin, and all.
struct tie_count {
    std::size_t ties = 0;
    std::size_t rows = 0;
    std::optional<ratio_estimate> mean;
};

tie_count count_ties(std::vector<comparison const*> const& rows);

}  // namespace tarn::compare
