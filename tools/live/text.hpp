// live/text.hpp - figures of processes as text.
//
// Threads    pure; any thread
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "live/figures.hpp"

namespace tarn::live {

/// As tarn_stats_format() writes it; `as` is one of tarn_stats_as.
std::string format_as(figures const& of, int as);

/// A row for each thread, those that hold the most free memory first. `names`: of threads by
/// number. Empty without threads.
std::string format_threads(figures const& of, std::map<std::uint64_t, std::string> const& names);

/// How old figures are that nobody has refreshed: one line.
std::string format_stale(std::uint64_t age_ms);

/// "0.4 s", "12 s", "3 min", "5 h", "2 d".
std::string format_age(std::uint64_t age_ms);

/// Milliseconds since the figures were taken; 0 where clocks disagree (time namespaces).
std::uint64_t age_of(figures const& what, std::uint64_t now_ms);

/// The cells of a row.
using table_row = std::vector<std::string>;

/// A line for each row, of which the first is the head. All columns are right-aligned but
/// `left_column`.
std::vector<std::string> format_table(std::vector<table_row> const& rows, std::size_t left_column);

}  // namespace tarn::live
