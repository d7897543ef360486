#include "control/pressure.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/units.hpp"

#include "tarn/tarn.h"

#include "heap/process.hpp"
#include "support/build.hpp"
#include "support/file_tree.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::control;

// --- what is pressure ----------------------------------------------------------------------------

pressure_reading usage_of(std::size_t usage, std::size_t hard, std::size_t high = no_limit) {
    pressure_reading reading;
    reading.at_ms = 5000;
    reading.limits = {.hard_bytes = hard, .high_bytes = high};
    reading.usage = memory_usage{.charged_bytes = 2 * usage, .needed_bytes = usage};
    return reading;
}

pressure_level judge_usage(std::size_t usage, std::size_t hard, std::size_t high = no_limit) {
    pressure_reading const reading = usage_of(usage, hard, high);
    return judge_pressure(reading, reading);
}

TEST(pressure_level, by_usage) {
    EXPECT_EQ(judge_usage(1000, no_limit), pressure_level::none);
    EXPECT_EQ(judge_usage(849, 1000), pressure_level::none);
    EXPECT_EQ(judge_usage(850, 1000), pressure_level::moderate);
    EXPECT_EQ(judge_usage(949, 1000), pressure_level::moderate);
    EXPECT_EQ(judge_usage(950, 1000), pressure_level::critical);
    EXPECT_EQ(judge_usage(2000, 1000), pressure_level::critical);
    EXPECT_EQ(judge_usage(949, 10'000, 1000), pressure_level::moderate);
    EXPECT_EQ(judge_usage(999, 10'000, 1000), pressure_level::moderate);
    EXPECT_EQ(judge_usage(1000, 10'000, 1000), pressure_level::critical);
    EXPECT_EQ(judge_pressure({}, {}), pressure_level::none);
}

TEST(pressure_level, by_waiting) {
    auto const judge = [](std::uint64_t ms, std::uint64_t some_us, std::uint64_t full_us) {
        pressure_reading before;
        before.at_ms = 1;
        before.stall = memory_stall{.some_us = 7'000'000, .full_us = 7'000'000};
        pressure_reading now = before;
        now.at_ms += ms;
        now.stall->some_us += some_us;
        now.stall->full_us += full_us;
        return judge_pressure(before, now);
    };
    EXPECT_EQ(judge(1000, 0, 0), pressure_level::none);
    EXPECT_EQ(judge(1000, 149'999, 0), pressure_level::none);
    EXPECT_EQ(judge(1000, 150'000, 0), pressure_level::moderate);
    EXPECT_EQ(judge(1000, 150'000, 99'999), pressure_level::moderate);
    EXPECT_EQ(judge(1000, 150'000, 100'000), pressure_level::critical);
    EXPECT_EQ(judge(10'000, 150'000, 100'000), pressure_level::none);
    EXPECT_EQ(judge(10, 10'000, 10'000), pressure_level::none);  // too short to tell
}

TEST(pressure_level, by_kills) {
    pressure_reading before = usage_of(1, 1000);
    pressure_reading now = before;
    now.exhaustions = 1;
    EXPECT_EQ(judge_pressure(before, now), pressure_level::critical);
    EXPECT_EQ(judge_pressure(now, before), pressure_level::none);  // in another group now
}

// --- the watch -----------------------------------------------------------------------------------

/// What was called, with a way to wait for it.
class called {
public:
    void note(pressure_level level) {
        std::scoped_lock const lock{mutex_};
        levels_.push_back(level);
        changed_.notify_all();
    }

    void wait_for(pressure_level level) {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [&] { return !levels_.empty() && levels_.back() == level; });
    }

    void wait_for_any() {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [&] { return !levels_.empty(); });
    }

    std::size_t count() {
        std::scoped_lock const lock{mutex_};
        return levels_.size();
    }

    void clear() {
        std::scoped_lock const lock{mutex_};
        levels_.clear();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<pressure_level> levels_;
};

called calls;

std::atomic<bool> may_call{false};

void note_call(pressure_level level) noexcept {
    if (!may_call) {
        std::abort();
    }
    calls.note(level);
}

void stop() {
    stop_pressure_watch();
    may_call = false;
}

/// A group of version 2 with a limit, at a usage that is set.
class watched_tree : public testing::Test {
protected:
    watched_tree() {
        calls.clear();
        tree_.write("/proc/self/cgroup", "0::/a\n")
            .write("/proc/self/mountinfo", "41 31 0:38 / /cg rw - cgroup2 cgroup2 rw\n")
            .write("/cg/a/memory.max", "1000000\n");
        set_usage(1000);
    }

    ~watched_tree() override { stop(); }

    void set_usage(std::size_t bytes) {
        tree_.write("/cg/a/memory.current", std::to_string(bytes) + "\n");
    }

    bool start(void (*call)(pressure_level) noexcept = &note_call) {
        may_call = true;
        return start_pressure_watch(
            {.call = call, .poll_ms = 1, .repeat_ms = 1, .root = tree_.root()});
    }

    tarn::test::file_tree tree_;
};

TEST_F(watched_tree, calls_when_usage_nears_the_limit) {
    ASSERT_TRUE(start());
    EXPECT_TRUE(start());  // it runs
    EXPECT_TRUE(current_pressure_events().runs);
    set_usage(900'000);
    calls.wait_for(pressure_level::moderate);
    set_usage(990'000);
    calls.wait_for(pressure_level::critical);
    stop();
    EXPECT_FALSE(current_pressure_events().runs);
    stop();
}

TEST_F(watched_tree, sees_a_limit_that_changes) {
    ASSERT_TRUE(start());
    tree_.write("/cg/a/memory.max", "1050\n");
    calls.wait_for(pressure_level::critical);
}

TEST_F(watched_tree, survives_files_that_vanish) {
    ASSERT_TRUE(start());
    std::filesystem::remove_all(tree_.root() + "/cg");
    std::filesystem::remove_all(tree_.root() + "/proc");
    tree_.write("/cg/a/memory.max", "1000000\n");
    set_usage(999'000);
    calls.wait_for(pressure_level::critical);
}

TEST_F(watched_tree, starts_and_stops_again_and_again) {
    set_usage(990'000);
    for (std::uint64_t i = 0; i < tarn::test::scaled(200); ++i) {
        ASSERT_TRUE(start());
        if (i % 2 == 0) {
            calls.wait_for_any();
        }
        stop();
        calls.clear();
    }
}

TEST_F(watched_tree, starts_and_stops_from_many_threads) {
    set_usage(990'000);
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int id = 0; id < 4; ++id) {
        threads.emplace_back([&, id] {
            for (std::uint64_t i = 0; i < tarn::test::scaled(200); ++i) {
                if (id == 0 && i % 8 == 0) {
                    dismiss_pressure_watch();
                } else if ((i + static_cast<std::uint64_t>(id)) % 2 == 0) {
                    EXPECT_TRUE(start());
                } else {
                    stop_pressure_watch();
                }
            }
        });
    }
    for (std::thread& each : threads) {
        each.join();
    }
    stop_pressure_watch();
    EXPECT_FALSE(current_pressure_events().runs);
}

TEST_F(watched_tree, stops_inside_the_call) {
    set_usage(990'000);
    ASSERT_TRUE(start([](pressure_level level) noexcept {
        stop_pressure_watch();
        note_call(level);
    }));
    calls.wait_for_any();
    stop_pressure_watch();  // has ended or ends
    EXPECT_EQ(calls.count(), 1U);
    ASSERT_TRUE(start());
}

TEST_F(watched_tree, a_call_may_allocate_and_the_thread_has_no_heap) {
    tarn_free(tarn_malloc(1));
    static std::atomic<std::uint32_t> heaps{0};
    static std::atomic<std::uint32_t> rounds{0};
    heaps = heap::process.active_heaps.load(std::memory_order_relaxed);
    rounds = 0;
    set_usage(990'000);
    ASSERT_TRUE(start([](pressure_level level) noexcept {
        for (std::size_t bytes = 1; bytes < 64 * KiB; bytes *= 3) {
            void* const block = tarn_malloc(bytes);
            std::memset(block, 1, bytes);
            tarn_free(block);
        }
        if (heap::process.active_heaps.load(std::memory_order_relaxed) > heaps) {
            std::abort();
        }
        if (++rounds == 10) {
            note_call(level);
        }
    }));
    calls.wait_for_any();
}

TEST_F(watched_tree, nothing_to_watch_is_said) {
    tarn::test::file_tree const empty;
    EXPECT_FALSE(start_pressure_watch({.call = &note_call, .root = empty.root()}));
    EXPECT_FALSE(start_pressure_watch({.call = &note_call, .root = std::string(2000, 'r')}));
    EXPECT_FALSE(current_pressure_events().runs);
}

TEST_F(watched_tree, keeps_errno) {
    errno = EDOM;
    start();
    stop_pressure_watch();
    EXPECT_EQ(errno, EDOM);
}

TEST_F(watched_tree, program_sees_no_descriptor_and_may_close_all) {
    if (tarn::test::under_tsan) {
        GTEST_SKIP() << "TSan has no threads after fork in a program that had some";
    }
    int const status = tarn::test::run_in_child(60, [&] {
        set_usage(990'000);
        if (!start()) {
            return 1;
        }
        calls.wait_for_any();
        for (int fd = 3; fd < 1024; ++fd) {
            ::close(fd);
        }
        calls.clear();
        calls.wait_for_any();  // it goes on
        int const fd = ::open("/dev/null", O_RDONLY);
        stop_pressure_watch();
        return fd == 3 && ::fcntl(fd, F_GETFD) != -1 ? 0 : 2;
    });
    EXPECT_EQ(status, 0);
}

TEST_F(watched_tree, child_of_a_fork_starts_its_own) {
    if (tarn::test::under_emulation) {
        GTEST_SKIP() << "the emulator has no threads after fork in a program that had some";
    }
    if (tarn::test::under_tsan) {
        GTEST_SKIP() << "TSan has no threads after fork in a program that had some";
    }
    set_usage(990'000);
    ASSERT_TRUE(start());
    calls.wait_for_any();
    int const status = tarn::test::run_in_child(60, [&] {
        forget_pressure_watch();
        if (current_pressure_events().runs) {
            return 1;
        }
        stop_pressure_watch();  // nothing to stop
        if (!start([](pressure_level) noexcept {}) || !current_pressure_events().runs) {
            return 2;
        }
        stop_pressure_watch();
        return 0;
    });
    EXPECT_EQ(status, 0);
}

TEST_F(watched_tree, process_may_end_without_a_stop) {
    if (tarn::test::under_tsan) {
        GTEST_SKIP() << "TSan has no threads after fork in a program that had some";
    }
    set_usage(990'000);
    EXPECT_EQ(tarn::test::run_in_child(60, [&] { return start() ? 0 : 1; }), 0);
}

// --- the machine's own ---------------------------------------------------------------------------

TEST(pressure_watch, listens_to_this_system) {
    may_call = true;
    if (!start_pressure_watch({.call = &note_call, .poll_ms = 50})) {
        GTEST_SKIP() << "nothing tells of memory here";
    }
    EXPECT_TRUE(current_pressure_events().runs);
    stop();
}

/// A memory group of version 1 below this process's, with this process in it.
class own_group {
public:
    own_group() {
        cgroup const outer = find_cgroup(cgroup_controller::memory);
        if (outer.version != cgroup_version::v1) {
            return;
        }
        outer_ = outer.directory();
        std::string const inner = outer_ + "/tarn-pressure-" + std::to_string(::getpid());
        std::error_code error;
        if (std::filesystem::create_directory(inner, error)) {
            inner_ = inner;
        }
    }

    ~own_group() {
        if (!inner_.empty()) {
            enter(outer_);
            std::error_code ignored;
            std::filesystem::remove(inner_, ignored);
        }
    }

    own_group(own_group const&) = delete;
    own_group& operator=(own_group const&) = delete;

    bool set(std::string const& file, std::size_t value) {
        return !inner_.empty() && write(inner_ + "/" + file, value);
    }

    bool enter() { return !inner_.empty() && enter(inner_); }

private:
    static bool write(std::string const& path, std::size_t value) {
        std::ofstream file{path};
        file << value << std::flush;
        return static_cast<bool>(file);
    }

    static bool enter(std::string const& directory) {
        return write(directory + "/cgroup.procs", static_cast<std::size_t>(::getpid()));
    }

    std::string outer_;
    std::string inner_;
};

std::size_t usage_now(cgroup const& group) {
    auto const usage = read_memory_usage(group);
    return usage ? usage->needed_bytes : no_limit;
}

TEST(pressure_watch, hears_the_kernel_when_a_group_of_version_1_fills) {
    if (tarn::test::under_emulation) {
        GTEST_SKIP() << "the emulator's own memory counts, and does not fit";
    }
    constexpr std::size_t limit = 128 * MiB;
    own_group group;
    if (!group.set("memory.limit_in_bytes", limit) || !group.enter()) {
        GTEST_SKIP() << "no permission to make a memory cgroup of version 1 (needs root)";
    }
    calls.clear();
    may_call = true;
    // The clock is slow: events come first.
    ASSERT_TRUE(start_pressure_watch({.call = &note_call, .poll_ms = 60'000}));
    if (current_pressure_events().usage_limit_bytes == no_limit) {
        stop_pressure_watch();
        GTEST_SKIP() << "no events of cgroup version 1 here";
    }
    EXPECT_EQ(current_pressure_events().usage_limit_bytes, limit);
    cgroup here = find_cgroup(cgroup_controller::memory);
    EXPECT_EQ(read_memory_limits(here).hard_bytes, limit);
    std::vector<void*> held;
    while (usage_now(here) < limit / 100 * 88) {
        void* const piece = ::mmap(nullptr, MiB, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        ASSERT_NE(piece, MAP_FAILED);
        held.push_back(piece);
    }
    auto const filled = std::chrono::steady_clock::now();
    calls.wait_for_any();
    EXPECT_LT(std::chrono::steady_clock::now() - filled, std::chrono::seconds{30});
    for (void* const piece : held) {
        ::munmap(piece, MiB);
    }
    stop();
}

}  // namespace
