// shm/stepped_child.hpp - stepped_child: a forked process that runs one instruction at a time, and
// is killed between two of them.
//
// Needs      ptrace, which emulators do not have
// Cost       a step is some microseconds to some ten; a system call's two stops the same
#pragma once

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace tarn::test {

class stepped_child {
public:
    /// In the child `prepare()` runs freely; then it stops before `operate()`.
    template <class Prepare, class Operate>
    stepped_child(Prepare prepare, Operate operate) {
        pid_ = ::fork();
        if (pid_ == 0) {
            ::alarm(120);
            pid_t const me = ::getpid();
            prepare();
            ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
            ::kill(me, SIGSTOP);
            operate();
            ::kill(me, SIGSTOP);
            ::_exit(0);
        }
        int status = 0;
        is_here_ = wait(status) && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP;
        if (is_here_) {
            constexpr long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD;
            is_here_ = ::ptrace(PTRACE_SETOPTIONS, pid_, nullptr, options) == 0;
            // The rest of kill(): from the system call's end to operate().
        }
    }

    stepped_child(stepped_child const&) = delete;
    stepped_child& operator=(stepped_child const&) = delete;

    ~stepped_child() { kill(); }

    /// It stands at an instruction of the operation.
    [[nodiscard]] bool is_here() const { return is_here_; }

    /// It ended as it should.
    [[nodiscard]] bool has_finished() const { return has_finished_; }

    /// One instruction, a system call's too. False: the operation is over.
    bool step() { return go(PTRACE_SINGLESTEP); }

    /// To the end of the next system call.
    bool pass_system_call() { return go(PTRACE_SYSCALL) && go(PTRACE_SYSCALL); }

    /// Whether its next instruction is a system call.
    [[nodiscard]] bool is_at_system_call() const {
        errno = 0;
        auto const at = static_cast<std::uintptr_t>(
            ::ptrace(PTRACE_PEEKUSER, pid_, offsetof(user_regs_struct, rip), nullptr));
        long const code = ::ptrace(PTRACE_PEEKTEXT, pid_, at, nullptr);
        constexpr long system_call = 0x050f;
        return errno == 0 && (code & 0xffff) == system_call;
    }

    void kill() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            int status = 0;
            while (wait(status) && !WIFSIGNALED(status) && !WIFEXITED(status)) {
            }
            pid_ = -1;
            is_here_ = false;
        }
    }

private:
    bool wait(int& status) const {
        pid_t got = -1;
        do {
            got = ::waitpid(pid_, &status, 0);
        } while (got < 0 && errno == EINTR);
        return got == pid_;
    }

    bool go(int request) {
        int status = 0;
        if (!is_here_ ||
            ::ptrace(static_cast<__ptrace_request>(request), pid_, nullptr, nullptr) != 0 ||
            !wait(status) || !WIFSTOPPED(status)) {
            is_here_ = false;
            return false;
        }
        int const signal = WSTOPSIG(status);
        has_finished_ = signal == SIGSTOP;
        is_here_ = signal == SIGTRAP || signal == (SIGTRAP | 0x80);
        return is_here_;
    }

    pid_t pid_ = -1;
    bool is_here_ = false;
    bool has_finished_ = false;
};

}  // namespace tarn::test
