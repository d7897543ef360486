// chunk_set_explored - the chunks of a pool in shared memory, in every interleaving: allocation,
// release, holds by reference, waiting.
//
// Mutants    A release that looks at the hint too early; an allocation that clears a hint for good,
//            or does not try again; atomics without acquire.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>

#include "shm/mortal_atomics.hpp"
#include "shm/pool_scenario.hpp"
#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "lockfree/weak_atomics.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::test;
using tarn::impl::shm::generation;
using tarn::impl::shm::let_go;

// --- everybody lives -----------------------------------------------------------------------------

/// Two take and give back, so often.
template <class Set, class Atomics = mortal>
class take_and_give : public pool_scenario<Set, Atomics> {
public:
    take_and_give(std::uint32_t chunks, int rounds)
        : pool_scenario<Set, Atomics>{chunks}, rounds_{rounds} {}

    void run(unsigned /*thread*/) override {
        for (int i = 0; i < rounds_; ++i) {
            claimed_chunk const mine = this->allocate();
            require(mine.number != no_chunk || this->count_ == 1, "one for each, and yet none");
            this->release(mine);
        }
    }

private:
    int rounds_;
};

TEST(chunk_set_explored, two_take_and_give_back_one_chunk) {
    expect_all_hold<take_and_give<true_set>>(1U, 1);
    if (!is_slow) {
        expect_all_hold<take_and_give<true_set>>(1U, 2);
    }
}

/// Three want one chunk, once.
class three_take_and_give : public take_and_give<true_set> {
public:
    three_take_and_give() : take_and_give{1, 1} {}

    [[nodiscard]] unsigned threads() const override { return 3; }
};

TEST(chunk_set_explored, three_take_and_give_back_one_chunk) {
    if (!is_slow) {
        expect_all_hold<three_take_and_give>();
    }
}

/// Who finds the first taken finds the second free, if there are two for two.
class each_of_two : public pool_scenario<true_set> {
public:
    explicit each_of_two(unsigned threads) : pool_scenario{2}, threads_{threads} {}

    [[nodiscard]] unsigned threads() const override { return threads_; }

    void run(unsigned /*thread*/) override {
        claimed_chunk const mine = allocate();
        require(mine.number != no_chunk || threads_ > 2, "one for each, and yet none");
        release(mine);
    }

private:
    unsigned threads_;
};

TEST(chunk_set_explored, two_chunks_for_two_and_for_three) {
    expect_all_hold<each_of_two>(2U);
    if (!is_slow) {
        expect_all_hold<each_of_two>(3U);
    }
}

/// Takes several at once, beside one who takes one.
class takes_several : public pool_scenario<true_set> {
public:
    takes_several() : pool_scenario{2} {}

    void run(unsigned thread) override {
        if (thread == 1) {
            release(allocate());
            return;
        }
        std::uint64_t taken = 0;
        std::uint32_t const first = set().take(me(), 0, 2, taken);
        require(taken != 0, "one for each, and yet none");
        for (std::uint32_t i = 0; i < 2; ++i) {
            if ((taken & (std::uint64_t{1} << i)) != 0) {
                contents_[first + i].set(7);
                require(set().release(me(), first + i) == let_go::free, "another one holds it");
            }
        }
    }
};

TEST(chunk_set_explored, several_at_once) { expect_all_hold<takes_several>(); }

// --- references ----------------------------------------------------------------------------------

/// Thread 0 allocates, publishes, releases, and again; others hold what they find published.
template <class Atomics = mortal>
class publishes : public pool_scenario<chunk_set<Atomics>, Atomics> {
public:
    explicit publishes(unsigned readers)
        : pool_scenario<chunk_set<Atomics>, Atomics>{1}, threads_{readers + 1} {}

    [[nodiscard]] unsigned threads() const override { return threads_; }

    void run(unsigned thread) override {
        if (thread != 0) {
            read();
            return;
        }
        for (int i = 0; i < 2; ++i) {
            claimed_chunk const mine = this->allocate();
            if (mine.number != no_chunk) {
                published_.store(static_cast<std::uint32_t>(mine.now), std::memory_order_release);
                require(this->set().release(this->me(), 0) != let_go::was_not_held, "not held");
            }
        }
    }

private:
    void read() {
        std::uint32_t const found = published_.load(std::memory_order_acquire);
        if (found == 0 || !this->set().hold(this->me(), 0, static_cast<generation>(found))) {
            return;
        }
        std::uint64_t const word = this->set().word_of(0);
        require((word & bit_of(this->me())) != 0, "held, and yet not");
        require(generation_of(word) == static_cast<generation>(found), "allocated while held");
        require(this->contents_[0].get() == static_cast<int>(found), "not what was meant");
        require(this->set().release(this->me(), 0) != let_go::was_not_held, "not held");
    }

