#include "tarn/shm/pool_manager.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <unordered_set>
#include <vector>

#include "shm/shm_support.hpp"

namespace {

using namespace tarn::test;
using namespace std::chrono_literals;
using tarn::shm::errc;
using tarn::shm::held;
using tarn::shm::loan;
using tarn::shm::pool_manager;
using tarn::shm::reference;
using tarn::shm::segment;
using tarn::shm::segment_config;

TEST(ShmPools, ALoanIsWhatWasAskedForAndComesBack) {
    segment const in = small_segment(200, 3);
    pool_manager const pools{in};
    {
        loan one = pools.allocate(150).value();
        EXPECT_EQ(one.bytes().size(), 150U);
        EXPECT_EQ(one.capacity(), 200U);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.bytes().data()) % 64, 0U);
        std::memset(one.bytes().data(), 1, one.bytes().size());
        EXPECT_TRUE(one.resize(200));
        EXPECT_FALSE(one.resize(201));
        EXPECT_EQ(one.bytes().size(), 200U);
        EXPECT_EQ(pools.pool(0)->free, 2U);
        loan two{std::move(one)};
        EXPECT_FALSE(one);  // NOLINT(bugprone-use-after-move): that it is empty is promised
        two = pools.allocate(1).value();
        EXPECT_EQ(pools.pool(0)->free, 2U);
    }
    EXPECT_EQ(pools.pool(0)->free, 3U);
    EXPECT_EQ(in.audit(), 0);
}

TEST(ShmPools, RefusalsAreNamed) {
    segment const in = small_segment(200, 1);
    pool_manager const pools{in};
    EXPECT_EQ(pools.allocate(201).error().code, errc::too_large);
    EXPECT_EQ(pools.allocate(1, 4096).error().code, errc::too_large);
    EXPECT_EQ(pools.allocate(1, 48).error().code, errc::invalid);
    loan const all = pools.allocate(1).value();
    EXPECT_EQ(pools.allocate(1).error().code, errc::exhausted);
    EXPECT_EQ(pools.allocate(1, 0, {.wait = 30ms}).error().code, errc::exhausted);
    EXPECT_EQ(pools.pool(1).error().code, errc::invalid);
    EXPECT_FALSE(pools.pool_for(201));
    EXPECT_EQ(pools.pool_for(200), 0U);
}

TEST(ShmPools, SharedChunksLiveAsLongAsSomebodyHoldsThem) {
    segment const one = small_segment(200, 1);
    segment const two = segment::attach_descriptor(one.descriptor()).value();
    pool_manager const writer{one};
    pool_manager const reader{two};
    loan written = writer.allocate(5).value();
    std::memcpy(written.bytes().data(), "hello", 5);
    held sent = std::move(written).share().value();
    EXPECT_FALSE(written);  // NOLINT(bugprone-use-after-move): that it is empty is promised
    EXPECT_EQ(sent.sequence(), 1U);
    EXPECT_EQ(sent.origin(), one.info().client);
    EXPECT_EQ(sent.reference().segment(), one.id());
    EXPECT_EQ(sent.reference().pool(), 0U);

    held got = reader.hold(sent.reference()).value();
    EXPECT_EQ(got.bytes().size(), 5U);
    EXPECT_EQ(std::memcmp(got.bytes().data(), "hello", 5), 0);
    EXPECT_EQ(reader.holders(got.reference()).value(), 3U);
    reference const name = sent.reference();
    sent.release();
    EXPECT_EQ(reader.holders(name).value(), 2U);
    held again = got;
    got.release();
    EXPECT_EQ(writer.allocate(1).error().code, errc::exhausted);
    EXPECT_EQ(std::memcmp(again.bytes().data(), "hello", 5), 0);
    again.release();
    EXPECT_EQ(reader.holders(name).error().code, errc::stale);
    EXPECT_EQ(writer.hold(name).error().code, errc::stale);
    EXPECT_TRUE(writer.allocate(1));
    EXPECT_EQ(one.audit(), 0);
}

