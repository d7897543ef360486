#include "space/budget.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "support/build.hpp"

namespace {

using namespace tarn::impl::space;

TEST(budget, counts_without_a_limit) {
    budget all;
    EXPECT_TRUE(all.try_charge(100));
    all.charge(50);
    all.refund(30);
    EXPECT_EQ(all.charged(), 120U);
    EXPECT_FALSE(all.would_refuse(budget::unlimited - 120));
    EXPECT_EQ(all.refusals(), 0U);
}

TEST(budget, keeps_the_hard_limit_and_its_reserve) {
    budget all;
    all.set_hard_limit(1000, 100);
    EXPECT_TRUE(all.try_charge(900));
    EXPECT_FALSE(all.try_charge(1));
    EXPECT_TRUE(all.would_refuse(1));
    EXPECT_TRUE(all.try_charge(100, allowance::reserve));
    EXPECT_FALSE(all.try_charge(1, allowance::reserve));
    EXPECT_EQ(all.charged(), 1000U);
    EXPECT_EQ(all.refusals(), 2U);
    all.refund(200);
    EXPECT_TRUE(all.try_charge(100));
    EXPECT_FALSE(all.try_charge(budget::unlimited));
}

TEST(budget, of_less_than_is_charged_refuses_until_enough_is_refunded) {
    budget all;
    ASSERT_TRUE(all.try_charge(1000));
    all.set_hard_limit(500, 0);
    EXPECT_FALSE(all.try_charge(1));
    all.refund(501);
    EXPECT_TRUE(all.try_charge(1));
    EXPECT_FALSE(all.try_charge(1));
    all.set_hard_limit(0, 0);
    EXPECT_TRUE(all.try_charge(1'000'000));
}

TEST(budget, with_a_reserve_beyond_the_limit_serves_the_reserve_alone) {
    budget all;
    all.set_hard_limit(100, 200);
    EXPECT_FALSE(all.try_charge(1));
    EXPECT_TRUE(all.try_charge(100, allowance::reserve));
}

TEST(budget, says_when_more_is_charged_than_was_watched_for) {
    budget all;
    EXPECT_FALSE(all.is_above_watched());
    all.charge(10);
    EXPECT_FALSE(all.is_above_watched());
    all.watch(100, 10);
    all.charge(90);
    EXPECT_FALSE(all.is_above_watched());
    all.charge(1);
    EXPECT_TRUE(all.is_above_watched());
    all.watch(0, 0);
    EXPECT_FALSE(all.is_above_watched());
}

TEST(budget, watches_from_below_again_once_some_was_refunded) {
    budget all;
    all.charge(1000);
    all.watch(1010, 10);
    all.refund(500);
    all.charge(10);
    EXPECT_FALSE(all.is_above_watched());
    all.charge(1);
    EXPECT_TRUE(all.is_above_watched());
}

TEST(budget, is_never_passed_by_threads_together) {
    constexpr std::size_t hard = 1000;
    budget all;
    all.set_hard_limit(hard, 0);
    std::atomic<bool> passed{false};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (std::size_t thread = 1; thread <= 4; ++thread) {
        threads.emplace_back([&, thread] {
            std::size_t const bytes = 100 * thread;
            for (std::uint64_t i = 0; i < tarn::test::scaled(20'000); ++i) {
                if (all.try_charge(bytes)) {
                    passed = passed || all.charged() > hard;
                    all.refund(bytes);
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_FALSE(passed);
    EXPECT_EQ(all.charged(), 0U);
}

}  // namespace
