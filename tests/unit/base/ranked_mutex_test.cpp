#include "base/ranked_mutex.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "platform/linux/linux_os.hpp"
#include "support/fatal_text.hpp"

namespace {

using tarn::impl::base::lock_guard;
using tarn::impl::base::lock_rank;
using tarn::impl::base::ranked_mutex;
using tarn::impl::platform::linux_os;

template <lock_rank Rank>
using mutex_of = ranked_mutex<Rank, linux_os>;

// Any ranks do: the type takes every value below 64.
constexpr auto low_rank = static_cast<lock_rank>(1);
constexpr auto middle_rank = static_cast<lock_rank>(31);
constexpr auto high_rank = static_cast<lock_rank>(63);

using mutex = mutex_of<middle_rank>;

/// A futex that counts.
struct counting_futex {
    static inline std::atomic<int> waits{0};
    static inline std::atomic<int> wakes{0};

    static void wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept {
        waits.fetch_add(1, std::memory_order_relaxed);
        linux_os::wait(word, expected);
    }

    static void wake_one(std::atomic<std::uint32_t>& word) noexcept {
        wakes.fetch_add(1, std::memory_order_relaxed);
        linux_os::wake_one(word);
    }
};

TEST(ranked_mutex, is_usable_before_any_constructor) {
    constinit static mutex early;
    early.lock();
    early.unlock();
    static_assert(sizeof(mutex) == 4);
}

TEST(ranked_mutex, excludes) {
    constexpr std::size_t threads = 4;
    constexpr std::uint64_t rounds = 20'000;
    mutex lock;
    std::uint64_t counter = 0;  // not atomic: TSan sees a lock that does not order
    std::array<std::uint64_t, 8> trail{};
    std::vector<std::thread> workers;
    for (std::size_t i = 0; i < threads; ++i) {
        workers.emplace_back([&] {
            for (std::uint64_t round = 0; round < rounds; ++round) {
                lock_guard const guard{lock};
                ++counter;
                for (std::uint64_t& each : trail) {
                    ++each;
                }
            }
        });
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(counter, threads * rounds);
    for (std::uint64_t const each : trail) {
        EXPECT_EQ(each, threads * rounds);
    }
}

TEST(ranked_mutex, makes_no_system_call_without_contention) {
    ranked_mutex<middle_rank, counting_futex> lock;
    counting_futex::waits = 0;
    counting_futex::wakes = 0;
    for (int round = 0; round < 1000; ++round) {
        lock.lock();
        lock.unlock();
    }
    EXPECT_EQ(counting_futex::waits, 0);
    EXPECT_EQ(counting_futex::wakes, 0);
}

TEST(ranked_mutex, sleeps_and_is_woken) {
    ranked_mutex<middle_rank, counting_futex> lock;
    counting_futex::waits = 0;
    counting_futex::wakes = 0;
    std::atomic<int> done{0};
    constexpr int count = 3;
    std::vector<std::thread> sleepers;
    sleepers.reserve(count);
    lock.lock();
    for (int i = 0; i < count; ++i) {
        sleepers.emplace_back([&] {
            lock_guard const guard{lock};
            done.fetch_add(1, std::memory_order_relaxed);
        });
    }
    while (counting_futex::waits.load() < 3) {
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    EXPECT_EQ(done, 0);
    lock.unlock();
    for (std::thread& sleeper : sleepers) {
        sleeper.join();
    }
    EXPECT_EQ(done, 3);
    EXPECT_GE(counting_futex::wakes, 3);
}

TEST(ranked_mutex, takes_rising_ranks_and_any_order_of_release) {
    mutex_of<low_rank> low;
    mutex_of<middle_rank> middle;
    mutex_of<high_rank> high;
    for (int round = 0; round < 2; ++round) {
        low.lock();
        middle.lock();
        high.lock();
        low.unlock();
        high.unlock();
        middle.unlock();
    }
}

TEST(ranked_mutex, ranks_are_per_thread) {
    mutex_of<high_rank> high;
    mutex_of<low_rank> low;
    lock_guard const guard{high};
    std::thread{[&] { lock_guard const other{low}; }}.join();
}

TEST(ranked_mutex, crosses_fork) {
    mutex lock;
    lock.lock();
    pid_t const child = ::fork();
    if (child == 0) {
        lock.unlock();
        lock.lock();
        lock.unlock();
        ::_exit(0);
    }
    lock.unlock();
    lock.lock();
    lock.unlock();
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

#if TARN_CHECK_LEVEL >= 1

// What clang would refuse to compile, were it not hidden from its analysis.
template <class Mutex>
void lock_wrongly(Mutex& wrong) TARN_NO_THREAD_SAFETY_ANALYSIS {
    wrong.lock();
}

template <class Mutex>
void unlock_wrongly(Mutex& wrong) TARN_NO_THREAD_SAFETY_ANALYSIS {
    wrong.unlock();
}

TEST(ranked_mutex_death, stops_at_falling_rank) {
    tarn::test::show_fatal_text();
    mutex_of<middle_rank> high;
    mutex_of<low_rank> low;
    EXPECT_DEATH(
        {
            lock_wrongly(high);
            lock_wrongly(low);
        },
        "held_ranks < bit");
}

TEST(ranked_mutex_death, stops_at_equal_rank) {
    tarn::test::show_fatal_text();
    mutex one;
    mutex other;
    EXPECT_DEATH(
        {
            lock_wrongly(one);
            lock_wrongly(other);
        },
        "held_ranks < bit");
}

TEST(ranked_mutex_death, stops_at_unlock_by_a_stranger) {
    tarn::test::show_fatal_text();
    mutex lock;
    EXPECT_DEATH(unlock_wrongly(lock), "held_ranks & bit");
}

#endif

}  // namespace
