#include "platform/fault_signal.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/attributes.hpp"
#include "base/errno_keeper.hpp"
#include "platform/linux/linux_os.hpp"

// Calls call(argument) on another stack, whose upper end is `top`. With a frame that unwinders can
// follow back to the caller's.
extern "C" TARN_HIDDEN void tarn_call_on_stack(void* argument, void (*call)(void*), void* top);

#if defined(__x86_64__)
asm(R"(
    .pushsection .text
    .globl tarn_call_on_stack
    .hidden tarn_call_on_stack
    .type tarn_call_on_stack, @function
tarn_call_on_stack:
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    movq %rdx, %rsp
    callq *%rsi
    movq %rbp, %rsp
    popq %rbp
    .cfi_def_cfa %rsp, 8
    retq
    .cfi_endproc
    .size tarn_call_on_stack, . - tarn_call_on_stack
    .popsection
)");
#elif defined(__aarch64__)
asm(R"(
    .pushsection .text
    .globl tarn_call_on_stack
    .hidden tarn_call_on_stack
    .type tarn_call_on_stack, %function
tarn_call_on_stack:
    .cfi_startproc
    stp x29, x30, [sp, #-16]!
    .cfi_def_cfa_offset 16
    .cfi_offset x29, -16
    .cfi_offset x30, -8
    mov x29, sp
    .cfi_def_cfa_register x29
    mov sp, x2
    blr x1
    mov sp, x29
    .cfi_def_cfa_register sp
    ldp x29, x30, [sp], #16
    .cfi_restore x29
    .cfi_restore x30
    .cfi_def_cfa_offset 0
    ret
    .cfi_endproc
    .size tarn_call_on_stack, . - tarn_call_on_stack
    .popsection
)");
#else
#error "fault_signal: which register holds the stack here?"
#endif

namespace tarn::impl::platform {

namespace {

// Another thread's hook may take its time, or may have vanished in a fork.
constexpr int waits_max = 50;
constexpr std::uint32_t wait_ms = 100;

/// What was installed before. Written once, before the handler is there, but for `was_reset`.
struct hook_state {
    fault_hook hook{};

    struct sigaction previous {};

    std::atomic<bool> is_installed{false};
    std::atomic<bool> was_reset{false};    // SA_RESETHAND: the previous one had its one call
    std::atomic<std::uint32_t> inside{0};  // the thread that runs the hook
    alignas(64) std::array<std::byte, fault_stack_bytes> stack{};
};

constinit hook_state state;

memory_access access_of(void const* context) noexcept {
    auto const& machine = static_cast<ucontext_t const*>(context)->uc_mcontext;
#if defined(__x86_64__)
    // The error code of a page fault: bit 1 says that it was a write.
    return (machine.gregs[REG_ERR] & 2) != 0 ? memory_access::write : memory_access::read;
#else
    // Records follow one another until one of size 0; that of the exception syndrome (ESR) may be
    // among them. Of a data abort bit 6 says that it was a write.
    constexpr std::uint32_t esr_magic = 0x45535201;

    struct head {
        std::uint32_t magic;
        std::uint32_t bytes;
    };

    struct esr_record {
        head begin;
        std::uint64_t esr;
    };

    auto const* const all = reinterpret_cast<std::byte const*>(machine.__reserved);
    for (std::size_t at = 0; at + sizeof(esr_record) <= sizeof machine.__reserved;) {
        esr_record record;
        std::memcpy(&record, all + at, sizeof record);
        if (record.begin.bytes == 0) {
            break;
        }
        std::uint64_t const kind = record.esr >> 26;
        if (record.begin.magic == esr_magic && (kind == 0x24 || kind == 0x25)) {
            return (record.esr >> 6 & 1) != 0 ? memory_access::write : memory_access::read;
        }
        at += record.begin.bytes;
    }
    return memory_access::unknown;
#endif
}

struct hook_call {
    memory_fault fault;
    fault_verdict verdict;
};

void call_hook(void* argument) {
    auto& call = *static_cast<hook_call*>(argument);
    // Nested handlers would start at the end of the program's alternate stack again, over the
    // frames of this one: the system sees that the stack in use is another. Returning from the
    // signal puts it back, too.
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    stack_t alternate{};
    bool const is_changed = ::sigaltstack(&none, &alternate) == 0;
    call.verdict = state.hook.handle(call.fault);
    if (is_changed && (alternate.ss_flags & SS_DISABLE) == 0) {
        alternate.ss_flags = 0;
        ::sigaltstack(&alternate, nullptr);
    }
}

void run_hook(hook_call& call) noexcept {
    // But those that an instruction raises, and that abort() does.
    sigset_t most;
    sigset_t before;
    ::sigfillset(&most);
    for (int const kept : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) {
        ::sigdelset(&most, kept);
    }
    ::pthread_sigmask(SIG_BLOCK, &most, &before);
#if TARN_SANITIZED
    call_hook(&call);  // sanitizers know the thread's stacks only
#else
    tarn_call_on_stack(&call, &call_hook, state.stack.data() + state.stack.size());
#endif
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

fault_verdict handle(memory_fault const& fault) noexcept {
    std::uint32_t const own = linux_os::thread_id();
    std::uint32_t seen = 0;
    // acquire and release: the stack is used by one after the other.
    for (int waits = 0; !state.inside.compare_exchange_strong(seen, own, std::memory_order_acquire,
                                                              std::memory_order_relaxed);
         ++waits) {
        if (seen == own || waits == waits_max) {
            return fault_verdict::pass_on;
        }
        linux_os::wait_for(state.inside, seen, wait_ms);
        seen = 0;
    }
    hook_call call{.fault = fault, .verdict = fault_verdict::pass_on};
    run_hook(call);
    state.inside.store(0, std::memory_order_release);
    linux_os::wake_all(state.inside);
    return call.verdict;
}

/// What the system does where there is no handler.
void end_process(int number, siginfo_t& info) noexcept {
    struct sigaction plain {};

    plain.sa_handler = SIG_DFL;
    ::sigaction(number, &plain, nullptr);
    if (info.si_code <= 0) {
        // Somebody sent it: it will not come again by itself. A fault will.
        ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), linux_os::thread_id(), number, &info);
    }
}

void pass_on(int number, siginfo_t& info, void* context) noexcept {
    struct sigaction const& to = state.previous;
    bool const takes_info = (to.sa_flags & SA_SIGINFO) != 0;
    bool const is_plain = !takes_info && (to.sa_handler == SIG_DFL || to.sa_handler == SIG_IGN);
    if (!takes_info && to.sa_handler == SIG_IGN && info.si_code <= 0) {
        return;
    }
    // A fault can't be ignored: then the system ends the process.
    if (is_plain || state.was_reset.load(std::memory_order_relaxed)) {
        end_process(number, info);
        return;
    }
    // SA_RESETHAND has another sign bit in int.
    if ((static_cast<unsigned>(to.sa_flags) & static_cast<unsigned>(SA_RESETHAND)) != 0) {
        state.was_reset.store(true, std::memory_order_relaxed);
    }
    sigset_t blocked = to.sa_mask;
    if ((to.sa_flags & SA_NODEFER) == 0) {
        ::sigaddset(&blocked, number);
    }
    ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);  // until the return from the signal
    if (takes_info) {
        to.sa_sigaction(number, &info, context);
    } else {
        to.sa_handler(number);
    }
}

void on_signal(int number, siginfo_t* info, void* context) {
    base::errno_keeper const keeper;
    // Above 0: from the system, of a fault.
    if (info->si_code > 0 && state.hook.is_ours(info->si_addr) &&
        handle({.address = info->si_addr, .access = access_of(context), .context = context}) ==
            fault_verdict::retry) {
        return;
    }
    pass_on(number, *info, context);
}

}  // namespace

bool install_fault_hook(fault_hook const& hook) noexcept {
    if (state.is_installed.exchange(true, std::memory_order_relaxed)) {
        return false;
    }
    state.hook = hook;
    if (::sigaction(SIGSEGV, nullptr, &state.previous) != 0) {
        return false;
    }

    struct sigaction ours {};

    ours.sa_sigaction = &on_signal;
    ::sigemptyset(&ours.sa_mask);
    // Not blocked meanwhile: pass_on() blocks what the previous handler wants blocked.
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | (state.previous.sa_flags & SA_RESTART);
    return ::sigaction(SIGSEGV, &ours, nullptr) == 0;
}

}  // namespace tarn::impl::platform
