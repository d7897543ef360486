#include "tarn/shm/magazine.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <vector>

#include "shm/shm_support.hpp"

namespace {

using namespace tarn::test;
using tarn::shm::errc;
using tarn::shm::held;
using tarn::shm::magazine;
using tarn::shm::magazine_loan;
using tarn::shm::pool_manager;
using tarn::shm::segment;
using tarn::shm::segment_config;

TEST(ShmMagazine, TakesInBatchesAndGivesAllBack) {
    segment const in = small_segment(100, 64);
    pool_manager const pools{in};
    {
        magazine mine{pools, 0, 8};
        EXPECT_EQ(pools.pool(0)->free, 64U);
        magazine_loan one = mine.allocate();
        ASSERT_TRUE(one);
        EXPECT_EQ(one.bytes().size(), 100U);
        EXPECT_EQ(pools.pool(0)->free, 60U);
        EXPECT_EQ(mine.size(), 3U);
        std::byte* const where = one.bytes().data();
        one.release();
        EXPECT_FALSE(one);
        EXPECT_EQ(mine.allocate().bytes().data(), where);
        EXPECT_EQ(mine.size(), 4U);
        mine.clear();
        EXPECT_EQ(pools.pool(0)->free, 64U);
        EXPECT_TRUE(mine.allocate());
    }
    EXPECT_EQ(pools.pool(0)->free, 64U);
    EXPECT_EQ(in.audit(), 0);
}

TEST(ShmMagazine, KeepsNoMoreThanItsCapacity) {
    segment const in = small_segment(100, 200);
    pool_manager const pools{in};
    magazine mine{pools, 0, 16};
    std::vector<magazine_loan> lent;
    for (int i = 0; i < 200; ++i) {
        lent.push_back(mine.allocate());
        ASSERT_TRUE(lent.back()) << i;
    }
    EXPECT_FALSE(mine.allocate());
    EXPECT_EQ(pools.pool(0)->free, 0U);
    while (!lent.empty()) {
        lent.pop_back();
        ASSERT_LE(mine.size(), 16U);
    }
    EXPECT_EQ(pools.pool(0)->free + mine.size(), 200U);
}

TEST(ShmMagazine, EveryLoanIsAnotherChunk) {
    segment const in = small_segment(8, 130);
    magazine mine{pool_manager{in}, 0, 64};
    std::vector<magazine_loan> lent;
    for (std::size_t i = 0; i < 130; ++i) {
        lent.push_back(mine.allocate());
        ASSERT_TRUE(lent.back());
        new (lent.back().bytes().data()) std::uint64_t{i};
    }
    for (std::size_t i = 0; i < 130; ++i) {
        EXPECT_EQ(*reinterpret_cast<std::uint64_t*>(lent[i].bytes().data()), i);
    }
}

TEST(ShmMagazine, WhatIsSharedDoesNotComeBackToIt) {
    segment const in = small_segment(100, 4);
    segment const other = segment::attach_descriptor(in.descriptor()).value();
    pool_manager const pools{in};
    magazine mine{pools, 0, 2};
    magazine_loan one = mine.allocate();
    new (one.bytes().data()) std::uint64_t{42};
    EXPECT_EQ(std::move(one).share(101).error().code, errc::invalid);
    ASSERT_TRUE(one);  // NOLINT(bugprone-use-after-move): a refusal leaves it
    held sent = std::move(one).share(8).value();
    one.release();  // NOLINT(bugprone-use-after-move): there is nothing left to give
    EXPECT_EQ(mine.size(), 0U);
    held got = pool_manager{other}.hold(sent.reference()).value();
    EXPECT_EQ(got.bytes().size(), 8U);
    EXPECT_EQ(*got.as<std::uint64_t>(), 42U);
    sent.release();
    got.release();
    EXPECT_EQ(mine.size(), 0U);
    EXPECT_EQ(pools.pool(0)->free, 4U);
    EXPECT_EQ(magazine_loan{}.share(1).error().code, errc::not_held);
}

TEST(ShmMagazine, ItsPoolGrowsForIt) {
    segment const in =
        segment::create_anonymous(
            segment_config{}.add_pool({.chunk_bytes = 100, .count = 2, .count_most = 6}))
            .value();
    magazine mine{pool_manager{in}, 0, 4};
    std::vector<magazine_loan> lent;
    while (magazine_loan one = mine.allocate()) {
        lent.push_back(std::move(one));
    }
    EXPECT_EQ(lent.size(), 6U);
}

TEST(ShmMagazine, UserHeadersAreFound) {
    segment const in =
        segment::create_anonymous(
            segment_config{}.add_pool(
                {.chunk_bytes = 200, .count = 2, .alignment = 64, .user_header_bytes = 32}))
            .value();
    magazine mine{pool_manager{in}, 0, 1};
    magazine_loan one = mine.allocate();
    ASSERT_NE(one.user_header<std::uint64_t>(), nullptr);
    *one.user_header<std::uint64_t>() = 9;
    EXPECT_EQ(one.bytes().size(), 168U);
    held const sent = std::move(one).share(1).value();
    EXPECT_EQ(*sent.user_header<std::uint64_t>(), 9U);
}

TEST(ShmMagazine, AKilledProcessLosesNoneOfIts) {
    segment const mine = small_segment(100, 64);
    two_ends ends;
    pid_t const child = ends.start([&] {
        auto const own = segment::attach_descriptor(mine.descriptor());
        magazine kept{pool_manager{*own}, 0, 32};
        magazine_loan const lent = kept.allocate();
        two_ends::tell(ends.childs(), lent ? 1 : 2);
        two_ends::hear(ends.childs());
        return 0;
    });
    ASSERT_EQ(two_ends::hear(ends.mine()), 1U);
    EXPECT_EQ(pool_manager{mine}.pool(0)->free, 48U);
    ::kill(child, SIGKILL);
    wait_for(child);
    EXPECT_EQ(mine.recover().value(), 1);
    EXPECT_EQ(pool_manager{mine}.pool(0)->free, 64U);
}

TEST(ShmMagazine, AChildsCopyGivesNothingOfItsParentsBack) {
    segment const in = small_segment(100, 64);
    magazine mine{pool_manager{in}, 0, 32};
    magazine_loan const lent = mine.allocate();
    EXPECT_EQ(ending(run_in_child(60,
                                  [&] {
                                      mine.clear();
                                      return 0;
                                  })),
              0);
    EXPECT_EQ(pool_manager{in}.pool(0)->free, 48U);
}

}  // namespace
