// kill_steps_test - a process is killed after its k-th instruction within a function of tarn/shm.h,
// for each k: others must lose nothing by it. The same is done to a pool in shared memory that
// takes a chunk from a list first and writes down who has it then, and must be seen to lose chunks:
// else this harness would see nothing.
//
// Points     Every instruction on the way of data. Of what has many system calls, which goes
// through
//            texts and checksums, a sample that TARN_SEED=n chooses; ten times as many in a soak.
#if defined(__x86_64__)

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdio>
#include <functional>
#include <new>
#include <utility>

#include "shm/naive_pool.hpp"
#include "shm/stepped_child.hpp"
#include "shm/test_segment.hpp"
#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using tarn::test::attach_segment;
using tarn::test::create_segment;
using tarn::test::die_after;
using tarn::test::give_all;
using tarn::test::info_of;
using tarn::test::naive_pool;
using tarn::test::pool_of;
using tarn::test::remove_segment;
using tarn::test::shm_client;
using tarn::test::stepped_child;
using tarn::test::take_all;
using tarn::test::what_is_wrong;

#if TARN_CHECK_LEVEL == 0  // the release presets
constexpr unsigned thinning = 1;
#else
constexpr unsigned thinning = tarn::test::under_asan ? 150 : 16;
#endif
// Between two system calls: beyond so many instructions come but texts and checksums, which take
// some ten thousand.
constexpr unsigned steps_most = 1200;
constexpr std::size_t sampled = 140;
constexpr std::size_t all_of_them = SIZE_MAX;
constexpr unsigned wrong_most = 5;  // that are told

std::uint64_t seed_of_this_run() {
    char const* const given = tarn::test::environment("TARN_SEED");
    return given == nullptr ? 1 : std::strtoull(given, nullptr, 0);
}

/// What tester and child have in common.
struct stage {
    tarn::test::test_domain domain;
    shm_client survivor;  // the tester's
    shm_client mine;      // the child's
    tarn_shm_chunk chunk{};
    std::array<tarn_shm_chunk, 64> chunks{};
    std::array<std::uint64_t, 64> references{};
    std::vector<std::uint64_t> taken;
    std::uint32_t held = 0;  // by the survivor
    unsigned round = 0;
};

using act = std::function<void(stage&)>;

// The segment, and what must hold of it.

void nothing(stage& /*on*/) {}

void make_segment(stage& on) {
    ASSERT_EQ(
        create_segment(on.domain, {pool_of(64, 8), pool_of(256, 8, 0, 32), pool_of(4096, 4, 12)}),
        TARN_SHM_OK);
    on.survivor = attach_segment(on.domain);
    ASSERT_NE(on.survivor, nullptr);
    on.held = 0;
}

void remove_all(stage& on) {
    on.survivor.reset();
    EXPECT_EQ(remove_segment(on.domain), TARN_SHM_OK);
    EXPECT_EQ(on.domain.files(), std::vector<std::string>{});
}

void attach_mine(stage& on) {
    on.mine = attach_segment(on.domain);
    if (on.mine == nullptr) {
        ::_exit(2);
    }
}

/// Both the survivor and a client that comes new have everything back: now one finds the dead, now
/// the other.
std::string everything_is_back(stage& on) {
    if (on.round % 2 == 0) {
        tarn_shm_recover(on.survivor.get());
    }
    shm_client const fresh = attach_segment(on.domain);
    if (fresh == nullptr) {
        return "it can't be attached\n";
    }
    tarn_shm_recover(fresh.get());
    std::string wrong;
    if (tarn_shm_recover(on.survivor.get()) != 0) {
        wrong += "one recovery was not enough\n";
    }
    if (info_of(on.survivor.get()).clients != 2) {
        wrong += "the dead one counts as alive\n";
    }
    return wrong + what_is_wrong(on.round % 2 == 0 ? fresh.get() : on.survivor.get(), on.held);
}

