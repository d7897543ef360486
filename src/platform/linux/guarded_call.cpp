#include "platform/linux/guarded_call.hpp"

#include <sched.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/attributes.hpp"
#include "base/errno_keeper.hpp"
#include "base/units.hpp"

// The child never returns from these: sanitizers that count calls and returns would lose count.
#if defined(__clang__)
#define TARN_UNOBSERVED __attribute__((no_sanitize("address", "thread", "undefined")))
#else
#define TARN_UNOBSERVED __attribute__((no_sanitize_address, no_sanitize_thread))
#endif

namespace tarn::impl::platform {

namespace {

constexpr std::size_t handler_stack_bytes = 32 * KiB;

struct guarded_work {
    void (*work)(void* argument) noexcept;
    void* argument;
    std::byte* handler_stack;
    std::uint32_t most_ms;
};

/// What the kernel, not libc, takes: sanitizers keep a record of what passes through libc's.
struct kernel_action {
    void (*handler)(int signal);
    unsigned long flags;
    void (*restorer)();
    std::uint64_t mask;
};

using kernel_mask = std::uint64_t;

constexpr std::array ending_signals{SIGSEGV, SIGBUS,  SIGILL, SIGFPE, SIGTRAP,
                                    SIGABRT, SIGALRM, SIGSYS, SIGXCPU};

TARN_UNOBSERVED void end_process(int status) noexcept {
    while (true) {
        ::syscall(SYS_exit_group, status);
    }
}

TARN_UNOBSERVED void end_on_signal(int signal) { end_process(128 + signal); }

TARN_UNOBSERVED void never_called() { end_process(0); }

// A default action would be wrong: a core dump of the child ends all processes that share its
// memory on kernels before 5.16.
TARN_UNOBSERVED void take_signals(guarded_work const& what) noexcept {
    constexpr unsigned long restorer_flag = 0x04000000;
    stack_t alternate{};
    alternate.ss_sp = what.handler_stack;
    alternate.ss_size = handler_stack_bytes;
    ::syscall(SYS_sigaltstack, &alternate, nullptr);
    kernel_mask blocked = ~kernel_mask{0};
    kernel_action const action{.handler = &end_on_signal,
                               .flags = SA_ONSTACK | SA_NODEFER | restorer_flag,
                               .restorer = &never_called,
                               .mask = 0};
    for (int const signal : ending_signals) {
        ::syscall(SYS_rt_sigaction, signal, &action, nullptr, sizeof action.mask);
        blocked &= ~(kernel_mask{1} << (signal - 1));
    }
    itimerval timer{};
    timer.it_value.tv_sec = what.most_ms / 1000;
    timer.it_value.tv_usec = static_cast<long>(what.most_ms % 1000) * 1000;
    ::syscall(SYS_setitimer, ITIMER_REAL, &timer, nullptr);
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, nullptr, sizeof blocked);
}

TARN_UNOBSERVED void run_in_child(void* argument) {
    auto const& what = *static_cast<guarded_work const*>(argument);
    take_signals(what);
    what.work(what.argument);
    end_process(0);
}

/// clone(2) with a stack, of which libc has only a function that tools wrap. The child calls
/// `entry(argument)`, which does not return. Negative: the error.
TARN_UNOBSERVED TARN_NOINLINE long clone_onto(std::byte* stack_end, unsigned long flags,
                                              void (*entry)(void*), void* argument) noexcept {
#if defined(__x86_64__)
    long result = SYS_clone;
    register std::uint64_t parent_id asm("rdx") = 0;
    register std::uint64_t child_id asm("r10") = 0;
    register std::uint64_t tls asm("r8") = 0;
    register void (*kept_entry)(void*) asm("r12") = entry;
    register void* kept_argument asm("r13") = argument;
    asm volatile(
        "syscall\n\t"
        "testq %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "xorl %%ebp, %%ebp\n\t"
        "andq $-16, %%rsp\n\t"  // an emulator may leave the child on our stack
        "movq %%r13, %%rdi\n\t"
        "callq *%%r12\n\t"
        "hlt\n"
        "1:"
        : "+a"(result)
        : "D"(flags), "S"(stack_end), "r"(parent_id), "r"(child_id), "r"(tls), "r"(kept_entry),
          "r"(kept_argument)
        : "rcx", "r11", "memory", "cc");
    return result;
#elif defined(__aarch64__)
    register std::uint64_t result asm("x0") = flags;
    register std::byte* stack asm("x1") = stack_end;
    register std::uint64_t parent_id asm("x2") = 0;
    register std::uint64_t tls asm("x3") = 0;
    register std::uint64_t child_id asm("x4") = 0;
    register std::uint64_t number asm("x8") = SYS_clone;
    register void (*kept_entry)(void*) asm("x20") = entry;
    register void* kept_argument asm("x21") = argument;
    asm volatile(
        "svc #0\n\t"
        "cbnz x0, 1f\n\t"
        "mov x29, xzr\n\t"
        "mov x30, xzr\n\t"
        "mov x0, x21\n\t"
        "blr x20\n\t"
        "brk #1\n"
        "1:"
        : "+r"(result)
        : "r"(stack), "r"(parent_id), "r"(tls), "r"(child_id), "r"(number), "r"(kept_entry),
          "r"(kept_argument)
        : "memory", "cc");
    return static_cast<long>(result);
#else
    static_cast<void>(stack_end), static_cast<void>(flags), static_cast<void>(entry);
    static_cast<void>(argument);
    return -ENOSYS;
#endif
}

}  // namespace

bool call_guarded(void (*work)(void* argument) noexcept, void* argument, std::span<std::byte> stack,
                  std::uint32_t most_ms) noexcept {
    base::errno_keeper const kept;
    guarded_work what{
        .work = work, .argument = argument, .handler_stack = stack.data(), .most_ms = most_ms};
    std::byte* const stack_end = stack.data() + stack.size();
    kernel_mask before = 0;
    kernel_mask const all = ~kernel_mask{0};
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    // As vfork: no memory is copied, and the parent runs again when the child has ended. No signal
    // at its end, and no tracer follows it.
    long child =
        clone_onto(stack_end, CLONE_VM | CLONE_VFORK | CLONE_UNTRACED, &run_in_child, &what);
    if (child == -EINVAL) {
        // Emulators know vfork's own flags only.
        child = clone_onto(stack_end, CLONE_VM | CLONE_VFORK | SIGCHLD, &run_in_child, &what);
    }
    while (child > 0 && ::syscall(SYS_wait4, child, nullptr, __WALL, nullptr) < 0 &&
           errno == EINTR) {
    }
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, sizeof before);
    return child > 0;
}

}  // namespace tarn::impl::platform
