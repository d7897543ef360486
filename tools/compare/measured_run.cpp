#include "compare/measured_run.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>

#include "cli/environment.hpp"
#include "cli/failure.hpp"
#include "compare/markup.hpp"

namespace tarn::compare {

namespace {

using clock = std::chrono::steady_clock;

constexpr std::size_t output_bytes_max = std::size_t{64} << 20;
constexpr std::size_t message_bytes_max = 200;
// How often a run is looked at that gives no sign: whether it prints without end.
constexpr std::chrono::milliseconds look_interval{500};
// The kernel's two high-water marks of one process may differ by what its processors hold back.
constexpr std::uint64_t mark_slack_bytes = std::uint64_t{1} << 20;

std::string system_text(int error) { return std::generic_category().message(error); }

/// Closes its descriptor.
class descriptor {
public:
    explicit descriptor(int number) : number_{number} {}

    ~descriptor() { close(); }

    descriptor(descriptor const&) = delete;
    descriptor& operator=(descriptor const&) = delete;

    [[nodiscard]] int number() const { return number_; }

    void close() {
        if (number_ >= 0) {
            ::close(std::exchange(number_, -1));
        }
    }

private:
    int number_;
};

/// A file without a name that a child writes and tarn reads afterwards.
class capture {
public:
    explicit capture(char const* name) : file_{::memfd_create(name, MFD_CLOEXEC)} {
        if (file_.number() < 0) {
            throw cli::failure{
                fmt::format("cannot keep a program's output: {}", system_text(errno))};
        }
    }

    [[nodiscard]] int number() const { return file_.number(); }

    [[nodiscard]] bool is_too_long() const {
        struct stat status {};

        return ::fstat(file_.number(), &status) == 0 &&
               status.st_size > static_cast<off_t>(output_bytes_max);
    }

    [[nodiscard]] std::string text(std::size_t bytes_max) const {
        std::string all;
        std::array<char, 65536> part{};
        ssize_t got = 0;
        while (all.size() < bytes_max && (got = ::pread(file_.number(), part.data(), part.size(),
                                                        static_cast<off_t>(all.size()))) > 0) {
            all.append(part.data(), static_cast<std::size_t>(got));
        }
        return all;
    }

    /// The first line that is not empty, to end a message with: ": text" or nothing.
    [[nodiscard]] std::string first_line() const {
        constexpr std::size_t enough_bytes = 4096;
        std::istringstream lines{text(enough_bytes)};
        for (std::string line; std::getline(lines, line);) {
            if (!line.empty()) {
                return ": " + printable(line, message_bytes_max);
            }
        }
        return {};
    }

private:
    descriptor file_;
};

std::array<int, 2> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        throw cli::failure{fmt::format("cannot make a pipe: {}", system_text(errno))};
    }
    return ends;
}

struct pipe_pair {
    std::array<int, 2> ends = make_pipe();
    descriptor reader{ends[0]};
    descriptor writer{ends[1]};
};

/// A number of /proc/PID/status, in bytes.
std::optional<std::uint64_t> status_bytes(std::string const& status, std::string const& key) {
    std::size_t const at = status.find("\n" + key + ":");
    if (at == std::string::npos) {
        return std::nullopt;
    }
    return std::strtoull(status.c_str() + at + key.size() + 2, nullptr, 10) * 1024;
}

