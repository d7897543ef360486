// cli/child.hpp - runs a program as a child that nobody can tell from the program itself.
//
// The child stays in tarn's process group, so it owns the terminal as tarn does. Signals that the
// terminal sends reach the whole group and are not forwarded; those sent to tarn alone are. What
// kill(1) sends to the group reaches the child directly and once more through tarn: by the time
// it arrives the two can't be told apart.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <vector>

namespace tarn::cli {

struct ended_child {
    pid_t pid = 0;
    int start_error = 0;  // errno of fork or exec; the rest is meaningless then
    int status = 0;       // as wait() gives it

    rusage usage{};  // with what the child waited for

    std::chrono::milliseconds wall{0};
};

/// Takes over all signals of this process, from construction on: they wait to be forwarded, and
/// none ends tarn. Signals ignored at tarn's start stay ignored, in the child too.
class signal_watch {
public:
    signal_watch();
    ~signal_watch();
    signal_watch(signal_watch const&) = delete;
    signal_watch& operator=(signal_watch const&) = delete;

    /// The next signal, waited for.
    [[nodiscard]] siginfo_t next() const;

    /// The next signal, or nothing when `deadline` comes first.
    [[nodiscard]] std::optional<siginfo_t> next_until(
        std::chrono::steady_clock::time_point deadline) const;

    /// Mask and dispositions as tarn found them: in the child, before exec.
    void restore() const;

    /// After the child's end: forgets what is pending; from now on signals act as usual, except
    /// that a closed stderr does not kill tarn.
    void stand_down() const;

    /// Stops tarn as the child was stopped by `signal`, until somebody continues it.
    void stop_like_child(int signal) const;

private:
    sigset_t original_mask_{};
    sigset_t watched_{};
    struct sigaction original_child_action_ = {};
};

/// Pointers into `words`, null at the end, as exec wants them.
std::vector<char*> argument_vector(std::vector<std::string> const& words);

/// Runs `words` with the environment of this process, until its end.
ended_child run_child(std::vector<std::string> const& words, signal_watch const& signals);

/// Ends as the child did: returns its exit status, or dies of the signal that killed it.
int end_like(ended_child const& child);

}  // namespace tarn::cli
