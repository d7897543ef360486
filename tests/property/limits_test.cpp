// limits_test - a limit holds, what it refuses is refused cleanly, and listeners are told in time.
#include "tarn/limits.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "support/blocks.hpp"
#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

/// For blocks; what is free counts as long as it has not been given back.
std::uint64_t held() {
    tarn_stats const now = stats_now();
    return now.mapped_bytes - now.metadata_bytes;
}

/// Without what earlier tests have left.
std::uint64_t held_purged() {
    tarn_purge(TARN_PURGE_PROCESS);
    return held();
}

/// Sets limits, and takes them away at its end.
class limited {
public:
    limited(std::uint64_t soft, std::uint64_t hard, std::uint64_t reserve = 0) {
        EXPECT_EQ(set({sizeof(tarn_limits), soft, hard, reserve}), 0);
    }

    limited(limited const&) = delete;
    limited& operator=(limited const&) = delete;

    ~limited() { EXPECT_EQ(set({sizeof(tarn_limits), 0, 0, 0}), 0); }

private:
    static int set(tarn_limits const& to) { return tarn_limits_set(&to); }
};

/// Blocks that free themselves.
class heap_user {
public:
    heap_user() = default;
    heap_user(heap_user const&) = delete;
    heap_user& operator=(heap_user const&) = delete;

    ~heap_user() { free_all(); }

    /// False: refused, with ENOMEM.
    bool take(std::size_t bytes) {
        errno = 0;
        void* const block = tarn_malloc(bytes);
        if (block == nullptr) {
            EXPECT_EQ(errno, ENOMEM);
            return false;
        }
        blocks_.push_back(block);
        return true;
    }

    /// Takes blocks until one is refused; returns how many were not.
    std::size_t take_all(std::size_t bytes, std::size_t most = ~std::size_t{0}) {
        std::size_t count = 0;
        while (count < most && take(bytes)) {
            ++count;
        }
        return count;
    }

    void free_all() {
        for (void* const block : blocks_) {
            tarn_free(block);
        }
        blocks_.clear();
    }

    [[nodiscard]] std::vector<void*>& blocks() { return blocks_; }

private:
    std::vector<void*> blocks_;
};

TEST(limits, refuse_what_makes_no_sense) {
    EXPECT_EQ(tarn_limits_set(nullptr), EINVAL);
    EXPECT_EQ(tarn_limits_get(nullptr), EINVAL);
    tarn_limits wrong{};
    EXPECT_EQ(tarn_limits_set(&wrong), EINVAL);  // size 0
    EXPECT_EQ(tarn_limits_get(&wrong), EINVAL);
    wrong = {sizeof wrong, 200 * mib, 100 * mib, 0};
    EXPECT_EQ(tarn_limits_set(&wrong), EINVAL);
    wrong = {sizeof wrong, 0, 100 * mib, 101 * mib};
    EXPECT_EQ(tarn_limits_set(&wrong), EINVAL);
    tarn_limits now{};
    now.size = sizeof now;
    ASSERT_EQ(tarn_limits_get(&now), 0);
    EXPECT_EQ(now.soft_bytes, 0U);
    EXPECT_EQ(now.hard_bytes, 0U);
}

TEST(limits, are_told_as_they_were_set) {
    limited const here{100 * mib, 200 * mib, 3 * mib};
    tarn_limits now{};
    now.size = sizeof now;
    ASSERT_EQ(tarn_limits_get(&now), 0);
    EXPECT_EQ(now.soft_bytes, 100 * mib);
    EXPECT_EQ(now.hard_bytes, 200 * mib);
    EXPECT_EQ(now.reserve_bytes, 3 * mib);
    EXPECT_EQ(stats_now().soft_limit_bytes, 100 * mib);
    EXPECT_EQ(stats_now().hard_limit_bytes, 200 * mib);
}

