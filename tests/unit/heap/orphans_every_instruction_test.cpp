// Cuts operations of a heap off at every instruction that changes something, as a fork by another
// thread would, and lets the child adopt what is left.
//
// The operation runs under the processor's trap flag. After each instruction the signal handler
// looks whether the heap, a page, a link or the page map changed; if so it forks, and the child
// plays the survivor: the heap in the middle of its operation belongs to a thread that vanished.
// While a lock is held no cut is made: a fork waits for all locks.
//
// For x86-64, and for checked builds, in which held locks are known. A sanitizer's own locks would
// be cut too.
#include <gtest/gtest.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TARN_TEST_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TARN_TEST_SANITIZED
#endif
#endif

#if defined(__x86_64__) && TARN_CHECK_LEVEL >= 1 && !defined(TARN_TEST_SANITIZED)

#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/ranked_mutex.hpp"
#include "sizing/size_class.hpp"
#include "heap/orphans.hpp"
#include "heap/process.hpp"
#include "heap/run_block.hpp"
#include "heap_fixture.hpp"

extern "C" char __executable_start;  // NOLINT(bugprone-reserved-identifier): the linker's name

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using tarn::test::heap_test;
using tarn::test::scoped_heap;

constexpr std::uint64_t trap_flag = 0x100;
constexpr int steps_max = 200'000;
constexpr int steps_after_a_lock = 8;  // from note_given() to the exchange that unlocks

enum verdict : int { sound = 0, lost_one = 10, lost_more = 11, broken = 12, stuck = 13 };

/// What a child is told and what is learned, in globals: the handler has no arguments.
struct state {
    thread_heap* cut = nullptr;                // whose operation is cut
    thread_heap* survivor = nullptr;           // the heap of the thread that forks
    std::vector<void*> const* live = nullptr;  // blocks that are in nobody's hands
    std::uint64_t last_hash = 0;
    int steps = 0;
    int steps_without_lock = 0;
    int cuts = 0;
    std::array<int, 20> verdicts{};
    std::string detail;
} now;

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
    hash = (hash ^ value) * 0x9e37'79b9'7f4a'7c15;
    return hash ^ hash >> 29;
}

std::uint64_t mix_bytes(std::uint64_t hash, void const* from, std::size_t bytes) {
    for (std::size_t at = 0; at + 8 <= bytes; at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, static_cast<std::byte const*>(from) + at, 8);
        hash = mix(hash, word);
    }
    return hash;
}

/// Everything an operation may change, as one number.
std::uint64_t hash_of_everything() {
    std::uint64_t hash = mix_bytes(0, now.cut, sizeof *now.cut);
    hash = mix_bytes(hash, &process.bins, sizeof process.bins);
    process.descriptors.for_each([&hash](page const& each) {
        hash = mix_bytes(hash, &each, sizeof each);
        if (each.kind.load() == page_kind::small && each.block_bytes.get() >= KiB) {
            for (int i = 0; i < each.capacity.get(); ++i) {
                void const* const at =
                    each.start + static_cast<std::size_t>(i) * each.block_bytes.get();
                hash = mix_bytes(hash, at, sizeof(block));
            }
        }
        if (each.start != nullptr) {
            for (std::size_t slice = 0; slice < each.slices.get(); ++slice) {
                hash = mix(hash,
                           base::address_of(pages.find(each.start + slice * sizing::slice_bytes)));
            }
        }
    });
    return hash;
}

bool contains(block const* list, void const* wanted) {
    for (int i = 0; list != nullptr && i < 10'000; ++i, list = list->next) {
        if (list == wanted) {
            return true;
        }
    }
    return false;
}

