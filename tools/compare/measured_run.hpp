// compare/measured_run.hpp - runs a program once and measures it from outside.
//
// The program is traced (ptrace), but only its main thread and only at three kinds of points: when
// it has become the program, which starts the clock and leaves out what came before; when it gets a
// signal; and when its main thread is about to end with its memory still in place, which tells what
// is resident then, the high-water mark, and whether the malloc to measure was in it at all. Where
// tracing is not permitted, `traced` says so.
//
// Threads    tarn has one
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/child.hpp"

namespace tarn::compare {

struct run_plan {
    std::vector<std::string> program;                              // and its arguments
    std::vector<std::pair<std::string, std::string>> environment;  // on top of tarn's own
    std::string input;    // regular file that is its standard input; empty: none
    std::string library;  // absolute path that must be mapped in the end; empty: no matter
    std::vector<std::string> client;  // started beside it without `environment`; empty: none
    std::chrono::seconds time_limit{120};
};

struct measurement {
    double wall_s = 0;             // from having become the program to its end
    double cpu_s = 0;              // user + system, with what it waited for
    std::uint64_t peak_bytes = 0;  // most memory resident, of the largest process
    // Resident when it was about to end; nothing if a process that it started was larger.
    std::optional<std::uint64_t> final_bytes;
    std::uint64_t faults = 0;  // page faults, minor and major
};

struct run_result {
    std::string error;  // why the run does not count, printable; empty: it does
    bool started = true;
    bool traced = true;  // false: `library` was not looked for, final_bytes is missing, and
                         // peak_bytes is at least what tarn had when it forked
    measurement figures;
    std::string output;  // what it wrote to standard output
};

/// Thrown when a signal asks tarn itself to end.
struct interrupted {
    int signal = 0;
};

/// Makes this process the parent of what the programs it runs leave behind, so that run_measured()
/// can end it. To be called once, before the first run.
void adopt_descendants();

/// Nothing of the run is left when this returns or throws. Throws cli::failure when no process can
/// be started at all, or interrupted.
run_result run_measured(run_plan const& plan, cli::signal_watch const& signals);

}  // namespace tarn::compare
