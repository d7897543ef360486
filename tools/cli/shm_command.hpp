// cli/shm_command.hpp - `tarn shm`: segments of shared memory, who uses them and what they hold.
//
// Looks without becoming a client (tarn_shm_observe), so it may be used at any time. What changes
// something: `clean`, `audit --recover` and `bench`.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <string>

namespace tarn::cli {

struct shm_request {
    std::string domain;   // empty: the user's own
    std::string segment;  // empty: all
    std::string chunk;    // POOL/NUMBER, or a reference
    double interval_s = 1;
    bool once = false;
    bool json = false;
    bool recover = false;
    bool unused = false;
    std::uint64_t rounds = 1'000'000;
};

/// Adds the subcommands of `tarn shm`; parsing fills `request`.
void describe(CLI::App& command, shm_request& request);

/// Runs the subcommand that was given. Returns the exit status. Throws failure.
int run_shm(CLI::App const& command, shm_request const& request);

}  // namespace tarn::cli
