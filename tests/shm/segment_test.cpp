#include "tarn/shm/segment.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tarn/shm/pool_manager.hpp"

#include "shm/shm_support.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::test;
using tarn::shm::errc;
using tarn::shm::payload_access;
using tarn::shm::pool_manager;
using tarn::shm::segment;
using tarn::shm::segment_config;

segment_config small_config(own_domain const& in) { return one_pool(100, 4).domain(in.path()); }

TEST(ShmSegment, ANameLivesFromCreateToRemove) {
    own_domain const in;
    EXPECT_EQ(segment::attach("camera", {.domain = in.path()}).error().code, errc::not_found);
    segment::create("camera", small_config(in)).value();
    EXPECT_EQ(segment::create("camera", small_config(in)).error().code, errc::exists);
    {
        segment const one = segment::attach("camera", {.domain = in.path()}).value();
        EXPECT_STREQ(one.info().name, "camera");
        EXPECT_EQ(one.info().clients, 1U);
        EXPECT_EQ(one.info().pool_count, 1U);
        EXPECT_EQ(one.descriptor(), -1);
        EXPECT_EQ(segment::list(in.path()).value(), std::vector<std::string>{"camera"});
        EXPECT_EQ(segment::remove("camera", in.path()).error().code, errc::in_use);
    }
    segment::remove("camera", in.path()).value();
    EXPECT_EQ(segment::remove("camera", in.path()).error().code, errc::not_found);
    EXPECT_TRUE(segment::list(in.path())->empty());
    EXPECT_TRUE(in.files().empty());
}

TEST(ShmSegment, RemovalInUseTakesTheNameAlone) {
    own_domain const in;
    segment::create("camera", small_config(in)).value();
    segment const one = segment::attach("camera", {.domain = in.path()}).value();
    segment::remove("camera", in.path(), tarn::shm::when_in_use::remove).value();
    EXPECT_EQ(segment::attach("camera", {.domain = in.path()}).error().code, errc::not_found);
    EXPECT_TRUE(pool_manager{one}.allocate(100));
}

TEST(ShmSegment, MistakesInAConfigurationAreNamed) {
    segment_config many;
    for (std::uint32_t i = 0; i < TARN_SHM_POOLS_MAX + 3; ++i) {
        many.add_pool({.chunk_bytes = 100 + i, .count = 1});
    }
    EXPECT_EQ(segment::create_anonymous(many).error().code, errc::invalid);
    EXPECT_EQ(segment::create_anonymous({}).error().code, errc::invalid);
    auto const uneven = segment::create_anonymous(
        segment_config{}.add_pool({.chunk_bytes = 100, .count = 1, .alignment = 48}));
    ASSERT_FALSE(uneven);
    EXPECT_NE(std::string{uneven.error().text()}.find("alignment"), std::string::npos)
        << uneven.error().text();
    EXPECT_EQ(segment::create("../camera", one_pool(1, 1)).error().code, errc::invalid);
}

TEST(ShmSegment, MovesLeaveNothingBehind) {
    segment one = small_segment(100, 4);
    tarn_shm* const handle = one.handle();
    segment two{std::move(one)};
    EXPECT_FALSE(one);  // NOLINT(bugprone-use-after-move): that it is empty is promised
    EXPECT_EQ(two.handle(), handle);
    segment three = small_segment(100, 4);
    three = std::move(two);
    EXPECT_EQ(three.handle(), handle);
    EXPECT_EQ(three.info().clients, 1U);
    three.detach();
    three.detach();
    EXPECT_FALSE(three);
}

TEST(ShmSegment, TwoAttachmentsInOneProcessShareTheirChunks) {
    segment const one = small_segment(100, 4);
    segment const two = segment::attach_descriptor(one.descriptor()).value();
    EXPECT_NE(one.base(), two.base());
    EXPECT_EQ(one.id(), two.id());
    EXPECT_EQ(one.info().clients, 2U);
    auto written = pool_manager{one}.make<std::uint64_t>(77U).value();
    auto const sent = std::move(written).share().value();
    auto const read = pool_manager{two}.hold_as<std::uint64_t>(sent.reference()).value();
    EXPECT_EQ(*read, 77U);
    EXPECT_NE(sent.get(), read.get());
    EXPECT_EQ(one.audit(), 0);
}

