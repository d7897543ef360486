#include "heap/process.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/units.hpp"
#include "platform/os.hpp"
#include "platform/threads.hpp"
#include "sizing/size_class.hpp"
#include "heap_fixture.hpp"
#include "support/build.hpp"
#include "support/mappings.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using tarn::test::heap_test;
using tarn::test::scoped_heap;

using process_state = heap_test;

// CTest runs each test in a process of its own: these threads are then the first to do anything.
TEST(process_start, is_done_once_by_threads_at_once) {
    constexpr int threads = 8;
    std::uint32_t const before = process.active_heaps.load();
    std::atomic<int> ready{0};
    std::atomic<int> failed{0};
    std::vector<std::thread> starters;
    starters.reserve(threads);
    for (int i = 0; i < threads; ++i) {
        starters.emplace_back([&] {
            ready.fetch_add(1);
            while (ready.load() != threads) {
            }
            this_thread->deallocate(nullptr);
            void* const block = this_thread->allocate(40);
            failed.fetch_add(block == nullptr ? 1 : 0);
            this_thread->deallocate(block);
        });
    }
    for (std::thread& starter : starters) {
        starter.join();
    }
    EXPECT_EQ(failed.load(), 0);
    EXPECT_EQ(process.active_heaps.load(), before) << "a heap did not notice its thread's end";
    EXPECT_TRUE(start_process());
}

TEST(process_start, bears_a_free_of_nothing_meanwhile) {
    std::thread freer{[] { this_thread->deallocate(nullptr); }};
    EXPECT_TRUE(start_process());
    freer.join();
}

TEST_F(process_state, gives_each_thread_a_heap_and_takes_it_back) {
    std::uint32_t const before = process.active_heaps.load();
    thread_heap* first = nullptr;
    std::thread{[&] {
        EXPECT_EQ(this_thread, &empty_heap);
        void* const block = this_thread->allocate(10);
        first = this_thread;
        EXPECT_NE(first, &empty_heap);
        EXPECT_EQ(first->phase.load(), heap_phase::active);
        EXPECT_EQ(process.active_heaps.load(), before + 1);
        this_thread->deallocate(block);
        EXPECT_EQ(this_thread, first);
    }}.join();
    EXPECT_EQ(process.active_heaps.load(), before);
    EXPECT_EQ(first->phase.load(), heap_phase::unused);
    EXPECT_EQ(used_slices(), 0U);
    std::thread{[&] {
        void* const block = this_thread->allocate(10);
        EXPECT_EQ(this_thread, first) << "a record is used again";
        this_thread->deallocate(block);
    }}.join();
}

TEST_F(process_state, serves_a_thread_before_and_after_its_heap) {
    std::thread{[] {
        with_heap(this_thread, [](thread_heap& own) { EXPECT_EQ(&own, this_thread); });
        thread_heap& own = *this_thread;
        with_heap(&own, [&own](thread_heap& same) { EXPECT_EQ(&same, &own); });
        leave_thread(own);
        EXPECT_EQ(this_thread, &finished_heap);
        void* const late = this_thread->allocate(100);
        EXPECT_NE(late, nullptr);
        EXPECT_EQ(home_of(late).owner.get(), &late_heap);
        void* const larger = reallocate(this_thread, late, 5000, nullptr);
        EXPECT_NE(larger, nullptr);
        this_thread->deallocate(larger);
        EXPECT_EQ(this_thread, &finished_heap);
        static_cast<void>(platform::arm_thread_exit(nullptr));  // it has left already
    }}.join();
}

TEST_F(process_state, keeps_no_pages_from_the_one_thread_that_lives_beside_late_ones) {
    process.options.thread_cache_bytes = 0;
    scoped_heap heap;
    std::vector<void*> blocks = allocate(*heap, big_bytes, std::size_t{9} * big_blocks);
    auto const free_late = [&blocks](std::size_t index) {
        void* const block = std::exchange(blocks[index], nullptr);
        with_heap(&finished_heap, [block](thread_heap& late) {
            late.deallocate_found(home_of(block), block, nullptr);
        });
    };
    for (std::size_t index = 0; index < std::size_t{8} * big_blocks; index += big_blocks) {
        free_late(index);
        EXPECT_EQ(home_of(blocks[index + 1]).remote.load().how(), hold::binned);
    }
    late_heap.audit();
    free_all(*heap, blocks);
}

TEST_F(process_state, passes_blocks_between_threads_that_come_and_go) {
    std::uint64_t const rounds = tarn::test::scaled(200);
    std::vector<void*> handed;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        std::thread{[&] {
            for (void* const block : handed) {
                this_thread->deallocate(block);
            }
            handed.clear();
            for (std::size_t i = 0; i < 50; ++i) {
                handed.push_back(this_thread->allocate(i * 40));
            }
        }}.join();
    }
    EXPECT_LE(process.heaps.committed_bytes(), 128 * KiB);  // two heaps' records
    scoped_heap last;
    free_all(*last, handed);
}

