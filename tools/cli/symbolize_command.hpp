// cli/symbolize_command.hpp - `tarn symbolize`: functions, files and lines into a report.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

namespace tarn::cli {

struct symbolize_request {
    std::vector<std::string> files;  // none, or "-": standard input
    std::vector<std::string> debug_dirs;
    std::string sysroot;
};

/// Adds the options of `tarn symbolize` to a subcommand; parsing fills `request`.
void describe(CLI::App& command, symbolize_request& request);

/// Returns the exit status: 0 when the files of all modules could be used, 1 when one could not,
/// 2 when a report can't be read. Throws failure.
int run_symbolize(symbolize_request const& request);

}  // namespace tarn::cli
