#include "platform/threads.hpp"

#include <pthread.h>
#include <sys/prctl.h>

#include <cerrno>
#include <csignal>

#include "base/units.hpp"

namespace tarn::impl::platform {

namespace {

constinit pthread_key_t exit_key = 0;
constinit bool exit_key_made = false;  // before any thread arms it

void* run_background(void* argument) {
    auto const& what = *static_cast<background_thread const*>(argument);
    ::prctl(PR_SET_NAME, what.name);
    what.run();
    return nullptr;
}

bool create_detached(background_thread const& what, std::size_t stack_bytes) noexcept {
    pthread_attr_t attributes;
    if (::pthread_attr_init(&attributes) != 0) {
        return false;
    }
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (stack_bytes != 0) {
        ::pthread_attr_setstacksize(&attributes, stack_bytes);
    }
    pthread_t created{};
    bool const done = ::pthread_create(&created, &attributes, &run_background,
                                       const_cast<background_thread*>(&what)) == 0;
    ::pthread_attr_destroy(&attributes);
    return done;
}

}  // namespace

bool start_background_thread(background_thread const& what) noexcept {
    int const kept = errno;
    signals_blocked const inherited;
    constexpr std::size_t stack_bytes = 256 * KiB;
    // The system's default where static TLS alone is larger than that.
    bool const started = create_detached(what, stack_bytes) || create_detached(what, 0);
    errno = kept;
    return started;
}

signals_blocked::signals_blocked() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
}

signals_blocked::~signals_blocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

bool install_signal_handler(int number, void (*handler)(int number)) noexcept {
    struct sigaction found {};

    if (::sigaction(number, nullptr, &found) != 0 ||
        (found.sa_handler != SIG_DFL && found.sa_handler != SIG_IGN)) {
        return false;
    }

    struct sigaction wanted {};

    wanted.sa_handler = handler;
    ::sigemptyset(&wanted.sa_mask);
    // On the alternate stack where a thread has one: its own may be small.
    wanted.sa_flags = SA_RESTART | SA_ONSTACK;
    return ::sigaction(number, &wanted, nullptr) == 0;
}

bool install_thread_exit_hook(void (*hook)(void* value)) noexcept {
    exit_key_made = exit_key_made || ::pthread_key_create(&exit_key, hook) == 0;
    return exit_key_made;
}

bool arm_thread_exit(void* value) noexcept {
    return exit_key_made && ::pthread_setspecific(exit_key, value) == 0;
}

bool install_fork_hooks(fork_hooks hooks) noexcept {
    return ::pthread_atfork(hooks.prepare, hooks.parent, hooks.child) == 0;
}

}  // namespace tarn::impl::platform
