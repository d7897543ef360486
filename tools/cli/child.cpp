#include "child.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <system_error>

namespace tarn::cli {

namespace {

/// Whether the child would get this signal if it had been started without tarn, and has not got
/// it yet.
bool is_for_child(siginfo_t const& info, pid_t child) {
    bool const sent_by_process = info.si_code <= 0;
    if (sent_by_process) {
        return info.si_pid != child;  // a script's `kill 0` is no message to itself
    }
    return info.si_signo == SIGALRM;  // an alarm set before tarn was started outlives exec
}

bool is_job_control_stop(int status) {
    return WIFSTOPPED(status) && (WSTOPSIG(status) == SIGTSTP || WSTOPSIG(status) == SIGTTIN ||
                                  WSTOPSIG(status) == SIGTTOU);
}

[[noreturn]] void become_program(std::vector<char*> const& arguments, signal_watch const& signals,
                                 pid_t parent, int error_pipe) {
    // SIGKILL can't be forwarded, so the kernel does it.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) {
        ::_exit(EXIT_FAILURE);
    }
    signals.restore();
    ::execvp(arguments[0], arguments.data());
    int const error = errno;
    static_cast<void>(!::write(error_pipe, &error, sizeof error));
    ::_exit(EXIT_FAILURE);
}

/// What the child wrote before exec closed the pipe: 0 when it got there.
int exec_error(int pipe) {
    int error = 0;
    ssize_t got = -1;
    do {
        got = ::read(pipe, &error, sizeof error);
    } while (got < 0 && errno == EINTR);
    return got == static_cast<ssize_t>(sizeof error) ? error : 0;
}

/// Handles the child's stops. True: it has ended.
bool has_ended(ended_child& child, signal_watch const& signals) {
    for (;;) {
        int status = 0;
        pid_t const got = ::wait4(child.pid, &status, WNOHANG | WUNTRACED, &child.usage);
        if (got == 0 || (got < 0 && errno == EINTR)) {
            return false;
        }
        if (got < 0) {
            throw std::system_error{errno, std::generic_category(), "wait for the program"};
        }
        if (!WIFSTOPPED(status)) {
            child.status = status;
            return true;
        }
        if (is_job_control_stop(status)) {
            signals.stop_like_child(WSTOPSIG(status));
        }
    }
}

}  // namespace

signal_watch::signal_watch() {
    sigfillset(&watched_);
    for (int signal = 1; signal <= SIGRTMAX; ++signal) {
        struct sigaction action = {};
        if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN &&
            signal != SIGCHLD) {
            sigdelset(&watched_, signal);
        }
    }
    ::pthread_sigmask(SIG_SETMASK, nullptr, &original_mask_);
    // An ignored SIGCHLD would make the kernel throw the child's status away.
    struct sigaction standard = {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(SIGCHLD, &standard, &original_child_action_);
    ::pthread_sigmask(SIG_BLOCK, &watched_, nullptr);
}

signal_watch::~signal_watch() { restore(); }

siginfo_t signal_watch::next() const {
    siginfo_t info{};
    while (::sigwaitinfo(&watched_, &info) < 0) {
        if (errno != EINTR) {
            throw std::system_error{errno, std::generic_category(), "wait for signals"};
        }
    }
    return info;
}

std::optional<siginfo_t> signal_watch::next_until(
    std::chrono::steady_clock::time_point deadline) const {
    constexpr std::chrono::nanoseconds longest = std::chrono::hours{24};
    for (;;) {
        auto const left = std::clamp<std::chrono::nanoseconds>(
            deadline - std::chrono::steady_clock::now(), std::chrono::nanoseconds{0}, longest);
        timespec const wait{.tv_sec = left.count() / 1'000'000'000,
                            .tv_nsec = left.count() % 1'000'000'000};
        siginfo_t info{};
        if (::sigtimedwait(&watched_, &info, &wait) >= 0) {
            return info;
        }
        if (errno != EINTR) {
            return std::nullopt;
        }
    }
}

void signal_watch::restore() const {
    ::sigaction(SIGCHLD, &original_child_action_, nullptr);
    ::pthread_sigmask(SIG_SETMASK, &original_mask_, nullptr);
}

void signal_watch::stand_down() const {
    timespec const at_once{};
    while (::sigtimedwait(&watched_, nullptr, &at_once) > 0) {
    }
    std::signal(SIGPIPE, SIG_IGN);
    restore();
}

void signal_watch::stop_like_child(int signal) const {
    // The same signal, not SIGSTOP: where nobody could continue us (an orphaned group), the kernel
    // lets it pass.
    sigset_t one{};
    sigemptyset(&one);
    sigaddset(&one, signal);
    std::raise(signal);
    ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
    ::pthread_sigmask(SIG_BLOCK, &one, nullptr);
}

std::vector<char*> argument_vector(std::vector<std::string> const& words) {
    std::vector<char*> pointers;
    pointers.reserve(words.size() + 1);
    for (std::string const& word : words) {
        pointers.push_back(const_cast<char*>(word.c_str()));  // exec only reads
    }
    pointers.push_back(nullptr);
    return pointers;
}

ended_child run_child(std::vector<std::string> const& words, signal_watch const& signals) {
    ended_child child;
    std::vector<char*> const arguments = argument_vector(words);
    std::array<int, 2> error_pipe{};
    if (::pipe2(error_pipe.data(), O_CLOEXEC) != 0) {
        child.start_error = errno;
        return child;
    }
    auto const start = std::chrono::steady_clock::now();
    pid_t const self = ::getpid();
    child.pid = ::fork();
    if (child.pid == 0) {
        become_program(arguments, signals, self, error_pipe[1]);
    }
    int const fork_error = errno;
    ::close(error_pipe[1]);
    child.start_error = child.pid < 0 ? fork_error : exec_error(error_pipe[0]);
    ::close(error_pipe[0]);
    if (child.pid < 0) {
        return child;
    }
    while (!has_ended(child, signals)) {
        siginfo_t const info = signals.next();
        if (info.si_signo != SIGCHLD && is_for_child(info, child.pid)) {
            ::kill(child.pid, info.si_signo);
        }
    }
    child.wall = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - start);
    return child;
}

int end_like(ended_child const& child) {
    if (WIFEXITED(child.status)) {
        return WEXITSTATUS(child.status);
    }
    int const signal = WTERMSIG(child.status);
    // The child has left a core dump where one was wanted; ours would only bury it.
    rlimit const none{};
    ::setrlimit(RLIMIT_CORE, &none);
    ::prctl(PR_SET_DUMPABLE, 0);
    std::signal(signal, SIG_DFL);
    sigset_t one{};
    sigemptyset(&one);
    sigaddset(&one, signal);
    ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
    std::raise(signal);
    return 128 + signal;
}

}  // namespace tarn::cli
