// region_cleanup_test - what a region ends, in which order, and what may happen meanwhile.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <memory>
#include <memory_resource>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tarn/region.hpp"

#include "pool/region_support.hpp"
#include "pool/scarce_resource.hpp"
#include "support/process.hpp"

namespace {

using tarn::region;
using tarn::test::KiB;
using tarn::test::MiB;
using tarn::test::scarce_resource;
using tarn::test::witness;

// Cleanups

TEST(region, runs_cleanups_once_and_children_in_their_place) {
    std::string log;
    region r;
    r.on_release([&] { log += '1'; });
    region first = r.make_child();
    first.on_release([&] { log += 'a'; });
    r.on_release([&] { log += '2'; });
    region second = first.make_child();
    second.on_release([&] { log += 'x'; });
    first.on_release([&] { log += 'b'; });
    region third = r.make_child();
    third.on_release([&] { log += '3'; });
    r.reset();
    EXPECT_EQ(log, "32bxa1");
    EXPECT_FALSE(first);
    EXPECT_FALSE(second);
    EXPECT_FALSE(third);
    r.reset();
    EXPECT_EQ(log, "32bxa1");
}

TEST(region, cancels_cleanups_and_runs_them_early) {
    std::string log;
    region r;
    region other;
    auto const kept = std::make_shared<int>(1);
    tarn::cleanup_id const first = r.on_release([&log, kept] { log += '1'; });
    tarn::cleanup_id const second = r.on_release([&] { log += '2'; });
    tarn::cleanup_id const third = r.on_release([&] { log += '3'; });
    EXPECT_FALSE(other.cancel(first));
    EXPECT_EQ(kept.use_count(), 2);
    EXPECT_TRUE(r.cancel(first));
    EXPECT_EQ(kept.use_count(), 1);  // what the function held is gone, too
    EXPECT_FALSE(r.cancel(first));
    EXPECT_TRUE(r.run_now(second));
    EXPECT_EQ(log, "2");
    EXPECT_FALSE(r.run_now(second));
    r.reset();
    EXPECT_EQ(log, "23");
    EXPECT_FALSE(r.cancel(third));
    EXPECT_FALSE(r.cancel({}));
}

TEST(region, knows_ids_of_cleanups_whose_memory_is_used_again) {
    std::optional<region> r{std::in_place};
    auto const nothing = [] {};
    tarn::cleanup_id const old = r->on_release(nothing);
    r->reset();
    tarn::cleanup_id const recent = r->on_release(nothing);
    EXPECT_FALSE(r->cancel(old));
    r.emplace();
    static_cast<void>(r->on_release(nothing));
    static_cast<void>(r->on_release(nothing));
    EXPECT_FALSE(r->cancel(recent));
    EXPECT_EQ(r->statistics().cleanups, 2U);
}

TEST(region, runs_at_once_what_cannot_be_added) {
    scarce_resource upstream;
    region r{&upstream, {.initial_bytes = 1 * KiB}};
    upstream.fail_at = upstream.calls;
    int runs = 0;
    int added = 0;
    EXPECT_THROW(
        {
            for (;;) {
                r.on_release([&runs, big = std::array<char, 200>{}] { runs += 1 + big[0]; });
                ++added;
            }
        },
        std::bad_alloc);
    EXPECT_EQ(runs, 1);
    r.reset();
    EXPECT_EQ(runs, added + 1);

    region parent;
    region nothing{parent.make_child()};
    parent.reset();
    EXPECT_THROW(nothing.on_release([&] { runs = -1; }), std::logic_error);
    EXPECT_EQ(runs, -1);
}

TEST(region, runs_exec_cleanups_of_all_below_and_nothing_else) {
    std::string log;
    region r;
    r.on_exec([&] { log += '1'; });
    region child = r.make_child();
    region grandchild = child.make_child();
    child.on_exec([&] { log += 'a'; });
    grandchild.on_release_or_exec([&] { log += 'x'; });
    r.on_release([&] { log += 'r'; });
    static_cast<void>(r.mark());
    static_cast<void>(r.make<witness>(log, "w"));
    r.run_exec_cleanups();
    EXPECT_EQ(log, "ax1");
    r.run_exec_cleanups();
    EXPECT_EQ(log, "ax1ax1");
    log.clear();
    child.run_exec_cleanups();
    EXPECT_EQ(log, "ax");
    log.clear();
    r.reset();
    EXPECT_EQ(log, "wrx");
}

TEST(region, closes_descriptors_of_a_child_process) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    region connection;
    region request = connection.make_child();
    for (int const fd : ends) {
        request.on_release_or_exec([fd] { ::close(fd); });
    }
    int const status = tarn::test::run_in_child(30, [&] {
        connection.run_exec_cleanups();
        return ::fcntl(ends[0], F_GETFD) < 0 && ::fcntl(ends[1], F_GETFD) < 0 ? 0 : 1;
    });
    EXPECT_EQ(status, 0);
    EXPECT_GE(::fcntl(ends[0], F_GETFD), 0);
    connection.reset();
    EXPECT_LT(::fcntl(ends[0], F_GETFD), 0);
}