TEST(ShmSegment, AWantedAddressIsHad) {
    own_domain const in;
    segment const any = segment::create_or_attach("camera", small_config(in)).value();
    // What else is mapped meanwhile goes to the upper end of the gap.
    std::size_t const bytes =
        static_cast<std::size_t>(any.mapped_bytes()) + (std::size_t{64} << 20);
    void* const place =
        ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(place, MAP_FAILED);
    ::munmap(place, bytes);
    segment const there =
        segment::attach("camera", {.domain = in.path(), .address = place}).value();
    EXPECT_EQ(static_cast<void const*>(there.base()), place);
}

TEST(ShmSegment, OfManyCreatorsOneMakesItAndAllAttach) {
    own_domain const in;
    constexpr std::size_t children = 4;
    constexpr int names = 40;  // so that some of them are made by two at once
    two_ends go;
    std::vector<pid_t> started;
    for (std::size_t i = 0; i < children; ++i) {
        started.push_back(start_child(60, [&] {
            two_ends::hear(go.childs());
            int failures = 0;
            for (int name = 0; name < names; ++name) {
                auto const made =
                    segment::create_or_attach("camera" + std::to_string(name), small_config(in));
                if (!made) {
                    std::fprintf(stderr, "%s\n", made.error().text());
                }
                failures += made && pool_manager{*made}.allocate(1) ? 0 : 1;
            }
            return failures;
        }));
    }
    for (std::size_t i = 0; i < children; ++i) {
        ASSERT_TRUE(two_ends::tell(go.mine(), 1));
    }
    for (pid_t const child : started) {
        EXPECT_EQ(ending(wait_for(child)), 0);
    }
    EXPECT_EQ(segment::list(in.path())->size(), std::size_t{names});
    EXPECT_EQ(in.files().size(), 2 * std::size_t{names});  // each with its id
}

TEST(ShmSegment, AnAnonymousOneGoesOverASocket) {
    two_ends ends;
    segment const mine = small_segment(100, 4);
    pid_t const child = ends.start([&] {
        auto const theirs = segment::receive(ends.childs(), {.label = "child"}, ::getuid());
        if (!theirs) {
            return 1;
        }
        auto const got = pool_manager{*theirs}.hold_as<std::uint64_t>(
            tarn::shm::reference{two_ends::hear(ends.childs())});
        return got && **got == 99 ? 0 : 2;
    });
    mine.send(ends.mine()).value();
    auto const sent = pool_manager{mine}.make<std::uint64_t>(99U).value().share().value();
    ASSERT_TRUE(two_ends::tell(ends.mine(), sent.reference().value()));
    EXPECT_EQ(ending(wait_for(child)), 0);
    EXPECT_EQ(mine.info().clients, 1U);
}

TEST(ShmSegment, ANamedOneIsNotSent) {
    own_domain const in;
    two_ends ends;
    segment const named = segment::create_or_attach("camera", small_config(in)).value();
    EXPECT_EQ(named.send(ends.mine()).error().code, errc::invalid);
    EXPECT_FALSE(segment::attach_descriptor(ends.mine()));
}

TEST(ShmSegment, AForkedChildIsToldAndAttachesAnew) {
    segment const mine = small_segment(100, 2);
    auto const held = pool_manager{mine}.allocate(10).value();
    EXPECT_EQ(ending(run_in_child(60,
                                  [&] {
                                      pool_manager const inherited{mine};
                                      if (inherited.allocate(10).error().code != errc::forked) {
                                          return 1;
                                      }
                                      auto const own =
                                          segment::attach_descriptor(mine.descriptor());
                                      if (!own) {
                                          return 2;
                                      }
                                      auto const one = pool_manager{*own}.allocate(10);
                                      auto const two = pool_manager{*own}.allocate(10);
                                      return one && !two ? 0 : 3;
                                  })),
              0);
    EXPECT_EQ(mine.audit(), 0);
    EXPECT_EQ(pool_manager{mine}.pool(0)->free, 1U);
}

