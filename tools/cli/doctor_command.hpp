// cli/doctor_command.hpp - `tarn doctor`: which malloc a program or process uses, and why.
//
// Only looks: nothing is run, stopped or changed.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

namespace tarn::cli {

struct doctor_request {
    bool json = false;
    std::string library;               // empty: found beside tarn
    std::vector<std::string> targets;  // one: a program, or the number of a process
    std::string own_path;              // argv[0]
};

/// Adds the options of `tarn doctor` to a subcommand; parsing fills `request`.
void describe(CLI::App& command, doctor_request& request);

/// Returns the exit status: 0 when malloc is Tarn's, 1 when not, 2 when that can't be told.
/// Throws failure.
int run_doctor(doctor_request const& request);

}  // namespace tarn::cli
