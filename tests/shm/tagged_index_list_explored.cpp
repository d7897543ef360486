// tagged_index_list_explored - the list of free numbers in every interleaving: what is taken has
// one owner, who sees what the one before did, and nothing is lost while nobody dies. What a death
// costs there, and not in a chunk_set.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tarn/shm/tagged_index_list.hpp"

#include "shm/mortal_atomics.hpp"
#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "lockfree/expectations.hpp"
#include "lockfree/weak_atomics.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::test;

using mortal = mortal_atomics<>;

constexpr std::uint32_t numbers = 2;

/// Threads take numbers and give them back.
template <class Atomics = mortal>
class list_scenario : public dying_scenario {
public:
    using list = tarn::shm::basic_tagged_index_list<Atomics>;

    list_scenario() : list_{list::create(memory_.data(), numbers)} {}

    [[nodiscard]] unsigned threads() const override { return 2; }

    void finish() override {
        for (std::uint32_t left = numbers; left > 0; --left) {
            require(list_->take() < numbers, "lost");
        }
        require(list_->take() == list::none, "a number that is not there");
    }

protected:
    std::uint32_t take() {
        std::uint32_t const mine = list_->take();
        if (mine != list::none && !is_dead()) {
            require(mine < numbers, "no such number");
            contents_[mine].set(static_cast<int>(explored_thread()));
        }
        return mine;
    }

    void give(std::uint32_t mine) {
        if (mine != list::none && !is_dead()) {
            require(contents_[mine].get() == static_cast<int>(explored_thread()),
                    "written by somebody else");
            list_->give(mine);
        }
    }

private:
    alignas(64) std::array<std::byte, list::bytes_for(numbers)> memory_{};
    list* list_;
    std::array<explored_data<int>, numbers> contents_{};
};

/// Thread 0 takes one; thread 1 takes two and gives them back in the other order: ABA, without a
/// tag.
template <class Atomics = mortal>
class two_take : public list_scenario<Atomics> {
public:
    void run(unsigned thread) override {
        if (thread == 0) {
            this->give(this->take());
            return;
        }
        std::uint32_t const one = this->take();
        std::uint32_t const other = this->take();
        this->give(one);
        this->give(other);
    }
};

class three_take : public list_scenario<> {
public:
    [[nodiscard]] unsigned threads() const override { return 3; }

    void run(unsigned /*thread*/) override { give(take()); }
};

template <class Scenario>
void expect_one_fails(std::string_view text) {
    exploration const seen = explore(made<Scenario>());
    EXPECT_NE(seen.failure.find(text), std::string::npos) << seen;
}

TEST(tagged_index_list_explored, two_take_and_give_back_in_another_order) {
    expect_holds<two_take<>>(10);
}

TEST(tagged_index_list_explored, three_take_and_give_back) {
    if (!is_slow) {
        expect_holds<three_take>(10);
    }
}

TEST(tagged_index_list_explored, without_acquire_or_release_nothing_is_ordered) {
    expect_one_fails<two_take<mortal_atomics<weak_atomics<false, true>>>>("data race");
    expect_one_fails<two_take<mortal_atomics<weak_atomics<true, false>>>>("data race");
}

/// Thread 0 dies after so many operations: two for what it takes, two for what it gives back.
template <unsigned Operations>
class one_dies : public list_scenario<> {
public:
    one_dies() { dies_after(0, Operations); }

    void run(unsigned /*thread*/) override { give(take()); }
};

TEST(tagged_index_list_explored, a_death_between_take_and_give_loses_a_number) {
    expect_holds<one_dies<2>>(1);
    expect_one_fails<one_dies<3>>("lost");
}

}  // namespace
