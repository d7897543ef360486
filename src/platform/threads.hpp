// platform/threads.hpp - hooks at thread exit, fork and process exit.
//
// Threads    install_* once, from the first slow path or the library's constructor
// Errors     false: the system has no slot; the caller does without and says what is lost
#pragma once

#include <csignal>

namespace tarn::impl::platform {

/// Calls `hook(value)` when a thread that armed it ends, after the thread's own destructors of
/// thread_local objects. The hook may run again if the thread arms it again meanwhile. The first
/// hook stays; no thread may arm it at the same time.
bool install_thread_exit_hook(void (*hook)(void* value)) noexcept;

/// Arms the hook for the calling thread. May allocate: the caller's malloc must already serve.
bool arm_thread_exit(void* value) noexcept;

struct fork_hooks {
    void (*prepare)();  // in the parent, before
    void (*parent)();
    void (*child)();
};

bool install_fork_hooks(fork_hooks hooks) noexcept;

struct background_thread {
    void (*run)() noexcept;
    char const* name;  // at most 15 characters
};

/// Starts a detached thread that runs `what.run` with all signals blocked and a small stack.
/// `what` must outlive the thread. Allocates by malloc. Keeps errno.
bool start_background_thread(background_thread const& what) noexcept;

/// Sets what the process does on a signal; the system calls that it interrupts go on. A handler
/// that the program sets later takes its place. False: the system refuses, or another handler is
/// there already, and stays.
[[nodiscard]] bool install_signal_handler(int number, void (*handler)(int number)) noexcept;

/// No signal handler runs in the calling thread over this scope.
class signals_blocked {
public:
    signals_blocked() noexcept;
    ~signals_blocked();
    signals_blocked(signals_blocked const&) = delete;
    signals_blocked& operator=(signals_blocked const&) = delete;

private:
    sigset_t before_;
};

}  // namespace tarn::impl::platform
