// pool_explored - the blocks behind object_pool<T, lock_free>, in every interleaving of a few
// operations: chains that are shed and taken, magazines that are left and taken over, chunks that
// two threads want at once.
//
// Always     A block that a thread uses is nobody else's: its contents are explored_data, so a
//            hand-over without order shows as well. At the end none is lost.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "tarn/detail/lock_free_blocks.hpp"

#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "lockfree/weak_atomics.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::test;

// Half of what a magazine's bytes may be: chains of one block, magazines of two.
constexpr std::size_t block_bytes = std::size_t{16} * 1024;

/// Memory for one chunk, and for magazines, used again in every run; buried when given back.
class arena_resource final : public std::pmr::memory_resource {
public:
    [[nodiscard]] std::size_t live() const { return live_; }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        next_ = (next_ + alignment - 1) & ~(alignment - 1);
        require(next_ + bytes <= sizeof room, "the arena is too small");
        void* const block = room + next_;
        next_ += bytes;
        ++live_;
        return block;
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t /*alignment*/) override {
        --live_;
        bury(block, bytes);
    }

    [[nodiscard]] bool do_is_equal(memory_resource const& other) const noexcept override {
        return this == &other;
    }

    // More than one chunk, whose blocks cost nothing until they are used.
    alignas(4096) static inline std::byte room[std::size_t{600} * 1024];
    std::size_t next_ = 0;
    std::size_t live_ = 0;
};

template <class Atomics>
class pool_scenario_over : public scenario {
    using blocks = tarn::detail::lock_free_blocks<Atomics, explored_mutex>;
    using magazine = typename blocks::magazine;

public:
    explicit pool_scenario_over(std::uint64_t blocks_most = 1000) : blocks_most_{blocks_most} {}

    void finish() override {
        std::size_t visited = 0;
        blocks_->for_each([&visited](void*) { ++visited; });
        require(visited == 0, "a block counts as allocated");
        require(blocks_->live() == 0, "the count is wrong");
        for (unsigned i = 0; i < threads(); ++i) {
            if (joined_[i] != nullptr) {
                leave(i);
            }
        }
        drain();
        blocks_.reset();
        require(arena_.live() == 0, "memory is lost");
    }

protected:
    magazine& join(unsigned thread) {
        joined_[thread] = blocks_->join();
        return *joined_[thread];
    }

    void leave(unsigned thread) { magazine::leave(*std::exchange(joined_[thread], nullptr)); }

    void* allocate(unsigned thread) {
        return used(joined_[thread] != nullptr ? blocks_->allocate(*joined_[thread])
                                               : blocks_->allocate());
    }

    void release(unsigned thread, void* block) {
        contents_[block].set(0);
        joined_[thread] != nullptr ? blocks_->release(*joined_[thread], block)
                                   : blocks_->release(block);
    }

    /// As many blocks as were ever made come out again, each once.
    void drain() {
        std::map<void*, int> seen;
        for (std::size_t i = 0; i < contents_.size(); ++i) {
            ++seen[blocks_->allocate()];
        }
        for (auto const& [block, contents] : contents_) {
            require(seen[block] == 1, "a block is lost, or in two places");
        }
    }

    void* used(void* block) {
        if (block != nullptr) {
            contents_[block].set(1);
        }
        return block;
    }

    std::uint64_t blocks_most_;
    arena_resource arena_;
    std::optional<blocks> blocks_{std::in_place, tarn::detail::block_shape{block_bytes, 16},
                                  blocks_most_,  7,
                                  &arena_,       &arena_};
    std::array<magazine*, explored_threads_most> joined_{};
    std::map<void*, explored_data<int>> contents_;
};

using pool_scenario = pool_scenario_over<explored_atomics>;

template <class Scenario>
void expect_holds(exploring const& how = {}) {
    exploration const seen = explore([] { return std::make_unique<Scenario>(); }, how);
    EXPECT_TRUE(seen.passed()) << seen;
    EXPECT_GT(seen.runs, 1U);
}