void allocate_or_leave(tarn_shm* client, std::uint64_t bytes, tarn_shm_chunk& chunk) {
    if (tarn_shm_allocate(client, bytes, 0, nullptr, &chunk) != TARN_SHM_OK) {
        ::_exit(3);
    }
}

void survivor_holds(stage& on, std::uint64_t bytes = 40) {
    ASSERT_EQ(tarn_shm_allocate(on.survivor.get(), bytes, 0, nullptr, &on.chunk), TARN_SHM_OK);
    on.held = 1;
}

void survivor_lets_go(stage& on) {
    EXPECT_EQ(tarn_shm_release(on.survivor.get(), on.chunk.reference), TARN_SHM_OK);
    on.held = 0;
}

/// All chunks but one of the first pool, whose hints still say that they may be free.
void survivor_takes_most(stage& on) {
    std::uint32_t const got = tarn_shm_take(on.survivor.get(), 0, 7, on.chunks.data());
    ASSERT_EQ(got, 7U);
    on.taken.clear();
    for (std::uint32_t i = 0; i < got; ++i) {
        on.taken.push_back(on.chunks[i].reference);
    }
    on.held = got;
}

void survivor_takes_pool(stage& on, std::uint32_t pool) {
    on.taken = take_all(on.survivor.get(), pool);
    on.held = static_cast<std::uint32_t>(on.taken.size());
}

void survivor_gives_back(stage& on) {
    give_all(on.survivor.get(), on.taken);
    on.held = 0;
}

/// Another one dies with all chunks of a pool.
void another_dies_with(stage& on, std::uint32_t pool) {
    die_after(on.domain, [&](tarn_shm* client) { take_all(client, pool); });
}

// Killing.

struct operation {
    act before = nothing;       // in the tester
    act prepare = attach_mine;  // in the child
    act operate = nothing;      // in the child, step by step
    std::function<std::string(stage&)> find_fault = everything_is_back;
    act after = nothing;  // in the tester
};

struct interval {
    unsigned system_calls;  // before it
    unsigned steps;
};

/// How many instructions lie between the system calls of the operation.
std::vector<interval> measure(stage& on, operation const& of) {
    of.before(on);
    std::vector<interval> found;
    {
        stepped_child child{[&] { of.prepare(on); }, [&] { of.operate(on); }};
        interval now{.system_calls = 0, .steps = 0};
        while (child.is_here()) {
            bool const is_call = child.is_at_system_call();
            bool const is_long = now.steps == steps_most;
            bool const goes_on = is_long && !is_call ? child.pass_system_call() : child.step();
            if (is_call || is_long || !goes_on) {
                found.push_back(now);
                now = {.system_calls = now.system_calls + 1, .steps = 0};
            } else {
                ++now.steps;
            }
        }
        EXPECT_TRUE(child.has_finished());
    }
    EXPECT_EQ(of.find_fault(on), "") << "killed when it was done";
    of.after(on);
    return found;
}

/// At most about `most` of them, spread evenly.
std::vector<interval> points_of(std::vector<interval> const& in, std::size_t most,
                                std::size_t thinned) {
    std::size_t all = 0;
    for (interval const& each : in) {
        all += each.steps + 1;
    }
    tarn::test::random_stream random{seed_of_this_run()};
    std::size_t const here = std::min(most, all) * (tarn::test::soaking() ? 10 : 1);
    std::size_t const stride =
        std::max<std::size_t>(1, all / std::max<std::size_t>(1, here)) * thinned;
    std::size_t until_next = random.below(stride);
    std::vector<interval> points;
    for (interval each : in) {
        for (unsigned const steps = std::exchange(each.steps, 0); each.steps <= steps;
             ++each.steps) {
            if (until_next == 0) {
                points.push_back(each);
                until_next = stride;
            }
            --until_next;
        }
    }
    return points;
}

