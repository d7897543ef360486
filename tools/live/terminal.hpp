// live/terminal.hpp - the terminal of `tarn top`, and the one place where it waits.
//
// Threads    one; takes over signals of the whole process
// Always     the terminal is as it was once the object is gone, whatever ended it but SIGKILL
#pragma once

#include <termios.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <string>

#include "live/process.hpp"
#include "live/top_view.hpp"

namespace tarn::live {

/// Whether a person sits before both our input and our output.
bool has_terminal();

struct terminal_event {
    enum class kind : std::uint8_t {
        keys,
        tick,     // of the interval
        resized,  // or it was ours again after a stop
        ended     // the terminal has gone
    };
    kind what = kind::tick;
    std::string keys;
};

/// The terminal's other screen, with keys that come without return and are not shown. Signals that
/// would end us wait to be read instead.
class terminal {
public:
    /// Throws std::system_error.
    explicit terminal(std::chrono::milliseconds interval);
    ~terminal();
    terminal(terminal const&) = delete;
    terminal& operator=(terminal const&) = delete;

    /// Waits for the next event. A signal that asks us to end restores the terminal and ends us as
    /// it would have; one that asks us to stop stops us, with the terminal restored meanwhile.
    [[nodiscard]] terminal_event next();

    [[nodiscard]] window_size size() const;

    /// False: nobody reads it any more.
    [[nodiscard]] bool write(std::string_view text) const;

private:
    void enter();
    void leave() const;
    [[nodiscard]] terminal_event handle_signal();
    [[nodiscard]] terminal_event read_keys() const;

    termios original_{};
    sigset_t watched_{};
    sigset_t original_mask_{};
    descriptor signals_;
    descriptor timer_;
};

}  // namespace tarn::live