/// In the child: adopts, and looks whether all is as orphans.hpp promises.
verdict adopt_and_judge() {
    this_thread = now.survivor;
    prepare_fork();
    fork_in_child();
    adopt_orphans();
    int binned = 0;
    bool is_sound = true;
    process.descriptors.for_each([&](page const& each) {
        if (each.kind.load() != page_kind::small) {
            return;
        }
        each.audit();
        remote_state const word = each.remote.load();
        thread_heap const* const owner = each.owner.get();
        is_sound = is_sound && (owner == nullptr || owner->phase.load() == heap_phase::active);
        binned += word.how() == hold::binned ? 1 : 0;
        if (word.how() == hold::adrift) {
            is_sound = is_sound && word.list() == nullptr && each.local == nullptr &&
                       each.out.get() == each.reserved.get();
        }
    });
    for (void* const block : *now.live) {
        page const* const home = page_of(block);
        is_sound = is_sound && home != nullptr && home->kind.load() != page_kind::none &&
                   !contains(home->local, block) && !contains(home->remote.load().list(), block);
    }
    now.survivor->audit();
    process.space.audit();
    std::uint64_t outside = measure_outside().blocks;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        outside -= now.survivor->listed(size_class);
    }
    // Every binned page is in its bin: the sweep meets all of them.
    int met = 0;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        std::vector<page*> popped;
        for (;;) {
            base::node_index const index = process.descriptors.pop(process.bins[size_class].pages);
            if (index == base::node_index::none) {
                break;
            }
            popped.push_back(process.descriptors.at(index));
        }
        met += static_cast<int>(popped.size());
        for (page* const each : popped) {
            put_in_bin(*each);
        }
    }
    if (!is_sound || met != binned || outside < now.live->size()) {
        return broken;
    }
    // What is left can be freed, and with it every slice that holds no lost block.
    for (void* const block : *now.live) {
        now.survivor->deallocate(block);
    }
    now.survivor->leave();
    sweep_bins(sweep_scope::all_bins);
    std::uint64_t const lost = outside - now.live->size();
    if (measure_outside().blocks != lost || (lost == 0 && process.space.counts().used_bytes != 0)) {
        return broken;
    }
    return lost == 0 ? sound : lost == 1 ? lost_one : lost_more;
}

void on_step(int /*signal*/, siginfo_t* /*info*/, void* context) {
    int const kept = errno;
    ++now.steps;
    now.steps_without_lock = base::held_ranks != 0 ? 0 : now.steps_without_lock + 1;
    if (now.steps < steps_max && now.steps_without_lock > steps_after_a_lock) {
        std::uint64_t const hash = hash_of_everything();
        if (hash != now.last_hash) {
            now.last_hash = hash;
            ++now.cuts;
            pid_t const child = ::fork();
            if (child == 0) {
                ::signal(SIGTRAP, SIG_DFL);
                ::signal(SIGALRM, SIG_DFL);
                ::alarm(20);
                ::_exit(adopt_and_judge());
            }
            int status = 0;
            while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
            }
            int const result = WIFEXITED(status) ? WEXITSTATUS(status) : stuck;
            ++now.verdicts[static_cast<std::size_t>(std::min(result, 19))];
            if (result != sound && result != lost_one) {
                auto const* const at = static_cast<ucontext_t const*>(context);
                auto const offset =
                    at->uc_mcontext.gregs[REG_RIP] - reinterpret_cast<greg_t>(&__executable_start);
                std::ostringstream line;
                line << "\n  before offset 0x" << std::hex << offset << std::dec << ", step "
                     << now.steps << ": "
                     << (result == lost_more ? "several blocks are lost"
                         : result == stuck   ? "the child died"
                                             : "a page is wrong");
                now.detail += line.str();
            }
        }
    }
    errno = kept;
}

void set_trap_flag() {
    __asm__ volatile("pushfq; orq %0, (%%rsp); popfq" : : "i"(trap_flag) : "memory", "cc");
}

void clear_trap_flag() {
    __asm__ volatile("pushfq; andq %0, (%%rsp); popfq" : : "i"(~trap_flag) : "memory", "cc");
}

