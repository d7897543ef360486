#include "control/scavenger.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/units.hpp"

#include "tarn/tarn.h"

#include "heap/process.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::impl;
using control::scavenger;
using control::scavenger_phase;

constexpr std::chrono::seconds patience{20};

/// There is no event for it: what is waited for is that nothing is left to do.
template <class Condition>
bool comes_true(Condition condition) {
    auto const end = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) {
            return false;
        }
        ::poll(nullptr, 0, 10);
    }
    return true;
}

void free_much() {
    for (int i = 0; i < 4; ++i) {
        void* const block = tarn_malloc(8 * MiB);
        std::memset(block, 1, 8 * MiB);
        tarn_free(block);
    }
}

bool all_is_back() { return heap::process.space.counts().free_dirty_bytes == 0; }

/// A thread of the program that has a heap and waits.
class second_thread {
public:
    second_thread() : thread_{[this] { live(); }} { has_heap_.wait(false); }

    ~second_thread() {
        may_end_ = true;
        may_end_.notify_one();
        thread_.join();
    }

    second_thread(second_thread const&) = delete;
    second_thread& operator=(second_thread const&) = delete;

private:
    void live() {
        tarn_free(tarn_malloc(1));
        has_heap_ = true;
        has_heap_.notify_one();
        may_end_.wait(false);
    }

    std::atomic<bool> has_heap_{false};
    std::atomic<bool> may_end_{false};
    std::thread thread_;
};

int status_of_child(void (*run)()) {
    pid_t const child = ::fork();
    if (child == 0) {
        run();
        ::_exit(testing::Test::HasFailure() ? 1 : 0);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return status;
}

// Each in a process of its own: the thread, once there, stays.

TEST(scavenger, is_absent_while_the_program_has_one_thread) {
    EXPECT_EQ(status_of_child([] {
                  free_much();
                  EXPECT_EQ(scavenger(), scavenger_phase::absent);
              }),
              0);
}

TEST(scavenger, gives_memory_back_once_there_are_two_and_then_sleeps) {
    EXPECT_EQ(status_of_child([] {
                  second_thread const other;
                  free_much();
                  EXPECT_TRUE(comes_true(all_is_back));
                  EXPECT_TRUE(comes_true([] { return scavenger() == scavenger_phase::asleep; }));
                  free_much();
                  EXPECT_NE(scavenger(), scavenger_phase::absent);
                  EXPECT_TRUE(comes_true(all_is_back));
              }),
              0);
}

TEST(scavenger, ends_when_the_program_has_one_thread_again) {
    EXPECT_EQ(status_of_child([] {
                  {
                      second_thread const other;
                      free_much();
                      EXPECT_NE(scavenger(), scavenger_phase::absent);
                  }
                  EXPECT_TRUE(comes_true([] { return scavenger() == scavenger_phase::absent; }));
                  EXPECT_TRUE(all_is_back());
                  second_thread const other;
                  free_much();
                  EXPECT_TRUE(comes_true(all_is_back));
              }),
              0);
}

TEST(scavenger, is_started_again_by_a_child_that_needs_it) {
    if (tarn::test::under_tsan || tarn::test::under_emulation) {
        GTEST_SKIP() << "threads after a fork of several are beyond TSan, and beyond QEMU";
    }
    EXPECT_EQ(status_of_child([] {
                  second_thread const other;
                  free_much();
                  EXPECT_TRUE(comes_true([] { return scavenger() == scavenger_phase::asleep; }));
                  EXPECT_EQ(status_of_child([] {
                                EXPECT_EQ(scavenger(), scavenger_phase::absent);
                                free_much();
                                EXPECT_EQ(scavenger(), scavenger_phase::absent);
                                second_thread const own;
                                free_much();
                                EXPECT_NE(scavenger(), scavenger_phase::absent);
                                EXPECT_TRUE(comes_true(all_is_back));
                            }),
                            0);
              }),
              0);
}

TEST(scavenger, lets_the_program_fork_while_it_works) {
    EXPECT_EQ(status_of_child([] {
                  second_thread const other;
                  for (int i = 0; i < 50; ++i) {
                      free_much();
                      EXPECT_EQ(status_of_child([] {
                                    void* const block = tarn_malloc(1 * MiB);
                                    EXPECT_NE(block, nullptr);
                                    tarn_free(block);
                                }),
                                0);
                  }
              }),
              0);
}

TEST(scavenge, gives_back_what_is_old_enough_without_a_thread) {
    EXPECT_EQ(status_of_child([] {
                  free_much();
                  EXPECT_TRUE(comes_true([] {
                      tarn_scavenge();
                      return all_is_back();
                  }));
                  EXPECT_EQ(scavenger(), scavenger_phase::absent);
              }),
              0);
}

}  // namespace
