// explorer/fiber.hpp - fiber: a stack of its own, and control that is handed over by hand.
//
// Threads    all fibers of a thread stay on it
// Always     start() may be called again whatever the fiber was at: what lay on its stack is
//            forgotten, and no destructor runs. Its function must not return.
// Cost       two system calls a switch (glibc keeps a signal mask for each context)
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <memory>

namespace tarn::test {

class fiber {
public:
    fiber() = default;

    void start(void (*function)()) {
        if (stack_ == nullptr) {
            stack_ = std::make_unique_for_overwrite<std::byte[]>(stack_bytes);
        }
        ::getcontext(&context_);
        context_.uc_stack.ss_sp = stack_.get();
        context_.uc_stack.ss_size = stack_bytes;
        context_.uc_link = nullptr;
        ::makecontext(&context_, function, 0);
    }

    /// Goes on with `next`; comes back when somebody switches to this one.
    void switch_to(fiber& next) { ::swapcontext(&context_, &next.context_); }

private:
    static constexpr std::size_t stack_bytes = std::size_t{128} * 1024;

    ucontext_t context_{};
    std::unique_ptr<std::byte[]> stack_;
};

}  // namespace tarn::test