class cut_off : public heap_test {
protected:
    void SetUp() override {
        heap_test::SetUp();
        heap_.emplace();
        survivor_.emplace();
        third_.emplace();
    }

    void TearDown() override {
        free_all(*third(), live_);
        heap_.reset();
        survivor_.reset();
        third_.reset();
        heap_test::TearDown();
    }

    /// Cuts `operation`, whose heap is heap(), at every change.
    template <class Operation>
    void cut_everywhere(Operation operation) {
        now = state{};
        now.cut = &**heap_;
        now.survivor = &**survivor_;
        now.live = &live_;
        now.last_hash = hash_of_everything();
        struct sigaction action = {};
        action.sa_sigaction = &on_step;
        action.sa_flags = SA_SIGINFO;
        struct sigaction before = {};
        ASSERT_EQ(::sigaction(SIGTRAP, &action, &before), 0);
        set_trap_flag();
        operation();
        clear_trap_flag();
        ASSERT_EQ(::sigaction(SIGTRAP, &before, nullptr), 0);
        RecordProperty("steps", now.steps);
        RecordProperty("cuts", now.cuts);
        EXPECT_GT(now.cuts, 0);
        EXPECT_LT(now.steps, steps_max);
        EXPECT_EQ(now.verdicts[sound] + now.verdicts[lost_one], now.cuts)
            << now.steps << " steps, " << now.cuts
            << " cuts; addr2line knows the places:" << now.detail;
    }

    thread_heap* heap() { return &**heap_; }

    thread_heap* third() { return &**third_; }

    /// Blocks that stay live throughout.
    void keep_live(std::vector<void*> const& blocks) {
        live_.insert(live_.end(), blocks.begin(), blocks.end());
    }

    /// Takes a block out of the live ones, to be freed while it is watched.
    void* take_live(std::size_t index) {
        void* const block = live_[index];
        live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(index));
        return block;
    }

    std::vector<void*> live_;

private:
    std::optional<scoped_heap> heap_;
    std::optional<scoped_heap> survivor_;
    std::optional<scoped_heap> third_;
};

TEST_F(cut_off, malloc_from_the_list) {
    keep_live(allocate(*heap(), big_bytes, 2));
    third()->deallocate(take_live(0));
    void* block = nullptr;
    while (heap()->listed(big_class) == 0) {
        keep_live(allocate(*heap(), big_bytes, 1));
    }
    cut_everywhere([&] { block = heap()->allocate(big_bytes); });
    live_.push_back(block);
}

TEST_F(cut_off, malloc_that_refills_from_what_was_freed_here) {
    keep_live(allocate(*heap(), big_bytes, big_blocks));
    for (int i = 0; i < 5; ++i) {
        heap()->deallocate(take_live(1));
    }
    void* block = nullptr;
    cut_everywhere([&] { block = heap()->allocate(big_bytes); });
    live_.push_back(block);
}

TEST_F(cut_off, malloc_that_refills_from_what_others_freed) {
    keep_live(allocate(*heap(), big_bytes, big_blocks));
    for (int i = 0; i < 5; ++i) {
        third()->deallocate(take_live(1));
    }
    void* block = nullptr;
    cut_everywhere([&] { block = heap()->allocate(big_bytes); });
    live_.push_back(block);
}

TEST_F(cut_off, malloc_that_makes_blocks) {
    keep_live(allocate(*heap(), 1024, 5));
    while (heap()->listed(sizing::class_of(1024)) != 0) {
        keep_live(allocate(*heap(), 1024, 1));
    }
    void* block = nullptr;
    cut_everywhere([&] { block = heap()->allocate(1024); });
    live_.push_back(block);
}

TEST_F(cut_off, malloc_that_leaves_a_full_page_and_takes_a_fresh_one) {
    keep_live(allocate(*heap(), big_bytes, big_blocks));
    void* block = nullptr;
    cut_everywhere([&] { block = heap()->allocate(big_bytes); });
    live_.push_back(block);
}

