#include "space/record_table.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "base/bits.hpp"
#include "base/units.hpp"
#include "platform/fake/fake_os.hpp"

namespace {

using namespace tarn::impl;
using platform::fake_os;

struct alignas(128) record {
    std::array<std::uint64_t, 8> payload;
    std::atomic<std::uint64_t> holders;
    std::atomic<base::node_index> node_link;
    base::node_index self_index;
};

static_assert(sizeof(record) == 128);

using table = space::record_table<record, fake_os, base::lock_rank::page_records>;

class record_table : public testing::Test {
protected:
    void SetUp() override { fake_os::reset(); }

    void TearDown() override { fake_os::reset(); }

    // Nothing is released, as in the library.
    std::unique_ptr<table> table_ = std::make_unique<table>();
};

TEST_F(record_table, costs_nothing_until_used) {
    EXPECT_EQ(table_->committed_bytes(), 0U);
    EXPECT_EQ(table_->reserved_bytes(), 0U);
    table_->for_each([](record&) { FAIL(); });
    base::tagged_stack empty;
    EXPECT_EQ(table_->pop(empty), base::node_index::none);
}

TEST_F(record_table, hands_out_zero_records_apart_from_each_other) {
    constexpr std::size_t count = 20'000;  // more than two chunks of 1 MiB
    std::set<record*> all;
    for (std::size_t i = 0; i < count; ++i) {
        record* const each = table_->allocate();
        ASSERT_NE(each, nullptr);
        ASSERT_TRUE(base::is_aligned(base::address_of(each), alignof(record)));
        ASSERT_TRUE(all.insert(each).second);
        ASSERT_NE(each->self_index, base::node_index::none);
        ASSERT_EQ(table_->at(each->self_index), each);
        ASSERT_TRUE(std::all_of(each->payload.begin(), each->payload.end(),
                                [](std::uint64_t word) { return word == 0; }));
        ASSERT_EQ(each->node_link.load(), base::node_index::none);
        each->payload.fill(i + 1);
    }
    std::size_t visited = 0;
    table_->for_each([&](record& each) {
        ASSERT_TRUE(all.contains(&each));
        ++visited;
        ASSERT_EQ(each.payload[7], visited);  // nobody wrote into its neighbour
    });
    EXPECT_EQ(visited, count);
    EXPECT_GE(table_->committed_bytes(), count * sizeof(record));
    EXPECT_LE(table_->committed_bytes(), count * sizeof(record) + 64 * KiB);
    EXPECT_EQ(table_->reserved_bytes(), 3 * MiB);
}

TEST_F(record_table, recycles_records_as_they_are) {
    record* const first = table_->allocate();
    record* const second = table_->allocate();
    first->payload.fill(7);
    base::node_index const index = first->self_index;
    table_->deallocate(*first);
    EXPECT_EQ(table_->at(index), first);  // still readable
    EXPECT_EQ(first->payload[3], 7U);
    EXPECT_EQ(table_->allocate(), first);
    EXPECT_EQ(first->self_index, index);
    EXPECT_EQ(first->payload[3], 7U);
    table_->deallocate(*second);
    table_->deallocate(*first);
    int visited = 0;
    table_->for_each([&](record&) { ++visited; });  // free ones too
    EXPECT_EQ(visited, 2);
    EXPECT_EQ(table_->allocate(), first);
    EXPECT_EQ(table_->allocate(), second);
}

TEST_F(record_table, keeps_stacks_of_its_records) {
    base::tagged_stack stack;
    std::vector<record*> all;
    for (int i = 0; i < 10; ++i) {
        all.push_back(table_->allocate());
        table_->push(stack, *all.back());
    }
    for (auto each = all.rbegin(); each != all.rend(); ++each) {
        EXPECT_EQ(table_->at(table_->pop(stack)), *each);
    }
    EXPECT_EQ(table_->pop(stack), base::node_index::none);
}

TEST_F(record_table, says_null_when_memory_is_refused_and_goes_on_later) {
    constexpr int count = 9000;  // crosses a chunk
    for (std::uint64_t n = 0; n < 40; ++n) {
        fake_os::reset();
        auto const fresh = std::make_unique<table>();
        fake_os::control().fail_after = n;
        fake_os::control().failures_max = 1;
        std::set<record*> all;
        int refused = 0;
        while (all.size() < count) {
            record* const each = fresh->allocate();
            if (each == nullptr) {
                ++refused;
                continue;
            }
            ASSERT_TRUE(all.insert(each).second);
            each->payload.fill(all.size());
        }
        EXPECT_EQ(refused, static_cast<int>(fake_os::count().failures)) << n;
        if (refused == 0) {
            EXPECT_GE(n, 2U + 9000 / 512);
            return;
        }
    }
    FAIL() << "more system calls than 64 KiB steps";
}

// A record has one holder at a time, and all threads together get no more memory than they use.
TEST_F(record_table, serves_threads_at_once) {
    constexpr int threads = 4;
    constexpr int rounds = 300;
    constexpr std::size_t held = 40;
    std::vector<std::thread> workers;
    workers.reserve(threads);
    std::atomic<int> clashes{0};
    for (int worker = 0; worker < threads; ++worker) {
        workers.emplace_back([&] {
            std::array<record*, held> mine{};
            for (int round = 0; round < rounds; ++round) {
                for (record*& each : mine) {
                    each = table_->allocate();
                    if (each == nullptr || each->holders.fetch_add(1) != 0) {
                        clashes.fetch_add(1);
                        return;
                    }
                    each->payload[0] = each->payload[1] + 1;  // TSan sees a missing hand-over
                }
                for (record* const each : mine) {
                    each->payload[1] = each->payload[0];
                    each->holders.fetch_sub(1);
                    table_->deallocate(*each);
                }
            }
        });
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(clashes.load(), 0);
    std::size_t records = 0;
    table_->for_each([&](record& each) {
        ++records;
        EXPECT_EQ(each.payload[0], each.payload[1]);
    });
    EXPECT_LE(records, threads * held);
    EXPECT_EQ(table_->committed_bytes(), 64 * KiB);
}

TEST_F(record_table, stays_usable_after_a_fork_is_prepared) {
    table_->lock_for_fork();
    table_->unlock_after_fork();
    EXPECT_NE(table_->allocate(), nullptr);
}

}  // namespace
