// platform/fault_signal.hpp - the signal of a bad access (SIGSEGV), seen before the program's own
// handler sees it.
//
// Threads    install_fault_hook(): once, at start. The hook: any thread, in a signal handler, one
//            thread at a time; the others wait.
// Always     what is not the hook's goes on as if it had not been there: to the handler that was
//            installed before, with the same arguments and the same signals blocked, or to the
//            system, which ends the program at the place of the fault. A handler that the program
//            installs later gets all faults first; what it passes on to the one it found comes
//            here. A fault inside of the hook, of the same thread, is not the hook's.
//            Not SIGBUS: inaccessible pages of memory that is no file's do not raise it.
// Cost       the hook runs on a stack of its own, of fault_stack_bytes: the thread's may be small,
//            or what has overflowed
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/units.hpp"

namespace tarn::impl::platform {

enum class memory_access : std::uint8_t { unknown, read, write };

struct memory_fault {
    void const* address;   // the first byte that could not be accessed
    memory_access access;  // unknown also where the system does not tell
    void const* context;   // a ucontext_t, for walk_interrupted()
};

enum class fault_verdict : std::uint8_t { retry, pass_on };

struct fault_hook {
    /// Whether a fault at this address may be the hook's. On the thread's stack: use little.
    bool (*is_ours)(void const* address) noexcept;
    /// retry: the access is to be tried again. May not return.
    fault_verdict (*handle)(memory_fault const& fault) noexcept;
};

inline constexpr std::size_t fault_stack_bytes = 256 * KiB;

/// False: the system refuses, or there is a hook already.
[[nodiscard]] bool install_fault_hook(fault_hook const& hook) noexcept;

}  // namespace tarn::impl::platform