TEST_F(cut_off, malloc_that_takes_a_kept_page) {
    keep_live(allocate(*heap(), big_bytes, std::size_t{2} * big_blocks));
    heap()->deallocate(take_live(0));  // claims the first page
    third()->deallocate(take_live(0));
    void* block = nullptr;
    cut_everywhere([&] { block = heap()->allocate(big_bytes); });
    live_.push_back(block);
}

TEST_F(cut_off, malloc_that_takes_a_page_from_a_bin) {
    {
        scoped_heap gone;
        keep_live(allocate(*gone, big_bytes, 6));
    }
    third()->deallocate(take_live(0));
    third()->deallocate(take_live(0));
    third()->deallocate(take_live(0));
    void* block = nullptr;
    cut_everywhere([&] { block = heap()->allocate(big_bytes); });
    live_.push_back(block);
}

TEST_F(cut_off, free_here) {
    keep_live(allocate(*heap(), big_bytes, 5));
    void* const block = take_live(2);
    cut_everywhere([&] { heap()->deallocate(block); });
}

TEST_F(cut_off, free_of_the_last_block_of_a_kept_page) {
    keep_live(allocate(*heap(), big_bytes, std::size_t{3} * big_blocks));
    for (int i = 0; i < 2 * big_blocks - 1; ++i) {
        heap()->deallocate(take_live(0));
    }
    void* const block = take_live(0);
    cut_everywhere([&] { heap()->deallocate(block); });
}

TEST_F(cut_off, free_to_another_heap) {
    keep_live(allocate(*third(), big_bytes, 5));
    void* const block = take_live(2);
    cut_everywhere([&] { heap()->deallocate(block); });
}

TEST_F(cut_off, free_into_a_page_adrift) {
    keep_live(allocate(*third(), big_bytes, big_blocks + 1));
    void* const block = take_live(2);
    cut_everywhere([&] { heap()->deallocate(block); });
}

TEST_F(cut_off, free_of_the_last_block_in_a_bin) {
    {
        scoped_heap gone;
        keep_live(allocate(*gone, big_bytes, 1));
    }
    void* const block = take_live(0);
    cut_everywhere([&] { heap()->deallocate(block); });
}

TEST_F(cut_off, a_thread_that_ends) {
    keep_live(allocate(*heap(), big_bytes, 3 * big_blocks + 2));
    heap()->deallocate(take_live(0));   // a kept page
    heap()->deallocate(take_live(12));  // and another
    third()->deallocate(take_live(0));  // with posted blocks
    third()->deallocate(take_live(0));
    keep_live(allocate(*heap(), 3000, 4));
    third()->deallocate(take_live(live_.size() - 1));
    std::vector<void*> empty = allocate(*heap(), 5000, 2);
    free_all(*heap(), empty);
    cut_everywhere([&] { heap()->leave(); });
}

TEST_F(cut_off, a_heap_that_collects) {
    keep_live(allocate(*heap(), big_bytes, std::size_t{3} * big_blocks));
    heap()->deallocate(take_live(0));
    for (int i = 0; i < big_blocks - 1; ++i) {
        third()->deallocate(take_live(0));  // the first page is empty when it is looked at
    }
    heap()->deallocate(take_live(0));
    third()->deallocate(take_live(0));
    third()->deallocate(take_live(0));
    cut_everywhere([&] { heap()->collect(); });
}

/// What only a thread that is alone does.
class cut_off_alone : public cut_off {
protected:
    void SetUp() override {
        cut_off::SetUp();
        active_ = process.active_heaps.exchange(1);
    }

    void TearDown() override {
        process.active_heaps.store(active_);
        cut_off::TearDown();
    }

    /// Frees one block of each of `pages` full pages.
    void free_into(std::size_t pages) {
        keep_live(allocate(*heap(), big_bytes, (pages + 2) * big_blocks));  // the last is current
        for (std::size_t i = 0; i < pages; ++i) {
            heap()->deallocate(take_live(i * (big_blocks - 1)));
        }
    }

private:
    std::uint32_t active_ = 0;
};

