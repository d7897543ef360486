// hazard_stack_test - hazard_stack with nodes of the heap: what is pushed comes out, is reclaimed
// once and no sooner than nobody reads it, and a close while others pop ends well.
#include "tarn/detail/hazard_stack.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using tarn::detail::std_atomics;

constexpr unsigned guests_most = 5;

using stack = tarn::detail::hazard_stack<std_atomics, guests_most>;

struct item : stack::node {
    explicit item(std::uint64_t of) : stamp{of}, copy{of} {}

    std::uint64_t stamp;  // not atomic: TSan sees a hand-over that does not order
    std::uint64_t copy;
};

/// Deletes; a node that somebody still reads would then be seen by AddressSanitizer.
void reclaim(stack::node& gone, void* count) noexcept {
    static_cast<std::atomic<std::uint64_t>*>(count)->fetch_add(1, std::memory_order_relaxed);
    delete static_cast<item*>(&gone);
}

/// False: the stack is closed.
bool push_new(stack::guest& by, std::uint64_t stamp) {
    auto fresh = std::make_unique<item>(stamp);
    bool const is_in = by.push(*fresh);
    if (is_in) {
        static_cast<void>(fresh.release());
    }
    return is_in;
}

TEST(hazard_stack, is_last_in_first_out) {
    std::atomic<std::uint64_t> reclaimed{0};
    {
        stack items{&reclaim, &reclaimed};
        stack::guest me{items};
        EXPECT_EQ(me.pop(), nullptr);
        for (std::uint64_t i = 0; i < 100; ++i) {
            ASSERT_TRUE(push_new(me, i));
        }
        for (std::uint64_t i = 100; i-- > 0;) {
            auto* const each = static_cast<item*>(me.pop());
            ASSERT_NE(each, nullptr);
            EXPECT_EQ(each->stamp, i);
            me.retire(*each);
        }
        EXPECT_EQ(me.pop(), nullptr);
        EXPECT_GE(reclaimed, 90U);  // as many may wait as two for each guest
        me.scan();
        EXPECT_EQ(reclaimed, 100U);
    }
    EXPECT_EQ(reclaimed, 100U);
}

TEST(hazard_stack, closes_for_good) {
    std::atomic<std::uint64_t> reclaimed{0};
    stack items{&reclaim, &reclaimed};
    stack::guest me{items};
    stack::guest other{items};
    for (std::uint64_t i = 0; i < 10; ++i) {
        ASSERT_TRUE(push_new(me, i));
    }
    other.close();
    EXPECT_EQ(reclaimed, 10U);
    EXPECT_EQ(me.pop(), nullptr);
    item late{1};
    EXPECT_FALSE(me.push(late));
    me.close();
    EXPECT_EQ(reclaimed, 10U);
}

TEST(hazard_stack, has_so_many_guests) {
    std::atomic<std::uint64_t> reclaimed{0};
    stack items{&reclaim, &reclaimed};
    std::vector<std::unique_ptr<stack::guest>> guests;
    guests.reserve(guests_most);
    for (unsigned i = 0; i < guests_most; ++i) {
        guests.push_back(std::make_unique<stack::guest>(items));
    }
    EXPECT_THROW(stack::guest{items}, std::length_error);
    guests.pop_back();
    stack::guest const again{items};
}

/// Pushes, pops and retires until the stack is closed. Returns what it made.
std::uint64_t use(stack& items, std::uint64_t seed, std::atomic<std::uint64_t>& wrong) {
    tarn::test::random_stream random{seed};
    std::uint64_t made = 0;
    for (;;) {
        stack::guest me{items};  // comes and goes
        std::uint64_t const stay = random.between(1, 2000);
        for (std::uint64_t i = 0; i < stay; ++i) {
            if (random.one_in(2)) {
                if (!push_new(me, random.next())) {
                    return made;
                }
                ++made;
            } else if (auto* const each = static_cast<item*>(me.pop()); each != nullptr) {
                if (each->stamp != each->copy) {
                    wrong.fetch_add(1, std::memory_order_relaxed);
                }
                each->copy = ~each->stamp;
                me.retire(*each);
            }
        }
    }
}

// TARN_SEED=n gives every thread the same operations again.
TEST(hazard_stack, is_used_by_many_and_closed_meanwhile) {
    char const* const given = tarn::test::environment("TARN_SEED");
    std::uint64_t const seed =
        given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    SCOPED_TRACE(testing::Message() << "TARN_SEED=" << seed);
    tarn::test::random_stream seeds{seed};
    constexpr std::size_t threads = 4;
    std::uint64_t const rounds = tarn::test::scaled(40);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        std::atomic<std::uint64_t> reclaimed{0};
        std::atomic<std::uint64_t> wrong{0};
        std::atomic<std::uint64_t> made{0};
        {
            stack items{&reclaim, &reclaimed};
            std::vector<std::thread> running;
            for (std::size_t i = 0; i < threads; ++i) {
                running.emplace_back(
                    [&, mine = seeds.next()] { made.fetch_add(use(items, mine, wrong)); });
            }
            while (reclaimed.load() < 3000) {
                std::this_thread::yield();
            }
            {
                stack::guest me{items};
                me.close();
            }
            for (std::thread& thread : running) {
                thread.join();
            }
        }
        EXPECT_EQ(reclaimed, made);
        EXPECT_EQ(wrong, 0U);
    }
}

}  // namespace