TEST(region, gives_memory_but_adds_nothing_while_cleanups_run) {
    region r;
    int refused = 0;
    std::string text;
    r.on_release([&] {
        text = r.format("%s %d", "bye", 1);
        static_cast<void>(r.make<int>(1));
        static_cast<void>(r.allocate(5 * MiB));
        EXPECT_EQ(r.try_make<std::string>("x"), nullptr);
        auto const refuses = [&refused](auto const& action) {
            try {
                action();
            } catch (std::logic_error const&) {
                ++refused;
            }
        };
        int ran = 0;
        refuses([&] { r.on_release([&] { ++ran; }); });
        EXPECT_EQ(ran, 1);
        refuses([&] { static_cast<void>(r.make<std::string>("x")); });
        refuses([&] { static_cast<void>(r.make_array<std::string>(3)); });
        refuses([&] { static_cast<void>(r.make_child()); });
        refuses([&] { static_cast<void>(r.mark()); });
        refuses([&] { r.reset(); });
        refuses([&] { r.rewind({}); });
    });
    r.reset();
    EXPECT_EQ(text, "bye 1");
    EXPECT_EQ(refused, 7);
    EXPECT_EQ(r.statistics().used_bytes, 0U);
    EXPECT_EQ(r.statistics().chunks, 1U);
    r.on_release([] {});
    EXPECT_EQ(r.statistics().cleanups, 1U);
}

TEST(region, is_not_ended_by_cleanups_below_it) {
    region r;
    region child = r.make_child();
    int refused = 0;
    child.on_release([&] {
        EXPECT_THROW(r.reset(), std::logic_error);
        r.on_release([&] { ++refused; });  // the parent itself is not at it
        ++refused;
    });
    tarn::region_mark const mark = r.mark();
    auto const id = child.on_release([&] {
        EXPECT_THROW(r.rewind(mark), std::logic_error);
        EXPECT_THROW(child.reset(), std::logic_error);
        ++refused;
    });
    EXPECT_TRUE(child.run_now(id));
    child = region{};
    EXPECT_EQ(refused, 2);
    r.reset();
    EXPECT_EQ(refused, 3);
}

TEST(region, lets_a_cleanup_end_a_child) {
    std::string log;
    region r;
    std::optional<region> older{r.make_child()};
    older->on_release([&] { log += 'o'; });
    r.on_release([&] {
        older.reset();
        log += 'c';
    });
    r.reset();
    EXPECT_EQ(log, "oc");
}

void destroy_inside_of_its_cleanup() {
    std::optional<region> r;
    r.emplace(tarn::region_options{.name = "job"});
    r->on_release([&] { r.reset(); });
    r->reset();
}

void destroy_inside_of_a_cleanup_below() {
    auto r = std::make_unique<region>();
    region child = r->make_child();
    child.on_release([&] { r.reset(); });
    child.reset();
}

void assign_inside_of_its_cleanup() {
    region r;
    auto const id = r.on_release([&] { r = region{}; });
    r.run_now(id);
}

TEST(region_death, ended_inside_of_its_own_cleanup) {
    EXPECT_DEATH(
        destroy_inside_of_its_cleanup(),
        "^tarn: region 'job' destroyed inside of a cleanup of its own, or of a region below it");
    EXPECT_DEATH(destroy_inside_of_a_cleanup_below(),
                 "^tarn: region 'region' destroyed inside of a cleanup");
    EXPECT_DEATH(assign_inside_of_its_cleanup(),
                 "^tarn: region 'region' destroyed inside of a cleanup");
}

TEST(region_death, cleanup_that_throws) {
    EXPECT_DEATH(
        {
            region r;
            r.on_release([] { throw std::runtime_error{"thrown by a cleanup"}; });
            r.reset();
        },
        "thrown by a cleanup");
}

// Children and handles

TEST(region, moves_without_disturbing_what_points_to_it) {
    std::string log;
    region r;
    std::optional<std::pmr::vector<int>> numbers{std::in_place, r.resource()};
    numbers->assign(1000, 1);
    region child = r.make_child();
    child.on_release([&] { log += 'c'; });
    region moved{std::move(r)};
    // NOLINTNEXTLINE(bugprone-use-after-move,clang-analyzer-cplusplus.Move): that is the test
    EXPECT_FALSE(r);
    numbers->assign(2000, 2);
    EXPECT_TRUE(moved.owns(numbers->data()));
    numbers.reset();  // before its resource
    region other = moved.make_child();
    other.on_release([&] { log += 'o'; });
    other = std::move(child);
    EXPECT_EQ(log, "o");
    EXPECT_TRUE(other);
    moved = region{};
    EXPECT_EQ(log, "oc");
    EXPECT_FALSE(other);
}

