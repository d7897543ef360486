#include "space/stack_table.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "platform/fake/fake_os.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::impl;
using platform::fake_os;
using space::stack_id;
using stack = std::vector<void const*>;

struct same_hash {
    std::uint64_t operator()(std::span<void const* const>) const noexcept { return 42; }
};

/// Differs in the top bits alone: the trie is as deep as it can be.
struct late_hash {
    std::uint64_t operator()(std::span<void const* const> frames) const noexcept {
        return base::address_of(frames.front()) << 60;
    }
};

using table = space::stack_table<fake_os>;
using real_table = space::stack_table<platform::linux_os>;  // the fake one has locks

/// The n-th stack of many: no two are the same.
stack stack_of(std::uint64_t n, std::size_t depth = 8) {
    stack frames(depth);
    for (std::size_t i = 0; i < depth; ++i) {
        frames[i] = base::pointer_to(0x5555'0000'0000 + (n >> i % 8 * 2) % 1000 * 16 + i);
    }
    frames.back() = base::pointer_to(n);
    return frames;
}

bool holds(auto const& in, stack_id id, stack const& frames) {
    auto const kept = in.frames(id);
    return std::equal(kept.begin(), kept.end(), frames.begin(), frames.end());
}

class stack_table : public testing::Test {
protected:
    void SetUp() override { fake_os::reset(); }

    void TearDown() override { fake_os::reset(); }

    // Nothing is released, as in the library.
    std::unique_ptr<table> table_ = std::make_unique<table>();
};

TEST_F(stack_table, costs_nothing_until_used) {
    EXPECT_EQ(table_->count(), 0U);
    EXPECT_EQ(table_->committed_bytes(), 0U);
    EXPECT_EQ(table_->intern({}), stack_id::none);
    EXPECT_EQ(table_->count(), 0U);
    EXPECT_EQ(fake_os::count().commits, 0U);
}

TEST_F(stack_table, numbers_each_stack_once) {
    stack const first = stack_of(1);
    stack const second = stack_of(2);
    stack const longer = stack_of(1, 9);
    stack_id const one = table_->intern(first);
    stack_id const two = table_->intern(second);
    stack_id const three = table_->intern(longer);
    EXPECT_NE(one, stack_id::none);
    EXPECT_NE(one, two);
    EXPECT_NE(one, three);
    EXPECT_EQ(table_->intern(first), one);
    EXPECT_EQ(table_->intern(stack{second}), two);
    EXPECT_EQ(table_->intern(longer), three);
    EXPECT_EQ(table_->count(), 3U);
    EXPECT_TRUE(holds(*table_, one, first));
    EXPECT_TRUE(holds(*table_, two, second));
    EXPECT_TRUE(holds(*table_, three, longer));
}

TEST_F(stack_table, order_and_length_make_stacks_different) {
    std::array<void const*, 3> const frames{table_.get(), this, &*table_ + 1};
    std::set<stack_id> ids;
    for (std::size_t first = 0; first < 3; ++first) {
        for (std::size_t count = 1; first + count <= 3; ++count) {
            ids.insert(table_->intern(std::span{frames}.subspan(first, count)));
        }
    }
    ids.insert(table_->intern(std::array<void const*, 3>{frames[2], frames[1], frames[0]}));
    ids.insert(table_->intern(std::array<void const*, 2>{frames[0], nullptr}));
    EXPECT_EQ(ids.size(), 8U);
    EXPECT_EQ(table_->count(), 8U);
}

