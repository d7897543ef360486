// compare/records.hpp - a campaign as files that other programs read.
#pragma once

#include <string>

#include "compare/summary.hpp"

namespace tarn::compare {

/// Every counted run: a header line, then a line for each run, or for each of its figures. Times in
/// seconds, sizes in bytes.
std::string format_runs_csv(campaign_result const& result);

/// Every cell of every comparison: value, ratio to the best, standard error, verdict.
std::string format_rows_csv(summary const& summary);

/// The whole summary, with allocators, their versions and the machine.
std::string format_json(campaign_result const& result, summary const& summary);

/// "2030-01-31 12:00 UTC".
std::string format_time(std::chrono::system_clock::time_point time);

}  // namespace tarn::compare