void move_to(stepped_child& child, interval const& point) {
    for (unsigned i = 0; i < point.system_calls && child.is_here(); ++i) {
        child.pass_system_call();
    }
    for (unsigned i = 0; i < point.steps && child.is_here(); ++i) {
        child.step();
    }
}

/// The number of points at which a kill left something wrong.
unsigned kill_everywhere(char const* name, stage& on, operation const& of, std::size_t most,
                         std::size_t thinned = thinning) {
    std::vector<interval> const points = points_of(measure(on, of), most, thinned);
    unsigned wrong = 0;
    std::string first;
    for (interval const& point : points) {
        of.before(on);
        {
            stepped_child child{[&] { of.prepare(on); }, [&] { of.operate(on); }};
            move_to(child, point);
        }
        ++on.round;
        std::string const fault = of.find_fault(on);
        of.after(on);
        if (!fault.empty() && wrong++ < wrong_most) {
            first += "after " + std::to_string(point.system_calls) + " system calls and " +
                     std::to_string(point.steps) + " instructions: " + fault;
        }
    }
    std::printf("%s: %zu kills, %u of them broke something (TARN_SEED=%llu)\n%s", name,
                points.size(), wrong, static_cast<unsigned long long>(seed_of_this_run()),
                first.c_str());
    EXPECT_TRUE(thinned > 1 || !points.empty());
    return wrong;
}

class shm_kill : public testing::Test {
protected:
    void SetUp() override { make_segment(on_); }

    void TearDown() override {
        if (on_.survivor != nullptr) {
            remove_all(on_);
        }
    }

    void expect_no_harm(operation const& of, std::size_t most = sampled) {
        EXPECT_EQ(kill_everywhere(testing::UnitTest::GetInstance()->current_test_info()->name(),
                                  on_, of, most),
                  0U);
    }

    stage on_;
};

TEST_F(shm_kill, allocate_from_the_first_pool) {
    expect_no_harm(
        {.operate = [](stage& on) { tarn_shm_allocate(on.mine.get(), 40, 0, nullptr, &on.chunk); }},
        all_of_them);
}

TEST_F(shm_kill, allocate_from_a_pool_with_headers) {
    expect_no_harm(
        {.operate =
             [](stage& on) { tarn_shm_allocate(on.mine.get(), 200, 0, nullptr, &on.chunk); }},
        all_of_them);
}

TEST_F(shm_kill, allocate_from_a_pool_that_could_grow) {
    expect_no_harm(
        {.operate =
             [](stage& on) { tarn_shm_allocate(on.mine.get(), 4000, 0, nullptr, &on.chunk); }},
        all_of_them);
}

TEST_F(shm_kill, allocate_where_hints_are_wrong) {
    expect_no_harm(
        {.before = survivor_takes_most,
         .operate = [](stage& on) { tarn_shm_allocate(on.mine.get(), 40, 0, nullptr, &on.chunk); },
         .after = survivor_gives_back},
        all_of_them);
}

TEST_F(shm_kill, allocate_that_recovers) {
    expect_no_harm({.prepare =
                        [](stage& on) {
                            attach_mine(on);
                            another_dies_with(on, 1);
                        },
                    .operate =
                        [](stage& on) {
                            tarn_shm_asking const only_these{.larger_most = 1, .wait_ms = 0};
                            tarn_shm_allocate(on.mine.get(), 200, 0, &only_these, &on.chunk);
                        }});
}

TEST_F(shm_kill, allocate_that_grows) {
    expect_no_harm(
        {.before = [](stage& on) { survivor_takes_pool(on, 2); },
         .operate =
             [](stage& on) { tarn_shm_allocate(on.mine.get(), 4000, 0, nullptr, &on.chunk); },
         .after =
             [](stage& on) {
                 survivor_gives_back(on);
                 remove_all(on);
                 make_segment(on);
             }});
}

