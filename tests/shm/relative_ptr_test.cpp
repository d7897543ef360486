#include "tarn/shm/relative_ptr.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <unordered_set>

#include "tarn/shm/pool_registry.hpp"

#include "shm/shm_support.hpp"

namespace {

using namespace tarn::test;
using tarn::shm::pool_manager;
using tarn::shm::pool_registry;
using tarn::shm::relative_ptr;
using tarn::shm::segment;

TEST(ShmRelativePtr, NullAndWhatLiesInNoSegment) {
    relative_ptr<int> const null;
    EXPECT_EQ(null.word(), 0U);
    EXPECT_EQ(null.get(), nullptr);
    EXPECT_EQ(null, nullptr);
    EXPECT_FALSE(null);
    EXPECT_EQ((null + 5), nullptr);
    int local = 0;
    EXPECT_EQ(relative_ptr<int>{&local}, nullptr);
    segment const in = small_segment(100, 1);
    EXPECT_EQ((relative_ptr<int>{in, &local}), nullptr);
    EXPECT_EQ((relative_ptr<int>{in, nullptr}), nullptr);
}

TEST(ShmRelativePtr, LeadsThereFromBothWays) {
    segment const in = small_segment(400, 1);
    auto const chunk = pool_manager{in}.allocate(400).value();
    auto* const words = reinterpret_cast<std::uint32_t*>(chunk.bytes().data());
    for (std::uint32_t i = 0; i < 100; ++i) {
        words[i] = i;
    }
    relative_ptr<std::uint32_t> at{in, words};
    EXPECT_EQ(at, relative_ptr<std::uint32_t>{words});
    EXPECT_EQ(at.id(), in.id());
    EXPECT_EQ(at.get(), words);
    EXPECT_EQ(*(at + 7), 7U);
    EXPECT_EQ(at[99], 99U);
    EXPECT_EQ((at + 9) - at, 9);
    EXPECT_EQ(at - (at + 9), -9);
    ++at;
    EXPECT_EQ(*at, 1U);
    EXPECT_EQ(*at--, 1U);
    EXPECT_EQ(*at++, 0U);
    EXPECT_LT(at, at + 1);
    at += 10;
    at -= 1;
    EXPECT_EQ(*at, 10U);
    EXPECT_EQ(at.get_span(90).size(), 90U);
    relative_ptr<std::uint32_t const> const reading = at;
    relative_ptr<void> const any = at;
    EXPECT_EQ(*reading, 10U);
    EXPECT_EQ(any.get(), at.get());
    EXPECT_EQ(std::unordered_set<relative_ptr<void>>({any, any}).size(), 1U);
}

TEST(ShmRelativePtr, MeansTheSameThroughEachAttachment) {
    segment const one = small_segment(100, 1);
    segment two = segment::attach_descriptor(one.descriptor()).value();
    auto made = pool_manager{one}.make<std::uint64_t>(5U).value();
    auto const sent = std::move(made).share().value();
    auto const got = pool_manager{two}.hold_as<std::uint64_t>(sent.reference()).value();
    ASSERT_NE(sent.get(), got.get());
    relative_ptr<std::uint64_t const> const here{one, sent.get()};
    relative_ptr<std::uint64_t const> const there{two, got.get()};
    EXPECT_EQ(here, there);
    EXPECT_EQ(here, (relative_ptr<std::uint64_t const>{got.get()}));
    EXPECT_EQ(there.get(), sent.get());  // where it was attached first
    EXPECT_EQ(pool_registry::base_of(one.id()), one.base());
}

TEST(ShmRelativePtr, RubbishLeadsNowhere) {
    segment const in = small_segment(100, 1);
    std::uint64_t const id = std::uint64_t{in.id()} << 48;
    auto const of = [](std::uint64_t word) { return relative_ptr<std::uint64_t>::of_word(word); };
    EXPECT_NE(of(id | 8).get(), nullptr);
    EXPECT_EQ(of(id | 9).get(), nullptr);  // not aligned
    EXPECT_NE(of(id | (in.mapped_bytes() - 8)).get(), nullptr);
    EXPECT_EQ(of(id | in.mapped_bytes()).get(), nullptr);
    EXPECT_EQ(of(id | ((std::uint64_t{1} << 48) - 8)).get(), nullptr);
    EXPECT_EQ(of(std::uint64_t{in.id() ^ 1} << 48 | 8).get(), nullptr);
    EXPECT_EQ(of(8).get(), nullptr);  // id 0
    EXPECT_EQ((of(id | (in.mapped_bytes() - 8)) + 1).get(), nullptr);
    EXPECT_EQ((of(id | 8) - 2).get(), nullptr);
    EXPECT_TRUE(of(id | 8).get_span(in.mapped_bytes() / 8).empty());
    EXPECT_EQ(of(id | 8).get_span(in.mapped_bytes() / 8 - 1).size(), in.mapped_bytes() / 8 - 1);
    EXPECT_TRUE(of(id | 8).get_span(~std::uint64_t{0} / 8 + 2).empty());
    EXPECT_TRUE(of(id | 8).get_span(0).empty());
}

TEST(ShmRelativePtr, LeadsNowhereAfterDetach) {
    segment in = small_segment(100, 1);
    auto const word = std::uint64_t{in.id()} << 48 | 64;
    ASSERT_NE(relative_ptr<int>::of_word(word).get(), nullptr);
    in.detach();
    EXPECT_EQ(relative_ptr<int>::of_word(word).get(), nullptr);
}

struct node {
    relative_ptr<node> next;
    std::uint64_t value = 0;
};

TEST(ShmRelativePtr, LinksChunksOfTwoSegmentsForAnotherProcess) {
    segment const one = small_segment(100, 2);
    segment const two = small_segment(100, 2);
    if (one.id() == two.id()) {
        GTEST_SKIP() << "two random ids were equal";
    }
    auto first = pool_manager{one}.make<node>().value();
    auto second = pool_manager{two}.make<node>().value();
    first->value = 1;
    second->value = 2;
    first->next = relative_ptr<node>{two, second.get()};
    auto const sent = std::move(first).share().value();
    EXPECT_EQ(ending(run_in_child(
                  60,
                  [&] {
                      auto const mine = segment::attach_descriptor(one.descriptor());
                      auto const its = segment::attach_descriptor(two.descriptor());
                      auto const got = pool_manager{*mine}.hold_as<node>(sent.reference());
                      if (!got || !its) {
                          return 1;
                      }
                      node const* const next = (*got)->next.get();
                      return next != nullptr && next->value == 2 && next->next == nullptr ? 0 : 2;
                  })),
              0);
}

TEST(ShmRelativePtr, IsAtomic) {
    segment const in = small_segment(100, 2);
    auto const one = pool_manager{in}.make<node>().value();
    auto const two = pool_manager{in}.make<node>().value();
    std::atomic<relative_ptr<node>> head{};
    relative_ptr<node> expected;
    // relaxed: one thread.
    EXPECT_TRUE(head.compare_exchange_strong(expected, relative_ptr<node>{in, one.get()},
                                             std::memory_order_relaxed));
    EXPECT_FALSE(head.compare_exchange_strong(expected, relative_ptr<node>{in, two.get()},
                                              std::memory_order_relaxed));
    EXPECT_EQ(expected.get(), one.get());
}

TEST(ShmPoolRegistry, MapsOnDemandUntilAllIsUnmapped) {
    own_domain const in;
    std::uint64_t word = 0;
    std::uint32_t id = 0;
    {
        segment const first =
            segment::create_or_attach("camera", one_pool(100, 1).domain(in.path())).value();
        auto made = pool_manager{first}.make<std::uint64_t>(31U).value();
        word = pool_registry::relative(made.get());
        id = first.id();
        ASSERT_NE(word, 0U);
        ASSERT_EQ(pool_registry::absolute(word, 8, 8), made.get());
    }
    EXPECT_EQ(pool_registry::absolute(word, 8, 8), nullptr);
    EXPECT_EQ(pool_registry::map_on_demand("/nowhere/at-all").error().code,
              tarn::shm::errc::not_found);
    pool_registry::map_on_demand(in.path()).value();
    auto const* const found =
        static_cast<std::uint64_t const*>(pool_registry::absolute(word, 8, 8));
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(*found, 31U);
    EXPECT_NE(pool_registry::base_of(id), nullptr);
    pool_registry::unmap_all();
    pool_registry::unmap_all();
    tarn::shm::segment::remove("camera", in.path()).value();
    EXPECT_EQ(pool_registry::base_of(id), nullptr);
}

}  // namespace
