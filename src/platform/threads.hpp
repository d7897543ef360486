// platform/threads.hpp - hooks at thread exit, fork and process exit.
//
// Threads    install_* once, from the first slow path or the library's constructor
// Errors     false: the system has no slot; the caller does without and says what is lost
#pragma once

#include "base/attributes.hpp"

// glibc's since 2.32, weak because other C libraries lack it.
// NOLINTNEXTLINE(bugprone-reserved-identifier): glibc's name
extern "C" char __libc_single_threaded __attribute__((weak));

namespace tarn::impl::platform {

/// Whether the process has, and always had, one thread alone. False also where libc can't say.
/// What is done because of this answer must be done before anything that may start a thread.
[[nodiscard]] TARN_HOT bool is_single_threaded() noexcept {
    return &__libc_single_threaded != nullptr && __libc_single_threaded != 0;
}

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

}  // namespace tarn::impl::platform
