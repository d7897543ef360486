// heap_end_explored - a free of a user heap's block against the end of that heap, in every
// interleaving, with the memory in use again at once.
//
// Role       Pages enter and leave lanes, and are looked at, by the core's own heap/page_life.hpp;
//            around it stands as much of a free, of an end and of an allocation as
//            src/heap/user_blocks.cpp and user_heap.cpp do with it, step by step.
// Always     What a lane's lock protects is explored_data: whoever touches it without the lock, or
//            in another lane, races. A free that looked at its page before the second heap had it
//            never takes a block from that heap.
// Mutants    no second look under the lock; a life that comes back; a page that leaves or enters
//            without its lane's lock
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "heap/page_life.hpp"
#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"

namespace {

using namespace tarn::test;
namespace page_life = tarn::impl::heap::page_life;

struct explored_lane {
    explored_mutex mutex;
    explored_atomic<int> heap{0};  // 0: none
};

struct user_page {
    explored_atomic<std::uint32_t> life{0};
    explored_atomic<explored_lane*> lane{nullptr};
    explored_data<int> heap;  // whose blocks these are
    explored_data<int> live;  // blocks
};

constexpr int first_heap = 1;
constexpr int second_heap = 2;

enum class mutant : std::uint8_t { none, no_second_look, life_returns, leaves_unlocked };

/// One thread or two free blocks of a heap; another ends it, and its page serves the next heap, in
/// the same lane or in another.
class heap_end : public scenario {
public:
    heap_end(mutant which, unsigned frees, std::size_t next_lane)
        : mutant_{which}, frees_{frees}, next_lane_{next_lane} {
        lanes_[0].heap.store(first_heap, std::memory_order_relaxed);
        page_.heap.set(first_heap);
        page_.live.set(static_cast<int>(frees));
        page_life::enter(page_, lanes_[0]);
        map_.store(&page_, std::memory_order_relaxed);
    }

    [[nodiscard]] unsigned threads() const override { return frees_ + 1; }

    void run(unsigned thread) override {
        if (thread < frees_) {
            free_block();
        } else {
            end_heap();
            make_heap();
        }
    }

    void finish() override {
        require(page_.heap.get() == second_heap, "the second heap has no page");
        require(page_.live.get() == 1, "a late free took a block of the second heap");
    }

private:
    void free_block() {
        user_page* const home = map_.load(std::memory_order_relaxed);
        if (home == nullptr) {
            return;  // no page: reported, or not, but nothing is done
        }
        auto const seen = page_life::look<explored_lane, int>(*home);
        // Later than the look: where the page had not been in use again by now, it was not then.
        bool const is_early = stage_.load(std::memory_order_relaxed) < second_heap;
        if (!page_life::is_in_lane(seen.life) || map_.load(std::memory_order_relaxed) != home) {
            return;
        }
        if (!is_early) {
            return;  // may be a valid address by now: no allocator could tell
        }
        seen.lane->mutex.lock();
        if (mutant_ == mutant::no_second_look || page_life::is_still(*home, seen)) {
            require(home->heap.get() == first_heap, "a free that came too late found a block");
            home->live.set(home->live.get() - 1);
        } else {
            require(seen.lane->heap.load(std::memory_order_relaxed) != seen.heap,
                    "a heap that lives has lost a page with a live block");
        }
        seen.lane->mutex.unlock();
    }

    void end_heap() {
        explored_lane& from = lanes_[0];
        if (mutant_ != mutant::leaves_unlocked) {
            from.mutex.lock();
        }
        page_.live.set(0);
        if (mutant_ == mutant::life_returns) {
            page_.life.store(0, std::memory_order_relaxed);
        } else {
            page_life::leave(page_);
        }
        from.heap.store(0, std::memory_order_release);
        if (mutant_ != mutant::leaves_unlocked) {
            from.mutex.unlock();
        }
        map_.store(nullptr, std::memory_order_relaxed);
    }

    /// The descriptor, the slices and, it may be, the lane serve again.
    void make_heap() {
        explored_lane& to = lanes_[next_lane_];
        {
            to.mutex.lock();
            to.heap.store(second_heap, std::memory_order_relaxed);
            to.mutex.unlock();
        }
        map_.store(&page_, std::memory_order_relaxed);  // make_page(): in no lane yet
        stage_.store(second_heap, std::memory_order_relaxed);
        to.mutex.lock();
        page_.heap.set(second_heap);
        page_.live.set(1);
        page_life::enter(page_, to);
        to.mutex.unlock();
    }

    mutant mutant_;
    unsigned frees_;
    std::size_t next_lane_;
    std::array<explored_lane, 2> lanes_;
    user_page page_;
    explored_atomic<user_page*> map_{nullptr};
    explored_atomic<int> stage_{first_heap};
};

exploration explore_end(mutant which, unsigned frees, std::size_t next_lane,
                        exploring const& how = {}) {
    return explore([=] { return std::make_unique<heap_end>(which, frees, next_lane); }, how);
}

TEST(heap_end, is_safe_against_a_free) {
    for (std::size_t const next_lane : {0UL, 1UL}) {
        for (bool const store_buffers : {false, true}) {
            exploration const seen =
                explore_end(mutant::none, 1, next_lane, {.store_buffers = store_buffers});
            EXPECT_TRUE(seen.passed()) << seen;
        }
    }
}

TEST(heap_end, is_safe_against_two_frees) {
    for (std::size_t const next_lane : {0UL, 1UL}) {
        exploration const seen = explore_end(mutant::none, 2, next_lane);
        EXPECT_TRUE(seen.passed()) << seen;
    }
}

TEST(heap_end, fails_without_the_second_look) {
    exploration const seen = explore_end(mutant::no_second_look, 1, 0);
    EXPECT_NE(seen.failure, "") << seen;
}

TEST(heap_end, fails_where_a_life_comes_back) {
    exploration const seen = explore_end(mutant::life_returns, 1, 0);
    EXPECT_NE(seen.failure, "") << seen;
    EXPECT_NE(seen.failure.find("too late"), std::string::npos) << seen;
}

TEST(heap_end, fails_where_pages_leave_without_the_lock) {
    exploration const seen = explore_end(mutant::leaves_unlocked, 1, 0);
    EXPECT_NE(seen.failure, "") << seen;
}

}  // namespace