// --- bins --------------------------------------------------------------------------------------

class bins : public heap_test {
protected:
    static bool is_hinted(unsigned size_class) {
        return process.bins[size_class].has_empty.load() && process.bins_have_empty.load();
    }

    /// `pages` pages in the bin of the big class, each with one live block.
    static std::vector<void*> fill_bin(int pages) {
        scoped_heap gone;
        std::vector<void*> all =
            allocate(*gone, big_bytes, static_cast<std::size_t>(pages) * big_blocks);
        std::vector<void*> kept;
        for (std::size_t i = 0; i < all.size(); ++i) {
            if (i % big_blocks == 0) {
                kept.push_back(all[i]);
            } else {
                gone->deallocate(all[i]);
            }
        }
        return kept;
    }
};

TEST_F(bins, give_empty_pages_back_in_a_sweep_and_keep_the_others) {
    std::vector<void*> kept = fill_bin(6);
    scoped_heap other;
    EXPECT_EQ(used_slices(), 6U * big_slices);
    sweep_bins(sweep_scope::all_bins);
    EXPECT_EQ(used_slices(), 6U * big_slices);
    for (int i = 0; i < 2; ++i) {
        other->deallocate(kept.back());
        kept.pop_back();
    }
    EXPECT_EQ(used_slices(), 6U * big_slices);
    EXPECT_TRUE(is_hinted(big_class));
    sweep_bins(sweep_scope::bins_with_empty_pages);
    EXPECT_EQ(used_slices(), 4U * big_slices);
    EXPECT_FALSE(is_hinted(big_class));
    // Those that stayed are where allocation finds them.
    for (void* const block : kept) {
        EXPECT_EQ(home_of(block).remote.load().how(), hold::binned);
    }
    std::vector<void*> more = allocate(*other, big_bytes, std::size_t{4} * (big_blocks - 1));
    EXPECT_EQ(used_slices(), 4U * big_slices);
    free_all(*other, more);
    free_all(*other, kept);
}

TEST_F(bins, lose_the_os_pages_inside_when_memory_is_reclaimed) {
    if (platform::os::page_bytes() > platform::os_page_bytes_min) {
        GTEST_SKIP() << "its pages are no longer than an OS page";
    }
    scoped_heap heap;
    std::vector<void*> kept;
    {
        scoped_heap gone;
        std::vector<void*> blocks = allocate(*gone, 1024, 640);
        std::set<page*> homes;
        for (void* const block : blocks) {
            if (homes.insert(&home_of(block)).second) {
                kept.push_back(block);
            } else {
                gone->deallocate(block);
            }
        }
    }
    std::uint64_t const before = process.purged_inside_bytes.load();
    std::size_t const bytes = reclaim(*heap);
    EXPECT_GE(bytes, 640 * 1024 / 2U);
    EXPECT_GT(process.purged_inside_bytes.load(), before);
    for (void* const block : kept) {
        home_of(block).audit();
    }
    EXPECT_EQ(reclaim(*heap), 0U) << "twice";
    std::size_t const slices = used_slices();
    std::vector<void*> again = allocate(*heap, 1024, 640 - kept.size());
    EXPECT_EQ(used_slices(), slices);
    free_all(*heap, again);
    free_all(*heap, kept);
}

TEST_F(bins, without_the_hint_are_left_alone) {
    std::vector<void*> kept = fill_bin(2);
    scoped_heap other;
    free_all(*other, kept);
    process.bins[big_class].has_empty.store(false);
    sweep_bins(sweep_scope::bins_with_empty_pages);
    EXPECT_EQ(used_slices(), 2U * big_slices);
    sweep_bins(sweep_scope::all_bins);
    EXPECT_EQ(used_slices(), 0U);
}

TEST_F(bins, hint_at_the_last_block_only) {
    std::vector<void*> blocks;
    {
        scoped_heap gone;
        blocks = allocate(*gone, big_bytes, 3);
    }
    scoped_heap other;
    other->deallocate(blocks[0]);
    other->deallocate(blocks[1]);
    EXPECT_FALSE(is_hinted(big_class));
    other->deallocate(blocks[2]);
    EXPECT_TRUE(is_hinted(big_class));
    // A thread that needs a new page of any class takes the empty one's memory.
    void* const block = other->allocate(100);
    EXPECT_EQ(used_slices(), big_slices);
    other->deallocate(block);
}