// The bar: 256 MiB, a program that wants 1 GiB, a thousand times in a row.
TEST(hard_limit, is_met_and_left_a_thousand_times) {
    constexpr std::size_t hard = 256 * mib;
    limited const here{0, hard};
    heap_user user;
    random_stream random{1};
    int const rounds = is_slow ? 100 : 1000;
    for (int round = 0; round < rounds; ++round) {
        std::size_t wanted = 0;
        bool refused = false;
        while (wanted < gib && !refused) {
            std::size_t const bytes = random.one_in(3) ? random.size_up_to(8 * mib) : 256 * kib;
            wanted += bytes;
            refused = !user.take(bytes);
        }
        ASSERT_TRUE(refused);
        ASSERT_GE(wanted, hard / 2);
        ASSERT_LE(held(), hard);
        user.free_all();
    }
    EXPECT_GE(stats_now().limit_refusals, static_cast<std::uint64_t>(rounds));
    EXPECT_TRUE(user.take(200 * mib));
}

TEST(hard_limit, holds_for_blocks_of_every_size) {
    constexpr std::size_t hard = 32 * mib;
    for (std::size_t bytes = 16; bytes < hard; bytes = bytes * 3 + 16) {
        heap_user user;
        user.blocks().reserve(hard / 16);
        std::size_t const most = held_purged() + hard;
        limited const here{0, most};
        std::size_t const count = user.take_all(bytes);
        EXPECT_GE((count + 1) * tarn_malloc_usable_size(user.blocks().front()), hard / 4) << bytes;
        EXPECT_LE(held(), most) << bytes;
        tarn_stats walked{};
        walked.size = sizeof walked;
        EXPECT_EQ(tarn_audit(&walked), 0U);
    }
}

TEST(hard_limit, keeps_a_reserve_for_small_blocks_after_a_refusal) {
    constexpr std::size_t reserve = 2 * mib;
    heap_user user;
    heap_user small;
    user.blocks().reserve(mib);
    small.blocks().reserve(mib);
    limited const here{0, held_purged() + 32 * mib, reserve};
    user.take_all(5000);
    EXPECT_FALSE(user.take(5000));
    EXPECT_GE(small.take_all(200) * 200, reserve / 2);
    EXPECT_LE(small.blocks().size() * 200, reserve + 64 * kib);
    user.free_all();
    EXPECT_TRUE(user.take(mib));
}

TEST(hard_limit, below_what_is_held_refuses_until_enough_is_freed) {
    heap_user user;
    user.blocks().reserve(1000);
    ASSERT_TRUE(user.take(40 * mib));
    limited const here{0, held_purged() - 10 * mib};
    EXPECT_FALSE(user.take(mib));
    user.free_all();
    EXPECT_TRUE(user.take(mib));
}

TEST(hard_limit, leaves_a_block_that_can_not_grow_as_it_was) {
    limited const here{0, held_purged() + 32 * mib};
    constexpr std::size_t bytes = 20 * mib;
    void* const block = tarn_malloc(bytes);
    ASSERT_NE(block, nullptr);
    fill(block, bytes, 5);
    errno = 0;
    EXPECT_EQ(tarn_realloc(block, 200 * mib), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(first_wrong(block, bytes, 5), intact);
    void* const grown = tarn_realloc(block, 25 * mib);  // moves by pages, and holds both never
    ASSERT_NE(grown, nullptr);
    EXPECT_EQ(first_wrong(grown, bytes, 5), intact);
    tarn_free(grown);
    tarn_purge(TARN_PURGE_PROCESS);
}

TEST(hard_limit, gets_memory_from_inside_of_used_pages_first) {
    if (under_emulation) {
        GTEST_SKIP() << "with large OS pages each holds a block that is kept";
    }
    constexpr std::size_t bytes = 64;
    constexpr std::size_t count = 32 * mib / bytes;
    heap_user user;
    user.blocks().reserve(count);
    heap_user other;
    other.blocks().reserve(1000);
    limited const here{0, held_purged() + 40 * mib};
    ASSERT_EQ(user.take_all(bytes, count), count);
    auto& blocks = user.blocks();
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count; ++i) {
        if (i % 1024 == 0) {
            blocks[kept++] = blocks[i];
        } else {
            tarn_free(blocks[i]);
        }
    }
    blocks.resize(kept);
    EXPECT_EQ(other.take_all(100 * kib, 280), 280U);
    tarn_stats walked{};
    walked.size = sizeof walked;
    EXPECT_EQ(tarn_audit(&walked), 0U);
    // What went back can be had again only as far as the limit allows.
    user.take_all(bytes);
    EXPECT_LE(held(), walked.hard_limit_bytes);
    EXPECT_EQ(tarn_audit(&walked), 0U);
    other.free_all();
    EXPECT_TRUE(user.take(bytes));
    EXPECT_EQ(tarn_audit(&walked), 0U);
}