TEST_F(shm_kill, allocate_in_vain) {
    expect_no_harm({.before = [](stage& on) { survivor_takes_pool(on, 0); },
                    .operate =
                        [](stage& on) {
                            tarn_shm_asking const only_these{.larger_most = 1, .wait_ms = 1};
                            tarn_shm_allocate(on.mine.get(), 40, 0, &only_these, &on.chunk);
                        },
                    .after = survivor_gives_back});
}

TEST_F(shm_kill, release) {
    expect_no_harm(
        {.prepare =
             [](stage& on) {
                 attach_mine(on);
                 allocate_or_leave(on.mine.get(), 40, on.chunk);
             },
         .operate = [](stage& on) { tarn_shm_release(on.mine.get(), on.chunk.reference); }},
        all_of_them);
}

TEST_F(shm_kill, release_for_which_somebody_waits) {
    expect_no_harm(
        {.prepare =
             [](stage& on) {
                 attach_mine(on);
                 on.taken = take_all(on.mine.get(), 0);
                 tarn_shm_share(on.mine.get(), on.taken.front(), 8);
                 tarn_shm_asking const waits{.larger_most = 1, .wait_ms = 1};
                 tarn_shm_chunk none{};
                 tarn_shm_allocate(on.mine.get(), 40, 0, &waits, &none);
             },
         .operate = [](stage& on) { tarn_shm_release(on.mine.get(), on.taken.front()); }},
        all_of_them);
}

TEST_F(shm_kill, hold_what_another_has) {
    expect_no_harm(
        {.before = [](stage& on) { survivor_holds(on); },
         .operate = [](stage& on) { tarn_shm_hold(on.mine.get(), on.chunk.reference, &on.chunk); },
         .after = survivor_lets_go},
        all_of_them);
}

TEST_F(shm_kill, hold_what_is_gone) {
    expect_no_harm(
        {.before =
             [](stage& on) {
                 survivor_holds(on);
                 survivor_lets_go(on);
             },
         .operate = [](stage& on) { tarn_shm_hold(on.mine.get(), on.chunk.reference, &on.chunk); }},
        all_of_them);
}

TEST_F(shm_kill, hold_and_release_while_another_has_it) {
    expect_no_harm({.before = [](stage& on) { survivor_holds(on, 200); },
                    .operate =
                        [](stage& on) {
                            tarn_shm_hold(on.mine.get(), on.chunk.reference, &on.chunk);
                            tarn_shm_release(on.mine.get(), on.chunk.reference);
                        },
                    .after = survivor_lets_go},
                   all_of_them);
}

TEST_F(shm_kill, release_of_what_was_held_twice) {
    expect_no_harm({.prepare =
                        [](stage& on) {
                            attach_mine(on);
                            allocate_or_leave(on.mine.get(), 40, on.chunk);
                            tarn_shm_hold(on.mine.get(), on.chunk.reference, &on.chunk);
                        },
                    .operate =
                        [](stage& on) {
                            tarn_shm_release(on.mine.get(), on.chunk.reference);
                            tarn_shm_release(on.mine.get(), on.chunk.reference);
                        }},
                   all_of_them);
}

TEST_F(shm_kill, take_and_give) {
    expect_no_harm({.operate =
                        [](stage& on) {
                            std::uint32_t const got =
                                tarn_shm_take(on.mine.get(), 1, 1, on.chunks.data());
                            for (std::uint32_t i = 0; i < got; ++i) {
                                on.references[i] = on.chunks[i].reference;
                            }
                            tarn_shm_give(on.mine.get(), on.references.data(), got);
                        }},
                   all_of_them);
}

TEST_F(shm_kill, share_what_was_taken) {
    expect_no_harm({.prepare =
                        [](stage& on) {
                            attach_mine(on);
                            tarn_shm_take(on.mine.get(), 0, 2, on.chunks.data());
                        },
                    .operate =
                        [](stage& on) {
                            tarn_shm_share(on.mine.get(), on.chunks[0].reference, 10);
                            tarn_shm_release(on.mine.get(), on.chunks[0].reference);
                        }},
                   all_of_them);
}