std::string read_process_file(pid_t pid, char const* name) {
    std::ifstream file{fmt::format("/proc/{}/{}", pid, name)};
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

/// Page faults that a process has had, from /proc/PID/stat.
std::uint64_t faults_of(pid_t pid) {
    std::string const stat = read_process_file(pid, "stat");
    std::istringstream fields{stat.substr(std::min(stat.rfind(')') + 1, stat.size()))};
    std::string skipped;
    for (int field = 3; field < 10; ++field) {
        fields >> skipped;
    }
    std::uint64_t minor = 0;
    std::uint64_t minor_of_children = 0;
    std::uint64_t major = 0;
    fields >> minor >> minor_of_children >> major;
    return minor + major;
}

/// The children of this process, also those it has adopted.
std::vector<pid_t> children() {
    std::ifstream file{fmt::format("/proc/self/task/{}/children", ::gettid())};
    return {std::istream_iterator<pid_t>{file}, {}};
}

double seconds(timeval const& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

std::string signal_text(int signal) {
    return ::strsignal(signal);  // NOLINT(concurrency-mt-unsafe): tarn has one thread
}

std::string describe_end(int status, std::string const& detail) {
    if (WIFEXITED(status)) {
        return fmt::format("exit status {}{}", WEXITSTATUS(status), detail);
    }
    return signal_text(WTERMSIG(status)) + detail;
}

/// One run: the program, perhaps its client, and what was seen of them.
class observed_run {
public:
    observed_run(run_plan const& plan, cli::signal_watch const& signals)
        : plan_{plan}, signals_{signals}, others_{children()} {}

    ~observed_run() {
        end_all();
        static_cast<void>(end_leftovers());
    }

    observed_run(observed_run const&) = delete;
    observed_run& operator=(observed_run const&) = delete;

    run_result run() {
        deadline_ = clock::now() + plan_.time_limit;
        start();
        while (target_ > 0 || client_ > 0) {
            while (take_event(target_) || take_event(client_)) {
            }
            if (target_ > 0 || client_ > 0) {
                wait_for_signal();
            }
        }
        if (end_leftovers() && error_.empty()) {
            error_ = "left a process running, which was not measured";
        }
        result_.error = error_;
        result_.output = output_.text(output_bytes_max);
        return std::move(result_);
    }

private:
    /// Keeps the first reason; the program and its client have nothing to go on for.
    void give_up(std::string reason) {
        if (error_.empty()) {
            error_ = std::move(reason);
        }
        for (pid_t const pid : {target_, client_}) {
            if (pid > 0) {
                ::kill(-pid, SIGKILL);  // with what it started
                ::kill(pid, SIGKILL);
            }
        }
    }

    /// On an exception: waits until neither is there any more.
    void end_all() {
        give_up({});
        for (pid_t* const pid : {&target_, &client_}) {
            int status = 0;
            while (*pid > 0 && ::waitpid(*pid, &status, 0) == *pid) {
                if (WIFSTOPPED(status)) {
                    ::ptrace(PTRACE_CONT, *pid, nullptr, nullptr);
                } else {
                    *pid = 0;
                }
            }
        }
    }

    /// Ends what was started in the run and left its parents. Returns whether anything was.
    [[nodiscard]] bool end_leftovers() const {
        bool found = false;
        for (bool more = true; more;) {
            more = false;
            for (pid_t const pid : children()) {
                if (std::find(others_.begin(), others_.end(), pid) == others_.end()) {
                    // What has ended by itself was only not waited for by anybody.
                    pid_t ended = ::waitpid(pid, nullptr, WNOHANG);
                    if (ended == 0) {
                        found = true;
                        ::kill(pid, SIGKILL);
                        ended = ::waitpid(pid, nullptr, 0);
                    }
                    more = more || ended == pid;  // its own children are ours now
                }
            }
        }
        return found;
    }

    /// In the child: becomes the program, or tells why not through `error_pipe`.
    [[noreturn]] void become(std::vector<std::string> const& words, bool measured, int go_pipe,
                             int error_pipe) const {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::setpgid(0, 0);
        char go = 0;
        if (::read(go_pipe, &go, 1) != 1) {
            ::_exit(EXIT_FAILURE);  // tarn is gone
        }
        int error = 0;
        std::string const& input = measured && !plan_.input.empty() ? plan_.input : "/dev/null";
        int const in = ::open(input.c_str(), O_RDONLY | O_CLOEXEC);
        int const out = measured ? output_.number() : errors_of_client_.number();
        int const err = measured ? errors_.number() : errors_of_client_.number();
        if (in < 0 || ::dup2(in, STDIN_FILENO) < 0 || ::dup2(out, STDOUT_FILENO) < 0 ||
            ::dup2(err, STDERR_FILENO) < 0) {
            error = errno;
        } else {
            if (measured) {
                for (auto const& [name, value] : plan_.environment) {
                    cli::set_environment_value(name.c_str(), value);
                }
            }
            signals_.restore();
            std::vector<char*> const arguments = cli::argument_vector(words);
            ::execvp(arguments[0], arguments.data());
            error = errno;
        }
        static_cast<void>(!::write(error_pipe, &error, sizeof error));
        ::_exit(EXIT_FAILURE);
    }

    /// Returns the new process's number; error_ says whether it became the program.
    pid_t launch(std::vector<std::string> const& words, bool measured) {
        pipe_pair go;
        pipe_pair failed;
        pid_t const pid = ::fork();
        if (pid < 0) {
            throw cli::failure{fmt::format("cannot start a process: {}", system_text(errno))};
        }
        if (pid == 0) {
            go.writer.close();
            become(words, measured, go.reader.number(), failed.writer.number());
        }
        ::setpgid(pid, pid);  // whoever comes first
        failed.writer.close();
        if (measured) {
            unsigned long const options =
                PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL;
            result_.traced = ::ptrace(PTRACE_SEIZE, pid, nullptr, options) == 0;
            // The kernel counts what the child has of tarn as the program's.
            inherited_bytes_ = status_bytes(read_process_file(pid, "status"), "VmHWM").value_or(0);
        }
        static_cast<void>(!::write(go.writer.number(), "g", 1));
        int error = 0;
        ssize_t got = -1;
        do {
            got = ::read(failed.reader.number(), &error, sizeof error);
        } while (got < 0 && errno == EINTR);
        if (got == static_cast<ssize_t>(sizeof error)) {
            error_ = fmt::format("cannot run {}: {}", words[0], system_text(error));
            result_.started = false;
        } else if (measured) {
            begin();
        }
        return pid;
    }

    void start() {
        target_ = launch(plan_.program, true);
        if (error_.empty() && !plan_.client.empty()) {
            client_ = launch(plan_.client, false);
        }
        if (!error_.empty()) {
            give_up({});
        }
    }

    /// The program has just begun.
    void begin() {
        start_ = clock::now();
        faults_before_ = faults_of(target_);
    }

    /// Handles one event of a child. False: there is none at the moment, or no such child.
    bool take_event(pid_t pid) {
        siginfo_t info{};
        if (pid == 0 ||
            ::waitid(P_PID, static_cast<id_t>(pid), &info,
                     WEXITED | WSTOPPED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid == 0) {
            return false;
        }
        clock::time_point const now = clock::now();
        if (info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED) {
            ::kill(-pid, SIGKILL);  // what it left behind; its number is not free yet
        }
        int status = 0;
        rusage usage{};
        ::wait4(pid, &status, WUNTRACED, &usage);
        if (WIFSTOPPED(status)) {
            if (pid == target_) {
                handle_stop(status, now);
            }
        } else if (pid == target_) {
            handle_end(status, usage, now);
        } else {
            client_ = 0;
            if (status != 0) {
                give_up("its client failed: " +
                        describe_end(status, errors_of_client_.first_line()));
            }
        }
        return true;
    }

    /// `since`: when it was seen to have stopped.
    void handle_stop(int status, clock::time_point since) {
        int const event = status >> 16;
        int const signal = WSTOPSIG(status);
        int pass_on = 0;
        if (event == PTRACE_EVENT_EXEC) {
            if (!has_become_) {
                has_become_ = true;
                faults_before_ = faults_of(target_);
                start_ = since;
                paused_ = {};
            }
            result_.figures = {};  // of what it was before
            missing_library_.clear();
        } else if (event == PTRACE_EVENT_EXIT) {
            look_before_end();
        } else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
            ::ptrace(PTRACE_LISTEN, target_, nullptr, nullptr);
            stopped_by_ = signal;
            if (signal == SIGTTIN || signal == SIGTTOU) {
                give_up("wants the terminal, which no measured program gets: " +
                        signal_text(signal));
            }
            return;
        } else if (event == 0) {
            pass_on = signal;
        }
        stopped_by_ = 0;
        // Before it goes on: it may be at its end before this thread runs again.
        paused_ += clock::now() - since;
        ::ptrace(PTRACE_CONT, target_, nullptr, static_cast<long>(pass_on));
    }

    /// The program's memory is still there, though nothing of its main thread will run any more.
    void look_before_end() {
        std::string const status = read_process_file(target_, "status");
        result_.figures.final_bytes = status_bytes(status, "VmRSS");
        result_.figures.peak_bytes = status_bytes(status, "VmHWM").value_or(0);
        std::error_code error;
        std::filesystem::path const library =
            plan_.library.empty() ? "" : std::filesystem::canonical(plan_.library, error);
        std::string const maps = read_process_file(target_, "maps");
        if (!maps.empty() && !library.empty() && !error &&
            maps.find(" " + library.native() + "\n") == std::string::npos) {
            missing_library_ = library.native();
        }
    }

    void handle_end(int status, rusage const& usage, clock::time_point end) {
        target_ = 0;
        measurement& figures = result_.figures;
        figures.wall_s = std::chrono::duration<double>(end - start_ - paused_).count();
        figures.cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
        std::uint64_t const faults = static_cast<std::uint64_t>(usage.ru_minflt) +
                                     static_cast<std::uint64_t>(usage.ru_majflt);
        figures.faults = faults - std::min(faults, faults_before_);
        // What it waited for counts too, and may have been larger.
        std::uint64_t const most = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
        if (most > inherited_bytes_ + mark_slack_bytes || figures.peak_bytes == 0) {
            if (most > figures.peak_bytes + mark_slack_bytes) {
                figures.final_bytes.reset();  // not of the process that counts
            }
            figures.peak_bytes = std::max(figures.peak_bytes, most);
        }
        if (status != 0) {
            give_up(describe_end(status, errors_.first_line()));
        } else if (!missing_library_.empty()) {
            give_up(fmt::format("ran without {}; is it a static program, or set-user-ID?",
                                missing_library_));
        }
    }

    void wait_for_signal() {
        clock::time_point const now = clock::now();
        std::optional<siginfo_t> const info =
            signals_.next_until(std::min(deadline_, now + look_interval));
        if (!info) {
            if (output_.is_too_long() || errors_.is_too_long()) {
                give_up("printed more than 64 MiB");
            } else if (clock::now() >= deadline_) {
                give_up(fmt::format("not finished at its time limit, {} s{}",
                                    plan_.time_limit.count(),
                                    stopped_by_ == 0 ? "" : "; " + signal_text(stopped_by_)));
                deadline_ = clock::time_point::max();
            }
            return;
        }
        int const signal = info->si_signo;
        if (signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT) {
            throw interrupted{signal};
        }
    }

    run_plan const& plan_;
    cli::signal_watch const& signals_;
    std::vector<pid_t> others_;  // children of before, which are not ours to end
    capture output_{"output"};
    capture errors_{"errors"};
    capture errors_of_client_{"errors of the client"};

    pid_t target_ = 0;
    pid_t client_ = 0;
    bool has_become_ = false;
    int stopped_by_ = 0;
    std::string error_;
    std::string missing_library_;
    clock::time_point start_;
    clock::time_point deadline_;
    clock::duration paused_{};  // in stops, since start_
    std::uint64_t faults_before_ = 0;
    std::uint64_t inherited_bytes_ = 0;
    run_result result_;
};

}  // namespace

void adopt_descendants() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

run_result run_measured(run_plan const& plan, cli::signal_watch const& signals) {
    observed_run run{plan, signals};
    return run.run();
}

}  // namespace tarn::compare
