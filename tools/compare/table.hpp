// compare/table.hpp - a summary as text for a terminal.
#pragma once

#include <cstddef>
#include <string>

#include "compare/summary.hpp"

namespace tarn::compare {

/// A figure with three digits that mean something: "0.412 s", "3.21 ns", "37.8 MiB", "1,204".
std::string format_value(double value, std::string const& unit);

/// Everything: a table per quantity, or one for a single row; means, A/A, runs that do not count.
std::string format_tables(campaign_result const& result, summary const& summary);

/// "1:05", "1:02:03".
std::string format_duration(std::chrono::seconds duration);

}  // namespace tarn::compare