TEST_F(shm_kill, detach) {
    expect_no_harm({.prepare =
                        [](stage& on) {
                            attach_mine(on);
                            take_all(on.mine.get(), 0);
                            allocate_or_leave(on.mine.get(), 200, on.chunk);
                        },
                    .operate = [](stage& on) { tarn_shm_detach(on.mine.release()); }});
}

TEST_F(shm_kill, recover) {
    expect_no_harm({.prepare =
                        [](stage& on) {
                            attach_mine(on);
                            another_dies_with(on, 0);
                        },
                    .operate = [](stage& on) { tarn_shm_recover(on.mine.get()); }});
}

TEST_F(shm_kill, attach) { expect_no_harm({.prepare = nothing, .operate = attach_mine}); }

TEST_F(shm_kill, attach_that_recovers) {
    expect_no_harm(
        {.prepare = [](stage& on) { another_dies_with(on, 0); }, .operate = attach_mine});
}

TEST_F(shm_kill, attach_by_descriptor) {
    remove_all(on_);
    tarn_shm_pool const pool = pool_of(64, 8);
    tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
    config.pools = &pool;
    config.pool_count = 1;
    on_.survivor.reset(tarn_shm_create_anonymous(&config, nullptr, nullptr));
    ASSERT_NE(on_.survivor, nullptr);
    int const descriptor = tarn_shm_descriptor(on_.survivor.get());
    // The child's copy of the survivor has none: it gets one of its own.
    int const passed = ::dup(descriptor);
    operation const of{
        .before = nothing,
        .prepare = nothing,
        .operate =
            [passed](stage& on) {
                on.mine.reset(tarn_shm_attach_descriptor(passed, nullptr, nullptr));
            },
        .find_fault =
            [](stage& on) {
                tarn_shm_recover(on.survivor.get());
                return (tarn_shm_recover(on.survivor.get()) != 0 ? std::string{"again\n"} : "") +
                       what_is_wrong(on.survivor.get());
            },
        .after = nothing};
    EXPECT_EQ(kill_everywhere("attach_by_descriptor", on_, of, sampled), 0U);
    ::close(passed);
    on_.survivor.reset();
}

// Names: they lead to a segment, or to nothing, and what is left goes with the next cleaning.

std::string name_is_whole_or_absent(stage& on) {
    tarn_shm_failure failure{};
    shm_client fresh = attach_segment(on.domain, &failure);
    std::string wrong;
    if (fresh != nullptr) {
        wrong += what_is_wrong(fresh.get());
        fresh.reset();
        if (remove_segment(on.domain) != TARN_SHM_OK) {
            wrong += "it can't be removed\n";
        }
    } else if (failure.code != TARN_SHM_NOT_FOUND) {
        wrong += std::string{failure.text} + '\n';
    }
    if (tarn_shm_clean(on.domain.path(), nullptr) < 0 || !on.domain.files().empty()) {
        wrong += "something is left in the domain\n";
    }
    return wrong;
}

int create_again(stage const& on) {
    return create_segment(on.domain, {pool_of(64, 8), pool_of(4096, 4, 12)});
}

TEST_F(shm_kill, create) {
    remove_all(on_);
    expect_no_harm({.prepare = nothing,
                    .operate = [](stage& on) { create_again(on); },
                    .find_fault = name_is_whole_or_absent});
}

TEST_F(shm_kill, create_after_a_creation_was_killed) {
    // Rubbish of a creation lies there: a file that has an id, and no name.
    remove_all(on_);
    expect_no_harm({.before =
                        [](stage& on) {
                            ASSERT_EQ(create_again(on), TARN_SHM_OK);
                            ASSERT_EQ(::unlink(on.domain.path_of(tarn::test::test_name).c_str()),
                                      0);
                        },
                    .prepare = nothing,
                    .operate = [](stage& on) { create_again(on); },
                    .find_fault = name_is_whole_or_absent});
}

