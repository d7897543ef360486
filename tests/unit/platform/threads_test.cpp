#include "platform/threads.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

namespace {

using namespace tarn::impl::platform;

std::atomic<int> calls{0};
std::atomic<int> rearms{0};
std::atomic<void*> last_value{nullptr};
std::atomic<bool> destructor_came_first{false};
std::atomic<bool> destructor_ran{false};

void exit_hook(void* value) {
    calls.fetch_add(1);
    last_value = value;
    destructor_came_first = destructor_ran.load();
    if (rearms.load() > 0) {
        rearms.fetch_sub(1);
        EXPECT_TRUE(arm_thread_exit(value));
    }
}

/// Installed once per process, whatever the tests' order.
bool install_once() {
    static bool const installed = install_thread_exit_hook(exit_hook);
    calls = 0;
    rearms = 0;
    last_value = nullptr;
    destructor_ran = false;
    return installed;
}

TEST(threads, exit_hook_runs_in_armed_threads_alone) {
    ASSERT_TRUE(install_once());
    std::thread{[] {}}.join();
    EXPECT_EQ(calls, 0);
    int value = 0;
    std::thread{[&] { EXPECT_TRUE(arm_thread_exit(&value)); }}.join();
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(last_value, &value);
}

TEST(threads, exit_hook_runs_after_destructors_of_the_thread) {
    ASSERT_TRUE(install_once());
    int value = 0;
    std::thread{[&] {
        struct witness {
            ~witness() { destructor_ran = true; }
        };
        thread_local witness late;
        static_cast<void>(&late);
        EXPECT_TRUE(arm_thread_exit(&value));
    }}.join();
    EXPECT_TRUE(destructor_ran);
    EXPECT_TRUE(destructor_came_first);
}

TEST(threads, exit_hook_can_be_armed_again_from_itself) {
    ASSERT_TRUE(install_once());
    int value = 0;
    rearms = 1;
    std::thread{[&] { EXPECT_TRUE(arm_thread_exit(&value)); }}.join();
    EXPECT_EQ(calls, 2);
}

TEST(threads, exit_hook_can_be_disarmed) {
    ASSERT_TRUE(install_once());
    int value = 0;
    std::thread{[&] {
        EXPECT_TRUE(arm_thread_exit(&value));
        EXPECT_TRUE(arm_thread_exit(nullptr));
    }}.join();
    EXPECT_EQ(calls, 0);
}

std::string& trace() {
    static std::string text;
    return text;
}

TEST(threads, fork_hooks_run_on_their_sides) {
    static bool const installed = install_fork_hooks({.prepare = [] { trace() += "before "; },
                                                      .parent = [] { trace() += "parent "; },
                                                      .child = [] { trace() += "child "; }});
    ASSERT_TRUE(installed);
    trace().clear();
    pid_t const child = ::fork();
    if (child == 0) {
        ::_exit(trace() == "before child " ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(trace(), "before parent ");
}

}  // namespace