TEST(ShmSegment, ReadersFaultWhenTheyWrite) {
    segment const mine = small_segment(100, 2);
    auto const sent = pool_manager{mine}.make<std::uint64_t>(5U).value().share().value();
    int const status = run_in_child(60, [&] {
        ::signal(SIGSEGV, SIG_DFL);  // and not a sanitizer's
        auto const reading =
            segment::attach_descriptor(mine.descriptor(), {.payloads = payload_access::read_only});
        if (!reading) {
            return 1;
        }
        pool_manager const pools{*reading};
        if (pools.allocate(1).error().code != errc::read_only) {
            return 2;
        }
        auto const got = pools.hold_as<std::uint64_t>(sent.reference());
        if (!got || **got != 5) {
            return 3;
        }
        *const_cast<std::uint64_t volatile*>(got->get()) = 6;
        return 4;
    });
    EXPECT_EQ(ending(status), -SIGSEGV);
    EXPECT_EQ(*sent, 5U);
    EXPECT_EQ(mine.recover().value(), 1);
}

TEST(ShmSegment, WhatTheKilledHeldIsRecovered) {
    segment const mine = small_segment(100, 3);
    two_ends ends;
    pid_t const child = ends.start([&] {
        auto const own = segment::attach_descriptor(mine.descriptor(), {.label = "victim"});
        auto const one = pool_manager{*own}.allocate(1);
        auto const two = pool_manager{*own}.allocate(1).value().share();
        two_ends::tell(ends.childs(), one && two ? 1 : 2);
        two_ends::hear(ends.childs());
        return 0;
    });
    ASSERT_EQ(two_ends::hear(ends.mine()), 1U);
    pool_manager const pools{mine};
    EXPECT_EQ(pools.pool(0)->free, 1U);
    EXPECT_EQ(pools.clients().size(), 2U);
    EXPECT_STREQ(pools.clients()[1].about.label, "victim");
    EXPECT_EQ(pools.clients()[1].about.process_id, child);
    EXPECT_EQ(mine.recover().value(), 0);
    ::kill(child, SIGKILL);
    wait_for(child);
    EXPECT_EQ(mine.recover().value(), 1);
    EXPECT_EQ(pools.pool(0)->free, 3U);
    EXPECT_EQ(mine.audit(), 0);
}

TEST(ShmSegment, AHousekeeperIsToldOfADeath) {
    segment const mine = small_segment(100, 3);
    EXPECT_EQ(mine.housekeep(std::chrono::milliseconds{0}).value(), 0);
    two_ends ends;
    pid_t const child = ends.start([&] {
        auto const own = segment::attach_descriptor(mine.descriptor());
        auto const one = pool_manager{*own}.allocate(1);
        two_ends::tell(ends.childs(), one ? 1 : 2);
        two_ends::hear(ends.childs());
        ::kill(::getpid(), SIGKILL);
        return 0;
    });
    ASSERT_EQ(two_ends::hear(ends.mine()), 1U);
    ASSERT_TRUE(two_ends::tell(ends.mine(), 1));
    EXPECT_EQ(mine.housekeep(std::chrono::seconds{50}).value(), 1);
    EXPECT_EQ(pool_manager{mine}.pool(0)->free, 3U);
    EXPECT_EQ(ending(wait_for(child)), -SIGKILL);
}

TEST(ShmSegment, ObserversTakeNoSlot) {
    own_domain const in;
    segment const one = segment::create_or_attach("camera", small_config(in)).value();
    auto const held = pool_manager{one}.allocate(1).value();
    segment const looking = segment::observe("camera", in.path()).value();
    EXPECT_EQ(looking.info().clients, 1U);
    EXPECT_EQ(looking.info().client, std::uint32_t{TARN_SHM_CLIENTS_MAX});
    EXPECT_EQ(pool_manager{looking}.pool(0)->free, 3U);
    int faults = 0;
    EXPECT_EQ(looking.audit([&](char const*) { ++faults; }), 0);
    EXPECT_EQ(faults, 0);
}

}  // namespace
