// deaths_explored - clients of a pool in shared memory that die between any two operations, in
// every interleaving with those who live and with those who recover them.
//
// Mutants    A list from which a number is taken before it is written down who has it; a recovery
//            that sees only what the dead held.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "shm/mortal_atomics.hpp"
#include "shm/pool_scenario.hpp"
#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::test;
using tarn::impl::shm::generation;

/// Threads that die, and others that see it.
template <class Set>
class mortal_pool : public pool_scenario<Set> {
public:
    using pool_scenario<Set>::pool_scenario;

protected:
    /// At a thread's end: the kernel gives its lock back.
    void leave() { is_alive_[explored_thread()].store(0, std::memory_order_release); }

    /// As one does who got the lock. What has ended without dying has nothing.
    void recover_if_gone(unsigned thread) {
        if (is_alive_[thread].load(std::memory_order_acquire) == 0) {
            this->set().recover(client_number{thread});
        }
    }

private:
    std::array<explored_atomic<int>, explored_threads_most> is_alive_{1, 1, 1, 1, 1, 1};
};

/// Thread 0 takes, gives back and takes again, and dies after so many operations, or at its end;
/// thread 1 recovers it if it sees that, and takes and gives back, too; thread 2, if any, recovers
/// it as well.
template <class Set>
class dies_at_work : public mortal_pool<Set> {
public:
    dies_at_work(unsigned operations, unsigned threads) : mortal_pool<Set>{1}, threads_{threads} {
        this->dies_after(0, operations);
    }

    [[nodiscard]] unsigned threads() const override { return threads_; }

    void run(unsigned thread) override {
        if (thread == 0) {
            this->release(this->allocate());
            this->allocate();
            this->leave();
        } else {
            this->recover_if_gone(0);
            if (thread == 1) {
                this->release(this->allocate());
            }
        }
    }

    void finish() override {
        this->dies_after(0, 0);
        mortal_pool<Set>::finish();
    }

private:
    unsigned threads_;
};

constexpr unsigned operations_most = 9;  // of thread 0, above: seven where nobody is in its way

TEST(shm_deaths, nothing_is_lost_wherever_a_client_dies) {
    for (unsigned operations = 0; operations <= operations_most; ++operations) {
        SCOPED_TRACE(operations);
        expect_all_hold<dies_at_work<true_set>>(operations, 2U);
    }
}

TEST(shm_deaths, two_see_that_a_client_is_dead) {
    unsigned const most = is_slow ? 4 : operations_most;
    for (unsigned operations = 0; operations <= most; ++operations) {
        SCOPED_TRACE(operations);
        expect_all_hold<dies_at_work<true_set>>(operations, 3U);
    }
}

/// Thread 0 publishes a chunk, releases it and takes it again; thread 1 holds what it finds
/// published; thread 2 recovers who is dead. Thread 0 or 1 dies.
class dies_with_a_reference : public mortal_pool<true_set> {
public:
    dies_with_a_reference(unsigned thread, unsigned operations) : mortal_pool{1} {
        dies_after(thread, operations);
    }

    [[nodiscard]] unsigned threads() const override { return 3; }

    void run(unsigned thread) override {
        if (thread == 0) {
            publish();
        } else if (thread == 1) {
            read();
        } else {
            recover_if_gone(0);
            recover_if_gone(1);
        }
    }

    void finish() override {
        set().recover(client_number{0});
        mortal_pool::finish();
    }

private:
    void publish() {
        claimed_chunk const mine = allocate();
        published_.store(static_cast<std::uint32_t>(mine.now), std::memory_order_release);
        set().release(me(), 0);
        allocate();
        leave();
    }

    void read() {
        std::uint32_t const found = published_.load(std::memory_order_acquire);
        if (found != 0 && set().hold(me(), 0, static_cast<generation>(found)) && !is_dead()) {
            require(contents_[0].get() == static_cast<int>(found), "not what was meant");
        }
        if (found != 0) {
            set().release(me(), 0);  // a refused hold has left nothing
        }
        leave();
    }

    mortal::atomic<std::uint32_t> published_{0};
};

TEST(shm_deaths, nothing_is_lost_wherever_one_dies_with_a_reference) {
    for (unsigned const thread : {0U, 1U}) {
        for (unsigned operations = 0; operations <= operations_most; ++operations) {
            SCOPED_TRACE(operations);
            expect_all_hold<dies_with_a_reference>(thread, operations);
        }
    }
}

/// Client 2 died with the chunk in its hands. Thread 0 recovers it, and dies of that after so many
/// operations; thread 1 takes and gives back meanwhile. Who comes later recovers both.
template <class Set>
class recoverer_dies : public pool_scenario<Set> {
public:
    recoverer_dies(unsigned operations, bool dead_has_it) : pool_scenario<Set>{1} {
        if (dead_has_it) {
            this->set().allocate(dead, 0);
        } else {
            this->hints_.fetch_and(0, std::memory_order_seq_cst);  // between two steps
        }
        this->dies_after(0, operations);
    }

    void run(unsigned thread) override {
        if (thread == 0) {
            this->set().recover(dead);
        } else {
            this->release(this->allocate());
        }
    }

    void finish() override {
        if (this->is_dead(0)) {
            this->set().recover(dead);
        }
        pool_scenario<Set>::finish();
    }

private:
    static constexpr client_number dead{2};
};

TEST(shm_deaths, a_recoverer_that_dies_is_replaced) {
    for (bool const dead_has_it : {false, true}) {
        for (unsigned operations = 0; operations <= 4; ++operations) {
            SCOPED_TRACE(operations);
            expect_all_hold<recoverer_dies<true_set>>(operations, dead_has_it);
        }
        expect_all_hold<recoverer_dies<true_set>>(lives_on, dead_has_it);
    }
}

/// Client 2 is dead; two recover it at once, beside one who allocates.
class two_recover : public pool_scenario<true_set> {
public:
    two_recover() : pool_scenario{1} { set().allocate(dead, 0); }

    [[nodiscard]] unsigned threads() const override { return 3; }

    void run(unsigned thread) override {
        if (thread == 0) {
            release(allocate());
        } else {
            set().recover(dead);
        }
    }

private:
    static constexpr client_number dead{5};
};

TEST(shm_deaths, two_recover_at_once) { expect_all_hold<two_recover>(); }

/// Somebody who had nothing is recovered, while two take and give back.
template <class Set>
class recovers_beside : public pool_scenario<Set> {
public:
    recovers_beside() : pool_scenario<Set>{1} {}

    void run(unsigned thread) override {
        if (thread == 0) {
            this->set().recover(client_number{3});
        }
        this->release(this->allocate());
    }
};

TEST(shm_deaths, recovery_beside_the_living) {
    expect_all_hold<recovers_beside<true_set>>();
    expect_all_hold<recovers_beside<careless_set<wrong::nothing>>>();
}

TEST(shm_deaths_mutants, a_list_that_decides_gives_a_chunk_to_two) {
    expect_one_fails<recovers_beside<careless_set<wrong::list_decides>>>("data race");
}

TEST(shm_deaths_mutants, a_recovery_of_what_was_held_loses_a_chunk) {
    using careless = careless_set<wrong::recovers_held_only>;
    expect_one_fails<recoverer_dies<careless>>("lost", lives_on, false);
}

}  // namespace