TEST(ShmPools, AStaleReferenceDoesNotReachTheNextUser) {
    segment const in = small_segment(200, 1);
    pool_manager const pools{in};
    reference old;
    {
        held const first = pools.allocate(1).value().share().value();
        old = first.reference();
    }
    held const next = pools.allocate(1).value().share().value();
    EXPECT_EQ(next.reference().number(), old.number());
    EXPECT_NE(next.reference(), old);
    EXPECT_EQ(pools.hold(old).error().code, errc::stale);
    EXPECT_EQ(pools.holders(old).error().code, errc::stale);
    EXPECT_EQ(tarn_shm_release(in.handle(), old.value()), TARN_SHM_NOT_HELD);
    EXPECT_EQ(pools.holders(next.reference()).value(), 1U);
}

TEST(ShmPools, ForeignAndMadeUpReferencesAreRefused) {
    segment const in = small_segment(200, 2);
    segment const other = small_segment(200, 2);
    pool_manager const pools{in};
    held const theirs = pool_manager{other}.allocate(1).value().share().value();
    if (in.id() != other.id()) {
        EXPECT_EQ(pools.hold(theirs.reference()).error().code, errc::invalid);
    }
    for (std::uint64_t const made_up : {std::uint64_t{0}, ~std::uint64_t{0}}) {
        EXPECT_EQ(pools.hold(reference{made_up}).error().code, errc::invalid);
        EXPECT_EQ(pools.adopt(reference{made_up}).error().code, errc::not_held);
        EXPECT_NE(tarn_shm_release(in.handle(), made_up), TARN_SHM_OK);
    }
}

TEST(ShmPools, WhatIsReleasedTwiceIsRefused) {
    segment const in = small_segment(200, 2);
    pool_manager const pools{in};
    held one = pools.allocate(1).value().share().value();
    reference const name = one.disown();
    EXPECT_FALSE(one);
    EXPECT_EQ(tarn_shm_release(in.handle(), name.value()), TARN_SHM_OK);
    EXPECT_EQ(tarn_shm_release(in.handle(), name.value()), TARN_SHM_NOT_HELD);
    EXPECT_EQ(pools.pool(0)->free, 2U);
    // An unshared one is nobody's to release but its loan's.
    loan const alone = pools.allocate(1).value();
    EXPECT_EQ(pools.pool(0)->free, 1U);
    EXPECT_EQ(in.audit(), 0);
}

TEST(ShmPools, DisownedChunksAreAdopted) {
    segment const in = small_segment(200, 1);
    pool_manager const pools{in};
    reference const name = pools.allocate(3).value().share().value().disown();
    EXPECT_EQ(pools.pool(0)->free, 0U);
    {
        held const back = pools.adopt(name).value();
        EXPECT_EQ(back.bytes().size(), 3U);
    }
    EXPECT_EQ(pools.pool(0)->free, 1U);
    EXPECT_EQ(pools.adopt(name).error().code, errc::not_held);
}

struct point {
    double x;
    double y;
};

TEST(ShmPools, ObjectsAreMadeSharedAndReadByType) {
    segment const in = small_segment(64, 2);
    pool_manager const pools{in};
    tarn::shm::loan_of<point> made = pools.make<point>(point{1.0, 2.0}).value();
    made->x = 3.0;
    auto const sent = std::move(made).share().value();
    EXPECT_EQ(sent->x, 3.0);
    auto const got = pools.hold_as<point>(sent.reference()).value();
    EXPECT_EQ(got->y, 2.0);

    struct large {
        char bytes[64];
    };

    EXPECT_EQ(pools.hold_as<large>(sent.reference()).error().code, errc::invalid);
    EXPECT_EQ((pools.make<std::array<char, 65>>().error().code), errc::too_large);
}

