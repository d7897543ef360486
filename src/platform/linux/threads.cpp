#include "platform/threads.hpp"

#include <pthread.h>

namespace tarn::impl::platform {

namespace {

constinit pthread_key_t exit_key = 0;
constinit bool exit_key_made = false;  // before any thread arms it

}  // namespace

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
