#include "live/terminal.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>

namespace tarn::live {

namespace {

using kind = terminal_event::kind;

constexpr std::string_view other_screen = "\x1b[?1049h\x1b[?25l";  // and no cursor
constexpr std::string_view first_screen = "\x1b[?25h\x1b[?1049l";

[[noreturn]] void fail(char const* what) {
    throw std::system_error{errno, std::generic_category(), what};
}

/// Blocks the signals that we handle, but for those that are ignored.
sigset_t watch_signals(sigset_t& original) {
    sigset_t watched{};
    sigemptyset(&watched);
    for (int const signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH}) {
        struct sigaction action = {};
        if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) {
            sigaddset(&watched, signal);
        }
    }
    ::pthread_sigmask(SIG_BLOCK, &watched, &original);
    return watched;
}

/// Lets the signal do what it does by itself: end or stop us.
void obey(int signal) {
    sigset_t one{};
    sigemptyset(&one);
    sigaddset(&one, signal);
    std::raise(signal);
    ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
    ::pthread_sigmask(SIG_BLOCK, &one, nullptr);
}

void start_timer(int timer, std::chrono::milliseconds interval) {
    timespec const time{.tv_sec = interval.count() / 1000,
                        .tv_nsec = interval.count() % 1000 * 1'000'000};
    itimerspec const times{.it_interval = time, .it_value = time};
    if (::timerfd_settime(timer, 0, &times, nullptr) != 0) {
        fail("set a timer");
    }
}

}  // namespace

bool has_terminal() { return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1; }

terminal::terminal(std::chrono::milliseconds interval)
    : watched_(watch_signals(original_mask_)),
      signals_(::signalfd(-1, &watched_, SFD_CLOEXEC | SFD_NONBLOCK)),
      timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
    if (signals_.number() < 0 || timer_.number() < 0) {
        fail("wait for signals and time");
    }
    start_timer(timer_.number(), interval);
    if (::tcgetattr(STDIN_FILENO, &original_) != 0) {
        fail("ask for the terminal's settings");
    }
    enter();
}

terminal::~terminal() {
    leave();
    ::pthread_sigmask(SIG_SETMASK, &original_mask_, nullptr);
}

void terminal::enter() {
    termios raw = original_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // control-C still is a signal
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (::tcsetattr(STDIN_FILENO, TCSANOW, &raw) != 0) {
        fail("set the terminal");
    }
    static_cast<void>(write(other_screen));
}

void terminal::leave() const {
    static_cast<void>(write(first_screen));
    ::tcsetattr(STDIN_FILENO, TCSANOW, &original_);
}

terminal_event terminal::next() {
    for (;;) {
        std::array<pollfd, 3> sources{{{.fd = signals_.number(), .events = POLLIN, .revents = 0},
                                       {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                                       {.fd = timer_.number(), .events = POLLIN, .revents = 0}}};
        if (::poll(sources.data(), sources.size(), -1) < 0) {
            if (errno != EINTR) {
                fail("wait for the terminal");
            }
            continue;
        }
        if (sources[0].revents != 0) {
            return handle_signal();
        }
        if (sources[1].revents != 0) {
            return read_keys();
        }
        std::uint64_t ticks = 0;
        if (::read(timer_.number(), &ticks, sizeof ticks) == sizeof ticks) {
            return {.what = kind::tick, .keys = {}};
        }
    }
}

terminal_event terminal::handle_signal() {
    signalfd_siginfo info{};
    if (::read(signals_.number(), &info, sizeof info) != sizeof info) {
        return {.what = kind::resized,
                .keys = {}};  // somebody else has had it; drawing is harmless
    }
    int const signal = static_cast<int>(info.ssi_signo);
    if (signal != SIGWINCH) {
        leave();
        obey(signal);
        enter();  // continued after a stop
    }
    return {.what = kind::resized, .keys = {}};
}

terminal_event terminal::read_keys() const {
    std::array<char, 64> typed{};
    ssize_t const got = ::read(STDIN_FILENO, typed.data(), typed.size());
    if (got > 0) {
        return {.what = kind::keys, .keys = {typed.data(), static_cast<std::size_t>(got)}};
    }
    bool const is_interrupted = got < 0 && (errno == EINTR || errno == EAGAIN);
    return {.what = is_interrupted ? kind::keys : kind::ended, .keys = {}};
}

window_size terminal::size() const {
    winsize size{};
    window_size window;
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row != 0 && size.ws_col != 0) {
        window = {.rows = size.ws_row, .columns = size.ws_col};
    }
    return window;
}

bool terminal::write(std::string_view text) const {
    while (!text.empty()) {
        ssize_t const wrote = ::write(STDOUT_FILENO, text.data(), text.size());
        if (wrote > 0) {
            text.remove_prefix(static_cast<std::size_t>(wrote));
        } else if (wrote == 0 || errno != EINTR) {
            return false;
        }
    }
    return true;
}

}  // namespace tarn::live
