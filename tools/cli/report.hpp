// cli/report.hpp - the memory report that `tarn run --stats` prints.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "child.hpp"
#include "stats_file.hpp"

namespace tarn::cli {

struct run_outcome {
    std::string program;
    ended_child child;
    std::vector<parsed_stats_file> files;
};

/// "12.3 MiB", "4.0 KiB", "17 B".
std::string format_bytes(std::uint64_t bytes);

/// "1,234,567".
std::string format_count(std::uint64_t count);

/// The report; says plainly what is missing and why.
std::string format_report(run_outcome const& outcome);

}  // namespace tarn::cli
