// What fork leaves of threads that vanish in it. The states are built by hand here, one per place
// where a thread can be cut off; orphans_every_instruction_test.cpp cuts real code.
#include "heap/orphans.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <new>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "base/units.hpp"
#include "sizing/size_class.hpp"
#include "heap/process.hpp"
#include "heap_fixture.hpp"
#include "support/build.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using tarn::test::heap_test;
using tarn::test::scoped_heap;

block* as_block(void* ptr) { return static_cast<block*>(ptr); }

std::set<void const*> members(block const* list) {
    std::set<void const*> result;
    for (; list != nullptr && result.size() < 10'000; list = list->next) {
        EXPECT_TRUE(result.insert(list).second) << "twice in a list";
    }
    return result;
}

/// A page in nobody's hands with eight blocks, all of them outside, to be broken and repaired.
class repair_of_a_page : public heap_test {
protected:
    void SetUp() override {
        heap_test::SetUp();
        heap_.emplace();
        blocks_ = allocate(**heap_, big_bytes, big_blocks);
        page_ = &home_of(blocks_[0]);
        std::sort(blocks_.begin(), blocks_.end());
        (*heap_)->forget();
        page_->owner.set(nullptr);
    }

    void TearDown() override {
        page_->audit();
        // Settled as adopt_orphans() would: all blocks come back, whatever a test did with them.
        for (void* const block : blocks_) {
            if (!members(page_->local).contains(block)) {
                static_cast<void>(page_->push(block));
            }
        }
        EXPECT_EQ(page_->out.get(), 0);
        release_page(*page_);
        heap_.reset();
        heap_test::TearDown();
    }

    /// Links blocks to a list, the first in front.
    block* link(std::initializer_list<std::size_t> indices, block* end = nullptr) {
        for (auto at = std::rbegin(indices); at != std::rend(indices); ++at) {
            end = ::new (blocks_[*at]) block{end};
        }
        return end;
    }

    void post(std::size_t index) {
        remote_state seen = page_->remote.load();
        while (!page_->remote.try_push(seen, as_block(blocks_[index]))) {
        }
    }

    /// Repairs, and expects exactly these blocks to be free.
    void expect_free(std::set<std::size_t> const& indices, block const* list = nullptr) {
        repair(*page_, list);
        page_->audit();
        std::set<void const*> expected;
        for (std::size_t const index : indices) {
            expected.insert(blocks_[index]);
        }
        EXPECT_EQ(members(page_->local), expected);
        EXPECT_EQ(page_->out.get(), page_->capacity.get() - static_cast<int>(indices.size()));
        EXPECT_EQ(page_->remote.load().bits, 0U);
        EXPECT_FALSE(page_->list_zeroed);
        EXPECT_FALSE(page_->fresh_zeroed);
    }

    page* page_ = nullptr;
    std::vector<void*> blocks_;
    std::optional<scoped_heap> heap_;
};

TEST_F(repair_of_a_page, with_no_free_block_finds_none) { expect_free({}); }

TEST_F(repair_of_a_page, joins_all_three_lists) {
    page_->local = link({1, 3});
    post(5);
    post(0);
    expect_free({1, 3, 5, 0, 7, 2}, link({7, 2}));
}

TEST_F(repair_of_a_page, trusts_lists_and_not_counts) {
    page_->local = link({4, 6});
    for (int const out : {-1, 0, 3, 8, 1000}) {
        page_->out.set(out);
        expect_free({4, 6});
    }
}

// take_list(): the allocation list has the blocks, the page still has them too.
TEST_F(repair_of_a_page, counts_a_list_once_that_was_being_moved) {
    page_->local = link({2, 5, 1});
    expect_free({2, 5, 1}, page_->local);
}

// collect_remote(): the remote list already leads into the local one, which does not know it yet.
TEST_F(repair_of_a_page, counts_lists_once_that_were_being_joined) {
    page_->local = link({2, 5});
    post(3);
    as_block(blocks_[3])->next = page_->local;
    expect_free({3, 2, 5});
    // Or it leads into the one that was being joined before it.
    page_->local = link({3, 2, 5});
    post(7);
    as_block(blocks_[7])->next = as_block(blocks_[3]);
    expect_free({7, 3, 2, 5});
}

// make_blocks(): links are written, the list is there, the capacity not yet.
TEST_F(repair_of_a_page, knows_no_blocks_behind_the_capacity) {
    page_->capacity.set(5);
    page_->out.set(5);
    expect_free({}, link({5, 6, 7}));
    expect_free({1}, link({1, 5, 6}));
    page_->capacity.set(8);
    page_->out.set(8);
    page_->local = nullptr;
}

