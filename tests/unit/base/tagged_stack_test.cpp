#include "base/tagged_stack.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "support/fatal_text.hpp"

namespace {

using tarn::impl::base::node_index;
using tarn::impl::base::tagged_stack;

constexpr node_index none = node_index::none;

constexpr node_index index_of(std::size_t number) { return static_cast<node_index>(number); }

/// Nodes 1 to Count.
template <std::size_t Count>
struct node_pool {
    std::array<std::atomic<node_index>, Count + 1> links{};

    auto link_of() {
        return [this](node_index node) -> std::atomic<node_index>& {
            return links[static_cast<std::size_t>(node)];
        };
    }
};

TEST(tagged_stack, starts_empty) {
    constinit static tagged_stack stack;
    node_pool<1> pool;
    EXPECT_EQ(stack.pop(pool.link_of()), none);
    EXPECT_EQ(stack.peek(), none);
}

TEST(tagged_stack, is_last_in_first_out) {
    tagged_stack stack;
    node_pool<8> pool;
    for (std::size_t i = 1; i <= 8; ++i) {
        stack.push(index_of(i), pool.link_of());
        EXPECT_EQ(stack.peek(), index_of(i));
    }
    for (std::size_t i = 8; i >= 1; --i) {
        EXPECT_EQ(stack.pop(pool.link_of()), index_of(i));
    }
    EXPECT_EQ(stack.pop(pool.link_of()), none);
}

TEST(tagged_stack, holds_the_largest_index) {
    tagged_stack stack;
    std::atomic<node_index> link{none};
    auto const link_of = [&](node_index) -> std::atomic<node_index>& { return link; };
    auto const largest = index_of((std::size_t{1} << tarn::impl::base::node_index_bits) - 1);
    for (int round = 0; round < 3; ++round) {
        stack.push(largest, link_of);
        EXPECT_EQ(stack.pop(link_of), largest);
        EXPECT_EQ(stack.pop(link_of), none);
    }
}

// The head goes away and comes back between a pop's two steps, with another link behind it: a
// stack without tags would hand out node 2, which somebody owns.
TEST(tagged_stack, is_not_fooled_by_a_head_that_comes_back) {
    tagged_stack stack;
    node_pool<3> pool;
    auto const link_of = pool.link_of();
    stack.push(index_of(3), link_of);
    stack.push(index_of(2), link_of);
    stack.push(index_of(1), link_of);
    bool disturbed = false;
    auto const disturbing = [&](node_index node) -> std::atomic<node_index>& {
        if (!disturbed) {
            disturbed = true;
            // Read before the change, as the stalled thread would have.
            static std::atomic<node_index> stale{none};
            stale = link_of(node).load();
            EXPECT_EQ(stack.pop(link_of), index_of(1));
            EXPECT_EQ(stack.pop(link_of), index_of(2));
            stack.push(index_of(1), link_of);
            return stale;
        }
        return link_of(node);
    };
    EXPECT_EQ(stack.pop(disturbing), index_of(1));
    EXPECT_TRUE(disturbed);
    EXPECT_EQ(stack.pop(link_of), index_of(3));  // not 2
    EXPECT_EQ(stack.pop(link_of), none);
}

// Each node has one holder at a time, who sees all that the one before wrote.
TEST(tagged_stack, passes_nodes_between_threads) {
    constexpr std::size_t count = 16;
    constexpr std::size_t threads = 4;
    constexpr int rounds = 20'000;
    tagged_stack stack;
    auto pool = std::make_unique<node_pool<count>>();

    struct payload {
        std::uint64_t uses = 0;  // not atomic: TSan sees a hand-over that does not order
        std::uint64_t copy = 0;
    };

    std::array<payload, count + 1> payloads{};
    for (std::size_t i = 1; i <= count; ++i) {
        stack.push(index_of(i), pool->link_of());
    }
    std::atomic<std::uint64_t> total{0};
    std::vector<std::thread> workers;
    for (std::size_t worker = 0; worker < threads; ++worker) {
        workers.emplace_back([&] {
            std::array<node_index, 3> held{};
            std::uint64_t used = 0;
            for (int round = 0; round < rounds; ++round) {
                for (node_index& each : held) {
                    each = stack.pop(pool->link_of());
                    if (each != none) {
                        payload& mine = payloads[static_cast<std::size_t>(each)];
                        ASSERT_EQ(mine.uses, mine.copy);
                        ++mine.uses;
                        ++used;
                    }
                }
                for (node_index const each : held) {
                    if (each != none) {
                        payload& mine = payloads[static_cast<std::size_t>(each)];
                        ++mine.copy;
                        stack.push(each, pool->link_of());
                    }
                }
            }
            total.fetch_add(used);
        });
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    std::uint64_t uses = 0;
    for (payload const& each : payloads) {
        EXPECT_EQ(each.uses, each.copy);
        uses += each.uses;
    }
    EXPECT_EQ(uses, total);
    std::array<bool, count + 1> present{};
    for (std::size_t i = 0; i < count; ++i) {
        auto const node = static_cast<std::size_t>(stack.pop(pool->link_of()));
        ASSERT_NE(node, 0U);
        EXPECT_FALSE(present[node]);
        present[node] = true;
    }
    EXPECT_EQ(stack.pop(pool->link_of()), none);
}

#if TARN_CHECK_LEVEL >= 1

TEST(tagged_stack_death, refuses_an_index_that_does_not_fit) {
    tarn::test::show_fatal_text();
    tagged_stack stack;
    node_pool<1> pool;
    EXPECT_DEATH(stack.push(none, pool.link_of()), "check failed");
    EXPECT_DEATH(stack.push(index_of(std::size_t{1} << 27), pool.link_of()), "check failed");
}

#endif

}  // namespace
