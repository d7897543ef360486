// checks_test - tarn_check_all(), tarn_checks_get() and option check_signal, in a program with
// threads. TARN_OPTIONS=mode=debug,on_misuse=ignore,check_signal=10
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>

#include "tarn/tarn.h"

#include "checking/checking.hpp"

namespace tarn::test {
namespace {

constexpr int check_signal = 10;

/// A block whose guard is damaged until the end of the scope.
class damaged_block {
public:
    explicit damaged_block(std::size_t bytes)
        : at_{static_cast<char*>(tarn_malloc(bytes)) + bytes} {
        flip();
        start_ = at_ - bytes;
    }

    ~damaged_block() {
        flip();
        tarn_free(start_);
    }

    damaged_block(damaged_block const&) = delete;
    damaged_block& operator=(damaged_block const&) = delete;

private:
    // Volatile: the compiler knows where the block ends. A stray write races with the checks of
    // other threads by nature: TSan is not to look at it.
    __attribute__((no_sanitize("thread"))) void flip() {
        *const_cast<char volatile*>(at_) = static_cast<char>(*at_ ^ 1);
    }

    char* at_;
    char* start_;
};

TEST(check_all, counts_damaged_blocks_each_time) {
    EXPECT_EQ(tarn_check_all(), 0U);
    tarn_checks const before = checks_now();
    {
        damaged_block const one{10};
        EXPECT_EQ(tarn_check_all(), 1U);
        damaged_block const other{5000};
        EXPECT_EQ(tarn_check_all(), 2U) << "told of before, damaged still";
        tarn_checks const after = checks_now();
        EXPECT_EQ(after.damaged_blocks - before.damaged_blocks, 2U);
        EXPECT_EQ(after.findings - before.findings, 2U) << "each is told once";
    }
    EXPECT_EQ(tarn_check_all(), 0U);
    EXPECT_EQ(checks_now().damaged_blocks - before.damaged_blocks, 2U);
}

TEST(check_all, looks_at_freed_blocks) {
    auto* const block = static_cast<char*>(tarn_malloc(100));
    auto* const volatile late = block;
    tarn_free(block);
    late[50] = 'x';
    EXPECT_EQ(tarn_check_all(), 1U);
    late[50] = static_cast<char>(0xF4);
    EXPECT_EQ(tarn_check_all(), 0U);
}

TEST(check_all, counts_what_it_looks_at) {
    tarn_checks const before = checks_now();
    EXPECT_EQ(tarn_check_all(), 0U);
    tarn_checks const after = checks_now();
    EXPECT_EQ(after.checked_blocks - before.checked_blocks,
              before.live_blocks + before.quarantined_blocks);
}

TEST(check_all, keeps_errno) {
    errno = 77;
    EXPECT_EQ(tarn_check_all(), 0U);
    EXPECT_EQ(errno, 77);
}

TEST(check_all, goes_on_beside_threads_that_allocate) {
    busy_threads const others{3};
    damaged_block const one{40};
    for (int round = 0; round < 20; ++round) {
        EXPECT_EQ(tarn_check_all(), 1U);
    }
}

std::atomic<int> own_calls{0};

void own_handler(int /*number*/) { own_calls.fetch_add(1, std::memory_order_relaxed); }

/// Whether a check begins within the patience of a test. Allocates meanwhile, as a program does.
bool is_checked_after(std::uint64_t checked_blocks) {
    auto const end = std::chrono::steady_clock::now() + std::chrono::seconds{60};
    while (checks_now().checked_blocks == checked_blocks) {
        if (std::chrono::steady_clock::now() > end) {
            return false;
        }
        tarn_free(tarn_malloc(30));
    }
    return true;
}

TEST(check_signal, asks_for_a_check) {
    busy_threads const others{3};
    tarn_checks const before = checks_now();  // of the damage the walk of another may tell first
    damaged_block const one{40};
    ASSERT_EQ(std::raise(check_signal), 0);
    EXPECT_TRUE(is_checked_after(before.checked_blocks));
    EXPECT_EQ(checks_now().damaged_blocks - before.damaged_blocks, 1U);
}

TEST(check_signal, lets_system_calls_go_on) {
    tarn_free(tarn_malloc(1));  // the first block of the process installs it

    struct sigaction now {};

    ASSERT_EQ(::sigaction(check_signal, nullptr, &now), 0);
    EXPECT_NE(now.sa_flags & SA_RESTART, 0);
}

TEST(check_signal, leaves_the_signal_to_a_handler_of_the_program) {
    struct sigaction before {};

    struct sigaction own {};

    own.sa_handler = &own_handler;
    ASSERT_EQ(::sigaction(check_signal, &own, &before), 0);
    std::uint64_t const checked = checks_now().checked_blocks;
    std::raise(check_signal);
    tarn_free(tarn_malloc(30));
    EXPECT_EQ(own_calls.load(), 1);
    EXPECT_EQ(checks_now().checked_blocks, checked);
    EXPECT_EQ(::sigaction(check_signal, &before, nullptr), 0);
}

}  // namespace
}  // namespace tarn::test