TEST(ShmPools, UserHeadersTravelWithTheirChunk) {
    segment const in =
        segment::create_anonymous(
            segment_config{}.add_pool(
                {.chunk_bytes = 100, .count = 2, .alignment = 64, .user_header_bytes = 16}))
            .value();
    pool_manager const pools{in};
    loan written = pools.allocate(84).value();
    EXPECT_EQ(pools.allocate(85).error().code, errc::too_large);
    ASSERT_NE(written.user_header<std::uint64_t>(), nullptr);
    *written.user_header<std::uint64_t>() = 1234;
    std::memset(written.bytes().data(), 0xff, written.bytes().size());
    held const sent = std::move(written).share().value();
    EXPECT_EQ(*pools.hold(sent.reference())->user_header<std::uint64_t>(), 1234U);
    EXPECT_EQ((sent.user_header<std::array<char, 4096>>()), nullptr);
    segment const plain = small_segment(100, 1);
    EXPECT_EQ(pool_manager{plain}.allocate(1)->user_header<char>(), nullptr);
}

TEST(ShmPools, PoolsGrowThenLargerOnesHelpOut) {
    segment const in =
        segment::create_anonymous(segment_config{}
                                      .add_pool({.chunk_bytes = 1024, .count = 1})
                                      .add_pool({.chunk_bytes = 100, .count = 2, .count_most = 5})
                                      .add_pool({.chunk_bytes = 200, .count = 1}))
            .value();
    pool_manager const pools{in};
    std::vector<loan> all;
    for (int i = 0; i < 6; ++i) {
        auto one = pools.allocate(100, 0, {.larger_most = 1});
        if (!one) {
            break;
        }
        all.push_back(*std::move(one));
    }
    EXPECT_EQ(all.size(), 5U);
    EXPECT_EQ(pools.pool(0)->ready, 5U);
    // Twice the size: one. Ten times: the other, too.
    all.push_back(pools.allocate(100, 0, {.larger_most = 2}).value());
    EXPECT_EQ(all.back().capacity(), 200U);
    EXPECT_EQ(pools.allocate(100).error().code, errc::exhausted);
    all.push_back(pools.allocate(100, 0, {.larger_most = 11}).value());
    EXPECT_EQ(all.back().capacity(), 1024U);
    EXPECT_EQ(all.back().bytes().size(), 100U);
    // Such a chunk is shared like any other.
    held const sent = std::move(all.back()).share().value();
    EXPECT_EQ(pools.hold(sent.reference())->bytes().size(), 100U);
    ASSERT_EQ(pools.pools().size(), 3U);
    EXPECT_EQ(pools.pools()[1].chunk_bytes, 200U);
    all.clear();
    EXPECT_EQ(pools.pool(0)->free, 5U);
    EXPECT_EQ(in.audit(), 0);
}

TEST(ShmPools, SharedChunksAreNumberedInTurn) {
    segment const in =
        segment::create_anonymous(
            segment_config{}.add_pool({.chunk_bytes = 100, .count = 1, .count_most = 2}))
            .value();
    pool_manager const pools{in};
    loan usual = pools.allocate(10).value();
    loan grown = pools.allocate(10).value();  // its pool was empty
    held const first = std::move(grown).share().value();
    ASSERT_TRUE(usual.resize(20));
    held const second = std::move(usual).share().value();
    EXPECT_EQ(first.sequence(), 1U);
    EXPECT_EQ(second.sequence(), 2U);
    EXPECT_EQ(pools.hold(first.reference())->sequence(), 1U);
    EXPECT_EQ(pools.hold(second.reference())->bytes().size(), 20U);
}

TEST(ShmPools, ResizingIsToldAlsoOfChunksThatWereShort) {
    segment const in =
        segment::create_anonymous(
            segment_config{}.add_pool({.chunk_bytes = 100, .count = 1, .count_most = 2}))
            .value();
    pool_manager const pools{in};
    loan const usual = pools.allocate(10).value();
    loan grown = pools.allocate(10).value();
    ASSERT_TRUE(grown.resize(5));
    held const sent = std::move(grown).share().value();
    EXPECT_EQ(sent.bytes().size(), 5U);
    EXPECT_EQ(pools.hold(sent.reference())->bytes().size(), 5U);
}

