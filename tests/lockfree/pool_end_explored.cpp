// pool_end_explored - story (c) of docs/design/lockfree.md: a thread's end and its pool's, each one
// exchange of a magazine's state, in every interleaving.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory_resource>
#include <new>

#include "tarn/detail/magazine.hpp"

#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "lockfree/expectations.hpp"

namespace {

using namespace tarn::test;

/// Memory that is buried when it is given back, and must be given back once.
class burying_resource final : public std::pmr::memory_resource {
public:
    std::array<int, 2> given_back{};

private:
    using magazine = tarn::detail::magazine<explored_atomics>;

    void* do_allocate(std::size_t bytes, std::size_t /*alignment*/) override {
        require(bytes <= sizeof places_[0] && used_ < 2, "more than there is");
        return places_[used_++];
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t /*alignment*/) override {
        auto const which = static_cast<std::size_t>(static_cast<std::byte*>(block) - places_[0]) /
                           sizeof places_[0];
        require(++given_back[which] == 1, "given back twice");
        bury(block, bytes);
    }

    [[nodiscard]] bool do_is_equal(memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::size_t used_ = 0;
    alignas(64) std::byte places_[2][sizeof(magazine)];
};

/// Thread 0 ends, thread 1 ends the pool; with three, thread 2 takes what a thread left, before.
class magazine_ends : public scenario {
public:
    using magazine = tarn::detail::magazine<explored_atomics>;

    magazine_ends() : mine_{::new (home_.allocate(sizeof(magazine), 64)) magazine} {
        mine_->home = &home_;
    }

    [[nodiscard]] unsigned threads() const override { return 2; }

    void run(unsigned thread) override {
        if (thread == 0) {
            mine_->count.store(1, std::memory_order_relaxed);
            magazine::leave(*mine_);
        } else {
            magazine::close(*mine_);
        }
    }

    void finish() override { require(home_.given_back[0] == 1, "a magazine is lost"); }

private:
    burying_resource home_;
    magazine* mine_;
};

TEST(story_c, a_thread_and_its_pool_end_at_once) {
    EXPECT_EQ(replay(made<magazine_ends>(), "0*1*").failure, "");
    EXPECT_EQ(replay(made<magazine_ends>(), "1*0*").failure, "");
    expect_holds<magazine_ends>(2);
}

/// A thread leaves; two others, of which one leaves again, want what it left; who gets it sees its
/// blocks.
class magazine_is_taken : public scenario {
public:
    using magazine = tarn::detail::magazine<explored_atomics>;

    magazine_is_taken() { mine_.home = &home_; }

    [[nodiscard]] unsigned threads() const override { return 3; }

    void run(unsigned thread) override {
        if (thread == 0) {
            contents_.set(7);
            magazine::leave(mine_);
        } else if (mine_.is_left() && mine_.try_take()) {
            require(contents_.get() == 7, "not what was left");
            contents_.set(7);
            ++taken_;
            thread == 1 ? mine_.put_back() : magazine::leave(mine_);
        }
    }

    void finish() override { require(taken_ <= 2, "taken by more than came"); }

private:
    burying_resource home_;
    magazine mine_;
    explored_data<int> contents_;
    int taken_ = 0;
};

TEST(story_c, what_a_thread_left_has_one_holder_at_a_time) { expect_holds<magazine_is_taken>(3); }

}  // namespace