// free: the block's link is written, the list does not lead to it yet. It is the one that is lost.
TEST_F(repair_of_a_page, loses_the_block_in_the_hands_of_its_freer) {
    page_->local = link({1, 2});
    static_cast<void>(::new (blocks_[6]) block{page_->local});
    expect_free({1, 2});
}

TEST_F(repair_of_a_page, stops_where_a_list_stops_making_sense) {
    block outside{nullptr};
    link({1, 2});
    for (void* const nonsense :
         {static_cast<void*>(&outside), static_cast<void*>(base::pointer_to(~std::uintptr_t{0})),
          static_cast<void*>(base::pointer_to(0x10)),
          static_cast<void*>(static_cast<std::byte*>(blocks_[4]) + 8)}) {
        as_block(blocks_[2])->next = as_block(nonsense);
        page_->local = nullptr;
        expect_free({1, 2}, as_block(blocks_[1]));
        link({1, 2});
    }
    as_block(blocks_[2])->next = as_block(blocks_[1]);  // a ring
    page_->local = nullptr;
    expect_free({1, 2}, as_block(blocks_[1]));
}

TEST_F(repair_of_a_page, takes_the_word_out_of_every_state) {
    page_->remote.set_binned();
    expect_free({});
    post(2);
    page_->remote.set_binned();
    expect_free({2});
}

TEST_F(repair_of_a_page, may_be_repeated) {
    page_->local = link({1, 3});
    post(6);
    expect_free({1, 3, 6});
    expect_free({1, 3, 6});
}

TEST_F(repair_of_a_page, rebuilds_the_list_in_rising_order) {
    page_->local = link({6, 1, 4});
    repair(*page_, nullptr);
    EXPECT_EQ(page_->local, blocks_[1]);
    EXPECT_EQ(page_->local->next, blocks_[4]);
    EXPECT_EQ(page_->local->next->next, blocks_[6]);
}

TEST(repair_of_every_class, finds_the_free_blocks) {
    ASSERT_TRUE(start_process());
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        scoped_heap heap;
        std::vector<void*> live{heap->allocate(sizing::class_bytes(size_class))};
        page* const home = page_of(live[0]);
        auto const count = static_cast<std::size_t>(home->reserved.get());
        while (live.size() < count) {
            live.push_back(heap->allocate(sizing::class_bytes(size_class)));
        }
        home->end_countdown();
        std::vector<void*> kept;
        for (std::size_t i = 0; i < count; ++i) {
            if (i % 3 == 0) {
                heap->deallocate(live[i]);
            } else {
                kept.push_back(live[i]);
            }
        }
        std::size_t const free_blocks = count - kept.size();
        home->out.set(7);
        repair(*home, nullptr);
        EXPECT_EQ(static_cast<std::size_t>(home->out.get()), kept.size());
        EXPECT_EQ(members(home->local).size(), free_blocks);
        home->audit();
        for (void* const block : kept) {
            heap->deallocate(block);
        }
    }
}

// --- adoption ------------------------------------------------------------------------------------

/// Heaps of threads that vanish, and the heap of the one that forks.
class adoption : public heap_test {
protected:
    void SetUp() override {
        heap_test::SetUp();
        before_ = this_thread;
        this_thread = &*survivor_.emplace();
    }

    void TearDown() override {
        this_thread = before_;
        survivor_.reset();
        heap_test::TearDown();
    }

    /// What happens in the child: every heap but the survivor's has lost its thread.
    static void fork_here() {
        prepare_fork();
        fork_in_child();
    }

    thread_heap* heap_of_lost_thread() {
        thread_heap* const heap = process.heaps.allocate();
        heap->phase.store(heap_phase::active);
        process.active_heaps.fetch_add(1);
        return heap;
    }

    thread_heap& survivor() { return **survivor_; }

private:
    std::optional<scoped_heap> survivor_;
    thread_heap* before_ = nullptr;
};

TEST_F(adoption, has_nothing_to_do_when_nobody_vanished) {
    fork_here();
    EXPECT_FALSE(process.orphans.load());
    adopt_orphans();
    EXPECT_EQ(survivor().phase.load(), heap_phase::active);
    EXPECT_EQ(process.active_heaps.load(), 1U);
}

