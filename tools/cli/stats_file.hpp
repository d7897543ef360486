// cli/stats_file.hpp - reads what processes on Tarn write at their exit (stats_file=FOLDER/%p).
//
// A file holds one report or more (an id can be used twice). A report is
//     tarn 0.1.0 pid 1234
//     live_bytes 4096            one line for each key of process_stats; bytes where named so
//     class 32 1000 12           up to twelve: block bytes, allocations, live blocks; the busiest
//                                first; block bytes 0: large blocks of any size
// Unknown keys of this form are skipped: a newer library may say more.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tarn::cli {

struct class_stats {
    std::uint64_t block_bytes = 0;  // 0: large
    std::uint64_t allocations = 0;
    std::uint64_t live_blocks = 0;
};

struct process_stats {
    std::string version;
    std::uint64_t pid = 0;
    std::uint64_t live_bytes = 0;
    std::uint64_t live_peak_bytes = 0;
    std::uint64_t live_blocks = 0;
    std::uint64_t mapped_bytes = 0;
    std::uint64_t reserved_bytes = 0;
    std::uint64_t metadata_bytes = 0;
    std::uint64_t held_by_threads_bytes = 0;
    std::uint64_t free_in_bins_bytes = 0;
    std::uint64_t free_runs_bytes = 0;
    std::uint64_t purged_bytes = 0;
    std::uint64_t cross_thread_frees = 0;
    std::uint64_t threads = 0;
    std::uint64_t pages = 0;
    std::uint64_t resident_bytes = 0;
    std::uint64_t resident_peak_bytes = 0;
    std::uint64_t page_faults = 0;
    std::uint64_t quarantined_bytes = 0;  // these two: of mode debug
    std::uint64_t guard_bytes = 0;
    std::vector<class_stats> classes;
};

/// Every key that a report must have.
inline constexpr std::array<std::pair<std::string_view, std::uint64_t process_stats::*>, 16> keys{{
    {"live_bytes", &process_stats::live_bytes},
    {"live_peak_bytes", &process_stats::live_peak_bytes},
    {"live_blocks", &process_stats::live_blocks},
    {"mapped_bytes", &process_stats::mapped_bytes},
    {"reserved_bytes", &process_stats::reserved_bytes},
    {"metadata_bytes", &process_stats::metadata_bytes},
    {"held_by_threads_bytes", &process_stats::held_by_threads_bytes},
    {"free_in_bins_bytes", &process_stats::free_in_bins_bytes},
    {"free_runs_bytes", &process_stats::free_runs_bytes},
    {"purged_bytes", &process_stats::purged_bytes},
    {"cross_thread_frees", &process_stats::cross_thread_frees},
    {"threads", &process_stats::threads},
    {"pages", &process_stats::pages},
    {"resident_bytes", &process_stats::resident_bytes},
    {"resident_peak_bytes", &process_stats::resident_peak_bytes},
    {"page_faults", &process_stats::page_faults},
}};

/// What older libraries do not tell.
inline constexpr std::array<std::pair<std::string_view, std::uint64_t process_stats::*>, 2>
    later_keys{{
        {"quarantined_bytes", &process_stats::quarantined_bytes},
        {"guard_bytes", &process_stats::guard_bytes},
    }};

struct parsed_stats_file {
    std::string name;                    // of the file, without folder
    std::vector<process_stats> reports;  // the complete ones
    std::string error;                   // "file NAME, line N: what is wrong"; empty: nothing
};

/// Reads the text of a file; stops at the first error.
parsed_stats_file parse_stats(std::string name, std::string_view text);

/// Reads every file in a folder, in order of their names. Nothing for an empty path.
std::vector<parsed_stats_file> read_stats_files(std::string const& folder);

}  // namespace tarn::cli