TEST(hard_limit, holds_for_threads_together) {
    constexpr std::size_t hard = 64 * mib;
    std::uint64_t const most = held_purged() + hard;
    limited const here{0, most};
    std::vector<std::thread> threads;
    std::atomic<std::uint64_t> refused{0};
    threads.reserve(4);
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        threads.emplace_back([&, seed] {
            random_stream random{seed};
            heap_user user;
            for (std::uint64_t i = 0; i < scaled(20); ++i) {
                std::size_t const bytes = random.size_up_to(mib);
                refused += user.take_all(bytes, 2 * hard / bytes) < 2 * hard / bytes ? 1 : 0;
                user.free_all();
            }
        });
    }
    while (refused < 8) {
        ASSERT_LE(held(), most);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_LE(held(), most);
    tarn_stats walked{};
    walked.size = sizeof walked;
    EXPECT_EQ(tarn_audit(&walked), 0U);
}

TEST(hard_limit, goes_on_in_a_forked_child) {
    limited const here{0, held_purged() + 32 * mib};
    int const status = run_in_child(60, [] {
        if (tarn_malloc(64 * mib) != nullptr) {
            return 1;
        }
        void* const fits = tarn_malloc(16 * mib);
        tarn_free(fits);
        return fits != nullptr ? 0 : 2;
    });
    EXPECT_EQ(WEXITSTATUS(status), 0) << status;
}

/// What a listener was told, and what it does.
struct listener {
    std::vector<void*> cache;  // to be freed when called
    std::atomic<int> calls{0};
    tarn_pressure last{};

    static void call(tarn_pressure const* event, void* context) {
        auto& self = *static_cast<listener*>(context);
        self.last = *event;
        ++self.calls;
        for (void* const block : self.cache) {
            tarn_free(block);
        }
        self.cache.clear();
        tarn_free(tarn_malloc(100));  // a listener may
    }

    explicit listener(unsigned kinds) { EXPECT_EQ(tarn_pressure_listen(kinds, &call, this), 0); }

    listener(listener const&) = delete;
    listener& operator=(listener const&) = delete;

    ~listener() { EXPECT_EQ(tarn_pressure_unlisten(&call, this), 0); }
};

TEST(listeners, have_to_make_sense) {
    EXPECT_EQ(tarn_pressure_listen(0, &listener::call, nullptr), EINVAL);
    EXPECT_EQ(tarn_pressure_listen(1U << 20, &listener::call, nullptr), EINVAL);
    EXPECT_EQ(tarn_pressure_listen(TARN_PRESSURE_SOFT_LIMIT, nullptr, nullptr), EINVAL);
    EXPECT_EQ(tarn_pressure_unlisten(&listener::call, nullptr), ENOENT);
}

TEST(listeners, are_sixteen_at_a_time) {
    static char contexts[20];
    auto const add = [](char& context) {
        return tarn_pressure_listen(TARN_PRESSURE_HARD_LIMIT, &listener::call, &context);
    };
    for (int again = 0; again < 3; ++again) {
        for (int i = 0; i < 16; ++i) {
            EXPECT_EQ(add(contexts[i]), 0);
        }
        EXPECT_EQ(add(contexts[3]), 0);  // the same once more
        EXPECT_EQ(add(contexts[16]), ENOMEM);
        for (int i = 0; i < 16; ++i) {
            EXPECT_EQ(tarn_pressure_unlisten(&listener::call, &contexts[i]), 0);
        }
        EXPECT_EQ(tarn_pressure_unlisten(&listener::call, &contexts[3]), ENOENT);
    }
}

// Not under a limit of the machine's: what is listened to is whether anybody is called at all.
TEST(listeners, are_not_called_once_they_have_been_removed) {
    std::atomic<bool> stop{false};
    limited const here{held_purged() + 8 * mib, 0};
    std::thread grower{[&] {
        while (!stop) {
            heap_user user;
            user.take_all(mib, 40);
        }
    }};
    for (std::uint64_t i = 0; i < scaled(50); ++i) {
        std::atomic<int> calls{0};
        {
            pressure_listener const told{TARN_PRESSURE_SOFT_LIMIT,
                                         [&calls](tarn_pressure const&) { ++calls; }};
            while (calls == 0) {
                std::this_thread::yield();
            }
        }
        int const seen = calls;
        std::this_thread::yield();
        ASSERT_EQ(calls, seen);
    }
    stop = true;
    grower.join();
}

