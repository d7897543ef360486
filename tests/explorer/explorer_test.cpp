// explorer_test - the explorer finds what is there to be found, and counts what it must see.
#include "explorer/explorer.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "explorer/explored_atomics.hpp"

namespace {

using namespace tarn::test;

template <class T>
using atomic = explored_atomics::atomic<T>;

constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto acquire = std::memory_order_acquire;
constexpr auto release = std::memory_order_release;
constexpr auto seq_cst = std::memory_order_seq_cst;

/// Each thread is a function over a state that is made anew for every run.
template <class State>
class threads_over final : public scenario {
public:
    using body = std::function<void(State&)>;

    threads_over(std::vector<body> const& bodies, body const& check)
        : bodies_{bodies}, check_{check} {}

    [[nodiscard]] unsigned threads() const override {
        return static_cast<unsigned>(bodies_.size());
    }

    void run(unsigned which) override { bodies_[which](state_); }

    void finish() override { check_(state_); }

private:
    std::vector<body> const& bodies_;
    body const& check_;
    State state_;
};

template <class State>
struct program {
    using body = std::function<void(State&)>;

    std::vector<body> bodies;
    body check = [](State&) {};

    [[nodiscard]] exploration explore(exploring const& how = {}) const {
        return tarn::test::explore([this] { return make(); }, how);
    }