TEST(region, says_what_is_wrong_with_a_handle_of_nothing) {
    region parent;
    region r = parent.make_child();
    parent.reset();
    EXPECT_THROW(static_cast<void>(r.allocate(1)), std::logic_error);
    EXPECT_THROW(static_cast<void>(r.allocate(0)), std::logic_error);
    EXPECT_EQ(r.try_allocate(1), nullptr);
    EXPECT_EQ(r.try_make<std::string>("x"), nullptr);
    EXPECT_EQ(r.allocate_from_reserve(1), nullptr);
    EXPECT_EQ(r.error_text("%d", 1), "");
    EXPECT_THROW(static_cast<void>(r.make<std::string>("x")), std::logic_error);
    EXPECT_THROW(static_cast<void>(r.make_array<int>(0)), std::logic_error);
    EXPECT_THROW(static_cast<void>(r.make_child()), std::logic_error);
    EXPECT_THROW(static_cast<void>(r.resource()), std::logic_error);
    EXPECT_THROW(static_cast<void>(r.mark()), std::logic_error);
    EXPECT_THROW(static_cast<void>(r.statistics()), std::logic_error);
    EXPECT_THROW(r.rewind({}), std::logic_error);
    EXPECT_THROW(r.reset(), std::logic_error);
    EXPECT_THROW(r.trim(), std::logic_error);
    EXPECT_FALSE(r.owns(&r));
    EXPECT_FALSE(r.owns(nullptr));
    EXPECT_FALSE(r.cancel({}));
    r.run_exec_cleanups();
}

TEST(region, serves_one_child_after_another_from_the_same_memory) {
    scarce_resource upstream;
    region connection{&upstream};
    for (int i = 0; i < 1000; ++i) {
        region request = connection.make_child({.name = "request"});
        for (int j = 0; j < 100; ++j) {
            static_cast<void>(request.allocate(200));
        }
        EXPECT_STREQ(request.name(), "request");
    }
    EXPECT_LE(upstream.calls, 8U);
    EXPECT_EQ(connection.statistics().children, 0U);
}

TEST(region, ends_children_that_live_in_its_memory) {
    std::string log;
    region r;
    auto* const child = r.make<region>(r.make_child());
    child->on_release([&] { log += 'c'; });
    auto* const grandchild = child->make<region>(child->make_child());
    grandchild->on_release([&] { log += 'g'; });
    EXPECT_EQ(r.statistics().children, 1U);
    r.reset();
    EXPECT_EQ(log, "gc");
}

TEST(region, ends_a_deep_tree) {
    region root;
    std::vector<region> chain;
    chain.push_back(root.make_child({.initial_bytes = 0}));
    int ended = 0;
    for (int depth = 1; depth < 20'000; ++depth) {
        region next = chain.back().make_child();
        next.on_release([&] { ++ended; });
        chain.push_back(std::move(next));
    }
    root.reset();
    EXPECT_EQ(ended, 19'999);
    EXPECT_FALSE(chain.front());
}

// Marks

TEST(region, rewinds_to_a_mark_again_and_again) {
    std::string log;
    scarce_resource upstream;
    region r{&upstream, {.initial_bytes = 1 * KiB, .chunk_bytes_max = 4 * KiB}};
    char const* const kept = r.copy("kept").data();
    static_cast<void>(r.make<witness>(log, "k"));
    tarn::region_mark const mark = r.mark();
    std::size_t const used = r.statistics().used_bytes;
    for (int turn = 0; turn < 50; ++turn) {
        region child = r.make_child();
        static_cast<void>(r.make<witness>(log, "1"));
        child.on_release([&] { log += 'c'; });
        for (int i = 0; i < 100; ++i) {
            static_cast<void>(r.allocate(100));
        }
        static_cast<void>(r.allocate(100 * KiB));
        static_cast<void>(r.make<witness>(log, "2"));
        r.rewind(mark);
        ASSERT_EQ(log, "21c");
        ASSERT_FALSE(child);
        ASSERT_EQ(r.statistics().used_bytes, used);
        ASSERT_EQ(r.statistics().chunks, 1U);
        ASSERT_STREQ(kept, "kept");
        log.clear();
    }
    EXPECT_LT(upstream.calls, 20U);
    EXPECT_GT(r.statistics().peak_used_bytes, 110 * KiB);
    r.reset();
    EXPECT_EQ(log, "k");
}

TEST(region, refuses_marks_that_are_gone_or_of_others) {
    region r;
    region child = r.make_child();
    region other;
    tarn::region_mark const first = r.mark();
    tarn::region_mark const second = r.mark();
    tarn::region_mark const of_child = child.mark();
    EXPECT_THROW(r.rewind({}), std::invalid_argument);
    EXPECT_THROW(r.rewind(of_child), std::invalid_argument);
    EXPECT_THROW(r.rewind(other.mark()), std::invalid_argument);
    EXPECT_THROW(child.rewind(first), std::invalid_argument);
    r.rewind(second);
    r.rewind(first);
    EXPECT_THROW(r.rewind(second), std::invalid_argument);
    tarn::region_mark const third = r.mark();  // where the second was
    EXPECT_THROW(r.rewind(second), std::invalid_argument);
    r.rewind(third);
    r.reset();
    EXPECT_THROW(r.rewind(first), std::invalid_argument);
}

}  // namespace