TEST_F(adoption, happens_at_the_next_slow_path) {
    thread_heap* const lost = heap_of_lost_thread();
    std::vector<void*> blocks = allocate(*lost, big_bytes, 3);
    fork_here();
    EXPECT_TRUE(process.orphans.load());
    EXPECT_EQ(lost->phase.load(), heap_phase::vanished);
    EXPECT_EQ(process.active_heaps.load(), 1U);
    std::vector<void*> more = allocate(survivor(), big_bytes, big_blocks - 3);
    EXPECT_FALSE(process.orphans.load());
    EXPECT_EQ(lost->phase.load(), heap_phase::unused);
    EXPECT_EQ(used_slices(), big_slices) << "the page's free blocks serve the survivor";
    EXPECT_EQ(home_of(blocks[0]).owner.get(), &survivor());
    survivor().audit();
    free_all(survivor(), blocks);
    free_all(survivor(), more);
}

TEST_F(adoption, puts_every_page_where_it_belongs) {
    thread_heap* const lost = heap_of_lost_thread();
    std::vector<void*> full = allocate(*lost, big_bytes, big_blocks);  // current, nothing listed
    std::vector<void*> partial = allocate(*lost, 3000, 5);             // current, some listed
    std::vector<void*> kept = allocate(*lost, 12 * KiB, 10);           // adrift, then claimed
    lost->deallocate(kept[0]);
    std::vector<void*> empty = allocate(*lost, 5000, 4);
    free_all(*lost, empty);
    std::vector<void*> own = allocate(survivor(), 100, 10);
    page const* const own_page = &home_of(own[0]);
    fork_here();
    adopt_orphans();
    EXPECT_EQ(home_of(full[0]).remote.load().how(), hold::adrift);
    EXPECT_EQ(home_of(partial[0]).remote.load().how(), hold::binned);
    EXPECT_EQ(home_of(partial[0]).out.get(), 5);
    EXPECT_EQ(home_of(kept[1]).remote.load().how(), hold::binned);
    EXPECT_EQ(own_page->owner.get(), &survivor());
    for (std::vector<void*> const* each : {&full, &partial, &kept}) {
        EXPECT_EQ(home_of(each->back()).owner.get(), nullptr);
        home_of(each->back()).audit();
    }
    process.space.audit();
    free_all(survivor(), full);
    free_all(survivor(), partial);
    kept.erase(kept.begin());
    free_all(survivor(), kept);
    free_all(survivor(), own);
}

