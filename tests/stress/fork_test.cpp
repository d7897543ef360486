// fork_test - fork, vfork and posix_spawn while other threads allocate: no child hangs, and what a
// child inherits is intact and can be freed.
//
// Children are ended by an alarm, so a hang fails the test.
#include <gtest/gtest.h>
#include <spawn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <span>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "support/blocks.hpp"
#include "support/build.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

constexpr unsigned child_seconds_max = 20;

/// Threads that allocate, free and hand blocks to each other until the end of the scope.
class busy_threads {
public:
    explicit busy_threads(unsigned count) {
        for (unsigned number = 0; number < count; ++number) {
            running_.emplace_back([this, number] { work(number); });
        }
    }

    busy_threads(busy_threads const&) = delete;
    busy_threads& operator=(busy_threads const&) = delete;

    ~busy_threads() {
        stop_.store(true, std::memory_order_relaxed);  // relaxed: no data goes with it
        for (std::thread& thread : running_) {
            thread.join();
        }
        for (std::atomic<void*>& box : boxes_) {
            tarn_free(box.load(std::memory_order_relaxed));  // relaxed: after the joins
        }
    }

private:
    void work(unsigned number) {
        // This thread's, on Linux: it would otherwise take most of the processors' time from the
        // children, and a test of minutes would not find more than one of seconds.
        static_cast<void>(::nice(5));
        random_stream random{number};
        std::vector<stamped_block> table(32);  // few: each fork makes every page of it fault again
        while (!stop_.load(std::memory_order_relaxed)) {
            stamped_block& block = table[random.below(table.size())];
            drop_block(block);
            block = make_block(random, random.one_in(256) ? 200 * kib : kib);
            // acq_rel: the block's first bytes go with its address, both ways
            tarn_free(boxes_[random.below(std::size(boxes_))].exchange(
                tarn_malloc(random.size_up_to(kib)), std::memory_order_acq_rel));
        }
        std::for_each(table.begin(), table.end(), drop_block);
    }

    std::atomic<bool> stop_{false};
    std::atomic<void*> boxes_[32]{};
    std::vector<std::thread> running_;
};

void make_various(std::span<stamped_block> blocks, std::uint64_t seed) {
    random_stream random{seed};
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        blocks[i] = make_block(random, i % 64 == 0 ? 140 * kib : kib);
    }
}

void drop_all(std::span<stamped_block> blocks) {
    std::for_each(blocks.begin(), blocks.end(), drop_block);
}

/// What a forked child does with its copy of the parent's blocks; aborts when something is wrong.
/// Uses no heap but Tarn's: a sanitizer's own may be locked for good in the child.
int use_heap_in_child(std::span<stamped_block> inherited, std::uint64_t seed) {
    std::array<stamped_block, 30> fresh;
    std::array<stamped_block, 30> more;
    make_various(fresh, seed);
    drop_all(inherited);
    make_various(more, seed + 1);
    if (!under_tsan && !under_asan && seed % 16 == 0) {  // a child may have threads of its own
        std::thread{[&] { drop_all(fresh); }}.join();
    }
    if (seed % 64 == 1) {  // and children
        int const status = run_in_child(child_seconds_max, [&] {
            drop_all(more);
            return 0;
        });
        if (status != 0) {
            return 1;
        }
    }
    drop_all(fresh);
    drop_all(more);
    return 0;
}

TEST(fork_while_threads_allocate, two_thousand_children_use_the_heap) {
    constexpr unsigned forking_threads = 2;
    constexpr std::size_t children_at_once = 3;
    constexpr std::size_t inherited_blocks = 120;
    std::array<stamped_block, inherited_blocks> inherited;
    std::span<stamped_block> const all{inherited};
    // Half of them from a thread that is gone.
    std::thread{[&] { make_various(all.first(inherited_blocks / 2), 1); }}.join();
    make_various(all.last(inherited_blocks / 2), 2);
    {
        busy_threads const busy{8};
        std::vector<std::thread> forking;
        for (unsigned number = 0; number < forking_threads; ++number) {
            forking.emplace_back([&, number] {
                std::vector<pid_t> children;
                std::uint64_t const forks = scaled(2000) / forking_threads;
                for (std::uint64_t i = 0; i < forks + children_at_once; ++i) {
                    if (i < forks) {
                        children.push_back(start_child(child_seconds_max, [&] {
                            return use_heap_in_child(all, i * forking_threads + number);
                        }));
                    }
                    if (i >= children_at_once - 1 && !children.empty()) {
                        EXPECT_EQ(wait_for(children.front()), 0) << "child " << i;
                        children.erase(children.begin());
                    }
                }
            });
        }
        for (std::thread& thread : forking) {
            thread.join();
        }
    }
    drop_all(all);
}

TEST(fork_while_threads_allocate, pages_of_vanished_threads_serve_the_child) {
    constexpr std::size_t blocks = 1000;
    constexpr std::uint64_t allowed_growth_bytes = 16 * mib;
    busy_threads const busy{4};
    std::array<stamped_block, blocks> foreign;
    std::thread{[&] { make_various(foreign, 5); }}.join();
    for (std::uint64_t i = 0; i < scaled(16); ++i) {
        int const status = run_in_child(child_seconds_max, [&] {
            std::uint64_t const before = stats_now().mapped_bytes;
            for (int round = 0; round < 30; ++round) {
                drop_all(foreign);
                make_various(foreign, 6);
            }
            return stats_now().mapped_bytes > before + allowed_growth_bytes ? 1 : 0;
        });
        EXPECT_EQ(status, 0);
    }
    drop_all(foreign);
}

// A vfork child runs on its parent's memory and thread-local storage until it ends or calls exec.
[[gnu::noinline]] pid_t vfork_and_allocate() {
    // NOLINTBEGIN(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork): its
    // purpose
    pid_t const child = ::vfork();
    if (child == 0) {
        for (std::size_t bytes = 1; bytes < 400'000; bytes *= 3) {
            tarn_free(tarn_malloc(bytes));
        }
        ::_exit(0);
    }
    return child;
    // NOLINTEND(clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork)
}

TEST(fork_while_threads_allocate, vfork_children_may_allocate) {
    if (under_tsan || under_asan) {
        GTEST_SKIP() << "sanitizers do not follow a vfork child";
    }
    busy_threads const busy{4};
    for (int i = 0; i < 200; ++i) {
        stamped_block block = make_block(1000, 3);
        EXPECT_EQ(wait_for(vfork_and_allocate()), 0);
        drop_block(block);
    }
}

TEST(fork_while_threads_allocate, spawned_programs_run) {
    busy_threads const busy{4};
    char name[] = "true";
    char* arguments[] = {name, nullptr};
    for (std::uint64_t i = 0; i < scaled(200); ++i) {
        pid_t child = -1;
        ASSERT_EQ(::posix_spawnp(&child, name, nullptr, nullptr, arguments, environ), 0);
        EXPECT_EQ(wait_for(child), 0);
    }
}

}  // namespace
}  // namespace tarn::test