TEST(ShmPools, AlignedChunksComeFromAlignedPools) {
    segment const in = segment::create_anonymous(
                           segment_config{}
                               .add_pool({.chunk_bytes = 100, .count = 2})
                               .add_pool({.chunk_bytes = 100, .count = 2, .alignment = 4096}))
                           .value();
    pool_manager const pools{in};
    loan const page = pools.allocate(10, 4096).value();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(page.bytes().data()) % 4096, 0U);
    EXPECT_EQ(pools.pool(1)->free, 1U);
    EXPECT_EQ(pools.pool(0)->free, 2U);
}

TEST(ShmPools, AWaiterIsWokenByAReleaseInAnotherProcess) {
    segment const mine = small_segment(100, 1);
    two_ends ends;
    pid_t const child = ends.start([&] {
        auto const own = segment::attach_descriptor(mine.descriptor());
        auto all = pool_manager{*own}.allocate(1);
        two_ends::tell(ends.childs(), all ? 1 : 2);
        two_ends::hear(ends.childs());
        all->release();
        return static_cast<int>(two_ends::hear(ends.childs()));  // alive until the end
    });
    ASSERT_EQ(two_ends::hear(ends.mine()), 1U);
    pool_manager const pools{mine};
    EXPECT_EQ(pools.allocate(1).error().code, errc::exhausted);
    ASSERT_TRUE(two_ends::tell(ends.mine(), 1));
    EXPECT_TRUE(pools.allocate(1, 0, {.wait = 50s}));
    EXPECT_EQ(mine.recover().value(), 0);  // it was released, not had back
    ASSERT_TRUE(two_ends::tell(ends.mine(), 7));
    EXPECT_EQ(ending(wait_for(child)), 7);
}

TEST(ShmPools, AWaiterHasWhatAKilledProcessHeld) {
    segment const mine = small_segment(100, 1);
    two_ends ends;
    pid_t const child = ends.start([&] {
        auto const own = segment::attach_descriptor(mine.descriptor());
        auto const all = pool_manager{*own}.allocate(1).value().share();
        two_ends::tell(ends.childs(), all ? 1 : 2);
        two_ends::hear(ends.childs());
        ::kill(::getpid(), SIGKILL);
        return 0;
    });
    ASSERT_EQ(two_ends::hear(ends.mine()), 1U);
    ASSERT_TRUE(two_ends::tell(ends.mine(), 1));
    EXPECT_TRUE(pool_manager{mine}.allocate(1, 0, {.wait = tarn::shm::asking::for_ever}));
    EXPECT_EQ(ending(wait_for(child)), -SIGKILL);
}

TEST(ShmPools, WaitsHaveTheirBounds) {
    EXPECT_EQ((tarn::shm::asking{.wait = -5ms}.raw().wait_ms), 0U);
    EXPECT_EQ((tarn::shm::asking{.wait = tarn::shm::asking::for_ever}.raw().wait_ms),
              TARN_SHM_WAIT_FOR_EVER);
    EXPECT_EQ((tarn::shm::asking{.wait = 10000h}.raw().wait_ms), TARN_SHM_WAIT_FOR_EVER - 1);
}

TEST(ShmPools, CopiesOfAViewInManyThreadsOfOneClientAreCounted) {
    segment const in = small_segment(100, 2);
    pool_manager const pools{in};
    held const sent = pools.allocate(1).value().share().value();
    std::vector<held> copies(100, sent);
    EXPECT_EQ(pools.holders(sent.reference()).value(), 1U);
    copies.resize(1);
    copies[0] = held{};
    EXPECT_EQ(pools.pool(0)->free, 1U);
    EXPECT_EQ(std::unordered_set<reference>({sent.reference(), sent.reference()}).size(), 1U);
}

}  // namespace
