// cli/run_command.hpp - `tarn run`: starts a program with Tarn as its malloc.
//
// Without --stats, tarn becomes the program (exec): no process in between, so signals, terminal
// and exit status are the program's own. With --stats it stays behind as a faithful stand-in and
// prints a report in the end.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

namespace tarn::cli {

struct run_request {
    std::string mode;                  // empty: the library's default, or TARN_MODE
    std::vector<std::string> options;  // key=value each
    std::string library;               // empty: found beside tarn
    bool stats = false;
    std::vector<std::string> program;  // and its arguments
    std::string own_path;              // argv[0]
};

/// Adds the options of `tarn run` to a subcommand; parsing fills `request`.
void describe(CLI::App& command, run_request& request);

/// Returns the exit status, or does not return. Throws failure.
int run_program(run_request const& request);

}  // namespace tarn::cli