constexpr exploring with_buffers{.store_buffers = true};

/// Thread 0 has more than its magazine holds, thread 1 has nothing.
template <class Atomics>
class sheds_and_refills_over : public pool_scenario_over<Atomics> {
public:
    sheds_and_refills_over() {
        this->join(0);
        this->join(1);
        for (void*& each : held_) {
            each = this->allocate(0);
        }
    }

    [[nodiscard]] unsigned threads() const override { return 2; }

    void run(unsigned thread) override {
        if (thread == 0) {
            for (void* const each : held_) {
                this->release(0, each);
            }
        } else {
            this->release(1, this->allocate(1));
        }
    }

private:
    std::array<void*, 3> held_{};
};

TEST(lock_free_blocks, pass_chains_between_magazines) {
    using sheds_and_refills = sheds_and_refills_over<explored_atomics>;
    expect_holds<sheds_and_refills>();
    expect_holds<sheds_and_refills>(with_buffers);
}

TEST(lock_free_blocks, are_handed_over_by_acquire_and_release_alone) {
    exploration const without_acquire = explore(
        [] { return std::make_unique<sheds_and_refills_over<weak_atomics<false, true>>>(); });
    EXPECT_NE(without_acquire.failure.find("data race"), std::string::npos) << without_acquire;
    exploration const without_release = explore(
        [] { return std::make_unique<sheds_and_refills_over<weak_atomics<true, false>>>(); });
    EXPECT_NE(without_release.failure.find("data race"), std::string::npos) << without_release;
}

/// Both threads take from the stack and give to it, which holds two blocks and all there are.
class without_magazines : public pool_scenario {
public:
    without_magazines() : pool_scenario{2} {
        void* const first = allocate(0);
        void* const second = allocate(0);
        release(0, first);
        release(0, second);
    }

    [[nodiscard]] unsigned threads() const override { return 2; }

    void run(unsigned thread) override {
        void* const mine = allocate(thread);
        require(mine != nullptr, "there was one for each");
        release(thread, mine);
    }
};

TEST(lock_free_blocks, pass_one_by_one_within_a_bound) {
    expect_holds<without_magazines>();
    expect_holds<without_magazines>(with_buffers);
}

/// Thread 0 ends with a block in its magazine; 1 has none, and 2 comes new.
class takes_what_was_left : public pool_scenario {
public:
    takes_what_was_left() : pool_scenario{1} {
        join(0);
        release(0, allocate(0));
    }

    [[nodiscard]] unsigned threads() const override { return 3; }

    void run(unsigned thread) override {
        if (thread == 0) {
            leave(0);
        } else if (thread == 1) {
            if (void* const mine = allocate(1); mine != nullptr) {
                release(1, mine);
            }
        } else {
            join(2);
            if (void* const mine = allocate(2); mine != nullptr) {
                release(2, mine);
            }
        }
    }
};

TEST(lock_free_blocks, are_taken_over_from_threads_that_ended) {
    expect_holds<takes_what_was_left>();
}

/// The first block of all, wanted by two.
class begins : public pool_scenario {
public:
    begins() {
        join(0);
        join(1);
    }

    [[nodiscard]] unsigned threads() const override { return 2; }

    void run(unsigned thread) override { release(thread, allocate(thread)); }
};

TEST(lock_free_blocks, are_made_once_where_two_threads_grow_the_pool) {
    expect_holds<begins>();
    expect_holds<begins>(with_buffers);
}

/// Everything at once, by three threads that join, work and end.
class life : public pool_scenario {
public:
    [[nodiscard]] unsigned threads() const override { return 3; }

    void run(unsigned thread) override {
        join(thread);
        void* const first = allocate(thread);
        void* const second = allocate(thread);
        release(thread, first);
        release(thread, second);
        leave(thread);
    }
};

TEST(lock_free_blocks, hold_through_whole_lives_with_few_preemptions) {
    expect_holds<life>(
        {.preemptions_most = soaking() && !is_slow ? 3U : 2U, .runs_most = 20'000'000});
}

}  // namespace
