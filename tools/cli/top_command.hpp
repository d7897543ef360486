// cli/top_command.hpp - `tarn top`: a table of all processes on Tarn, kept up to date.
#pragma once

#include <CLI/App.hpp>
#include <string>

namespace tarn::cli {

struct top_request {
    double interval_s = 1;
    std::string sort = "live";
    bool once = false;
};

/// Adds the options of `tarn top` to a subcommand; parsing fills `request`.
void describe(CLI::App& command, top_request& request);

/// Shows the table until the user ends it; once without a terminal. Returns the exit status. Throws
/// failure.
int run_top(top_request const& request);

}  // namespace tarn::cli