TEST_F(cut_off_alone, free_that_reuses_a_full_page) {
    free_into(2);
    void* const block = take_live(2 * (big_blocks - 1));
    cut_everywhere([&] { heap()->deallocate(block); });
    EXPECT_TRUE(home_of(block).is_reused());
}

TEST_F(cut_off_alone, free_of_a_stray) {
    process.options.thread_cache_bytes = 0;
    free_into(2);
    void* const block = take_live(2 * (big_blocks - 1));
    cut_everywhere([&] { heap()->deallocate(block); });
    EXPECT_EQ(home_of(block).remote.load().how(), hold::adrift);
}

TEST_F(cut_off_alone, free_that_sends_strays_home) {
    for (std::size_t const cache_bytes : {std::size_t{0}, 4 * MiB}) {
        process.options.thread_cache_bytes = cache_bytes;
        free_into(9);  // one more than there may be
        std::size_t const before = heap()->listed(big_class);
        std::size_t next = 9 * (big_blocks - 1);
        while (heap()->listed(big_class) >= before) {
            void* const block = take_live(next);
            cut_everywhere([&] { heap()->deallocate(block); });
        }
        free_all(*heap(), live_);
    }
}

TEST_F(cut_off_alone, a_thread_that_ends_with_strays) {
    process.options.thread_cache_bytes = 2 * sizing::slice_bytes;  // two are reused, two adrift
    free_into(4);
    cut_everywhere([&] { heap()->leave(); });
}

TEST_F(cut_off_alone, malloc_that_retires_full_pages) {
    free_into(3);
    keep_live(allocate(*heap(), big_bytes, 3));
    third()->deallocate(take_live(0));
    void* block = nullptr;
    cut_everywhere([&] { block = heap()->allocate(big_bytes); });
    live_.push_back(block);
}

TEST_F(cut_off_alone, malloc_near_a_sample) {
    process.options.sample_interval_bytes = std::size_t{16} * 256;  // one in 16 blocks
    free_into(3);
    int samples = 0;
    for (std::size_t i = 0; i < 1000 && samples < 2; ++i) {
        heap()->deallocate(take_live(i % 8));
        void* block = nullptr;
        cut_everywhere([&] { block = heap()->allocate(big_bytes); });
        live_.push_back(block);
        samples += home_of(block).kind.load() == page_kind::sampled ? 1 : 0;
    }
    EXPECT_EQ(samples, 2);
}

TEST_F(cut_off, a_sweep_of_bins) {
    for (int i = 0; i < 3; ++i) {
        std::optional<scoped_heap> gone;
        gone.emplace();
        keep_live(allocate(**gone, static_cast<std::size_t>(5 + i) * KiB, 3));
    }
    third()->deallocate(take_live(0));
    third()->deallocate(take_live(0));
    third()->deallocate(take_live(0));  // the first page is empty
    third()->deallocate(take_live(0));
    third()->deallocate(take_live(0));  // the second has posted blocks
    cut_everywhere([&] { sweep_bins(sweep_scope::all_bins); });
}

TEST_F(cut_off, a_large_block_that_grows_and_shrinks) {
    keep_live(allocate(*heap(), big_bytes, 1));
    void* const block = heap()->allocate(200 * KiB);
    keep_live({block});
    page& home = home_of(block);
    cut_everywhere([&] { EXPECT_TRUE(resize_run_in_place(home, 500 * KiB)); });
    cut_everywhere([&] { EXPECT_TRUE(resize_run_in_place(home, 300 * KiB)); });
}

TEST_F(cut_off, a_large_block_comes_and_goes) {
    keep_live(allocate(*heap(), big_bytes, 1));
    void* block = nullptr;
    cut_everywhere([&] { block = heap()->allocate(200 * KiB); });
    cut_everywhere([&] { heap()->deallocate(block); });
}

}  // namespace

#endif
