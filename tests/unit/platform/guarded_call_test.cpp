#include "platform/linux/guarded_call.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "platform/linux/linux_os.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::impl::platform;

constexpr std::uint32_t long_ms = 60'000;

/// Shared with the guarded process, even where that has a copy of the rest.
struct shared_place {
    // Not atomic: ThreadSanitizer takes a lock of its own for those, which must not be held by a
    // process that ends.
    int volatile step = 0;
    int volatile process = 0;
    std::atomic<int> count{0};
};

class guarded_call : public testing::Test {
protected:
    void SetUp() override {
        void* const mapped = ::mmap(nullptr, sizeof(shared_place), PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(mapped, MAP_FAILED);
        shared = ::new (mapped) shared_place;
    }

    void TearDown() override { ::munmap(shared, sizeof(shared_place)); }

    bool call(void (*work)(void*) noexcept, std::uint32_t most_ms = long_ms) {
        return call_guarded(work, shared, stack, most_ms);
    }

    shared_place* shared = nullptr;
    alignas(16) std::array<std::byte, 256 * 1024> stack{};
};

shared_place& place_in(void* argument) { return *static_cast<shared_place*>(argument); }

TEST_F(guarded_call, runs_in_another_process_and_is_over_when_it_returns) {
    errno = 4711;
    ASSERT_TRUE(call([](void* argument) noexcept {
        place_in(argument).process = static_cast<int>(linux_os::process_id());
        errno = 1;
        place_in(argument).step = 1;
    }));
    EXPECT_EQ(shared->step, 1);
    EXPECT_NE(shared->process, 0);
    EXPECT_EQ(errno, 4711);
    // It has been waited for.
    EXPECT_EQ(::kill(shared->process, 0), -1);
    EXPECT_EQ(errno, ESRCH);
}

TEST_F(guarded_call, survives_a_fault) {
    ASSERT_TRUE(call([](void* argument) noexcept {
        place_in(argument).step = 1;
        auto* volatile nowhere = reinterpret_cast<int volatile*>(8);
        ::syscall(SYS_kill, ::syscall(SYS_getpid), SIGSEGV);
        *nowhere = 1;
        place_in(argument).step = 2;
    }));
    EXPECT_EQ(shared->step, 1);
}

TEST_F(guarded_call, survives_an_abort) {
    ASSERT_TRUE(call([](void* argument) noexcept {
        place_in(argument).step = 1;
        ::syscall(SYS_kill, ::syscall(SYS_getpid), SIGABRT);
        place_in(argument).step = 2;
    }));
    EXPECT_EQ(shared->step, 1);
}

int eat_stack(int depth) {  // NOLINT(misc-no-recursion): that is what it is for
    std::array<char volatile, 4096> room;
    room[0] = static_cast<char>(depth);
    return depth == 0 ? room[0] : eat_stack(depth + 1) + room[0];
}

TEST_F(guarded_call, survives_a_stack_overflow) {
    // With a guard below: the sanitizers' own checks of stacks do not know this one.
    constexpr std::size_t bytes = 512 * 1024;
    constexpr std::size_t guard = 64 * 1024;
    void* const mapped =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(mapped, MAP_FAILED);
    // Above the place that signal handlers run on, which is the stack's lowest part.
    auto* const start = static_cast<std::byte*>(mapped);
    ASSERT_EQ(::mprotect(start + guard, guard, PROT_NONE), 0);
    ASSERT_TRUE(call_guarded(
        [](void* argument) noexcept {
            place_in(argument).step = 1;
            eat_stack(1);
            place_in(argument).step = 2;
        },
        shared, {start, bytes}, long_ms));
    EXPECT_EQ(shared->step, 1);
    ::munmap(mapped, bytes);
}

TEST_F(guarded_call, ends_what_takes_too_long) {
    auto const start = std::chrono::steady_clock::now();
    ASSERT_TRUE(call(
        [](void* argument) noexcept {
            for (place_in(argument).step = 1; place_in(argument).step != 2;) {
            }
        },
        50));
    EXPECT_EQ(shared->step, 1);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds{long_ms});
}

std::atomic<int> child_signals{0};

TEST_F(guarded_call, the_program_has_no_child) {
    auto* const before = std::signal(SIGCHLD, [](int) { child_signals.fetch_add(1); });
    child_signals = 0;
    ASSERT_TRUE(call([](void*) noexcept {}));
    if (!tarn::test::under_emulation) {
        EXPECT_EQ(child_signals.load(), 0);
    }
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
    std::signal(SIGCHLD, before);
}

TEST_F(guarded_call, leaves_mask_and_handlers_alone) {
    sigset_t mask;
    sigset_t after;
    ::sigemptyset(&mask);
    ::sigaddset(&mask, SIGUSR1);
    ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &mask, nullptr), 0);

    struct sigaction before {};

    struct sigaction now {};

    ::sigaction(SIGSEGV, nullptr, &before);
    ASSERT_TRUE(call([](void*) noexcept {}));
    ::sigaction(SIGSEGV, nullptr, &now);
    EXPECT_EQ(before.sa_handler, now.sa_handler);
    ::pthread_sigmask(SIG_UNBLOCK, &mask, &after);
    EXPECT_EQ(::sigismember(&after, SIGUSR1), 1);
    EXPECT_EQ(::sigismember(&after, SIGTERM), 0);
}

TEST_F(guarded_call, from_many_threads_at_once) {
    constexpr int calls = 20;
    std::atomic<int> done{0};
    std::array<std::thread, 4> threads;
    for (std::thread& thread : threads) {
        thread = std::thread{[&] {
            auto own = std::make_unique<std::array<std::byte, 128 * 1024>>();
            for (int i = 0; i < calls; ++i) {
                done += call_guarded(
                            [](void* argument) noexcept { place_in(argument).count.fetch_add(1); },
                            shared, *own, long_ms)
                            ? 1
                            : 0;
            }
        }};
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(done.load(), calls * static_cast<int>(threads.size()));
    EXPECT_EQ(shared->count.load(), done.load());
}

}  // namespace