TEST_F(stack_table, answers_for_any_number) {
    stack_id const last = table_->intern(stack_of(1));
    auto const number = static_cast<std::uint32_t>(last);
    for (std::uint32_t const other :
         {0U, number + 1, number + 4096, 0x7fff'ffffU, 0x8000'0000U, 0xffff'ffffU}) {
        EXPECT_TRUE(table_->frames(static_cast<stack_id>(other)).empty()) << other;
    }
}

TEST_F(stack_table, keeps_the_innermost_frames_of_a_long_stack) {
    stack const all = stack_of(7, table::frames_max + 5);
    stack_id const id = table_->intern(all);
    EXPECT_TRUE(holds(*table_, id, stack(all.begin(), all.begin() + table::frames_max)));
    EXPECT_EQ(table_->intern(stack_of(7, table::frames_max)) == id, false);  // its last one differs
}

TEST_F(stack_table, grows_to_many_stacks) {
    std::uint64_t const count = tarn::test::is_slow ? 20'000 : 200'000;
    std::vector<stack_id> ids(count);
    for (std::uint64_t n = 0; n < count; ++n) {
        ids[n] = table_->intern(stack_of(n));
        ASSERT_NE(ids[n], stack_id::none);
    }
    EXPECT_EQ(table_->count(), count);
    for (std::uint64_t n = 0; n < count; ++n) {
        ASSERT_EQ(table_->intern(stack_of(n)), ids[n]);
        ASSERT_TRUE(holds(*table_, ids[n], stack_of(n)));
    }
    EXPECT_EQ(table_->count(), count);
    EXPECT_LE(table_->committed_bytes(), count * (8 * 8 + 60) + 256 * KiB);
}

template <class Hash>
void expect_all_kept(std::uint64_t count) {
    fake_os::reset();
    auto const other = std::make_unique<space::stack_table<fake_os, Hash>>();
    std::set<stack_id> ids;
    for (int round = 0; round < 2; ++round) {
        for (std::uint64_t n = 0; n < count; ++n) {
            stack_id const id = other->intern(stack_of(n));
            ids.insert(id);
            ASSERT_TRUE(holds(*other, id, stack_of(n)));
        }
    }
    EXPECT_EQ(ids.size(), count);
    EXPECT_EQ(other->count(), count);
}

TEST_F(stack_table, needs_no_good_hash) {
    expect_all_kept<same_hash>(300);
    expect_all_kept<late_hash>(300);
}

// Every call of the system refused once: the stack is not kept then, all others are, and it is
// the next time.
TEST_F(stack_table, loses_nothing_when_memory_is_refused) {
    constexpr std::uint64_t count = 3000;
    for (std::uint64_t n = 0; n < 40; ++n) {
        fake_os::reset();
        auto const fresh = std::make_unique<table>();
        fake_os::control().fail_after = n;
        fake_os::control().failures_max = 1;
        std::vector<stack_id> ids;
        std::uint64_t refused = 0;
        while (ids.size() < count) {
            stack_id const id = fresh->intern(stack_of(ids.size()));
            if (id == stack_id::none) {
                ++refused;
            } else {
                ids.push_back(id);
            }
        }
        EXPECT_EQ(refused, fake_os::count().failures) << n;
        EXPECT_EQ(fresh->count(), count);
        for (std::uint64_t i = 0; i < count; ++i) {
            ASSERT_TRUE(holds(*fresh, ids[i], stack_of(i)));
            ASSERT_EQ(fresh->intern(stack_of(i)), ids[i]);
        }
        if (refused == 0) {
            EXPECT_GE(n, 5U);
            return;
        }
    }
    FAIL() << "more system calls than steps";
}

TEST_F(stack_table, out_of_memory_for_long_does_not_use_numbers_up) {
    stack_id const first = table_->intern(stack_of(0));
    fake_os::control().fail_after = 0;
    std::uint64_t n = 1;
    while (table_->intern(stack_of(n)) != stack_id::none) {
        ++n;
    }
    for (int i = 0; i < 10'000; ++i) {
        ASSERT_EQ(table_->intern(stack_of(n)), stack_id::none);
    }
    EXPECT_EQ(table_->count(), n);
    EXPECT_EQ(table_->intern(stack_of(0)), first);  // known ones need no memory
    fake_os::control().fail_after = fake_os::never;
    auto const next = static_cast<std::uint32_t>(table_->intern(stack_of(n)));
    EXPECT_EQ(next, static_cast<std::uint32_t>(first) + n);
}

/// Threads intern stacks that all share, in different orders, and some of their own.
template <class Table>
void expect_one_number_for_each(Table& of) {
    constexpr std::uint64_t threads = 3;
    std::uint64_t const shared = tarn::test::scaled(6000);
    std::uint64_t const own = shared / 4;
    std::vector<std::vector<stack_id>> ids(threads);
    std::vector<std::thread> workers;
    std::atomic<unsigned> ready{0};
    for (std::uint64_t worker = 0; worker < threads; ++worker) {
        workers.emplace_back([&, worker] {
            ids[worker].resize(shared + own);
            ready.fetch_add(1);
            while (ready.load() < threads) {
            }
            for (std::uint64_t i = 0; i < shared; ++i) {
                std::uint64_t const n = worker == 1 ? shared - 1 - i : i;
                ids[worker][n] = of.intern(stack_of(n));
                if (i < own) {
                    ids[worker][shared + i] = of.intern(stack_of((worker + 1) << 32 | i));
                }
            }
        });
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(of.count(), shared + threads * own);
    std::set<stack_id> all;
    for (std::uint64_t worker = 0; worker < threads; ++worker) {
        for (std::uint64_t n = 0; n < shared + own; ++n) {
            stack const expected =
                n < shared ? stack_of(n) : stack_of((worker + 1) << 32 | (n - shared));
            ASSERT_TRUE(holds(of, ids[worker][n], expected)) << n;
            all.insert(ids[worker][n]);
        }
    }
    EXPECT_EQ(all.size(), of.count());
}

TEST_F(stack_table, serves_threads_at_once) { expect_one_number_for_each(*table_); }

// A fork at any moment of other threads' insertions: the child goes on.
TEST_F(stack_table, serves_a_child_forked_amid_insertions) {
    if (tarn::test::under_tsan || tarn::test::under_asan || tarn::test::under_emulation) {
        GTEST_SKIP() << "neither a sanitizer nor an emulator follows a fork of several threads";
    }
    auto const of = std::make_unique<real_table>();
    std::atomic<bool> stop{false};
    std::vector<std::thread> workers;
    for (std::uint64_t worker = 1; worker <= 2; ++worker) {
        workers.emplace_back([&, worker] {
            for (std::uint64_t n = 0; !stop.load() && n < 2'000'000; ++n) {
                of->intern(stack_of(worker << 32 | n));
            }
        });
    }
    int failed = 0;
    for (int i = 0; i < (tarn::test::is_slow ? 5 : 40); ++i) {
        pid_t const child = ::fork();
        if (child == 0) {
            for (std::uint64_t n = 0; n < 2000; ++n) {
                stack const frames = stack_of((3 + n % 2) << 32 | n);
                stack_id const id = of->intern(frames);
                if (!holds(*of, id, frames) || of->intern(frames) != id) {
                    ::_exit(1);
                }
            }
            for (std::uint64_t n = 0; n < 500; ++n) {
                if (!holds(*of, of->intern(stack_of(1ULL << 32 | n)), stack_of(1ULL << 32 | n))) {
                    ::_exit(2);
                }
            }
            ::_exit(0);
        }
        ASSERT_GT(child, 0);
        int status = 0;
        ::waitpid(child, &status, 0);
        failed += status != 0 ? 1 : 0;
    }
    stop = true;
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(failed, 0);
}

}  // namespace
