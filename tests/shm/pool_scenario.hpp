// shm/pool_scenario.hpp - a pool in shared memory for the explorer, with clients that can die, and
// what stands for a chunk_set that is wrong.
//
// Role       pool_scenario: chunks, what they hold, and what must be true of them in the end.
//            careless_set: a chunk_set of one chunk with one thing wrong.
// Always     What a chunk holds is explored_data: two who use it at once, or a hand-over that
//            orders nothing, is a race. When nobody is at work and the dead are recovered, nobody
//            holds a chunk, and each has its hint.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "shm/chunk_set.hpp"
#include "shm/mortal_atomics.hpp"
#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "lockfree/expectations.hpp"

namespace tarn::test {

using impl::shm::bit_of;
using impl::shm::chunk_set;
using impl::shm::chunk_word;
using impl::shm::claimed_chunk;
using impl::shm::client_number;
using impl::shm::generation_of;
using impl::shm::holders_of;

using mortal = mortal_atomics<>;
using true_set = chunk_set<mortal>;

inline constexpr std::uint32_t no_chunk = claimed_chunk::none;

/// A pool, and clients with the numbers of their threads.
template <class Set, class Atomics = mortal>
class pool_scenario : public dying_scenario {
public:
    explicit pool_scenario(std::uint32_t chunks)
        : hints_{(std::uint64_t{1} << chunks) - 1}, count_{chunks} {}

    [[nodiscard]] unsigned threads() const override { return 2; }

    void finish() override {
        for (unsigned thread = 0; thread < threads(); ++thread) {
            if (is_dead(thread)) {
                set().recover(client_number{thread});
                set().recover(client_number{thread});  // idempotent
            }
        }
        for (std::uint32_t number = 0; number < count_; ++number) {
            std::uint64_t const word = truths_[number].load();
            require(holders_of(word) == 0, "held by nobody who lives");
            require(set().has_hint(number), "lost: free without a hint");
        }
    }

protected:
    [[nodiscard]] Set set() { return Set{truths_.data(), &hints_, count_}; }

    static client_number me() { return client_number{explored_thread()}; }

    /// Takes a chunk and writes to it.
    claimed_chunk allocate(std::uint32_t start = 0) {
        claimed_chunk const mine = set().allocate(me(), start);
        if (mine.number != no_chunk && !is_dead()) {
            require(mine.number < count_, "no such chunk");
            contents_[mine.number].set(static_cast<int>(mine.now));
        }
        return mine;
    }

    void release(claimed_chunk const& mine) {
        if (mine.number != no_chunk) {
            if (!is_dead()) {
                require(contents_[mine.number].get() == static_cast<int>(mine.now),
                        "written by somebody else");
            }
            set().release(me(), mine.number);
        }
    }

    std::array<chunk_word<Atomics>, 2> truths_;
    typename Atomics::template atomic<std::uint64_t> hints_;
    std::array<explored_data<int>, 2> contents_{};
    std::uint32_t count_;
};

/// A scenario with parameters.
template <class Scenario, class... Parameters>
exploration all_of(exploring const& how, Parameters... parameters) {
    return explore([=] { return std::make_unique<Scenario>(parameters...); }, how);
}

template <class Scenario, class... Parameters>
void expect_all_hold(Parameters... parameters) {
    for (exploring const& how : {exploring{}, with_buffers}) {
        exploration const seen = all_of<Scenario>(how, parameters...);
        EXPECT_TRUE(seen.passed()) << seen;
    }
}

template <class Scenario, class... Parameters>
void expect_one_fails(std::string_view text, Parameters... parameters) {
    auto const make = [=] { return std::make_unique<Scenario>(parameters...); };
    exploration const seen = explore(make);
    EXPECT_NE(seen.failure.find(text), std::string::npos) << seen;
    EXPECT_EQ(replay(make, seen.schedule).failure, seen.failure);
}

enum class wrong : std::uint8_t {
    nothing,
    list_decides,         // whoever clears the hint has the chunk, and writes that down afterwards
    release_looks_early,  // at the hint, before its bit is cleared
    no_second_look,       // allocation clears a hint that is wrong, and leaves it
    no_second_try,        // allocation sets the hint back, and goes on
    recovers_held_only    // recovery gives hints only to chunks that the dead one held
};

/// As chunk_set of one chunk, with one thing wrong.
template <wrong What>
class careless_set {
public:
    careless_set(chunk_word<mortal>* truth, mortal::atomic<std::uint64_t>* hint,
                 std::uint32_t count)
        : truth_{*truth}, hint_{*hint}, hints_{hint, count} {}

    claimed_chunk allocate(client_number me, std::uint32_t /*start*/) {
        claimed_chunk claimed;
        if (!hints_.has(0)) {
            return claimed;
        }
        if (What == wrong::list_decides) {
            if (hint_.fetch_and(0, std::memory_order_seq_cst) != 0) {
                static_cast<void>(truth_.try_claim(me, claimed.now));
                claimed.number = 0;
            }
        } else if (truth_.try_claim(me, claimed.now)) {
            claimed.number = 0;
        } else {
            hints_.clear(0);
            if (What != wrong::no_second_look && holders_of(truth_.load()) == 0) {
                hints_.set(0);
                if (What != wrong::no_second_try && truth_.try_claim(me, claimed.now)) {
                    claimed.number = 0;
                }
            }
        }
        return claimed;
    }

    void release(client_number me, std::uint32_t /*number*/) {
        if (What == wrong::release_looks_early) {
            bool const has = hints_.has(0);
            truth_.drop(me);
            if (!has) {
                hints_.set(0);
            }
        } else if (holders_of(truth_.drop(me) & ~bit_of(me)) == 0) {
            give_hint();
        }
    }

    void recover(client_number dead) {
        std::uint64_t const before = truth_.drop(dead);
        if (holders_of(before & ~bit_of(dead)) == 0 &&
            (What != wrong::recovers_held_only || (before & bit_of(dead)) != 0)) {
            give_hint();
        }
    }

    [[nodiscard]] bool has_hint(std::uint32_t number) const { return hints_.has(number); }

private:
    void give_hint() {
        if (!hints_.has(0)) {
            hints_.set(0);
        }
    }

    chunk_word<mortal>& truth_;
    mortal::atomic<std::uint64_t>& hint_;
    tarn::shm::basic_hint_bitmap<mortal> hints_;
};

}  // namespace tarn::test
