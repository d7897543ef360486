// cli/compare_command.hpp - `tarn compare`: a program, or a suite of them, on several mallocs.
#pragma once

#include <CLI/App.hpp>
#include <cstddef>
#include <string>
#include <vector>

namespace tarn::cli {

struct compare_request {
    std::string allocators;              // names, separated by commas; empty: all there are
    std::vector<std::string> libraries;  // name=path.so[,ENV=VALUE] each
    std::string library;                 // Tarn's own; empty: found beside tarn
    std::size_t rounds = 8;
    double minutes = 0;            // 0: no limit
    std::size_t time_limit_s = 0;  // 0: as not given, likewise below
    bool aa = true;
    std::string suite;                  // file
    std::string rows;                   // names or groups, separated by commas; empty: all
    std::vector<std::string> settings;  // KEY=VALUE each
    bool list = false;
    std::string input;
    std::string output;
    std::string folder;  // for files of results; empty: none
    std::vector<std::string> program;
    std::string own_path;  // argv[0]
};

/// Adds the options of `tarn compare` to a subcommand; parsing fills `request`.
void describe(CLI::App& command, compare_request& request);

/// Returns the exit status: 0; 1 when a run was void; 128 + N when signal N ended it early.
/// Throws failure.
int run_comparison(compare_request const& request);

}  // namespace tarn::cli