    typename Atomics::template atomic<std::uint32_t> published_{0};
    unsigned threads_;
};

TEST(chunk_set_explored, what_is_held_is_what_the_reference_meant) {
    expect_all_hold<publishes<>>(1U);
    expect_all_hold<publishes<>>(2U);
}

/// Two readers, of a chunk that is published once; a refused hold is in the way of another.
class two_readers : public pool_scenario<true_set> {
public:
    two_readers() : pool_scenario{1} { first_ = set().allocate(client_number{0}, 0).now; }

    [[nodiscard]] unsigned threads() const override { return 3; }

    void run(unsigned thread) override {
        if (thread == 0) {
            contents_[0].set(1);
            require(set().release(me(), 0) != let_go::was_not_held, "not held");
        } else if (set().hold(me(), 0, first_)) {
            require(set().release(me(), 0) != let_go::was_not_held, "not held");
        }
    }

private:
    generation first_{};
};

TEST(chunk_set_explored, refused_holds_are_in_nobodys_way) { expect_all_hold<two_readers>(); }

// --- waiting -------------------------------------------------------------------------------------

/// Thread 0 has the chunk, releases it and wakes, as src/shm/chunks.cpp does; thread 1 takes it and
/// gives it back if it can, and wakes; thread 2 waits for it.
template <class Set>
class waits : public pool_scenario<Set> {
public:
    waits() : pool_scenario<Set>{1} { first_ = this->set().allocate(client_number{0}, 0); }

    [[nodiscard]] unsigned threads() const override { return 3; }

    void run(unsigned thread) override {
        if (thread == 2) {
            wait();
            return;
        }
        claimed_chunk const mine = thread == 0 ? first_ : this->set().allocate(this->me(), 0);
        if (mine.number != no_chunk) {
            this->set().release(this->me(), mine.number);
            tell();
        }
    }

    void finish() override {
        require(!sleeps_ || sequence_.load(std::memory_order_relaxed) != seen_,
                "asleep beside a free chunk");
        pool_scenario<Set>::finish();
    }

private:
    void wait() {
        seen_ = sequence_.load(std::memory_order_seq_cst);
        waiting_.store(1, std::memory_order_seq_cst);
        claimed_chunk const mine = this->set().allocate(this->me(), 0);
        sleeps_ = mine.number == no_chunk;
        if (!sleeps_) {
            this->set().release(this->me(), mine.number);
        }
    }

    void tell() {
        if (waiting_.load(std::memory_order_seq_cst) != 0 &&
            waiting_.exchange(0, std::memory_order_seq_cst) != 0) {
            sequence_.fetch_add(1, std::memory_order_seq_cst);
        }
    }

    explored_atomic<std::uint32_t> sequence_{0};
    explored_atomic<std::uint32_t> waiting_{0};
    claimed_chunk first_;
    std::uint32_t seen_ = 0;  // by thread 2
    bool sleeps_ = false;
};

TEST(chunk_set_explored, nobody_sleeps_beside_a_free_chunk) {
    if (!is_slow) {
        expect_all_hold<waits<true_set>>();
    }
}

// --- mutants -------------------------------------------------------------------------------------

TEST(chunk_set_mutants, a_release_that_looks_early_loses_a_chunk) {
    expect_one_fails<take_and_give<careless_set<wrong::release_looks_early>>>("lost", 1U, 1);
}

TEST(chunk_set_mutants, an_allocation_that_does_not_look_again_loses_a_chunk) {
    expect_one_fails<take_and_give<careless_set<wrong::no_second_look>>>("lost", 1U, 1);
}

TEST(chunk_set_mutants, an_allocation_that_does_not_try_again_lets_one_sleep) {
    expect_one_fails<waits<careless_set<wrong::no_second_try>>>("asleep beside a free chunk");
}

TEST(chunk_set_mutants, without_acquire_or_release_nothing_is_ordered) {
    using no_acquire = mortal_atomics<weak_atomics<false, true>>;
    expect_one_fails<take_and_give<chunk_set<no_acquire>, no_acquire>>("data race", 1U, 1);
}

}  // namespace