// The last block comes back while the page is on its way into the bin.
TEST_F(bins, hint_at_a_page_that_became_empty_before_it_arrived) {
    scoped_heap owner;
    scoped_heap other;
    void* const last = owner->allocate(big_bytes);
    page& home = home_of(last);
    owner->forget();  // its page is now in this test's hands
    home.end_countdown();
    other->deallocate(last);
    EXPECT_EQ(home.remote.load().count(), 1U);
    put_in_bin(home);
    EXPECT_TRUE(is_hinted(big_class));
}

// The last block of a binned page is freed while another thread takes the page and uses its
// descriptor for something else.
TEST_F(bins, may_be_emptied_while_others_take_from_them) {
    std::array<std::atomic<void*>, 64> boxes{};
    std::atomic<bool> stop{false};
    std::thread freer{[&] {
        while (!stop.load(std::memory_order_relaxed)) {
            for (std::atomic<void*>& box : boxes) {
                this_thread->deallocate(box.exchange(nullptr, std::memory_order_acq_rel));
            }
        }
    }};
    for (std::uint64_t round = 0; round < tarn::test::scaled(3000); ++round) {
        scoped_heap heap;  // its pages are binned at the end of each round
        for (std::size_t i = 0; i < boxes.size(); ++i) {
            void* const block = heap->allocate(5000 + (i * 1777 + round * 911) % 40'000);
            heap->deallocate(boxes[i].exchange(block, std::memory_order_acq_rel));
        }
    }
    stop.store(true, std::memory_order_relaxed);
    freer.join();
    scoped_heap last;
    for (std::atomic<void*>& box : boxes) {
        last->deallocate(box.load());
    }
}

TEST_F(bins, give_a_page_that_became_empty_to_whoever_allocates) {
    std::vector<void*> kept = fill_bin(1);
    page& home = home_of(kept[0]);
    scoped_heap other;
    free_all(*other, kept);
    void* const block = other->allocate(big_bytes);
    EXPECT_EQ(&home_of(block), &home);
    EXPECT_EQ(home.owner.get(), &*other);
    other->audit();
    other->deallocate(block);
}

TEST_F(bins, are_searched_before_memory_runs_out) {
    std::vector<void*> kept = fill_bin(3);
    scoped_heap other;
    std::vector<void*> own = allocate(*other, 100, 10);
    free_all(*other, own);
    free_all(*other, kept);
    reclaim(*other);
    EXPECT_LE(used_slices(), big_slices);  // the page it allocates from
    EXPECT_EQ(process.space.counts().free_dirty_bytes, 0U);
    other->audit();
}

// --- what is outside, and its peak --------------------------------------------------------------

class outside : public heap_test {
protected:
    static std::uint64_t peak() { return process.live_peak_bytes.load(); }

    /// What the peak may lag behind: a step of each heap, and the distance between two checks.
    static std::uint64_t lag(std::uint64_t bytes) {
        std::uint64_t const heaps = process.active_heaps.load() + 1;
        return bytes / 32 + (heaps + 1) * growth_step_bytes;
    }
};

TEST_F(outside, counts_blocks_wherever_they_are) {
    scoped_heap owner;
    scoped_heap other;
    std::vector<void*> blocks = allocate(*owner, big_bytes, 3 * big_blocks + 2);
    void* const large = owner->allocate(1 * MiB);
    std::uint64_t listed = owner->listed(big_class);
    EXPECT_EQ(measure_outside().blocks, blocks.size() + 1 + listed);
    EXPECT_EQ(measure_outside().bytes, (blocks.size() + listed) * big_bytes + 1 * MiB);
    for (std::size_t i = 0; i < 10; ++i) {
        (i % 2 == 0 ? other : owner)->deallocate(blocks.back());
        blocks.pop_back();
        listed = owner->listed(big_class) + other->listed(big_class);
        EXPECT_EQ(measure_outside().blocks, blocks.size() + 1 + listed);
    }
    owner->deallocate(large);
    free_all(*owner, blocks);
}

TEST_F(outside, grows_to_peaks_that_are_found) {
    scoped_heap heap;
    std::uint64_t const start = peak();
    std::vector<void*> blocks;
    std::uint64_t bytes = 0;
    while (bytes < start + 20 * MiB) {
        blocks.push_back(heap->allocate(1000));
        bytes += 1024;
    }
    free_all(*heap, blocks);
    reclaim(*heap);
    EXPECT_GE(peak() + lag(bytes), bytes);
    EXPECT_LE(peak(), bytes + 2 * sizing::slice_bytes);
}

TEST_F(outside, finds_the_peak_of_a_single_large_block) {
    scoped_heap heap;
    std::uint64_t const wanted = peak() + 50 * MiB;
    heap->deallocate(heap->allocate(wanted));
    EXPECT_GE(peak() + lag(wanted), wanted);
    EXPECT_LE(peak(), wanted + sizing::slice_bytes);
}

// Frees that nobody has looked at make the running total too large; walks then find no new peak
// and become rarer. A true peak after that must not slip through.
TEST_F(outside, finds_a_peak_after_walks_that_found_none) {
    scoped_heap heap;
    std::uint64_t const base = peak() + 30 * MiB;
    std::vector<void*> blocks;
    for (std::uint64_t bytes = 0; bytes < base; bytes += 1024) {
        blocks.push_back(heap->allocate(1000));
    }
    std::mt19937_64 random{7};
    for (int round = 0; round < 40; ++round) {
        for (int i = 0; i < 4000; ++i) {  // free at random, so that hardly a page empties
            std::swap(blocks[random() % blocks.size()], blocks.back());
            heap->deallocate(blocks.back());
            blocks.pop_back();
        }
        for (int i = 0; i < 3900; ++i) {
            blocks.push_back(heap->allocate(1000));
        }
    }
    std::uint64_t bytes = measure_outside().bytes;
    std::vector<void*> more;
    for (; bytes < base * 3 / 2; bytes += 2048) {
        more.push_back(heap->allocate(2000));
    }
    std::uint64_t const top = measure_outside().bytes;
    free_all(*heap, more);
    free_all(*heap, blocks);
    EXPECT_GE(peak() + lag(top), top);
}

// A walk corrects the running total by what was freed unseen. When those pages are looked at later,
// the same frees must not count again: the total would fall below the truth and hide the next peak.
TEST_F(outside, finds_a_peak_after_frees_that_a_walk_had_seen) {
    scoped_heap heap;
    std::uint64_t const base = peak() + 30 * MiB;
    for (int cycle = 0; cycle < 3; ++cycle) {
        std::vector<void*> blocks;
        for (std::uint64_t bytes = 0; bytes < base; bytes += 1024) {
            blocks.push_back(heap->allocate(1000));
        }
        for (std::size_t i = 0; i < blocks.size(); i += 2) {  // hardly a page empties
            heap->deallocate(blocks[i]);
        }
        heap->deallocate(heap->allocate(peak() + 1 * MiB - base / 2));  // a walk
        for (std::size_t i = 1; i < blocks.size(); i += 2) {
            heap->deallocate(blocks[i]);
        }
    }
    std::uint64_t const wanted = peak() + peak() / 4;
    std::vector<void*> blocks;
    std::uint64_t bytes = measure_outside().bytes;
    for (; bytes < wanted; bytes += 2048) {
        blocks.push_back(heap->allocate(2000));
    }
    free_all(*heap, blocks);
    EXPECT_GE(peak() + lag(bytes), bytes);
}

// --- what the kernel sees ------------------------------------------------------------------------

TEST_F(process_state, needs_few_mappings_under_heavy_use) {
    if (tarn::test::mapping_count() < 0 || tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "no /proc/self/maps, or a sanitizer's mappings among ours";
    }
    int const before = tarn::test::mapping_count();
    scoped_heap heap;
    std::mt19937_64 random{13};
    std::vector<void*> live;
    int most = before;
    for (int round = 0; round < 60'000; ++round) {
        if (live.size() < 2000 || random() % 2 == 0) {
            std::size_t const bytes = std::size_t{1} << (random() % 21);
            live.push_back(heap->allocate(bytes));
            static_cast<std::byte*>(live.back())[bytes - 1] = std::byte{1};
        } else {
            std::swap(live[random() % live.size()], live.back());
            heap->deallocate(live.back());
            live.pop_back();
        }
        if (round % 1000 == 0) {
            process.space.purge_all();
            most = std::max(most, tarn::test::mapping_count());
        }
    }
    free_all(*heap, live);
    EXPECT_LT(most - before, 100);
}

TEST_F(process_state, leaves_what_it_only_reserves_out_of_core_dumps) {
    if (!tarn::test::dump_flags_are_told()) {
        GTEST_SKIP() << "no VmFlags in /proc/self/smaps, or an emulated system";
    }
    scoped_heap heap;
    auto* const block = static_cast<std::byte*>(heap->allocate(big_bytes));
    std::string const used = tarn::test::mapping_flags(block);
    EXPECT_EQ(used.find(" dd"), std::string::npos) << used;
    page const& home = home_of(block);
    std::byte* const far = home.start + 512 * MiB;  // in the same arena, not yet committed
    std::string const reserved = tarn::test::mapping_flags(far);
    EXPECT_NE(reserved.find(" dd"), std::string::npos) << reserved;
    heap->deallocate(block);
}

TEST_F(process_state, keeps_descriptors_apart_from_blocks) {
    scoped_heap heap;
    void* const block = heap->allocate(100);
    page* const home = &home_of(block);
    EXPECT_EQ(page_of(home), nullptr);
    EXPECT_EQ(page_of(&*heap), nullptr);
    EXPECT_EQ(page_of(&process), nullptr);
    heap->deallocate(block);
}

}  // namespace
