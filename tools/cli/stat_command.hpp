// cli/stat_command.hpp - `tarn stat`: what the memory of running processes does now.
//
// Asks each process for figures through its live statistics file (tarn/live.h) and shows them.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace tarn::cli {

struct stat_request {
    bool json = false;
    bool prometheus = false;
    bool line = false;
    bool keys = false;
    std::uint32_t wait_ms = 200;
    std::vector<std::string> processes;  // numbers; none: all on Tarn
};

/// Adds the options of `tarn stat` to a subcommand; parsing fills `request`.
void describe(CLI::App& command, stat_request& request);

/// Returns the exit status: 0 when all asked for was shown, 1 when a process shows no statistics,
/// 2 when that can't be told. Throws failure.
int run_stat(stat_request const& request);

}  // namespace tarn::cli