TEST(listeners, may_remove_themselves_inside_a_call) {
    struct once {
        int calls = 0;

        static void call(tarn_pressure const*, void* self) {
            ++static_cast<once*>(self)->calls;
            EXPECT_EQ(tarn_pressure_unlisten(&call, self), 0);
        }
    };

    once told;
    ASSERT_EQ(tarn_pressure_listen(TARN_PRESSURE_SOFT_LIMIT, &once::call, &told), 0);
    limited const here{held_purged() + 8 * mib, 0};
    heap_user user;
    user.take_all(mib, 30);
    EXPECT_EQ(told.calls, 1);
    EXPECT_EQ(tarn_pressure_unlisten(&once::call, &told), ENOENT);
}

TEST(limits_of_cpp, are_those_of_c) {
    EXPECT_THROW((limits{.soft_bytes = 2, .hard_bytes = 1}.apply()), std::invalid_argument);
    limits{.soft_bytes = gib, .hard_bytes = 2 * gib, .reserve_bytes = mib}.apply();
    limits const now = limits::current();
    EXPECT_EQ(now.soft_bytes, gib);
    EXPECT_EQ(now.hard_bytes, 2 * gib);
    EXPECT_EQ(now.reserve_bytes, mib);
    limits{}.apply();
    EXPECT_EQ(limits::current().hard_bytes, 0U);
    EXPECT_THROW((pressure_listener{1U << 20, [](tarn_pressure const&) {}}), std::invalid_argument);
}

TEST(soft_limit, gives_free_memory_back_and_tells) {
    if (under_emulation) {
        GTEST_SKIP() << "with larger slices the same blocks hold more";
    }
    heap_user user;
    user.blocks().reserve(10'000);
    listener told{TARN_PRESSURE_SOFT_LIMIT};
    std::uint64_t const start = held_purged();
    limited const here{start + 40 * mib, 0};
    user.take_all(100 * kib, 350);
    EXPECT_EQ(told.calls, 0);
    user.free_all();
    // Another 38 MiB of another size: with what was freed above the limit, without it below.
    user.take_all(mib, 38);
    EXPECT_EQ(told.calls, 0);
    user.take_all(mib, 20);
    EXPECT_GE(told.calls, 5);
    EXPECT_LE(told.calls, 21);
    EXPECT_EQ(told.last.kind, TARN_PRESSURE_SOFT_LIMIT);
    EXPECT_EQ(told.last.limit_bytes, start + 40 * mib);
    EXPECT_GT(told.last.held_bytes, told.last.limit_bytes);
}

TEST(soft_limit, is_kept_by_a_listener_that_frees) {
    heap_user user;
    user.blocks().reserve(10'000);
    listener told{TARN_PRESSURE_SOFT_LIMIT};
    limited const here{held_purged() + 40 * mib, 0};
    for (int i = 0; i < 30; ++i) {
        told.cache.push_back(tarn_malloc(mib));
    }
    user.take_all(mib, 20);
    EXPECT_EQ(told.calls, 1);
    EXPECT_TRUE(told.cache.empty());
    EXPECT_LE(held(), told.last.limit_bytes);
}

TEST(hard_limit, asks_listeners_before_it_refuses) {
    heap_user user;
    user.blocks().reserve(10'000);
    listener told{TARN_PRESSURE_HARD_LIMIT};
    limited const here{0, held_purged() + 40 * mib};
    told.cache.push_back(tarn_malloc(30 * mib));
    EXPECT_TRUE(user.take(20 * mib));
    EXPECT_EQ(told.calls, 1);
    EXPECT_EQ(told.last.kind, TARN_PRESSURE_HARD_LIMIT);
    EXPECT_EQ(told.last.wanted_bytes, 20 * mib);
    EXPECT_FALSE(user.take(100 * mib));  // asked, and nothing to free
    EXPECT_EQ(told.calls, 2);
}

}  // namespace
}  // namespace tarn::test