    [[nodiscard]] exploration replay(std::string_view schedule, exploring const& how = {}) const {
        return tarn::test::replay([this] { return make(); }, schedule, how);
    }

private:
    [[nodiscard]] std::unique_ptr<scenario> make() const {
        return std::make_unique<threads_over<State>>(bodies, check);
    }
};

struct two_words {
    atomic<int> x{0};
    atomic<int> y{0};
    explored_data<int> data{0};
    std::array<int, 2> seen{};
    explored_mutex first;
    explored_mutex second;
};

exploring const with_buffers{.store_buffers = true};
exploring const all_orders{.preemptions_most = 100};  // no pruning

TEST(explorer, sees_each_order_of_dependent_steps_once) {
    program<two_words> const same{
        {[](two_words& s) { s.x.store(1, relaxed); }, [](two_words& s) { s.x.store(2, relaxed); }}};
    EXPECT_EQ(same.explore().runs, 2U);
    program<two_words> const apart{
        {[](two_words& s) { s.x.store(1, relaxed); }, [](two_words& s) { s.y.store(2, relaxed); }}};
    EXPECT_EQ(apart.explore().runs, 1U);
    program<two_words> const readers{{[](two_words& s) { static_cast<void>(s.x.load(relaxed)); },
                                      [](two_words& s) { static_cast<void>(s.x.load(relaxed)); }}};
    EXPECT_EQ(readers.explore().runs, 1U);
}

TEST(explorer, compare_exchanges_that_fail_only_read) {
    auto const fails = [](two_words& s) {
        int seen = 5;
        require(!s.x.compare_exchange_strong(seen, 6, acquire, acquire), "exchanged");
        require(seen == 0, "not what is there");
    };
    EXPECT_EQ((program<two_words>{{fails, fails, fails}}.explore().runs), 1U);
    auto const once = [](two_words& s) {
        int seen = 0;
        s.seen[0] += s.x.compare_exchange_strong(seen, 1, acquire, acquire) ? 1 : 0;
    };
    program<two_words> const race{{once, once, once},
                                  [](two_words& s) { require(s.seen[0] == 1, "not one"); }};
    exploration const seen = race.explore();
    EXPECT_TRUE(seen.passed()) << seen;
    EXPECT_EQ(seen.runs, 3U);  // one for each winner
}

TEST(explorer, without_pruning_sees_every_interleaving) {
    auto const two_steps = [](two_words& s) {
        s.x.fetch_add(1, relaxed);
        s.y.fetch_add(1, relaxed);
    };
    program<two_words> const two{{two_steps, two_steps}};
    EXPECT_EQ(two.explore(all_orders).runs, 6U);  // 4! / (2! 2!)
    program<two_words> const three{{two_steps, two_steps, two_steps}};
    exploration const seen = three.explore(all_orders);
    EXPECT_EQ(seen.runs, 90U);  // 6! / (2! 2! 2!)
    EXPECT_TRUE(seen.passed());
    EXPECT_EQ(seen.steps, 90U * 6U);
}

program<two_words> const lossy{
    {[](two_words& s) { s.x.store(s.x.load(relaxed) + 1, relaxed); },
     [](two_words& s) { s.x.store(s.x.load(relaxed) + 1, relaxed); }},
    [](two_words& s) { require(s.x.load(relaxed) == 2, "an addition is lost"); }};

TEST(explorer, finds_a_lost_update_and_says_how) {
    exploration const seen = lossy.explore();
    EXPECT_EQ(seen.failure, "an addition is lost");
    EXPECT_FALSE(seen.exhausted);
    exploration const again = lossy.replay(seen.schedule);
    EXPECT_EQ(again.failure, seen.failure);
    EXPECT_EQ(again.schedule, seen.schedule);
    EXPECT_EQ(again.trace, seen.trace);
    EXPECT_EQ(lossy.replay("01").failure, "an addition is lost");
    EXPECT_EQ(lossy.replay("01").trace,
              "  thread 0: load #0\n  thread 1: load #0\n"
              "  thread 1: store #0\n  thread 0: store #0\n");
    EXPECT_EQ(lossy.replay("0*").failure, "");
}

TEST(explorer, refuses_a_schedule_that_does_not_fit) {
    EXPECT_EQ(lossy.replay("00000").failure, "the schedule asks for 0, which cannot go on");
    EXPECT_EQ(lossy.replay("a").failure, "the schedule asks for a, which cannot go on");
    EXPECT_EQ(lossy.replay("?").failure, "the schedule asks for ?, which cannot go on");
}

TEST(explorer, finds_nothing_where_nothing_is_lost) {
    auto const add = [](two_words& s) { s.x.fetch_add(1, relaxed); };
    auto const check = [](two_words& s) { require(s.x.load(relaxed) == 3, "lost"); };
    exploration const seen = program<two_words>{{add, add, add}, check}.explore();
    EXPECT_TRUE(seen.passed()) << seen;
    EXPECT_EQ(seen.runs, 6U);
}

TEST(explorer, a_bound_on_preemptions_hides_what_needs_more) {
    // The update is lost only where thread 0 is stopped between its two steps.
    EXPECT_TRUE(lossy.explore({.preemptions_most = 0}).passed());
    EXPECT_EQ(lossy.explore({.preemptions_most = 1}).failure, "an addition is lost");
}

program<two_words> flags(std::memory_order order) {
    return {{[order](two_words& s) {
                 s.x.store(1, order);
                 s.seen[0] = s.y.load(order == seq_cst ? seq_cst : acquire);
             },
             [order](two_words& s) {
                 s.y.store(1, order);
                 s.seen[1] = s.x.load(order == seq_cst ? seq_cst : acquire);
             }},
            [](two_words& s) { require(s.seen[0] + s.seen[1] > 0, "both saw nothing"); }};
}

TEST(explorer, delays_stores_on_demand) {
    EXPECT_TRUE(flags(release).explore().passed());
    exploration const delayed = flags(release).explore(with_buffers);
    EXPECT_EQ(delayed.failure, "both saw nothing");
    EXPECT_EQ(flags(release).replay(delayed.schedule, with_buffers).failure, "both saw nothing");
    EXPECT_TRUE(flags(seq_cst).explore(with_buffers).passed());
}

TEST(explorer, a_thread_sees_its_own_delayed_stores_in_order) {
    program<two_words> const own{
        {[](two_words& s) {
             s.x.store(1, relaxed);
             s.x.store(2, relaxed);
             require(s.x.load(relaxed) == 2, "not its own store");
             require(s.y.fetch_add(1, relaxed) == 0, "somebody else's");
         },
         [](two_words& s) {
             int const first = s.x.load(relaxed);
             require(s.x.load(relaxed) >= first, "back in time");
         }},
        [](two_words& s) { require(s.x.load(relaxed) == 2, "a store is lost"); }};
    exploration const seen = own.explore(with_buffers);
    EXPECT_TRUE(seen.passed()) << seen;
}

program<two_words> message(std::memory_order store, std::memory_order load) {
    return {{[store](two_words& s) {
                 s.data.set(7);
                 s.x.store(1, store);
             },
             [load](two_words& s) {
                 if (s.x.load(load) == 1) {
                     require(s.data.get() == 7, "no message");
                 }
             }}};
}

TEST(explorer, finds_data_that_nothing_orders) {
    for (exploring const& how : {exploring{}, with_buffers}) {
        EXPECT_TRUE(message(release, acquire).explore(how).passed());
        EXPECT_NE(message(relaxed, acquire).explore(how).failure.find("data race"),
                  std::string::npos);
        EXPECT_NE(message(release, relaxed).explore(how).failure.find("data race"),
                  std::string::npos);
    }
    program<two_words> const both{{[](two_words& s) {
                                       s.data.set(1);
                                       s.x.store(1, relaxed);
                                   },
                                   [](two_words& s) {
                                       s.data.set(2);
                                       s.y.store(1, relaxed);
                                   }}};
    EXPECT_NE(both.explore().failure.find("data race"), std::string::npos);
}

TEST(explorer, additions_in_between_pass_a_release_on) {
    program<two_words> const chain{{[](two_words& s) {
                                        s.data.set(7);
                                        s.x.store(1, release);
                                    },
                                    [](two_words& s) { s.x.fetch_add(1, relaxed); },
                                    [](two_words& s) {
                                        if (s.x.load(acquire) == 2) {
                                            require(s.data.get() == 7, "no message");
                                        }
                                    }}};
    exploration const seen = chain.explore();
    EXPECT_TRUE(seen.passed()) << seen;
}

TEST(explorer, knows_mutexes) {
    auto const add = [](two_words& s) {
        s.first.lock();
        s.data.set(s.data.get() + 1);
        s.first.unlock();
    };
    exploration const seen = program<two_words>{{add, add, add}}.explore();
    EXPECT_TRUE(seen.passed()) << seen;
    EXPECT_EQ(seen.runs, 6U);
}

TEST(explorer, finds_a_deadlock) {
    program<two_words> const crossed{{[](two_words& s) {
                                          s.first.lock();
                                          s.second.lock();
                                      },
                                      [](two_words& s) {
                                          s.second.lock();
                                          s.first.lock();
                                      }}};
    EXPECT_EQ(crossed.explore().failure, "deadlock: no thread can go on");
}

TEST(explorer, finds_a_run_that_does_not_end) {
    program<two_words> const waits{{[](two_words& s) {
        while (s.x.load(relaxed) == 0) {
        }
    }}};
    EXPECT_EQ(waits.explore().failure, "the run does not end");
}

TEST(explorer, finds_accesses_to_what_was_given_back) {
    program<two_words> const late{{[](two_words& s) { static_cast<void>(s.x.load(relaxed)); },
                                   [](two_words& s) {
                                       s.y.store(1, relaxed);
                                       bury(&s.x, sizeof s.x);
                                       s.y.store(2, relaxed);
                                   }}};
    EXPECT_NE(late.replay("1*0").failure.find("given back"), std::string::npos);
    EXPECT_EQ(late.replay("0*1*").failure, "");
    EXPECT_NE(late.explore().failure.find("given back"), std::string::npos);
}

TEST(explorer, stops_at_the_number_of_runs_it_may_make) {
    auto const add = [](two_words& s) { s.x.fetch_add(1, relaxed); };
    exploration const seen = program<two_words>{{add, add, add}}.explore({.runs_most = 5});
    EXPECT_EQ(seen.runs, 5U);
    EXPECT_FALSE(seen.passed());
}

}  // namespace