TEST_F(adoption, finds_pages_on_their_way) {
    thread_heap* const lost = heap_of_lost_thread();
    std::vector<std::vector<void*>> blocks;
    for (std::size_t const bytes : {3000U, 5000U, 6000U, 7000U, 10'000U}) {
        blocks.push_back(allocate(*lost, bytes, 2));
    }
    auto const home = [&](std::size_t which) -> page& { return home_of(blocks[which][0]); };
    lost->leave();  // all are binned now
    // 0: popped from its bin, owner not yet written. 1: popped, owner written, list not collected.
    // 2: claimed while adrift, owner not yet written. 3: marked as binned, not yet pushed.
    for (std::size_t which = 0; which < 4; ++which) {
        base::node_index const index =
            process.descriptors.pop(process.bins[home(which).size_class].pages);
        ASSERT_EQ(process.descriptors.at(index), &home(which));
    }
    home(1).owner.set(lost);
    survivor().deallocate(blocks[1].back());
    blocks[1].pop_back();
    home(2).remote.reset(hold::held);
    fork_here();
    adopt_orphans();
    for (std::size_t which = 0; which < blocks.size(); ++which) {
        EXPECT_EQ(home(which).remote.load().how(), hold::binned) << which;
        EXPECT_EQ(home(which).owner.get(), nullptr) << which;
        EXPECT_EQ(home(which).out.get(), static_cast<int>(blocks[which].size())) << which;
        home(which).audit();
        free_all(survivor(), blocks[which]);
    }
}

TEST_F(adoption, releases_pages_whose_blocks_all_came_back) {
    thread_heap* const lost = heap_of_lost_thread();
    std::vector<void*> blocks = allocate(*lost, big_bytes, 2);
    free_all(survivor(), blocks);
    EXPECT_EQ(used_slices(), big_slices);
    fork_here();
    adopt_orphans();
    EXPECT_EQ(used_slices(), 0U);
}

TEST_F(adoption, finds_runs_between_the_space_and_a_page) {
    // 0: acquired, no descriptor yet. 1: entered, but its kind not yet written. 2: its kind taken
    // back, still entered. 3: cleared, not yet returned.
    static_cast<void>(process.space.acquire(3));
    space::run const entered = process.space.acquire(2);
    page* const half = process.descriptors.allocate();
    ASSERT_TRUE(pages.assign(entered.base, 2, half));
    std::vector<void*> live = allocate(survivor(), big_bytes, 1);
    static_cast<void>(heap_of_lost_thread());
    EXPECT_EQ(used_slices(), 5U + big_slices);
    fork_here();
    adopt_orphans();
    EXPECT_EQ(used_slices(), big_slices);
    EXPECT_EQ(page_of(entered.base), nullptr);
    process.descriptors.deallocate(*half);
    free_all(survivor(), live);
}

TEST_F(adoption, leaves_large_blocks_alone) {
    thread_heap* const lost = heap_of_lost_thread();
    void* const large = lost->allocate(5 * MiB);
    void* const huge = lost->allocate(300 * MiB);
    fork_here();
    adopt_orphans();
    EXPECT_EQ(usable_bytes(large, nullptr), 5 * MiB);
    EXPECT_EQ(usable_bytes(huge, nullptr), 300 * MiB);
    survivor().deallocate(large);
    survivor().deallocate(huge);
}

TEST_F(adoption, gives_heap_records_to_new_threads) {
    thread_heap* const lost = heap_of_lost_thread();
    std::vector<void*> blocks = allocate(*lost, 100, 20);
    fork_here();
    adopt_orphans();
    scoped_heap next;
    EXPECT_EQ(&*next, lost);
    next->audit();
    std::vector<void*> more = allocate(*next, 100, 20);
    free_all(*next, blocks);
    free_all(*next, more);
}

// In a real child, several times over: each generation adopts what the one before it left.
TEST_F(adoption, works_in_children_of_children) {
    thread_heap* const lost = heap_of_lost_thread();
    std::vector<void*> blocks = allocate(*lost, 200, 1000);
    int const status = tarn::test::run_in_child(60, [&] {
        fork_here();
        std::vector<void*> mine = allocate(survivor(), 200, 500);
        free_all(survivor(), mine);
        adopt_orphans();
        return tarn::test::run_in_child(30, [&] {
            fork_here();
            adopt_orphans();
            std::vector<void*> more = allocate(survivor(), 200, 500);
            free_all(survivor(), blocks);
            free_all(survivor(), more);
            clean();
            survivor().collect();
            return measure_outside().blocks == survivor().listed(sizing::class_of(200)) ? 0 : 1;
        });
    });
    EXPECT_EQ(status, 0);
    // The parent's heap lives on and knows nothing of it.
    free_all(*lost, blocks);
    lost->audit();
    fork_here();
    adopt_orphans();
}

// Threads work while this one forks; in the child nothing of theirs is in the way.
TEST_F(adoption, of_real_threads_loses_a_block_each_at_most) {
    constexpr int threads = 3;
    std::uint64_t const forks = tarn::test::scaled(100);
    std::atomic<bool> stop{false};
    std::vector<std::thread> workers;
    workers.reserve(threads);
    for (int worker = 0; worker < threads; ++worker) {
        workers.emplace_back([&stop] {
            std::array<void*, 64> mine{};
            for (std::size_t i = 0; !stop.load(std::memory_order_relaxed); ++i) {
                void*& chosen = mine[i * 7 % mine.size()];
                this_thread->deallocate(chosen);
                chosen = this_thread->allocate(i * 37 % 3000);
            }
            for (void* const block : mine) {
                this_thread->deallocate(block);
            }
        });
    }
    std::vector<void*> own = allocate(survivor(), 500, 100);
    int failures = 0;
    for (std::uint64_t i = 0; i < forks; ++i) {
        prepare_fork();
        pid_t const child = tarn::test::start_child(30, [&] {
            fork_in_child();
            free_all(survivor(), own);
            adopt_orphans();
            bool sound = true;
            process.descriptors.for_each([&sound](page const& each) {
                if (each.kind.load() == page_kind::small) {
                    each.audit();
                    thread_heap const* const owner = each.owner.get();
                    sound =
                        sound && (owner == nullptr || owner->phase.load() == heap_phase::active);
                }
            });
            std::uint64_t outside = measure_outside().blocks;
            for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
                outside -= survivor().listed(size_class);
            }
            return sound && outside <= std::uint64_t{threads} * (64 + 1) ? 0 : 1;
        });
        fork_in_parent();
        failures += tarn::test::wait_for(child) == 0 ? 0 : 1;
    }
    stop.store(true, std::memory_order_relaxed);
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(failures, 0);
    free_all(survivor(), own);
}

}  // namespace