TEST_F(shm_kill, create_anonymous) {
    remove_all(on_);
    expect_no_harm({.prepare = nothing,
                    .operate =
                        [](stage& on) {
                            tarn_shm_pool const pool = pool_of(64, 8);
                            tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
                            config.pools = &pool;
                            config.pool_count = 1;
                            on.mine.reset(tarn_shm_create_anonymous(&config, nullptr, nullptr));
                        },
                    .find_fault =
                        [](stage& on) {
                            return on.domain.files().empty() ? std::string{} : "it has a name\n";
                        }});
}

TEST_F(shm_kill, remove) {
    remove_all(on_);
    expect_no_harm({.before = [](stage& on) { ASSERT_EQ(create_again(on), TARN_SHM_OK); },
                    .prepare = nothing,
                    .operate = [](stage& on) { remove_segment(on.domain); },
                    .find_fault = name_is_whole_or_absent});
}

TEST_F(shm_kill, remove_in_use) {
    remove_all(on_);
    expect_no_harm(
        {.before =
             [](stage& on) {
                 ASSERT_EQ(create_again(on), TARN_SHM_OK);
                 on.survivor = attach_segment(on.domain);
             },
         .prepare = nothing,
         .operate = [](stage& on) { remove_segment(on.domain, tarn::test::test_name, true); },
         .find_fault =
             [](stage& on) {
                 std::string wrong = what_is_wrong(on.survivor.get());
                 on.survivor.reset();
                 return wrong + name_is_whole_or_absent(on);
             }});
}

TEST_F(shm_kill, detach_the_last_of_a_removed_one) {
    remove_all(on_);
    expect_no_harm({.before = [](stage& on) { ASSERT_EQ(create_again(on), TARN_SHM_OK); },
                    .prepare =
                        [](stage& on) {
                            attach_mine(on);
                            remove_segment(on.domain, tarn::test::test_name, true);
                        },
                    .operate = [](stage& on) { tarn_shm_detach(on.mine.release()); },
                    .find_fault = name_is_whole_or_absent});
}

TEST_F(shm_kill, clean) {
    remove_all(on_);
    expect_no_harm({.before =
                        [](stage& on) {
                            for (char const* const name : {"one", "two"}) {
                                ASSERT_EQ(
                                    create_segment(on.domain, {pool_of(64, 8)}, nullptr, name),
                                    TARN_SHM_OK);
                                ASSERT_EQ(::unlink(on.domain.path_of(name).c_str()), 0);
                            }
                        },
                    .prepare = nothing,
                    .operate = [](stage& on) { tarn_shm_clean(on.domain.path(), nullptr); },
                    .find_fault = name_is_whole_or_absent});
}

// The naive way.

TEST_F(shm_kill, the_naive_pool_loses_chunks) {
    constexpr std::uint32_t child = 7;
    constexpr std::uint32_t tester = 1;
    void* const memory =
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    naive_pool* pool = nullptr;
    operation const of{
        .before = [&](stage& /*on*/) { pool = ::new (memory) naive_pool; },
        .prepare = nothing,
        .operate =
            [&](stage& /*on*/) {
                std::uint32_t const got = pool->allocate(child);
                pool->release(got);
            },
        .find_fault =
            [&](stage& /*on*/) {
                pool->recover(child);
                std::uint32_t had = 0;
                while (had <= naive_pool::chunks && pool->allocate(tester) != naive_pool::none) {
                    ++had;
                }
                return had == naive_pool::chunks ? std::string{}
                                                 : std::to_string(had) + " chunks of 8 are left\n";
            },
        .after = nothing};
    EXPECT_GT(kill_everywhere("the_naive_pool", on_, of, all_of_them, 1), 0U);
    ::munmap(memory, 4096);
}

}  // namespace

#endif
