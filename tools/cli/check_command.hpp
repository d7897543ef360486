// cli/check_command.hpp - `tarn check`: has running processes in mode debug check all their blocks.
//
// Asks each process through its live statistics file (tarn/live.h) and shows what it found. What is
// damaged the process reports itself, where it reports everything.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace tarn::cli {

struct check_request {
    bool json = false;
    bool all = false;
    std::uint32_t wait_ms = 10'000;
    std::vector<std::string> processes;  // numbers
};

/// Adds the options of `tarn check` to a subcommand; parsing fills `request`.
void describe(CLI::App& command, check_request& request);

/// Returns the exit status: 0 when all processes have checked and none is damaged, 1 when one is, 2
/// when one did not check. Throws failure.
int run_check(check_request const& request);

}  // namespace tarn::cli
