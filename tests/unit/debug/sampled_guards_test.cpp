// Each test in a process of its own: what samples are, and the handler of faults, are the
// process's. There blocks come from tarn_malloc() and its kin, whose host is the library's.
#include "debug/sampled_guards.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "base/bits.hpp"

#include "tarn/tarn.h"

#include "platform/fault_signal.hpp"
#include "heap/process.hpp"
#include "debug/lookup.hpp"
#include "debug/page_source.hpp"
#include "support/build.hpp"
#include "support/mappings.hpp"
#include "support/memory_probe.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;
using heap::page_kind;
using platform::guard_method;
using platform::os;

// Before all tests of this program: else its own samples would be guarded at some time, and each
// child begin with that.
[[maybe_unused]] bool const are_off_here = [] {
    bool const is_started = heap::start_process();
    configure_sampled_guards({});
    return is_started;
}();

// Of the child alone. A handler may not allocate.
std::array<finding, 64> found;
std::atomic<std::size_t> found_count{0};

void note(finding const& what) noexcept {
    std::size_t const number = found_count.fetch_add(1);
    if (number < found.size()) {
        found[number] = what;
        found[number].stack = {};
    }
}

/// The only one since the last call.
finding only() {
    EXPECT_EQ(found_count.load(), 1U);
    found_count = 0;
    return found[0];
}

page_kind kind_of(void const* block) { return heap::page_of(block)->kind.load(); }

bool is_guarded(void const* block) { return kind_of(block) == page_kind::guarded; }

std::byte* bytes_of(void* block) { return static_cast<std::byte*>(block); }

/// Allocates so until the block is a guarded one; null: none of many is.
std::byte* guarded_of(std::function<void*()> const& allocate) {
    for (int i = 0; i < 2'000'000; ++i) {
        void* const block = allocate();
        if (is_guarded(block)) {
            return bytes_of(block);
        }
        tarn_free(block);
    }
    return nullptr;
}

std::byte* guarded(std::size_t bytes) {
    std::byte* const block = guarded_of([bytes] { return tarn_malloc(bytes); });
    EXPECT_NE(block, nullptr) << bytes;
    return block;
}

/// A heap that served another thread of this program has its plan still, for a sample long to come.
void draw_anew(std::size_t bytes) {
    for (bool is_sample = false; !is_sample;) {
        void* const block = tarn_malloc(bytes);
        is_sample = kind_of(block) == page_kind::sampled;
        tarn_free(block);
    }
}

/// Of faults, as it is now. Sanitizers bring their own.
struct sigaction fault_action() {
    struct sigaction now {};

    EXPECT_EQ(::sigaction(SIGSEGV, nullptr, &now), 0);
    return now;
}

class sampled_guards : public ::testing::TestWithParam<guard_method> {
protected:
    static constexpr std::size_t interval_bytes = 4 * KiB;

    void SetUp() override {
        static_cast<void>(heap::start_process());
        if (GetParam() == guard_method::markers && os::guards_by() != guard_method::markers) {
            GTEST_SKIP() << "this system has no guard markers";
        }
    }

    /// body() in a child, by a new thread, where samples are so many. What it expects counts here.
    template <class Body>
    void in_child(Body body, std::size_t interval = interval_bytes) {
        int const status = tarn::test::run_in_child(60, [&] {
            os::guard_by(GetParam());
            heap::process_state::options.sample_interval_bytes = interval;
            std::thread{[&] {
                for (std::size_t const bytes : {90UL, 100UL, 20'000UL, 100'000UL}) {
                    draw_anew(bytes);
                }
                configure_sampled_guards(
                    {.is_on = true, .interval_bytes = interval, .handler = &note});
                body();
            }}.join();
            EXPECT_EQ(found_count.load(), 0U) << "a finding that no test asked for";
            EXPECT_EQ(tarn_audit(nullptr), 0U);
            std::fflush(stdout);
            return HasFailure() ? 1 : 0;
        });
        EXPECT_TRUE(WIFEXITED(status)) << status;
        EXPECT_EQ(WEXITSTATUS(status), 0);
    }
};

INSTANTIATE_TEST_SUITE_P(all, sampled_guards,
                         ::testing::Values(guard_method::markers, guard_method::protection),
                         [](auto const& each) {
                             return each.param == guard_method::markers ? "markers" : "protection";
                         });

TEST_P(sampled_guards, the_first_samples_of_a_process_have_none) {
    in_child([] {
        auto* const before = fault_action().sa_sigaction;
        std::uint32_t plain = 0;
        std::vector<void*> blocks;
        do {
            blocks.push_back(tarn_malloc(100));
            plain += kind_of(blocks.back()) == page_kind::sampled ? 1U : 0U;
        } while (!is_guarded(blocks.back()) && blocks.size() < 100'000);
        EXPECT_EQ(plain, samples_before_guards);
        EXPECT_NE(fault_action().sa_sigaction, before);
        for (void* const each : blocks) {
            tarn_free(each);
        }
    });
}

TEST_P(sampled_guards, a_process_without_any_has_no_handler) {
    in_child(
        [] {
            auto* const before = fault_action().sa_sigaction;
            std::size_t const reserved = records.reserved_bytes();
            for (int i = 0; i < 1000; ++i) {
                tarn_free(tarn_malloc(100));
            }
            EXPECT_EQ(heap::process.guarded_so_far.load(), 0U);
            EXPECT_EQ(fault_action().sa_sigaction, before);
            EXPECT_EQ(records.reserved_bytes(), reserved);
        },
        64 * MiB);
}

TEST_P(sampled_guards, blocks_end_at_an_inaccessible_page_and_are_as_large_as_was_asked_for) {
    in_child([] {
        tarn::test::memory_probe const memory;
        for (std::size_t const bytes : {1UL, 15UL, 16UL, 100UL, 1000UL, 4096UL, 5000UL, 8192UL,
                                        20'000UL, 131'072UL, 131'073UL, 1'000'000UL}) {
            SCOPED_TRACE(bytes);
            std::byte* const block = guarded(bytes);
            std::memset(block, 1, bytes);
            EXPECT_EQ(tarn_malloc_usable_size(block), bytes);
            void* start = nullptr;
            EXPECT_EQ(tarn_find_block(block + bytes - 1, &start), bytes);
            EXPECT_EQ(start, block);
            EXPECT_EQ(tarn_find_block(block + bytes, &start), 0U);
            EXPECT_TRUE(memory.readable(block + bytes - 1));
            EXPECT_FALSE(memory.readable(block + base::align_up(bytes, 16)));
            tarn_free(block);
            EXPECT_FALSE(memory.readable(block)) << "freed";
            EXPECT_EQ(tarn_find_block(block, &start), 0U);
        }
    });
}

TEST_P(sampled_guards, blocks_are_aligned_and_zeroed_as_asked) {
    in_child([] {
        for (std::size_t alignment : {16UL, 64UL, 512UL, 4096UL}) {
            std::byte* const block =
                guarded_of([alignment] { return tarn_aligned_alloc(alignment, 700); });
            ASSERT_NE(block, nullptr);
            EXPECT_EQ(base::address_of(block) % alignment, 0U);
            std::memset(block, 1, 700);
            EXPECT_EQ(tarn_malloc_usable_size(block), 700U);
            tarn_free(block);
        }
        for (std::size_t bytes : {10UL, 3000UL, 3000UL, 30'000UL, 30'000UL, 200'000UL}) {
            std::byte* const block = guarded_of([bytes] { return tarn_calloc(1, bytes); });
            ASSERT_NE(block, nullptr);
            EXPECT_TRUE(std::all_of(block, block + bytes,
                                    [](std::byte each) { return each == std::byte{0}; }));
            std::memset(block, 7, bytes);
            tarn_free(block);
        }
    });
}

TEST_P(sampled_guards, misuse_of_them_is_told_with_both_stacks) {
    in_child([] {
        std::byte* block = guarded(90);
        block[90] ^= std::byte{1};
        tarn_free(block);
        finding seen = only();
        EXPECT_EQ(seen.what, fault::overflow);
        EXPECT_EQ(seen.block.user, block);
        EXPECT_EQ(seen.block.bytes, 90U);
        EXPECT_EQ(seen.block.owner, heap_number::sampled);
        EXPECT_STREQ(seen.operation, "free");

        tarn_free(block);
        seen = only();
        EXPECT_EQ(seen.what, fault::double_free);
        EXPECT_FALSE(process_lookup().frames(seen.block.allocated).empty());
        EXPECT_FALSE(process_lookup().frames(seen.block.released).empty());
        EXPECT_EQ(tarn_realloc(block, 10), nullptr);
        seen = only();
        EXPECT_EQ(seen.what, fault::double_free);
        EXPECT_STREQ(seen.operation, "realloc");

        block = guarded(90);
        tarn_free(block + 16);
        EXPECT_EQ(only().what, fault::interior_free);
        EXPECT_EQ(tarn_realloc(block + 16, 100), nullptr);
        EXPECT_EQ(only().what, fault::interior_free);
        EXPECT_EQ(tarn_malloc_usable_size(block + 16), 0U);
        block[-1] ^= std::byte{1};
        tarn_free(block);
        EXPECT_EQ(only().what, fault::underflow);
    });
}

TEST_P(sampled_guards, what_an_ordinary_heap_does_not_care_for_is_not_told) {
    in_child([] {
        heap::this_thread->deallocate_as<heap::family::new_one>(guarded(100));
        heap::this_thread->deallocate_as<heap::family::new_array>(guarded(100), 104);
        tarn_free_sized(guarded(100), 96);
        tarn_free_aligned_sized(guarded(100), 64, 100);
    });
}

TEST_P(sampled_guards, realloc_moves_them_with_their_contents) {
    in_child([] {
        tarn::test::memory_probe const memory;
        for (std::size_t const bytes : {98UL, 112UL, 60UL, 200UL, 20'000UL, 300'000UL, 1UL}) {
            SCOPED_TRACE(bytes);
            std::byte* const block = guarded(100);
            std::memset(block, 5, 100);
            std::byte* const moved = bytes_of(tarn_realloc(block, bytes));
            ASSERT_NE(moved, nullptr);
            EXPECT_NE(moved, block);
            EXPECT_GE(tarn_malloc_usable_size(moved), bytes);
            EXPECT_TRUE(std::all_of(moved, moved + std::min<std::size_t>(bytes, 100),
                                    [](std::byte each) { return each == std::byte{5}; }));
            std::memset(moved, 6, bytes);
            EXPECT_FALSE(memory.readable(block)) << "a stale pointer is found";
            // Whose class stays is still a sample.
            EXPECT_EQ(kind_of(moved) == page_kind::sampled, bytes >= 60 && bytes <= 112);
            tarn_free(moved);
        }
        std::byte* const block = guarded(100);
        EXPECT_EQ(tarn_realloc(block, PTRDIFF_MAX - 4096), nullptr);
        block[99] = std::byte{1};
        EXPECT_FALSE(tarn_expand(block, 101));
        EXPECT_TRUE(tarn_expand(block, 100));
        tarn_free(block);
    });
}

TEST_P(sampled_guards, accesses_behind_and_after_free_are_found_and_go_on) {
    in_child([] {
        std::byte volatile* const block = guarded(96);
        block[96] = std::byte{1};
        finding seen = only();
        EXPECT_EQ(seen.what, fault::bad_access);
        EXPECT_EQ(seen.block.state, block_state::live);
        EXPECT_EQ(seen.damage_first, 96);
        tarn_free(const_cast<std::byte*>(block));
        EXPECT_EQ(std::byte{block[10]}, std::byte{0});
        seen = only();
        EXPECT_EQ(seen.what, fault::bad_access);
        EXPECT_EQ(seen.block.state, block_state::freed);
        EXPECT_EQ(seen.damage_first, 10);
    });
}

std::atomic<int> own_faults{0};
std::byte* own_page;

void own_handler(int /*number*/, siginfo_t* info, void* /*context*/) {
    own_faults.fetch_add(info->si_addr == own_page ? 1 : 100);
    ::mprotect(own_page, os::page_bytes(), PROT_READ | PROT_WRITE);
}

TEST_P(sampled_guards, the_programs_own_handler_gets_its_faults) {
    in_child([] {
        struct sigaction own {};
        own.sa_sigaction = &own_handler;
        own.sa_flags = SA_SIGINFO;
        EXPECT_EQ(::sigaction(SIGSEGV, &own, nullptr), 0);
        own_page = static_cast<std::byte*>(
            ::mmap(nullptr, os::page_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        std::byte volatile* const block = guarded(96);
        *const_cast<std::byte volatile*>(own_page) = std::byte{1};
        EXPECT_EQ(own_faults.load(), 1);
        block[96] = std::byte{1};
        EXPECT_EQ(only().what, fault::bad_access);
        EXPECT_EQ(own_faults.load(), 1);
        // One that is installed later is left alone, whatever comes.
        EXPECT_EQ(::sigaction(SIGSEGV, &own, nullptr), 0);
        for (int i = 0; i < 50; ++i) {
            tarn_free(guarded(96));
        }
        EXPECT_EQ(fault_action().sa_sigaction, &own_handler);
        tarn_free(const_cast<std::byte*>(block));
    });
}

TEST_P(sampled_guards, no_more_than_so_many_live_at_once) {
    in_child([] {
        std::uint64_t const most =
            os::guards_by() == guard_method::markers ? guarded_samples_max : protected_samples_max;
        std::vector<void*> blocks;
        std::uint64_t guarded_blocks = 0;
        std::uint64_t plain = 0;
        while (plain < 3 * samples_before_guards && blocks.size() < 1'000'000) {
            blocks.push_back(tarn_malloc(100));
            guarded_blocks += is_guarded(blocks.back()) ? 1U : 0U;
            plain += kind_of(blocks.back()) == page_kind::sampled ? 1U : 0U;
            std::memset(blocks.back(), 1, 100);
        }
        EXPECT_EQ(guarded_blocks, most);
        EXPECT_EQ(plain, 3 * samples_before_guards) << "samples go on";
        for (void* const each : blocks) {
            tarn_free(each);
        }
        tarn_free(guarded(100));
        EXPECT_LE(sampled_heap.figures().quarantined_blocks,
                  sample_quarantine_bytes / page_run_bytes());
    });
}

TEST_P(sampled_guards, statistics_know_them) {
    in_child([] {
        tarn_stats before{};
        before.size = sizeof before;
        ASSERT_EQ(tarn_stats_get(&before), 0);
        std::vector<void*> blocks;
        std::size_t bytes = 0;
        std::size_t count = 0;
        for (int i = 0; i < 2000; ++i) {
            blocks.push_back(tarn_malloc(90));
            bytes += tarn_malloc_usable_size(blocks.back());
            count += is_guarded(blocks.back()) ? 1U : 0U;
        }
        EXPECT_GT(count, 10U);
        tarn_stats now{};
        now.size = sizeof now;
        ASSERT_EQ(tarn_stats_get(&now), 0);
        EXPECT_EQ(now.guarded_blocks, count);
        EXPECT_EQ(now.guarded_so_far, count);
        EXPECT_EQ(now.guards_refused, 0U);
        EXPECT_EQ(now.live_blocks - before.live_blocks, 2000U);
        EXPECT_EQ(now.live_bytes - before.live_bytes, bytes);
        EXPECT_NEAR(static_cast<double>(now.requested_bytes - before.requested_bytes), 2000 * 90,
                    2000);
        EXPECT_EQ(tarn_audit(&now), 0U);
        for (void* const each : blocks) {
            tarn_free(each);
        }
        ASSERT_EQ(tarn_stats_get(&now), 0);
        EXPECT_EQ(now.guarded_blocks, 0U);
        EXPECT_EQ(now.live_blocks, before.live_blocks);
        EXPECT_EQ(now.live_bytes, before.live_bytes);
    });
}

TEST_P(sampled_guards, freed_ones_hold_no_memory_and_markers_take_no_mapping) {
    in_child([] {
        tarn_free(guarded(100));
        heap::process.space.purge_all();
        std::size_t const charged = heap::process.space.budget().charged();
        int const mappings = tarn::test::mapping_count();
        std::vector<void*> blocks;
        for (int i = 0; i < 200; ++i) {
            blocks.push_back(guarded(100));
        }
        EXPECT_GE(heap::process.space.budget().charged(), charged + 200 * os::page_bytes());
        if (GetParam() == guard_method::markers && mappings > 0 && !tarn::test::is_slow) {
            EXPECT_LE(tarn::test::mapping_count(), mappings + 2);
        }
        for (void* const each : blocks) {
            tarn_free(each);
        }
        heap::process.space.purge_all();
        EXPECT_LE(heap::process.space.budget().charged(), charged + os::page_bytes());
    });
}

TEST_P(sampled_guards, any_thread_may_free_them_also_past_its_end) {
    in_child([] {
        std::byte* const first = guarded(100);
        std::byte* const second = guarded(100);
        std::thread{[first] { tarn_free(first); }}.join();
        heap::deallocate_for(&heap::finished_heap, second, nullptr);
        if (heap::process.late.try_lock()) {
            heap::process.late.unlock();
        } else {
            ADD_FAILURE() << "its lock is still held";
        }
        std::byte* const third = guarded(100);
        void* const moved = heap::reallocate(&heap::finished_heap, third, 5000, nullptr);
        ASSERT_NE(moved, nullptr);
        tarn_free(moved);
        EXPECT_EQ(sampled_heap.figures().live_blocks, 0U);
    });
}

TEST_P(sampled_guards, a_forked_child_has_them_and_makes_more) {
    in_child([] {
        std::byte* const live = guarded(90);
        std::byte* const freed = guarded(90);
        tarn_free(freed);
        int const status = tarn::test::run_in_child(20, [&] {
            tarn::test::memory_probe const there;
            bool is_same =
                there.readable(live) && !there.readable(live + 96) && !there.readable(freed);
            tarn_free(live);
            std::byte* const own = guarded(90);
            is_same = is_same && found_count.load() == 0 && !there.readable(live);
            tarn_free(own);
            tarn_free(own);
            return is_same && found_count.load() == 1 && tarn_audit(nullptr) == 0 ? 0 : 1;
        });
        EXPECT_EQ(status, 0);
        live[80] = std::byte{1};
        tarn_free(live);
    });
}

TEST_P(sampled_guards, a_signal_handler_that_comes_in_between_gets_a_plain_sample) {
    in_child([] {
        tarn_free(guarded(100));
        heap::this_thread->in_host = true;  // as it would find it
        for (int i = 0; i < 1000; ++i) {
            void* const block = tarn_malloc(100);
            EXPECT_FALSE(is_guarded(block));
            tarn_free(block);
        }
        heap::this_thread->in_host = false;
        tarn_free(guarded(100));
    });
}

TEST_P(sampled_guards, are_one_in_a_tick_of_the_clock_where_samples_are_rare) {
    in_child(
        [] {
            auto const now = [] { return std::chrono::steady_clock::now(); };
            auto const begin = now();
            std::uint64_t samples = 0;
            for (int i = 0; i < 400'000; ++i) {
                void* const block = tarn_malloc(100'000);
                samples += kind_of(block) != page_kind::small ? 1U : 0U;
                tarn_free(block);
            }
            auto const ms = std::chrono::duration_cast<std::chrono::milliseconds>(now() - begin);
            EXPECT_GT(samples, 50U);
            EXPECT_LE(heap::process.guarded_so_far.load(),
                      static_cast<std::uint64_t>(ms.count()) + 2);
        },
        1 * MiB);
}

TEST_P(sampled_guards, end_for_good_where_the_system_refuses) {
    in_child([] {
        auto* const before = fault_action().sa_sigaction;
        os::guard_by(guard_method::nothing);
        std::vector<void*> blocks;
        for (int i = 0; i < 5000; ++i) {
            blocks.push_back(tarn_malloc(100));
        }
        EXPECT_EQ(std::count_if(blocks.begin(), blocks.end(), &is_guarded), 0);
        EXPECT_GT(std::count_if(blocks.begin(), blocks.end(),
                                [](void* each) { return kind_of(each) == page_kind::sampled; }),
                  50);
        EXPECT_EQ(heap::process.guards_refused.load(), 1U);
        EXPECT_EQ(fault_action().sa_sigaction, before);
        for (void* const each : blocks) {
            tarn_free(each);
        }
    });
}

TEST_P(sampled_guards, end_for_good_where_the_system_refuses_later) {
    in_child([] {
        std::byte* const before = guarded(90);
        os::guard_by(guard_method::nothing);
        std::vector<void*> blocks;
        for (int i = 0; i < 2000; ++i) {
            blocks.push_back(tarn_malloc(page_run_bytes() + 1));  // for which no run is kept
        }
        EXPECT_EQ(std::count_if(blocks.begin(), blocks.end(), &is_guarded), 0);
        EXPECT_EQ(heap::process.guards_refused.load(), 1U);
        EXPECT_EQ(tarn_audit(nullptr), 0U);
        tarn_free(before);
        EXPECT_EQ(tarn_audit(nullptr), 0U) << "not sealed, and so not without memory";
        tarn_free(before);
        EXPECT_EQ(only().what, fault::double_free);
        for (void* const each : blocks) {
            tarn_free(each);
        }
    });
}

TEST_P(sampled_guards, end_for_good_where_another_has_the_hook) {
    in_child([] {
        platform::fault_hook const other{
            .is_ours = [](void const* /*address*/) noexcept { return false; },
            .handle =
                [](platform::memory_fault const& /*fault*/) noexcept {
                    return platform::fault_verdict::pass_on;
                }};
        EXPECT_TRUE(platform::install_fault_hook(other));
        for (int i = 0; i < 5000; ++i) {
            void* const block = tarn_malloc(100);
            EXPECT_FALSE(is_guarded(block));
            tarn_free(block);
        }
        EXPECT_EQ(heap::process.guards_refused.load(), 1U);
    });
}

TEST_P(sampled_guards, are_not_made_where_they_are_not_wanted) {
    in_child([] {
        configure_sampled_guards({.is_on = false, .handler = &note});
        for (int i = 0; i < 5000; ++i) {
            void* const block = tarn_malloc(100);
            EXPECT_FALSE(is_guarded(block));
            tarn_free(block);
        }
        EXPECT_EQ(heap::process.guards_refused.load(), 0U);
    });
}

TEST_P(sampled_guards, threads_free_each_others) {
    in_child([] {
        constexpr std::size_t slots = 256;
        static std::array<std::atomic<void*>, slots> shared{};
        std::vector<std::thread> workers;
        std::uint64_t const rounds = tarn::test::scaled(20'000);
        for (unsigned t = 0; t < 4; ++t) {
            workers.emplace_back([t, rounds] {
                std::uint32_t random = t + 1;
                for (std::uint64_t i = 0; i < rounds; ++i) {
                    random = random * 1'664'525 + 1'013'904'223;
                    std::size_t const bytes = 1 + (random >> 8) % (i % 16 == 0 ? 20'000 : 300);
                    void* mine = tarn_malloc(bytes);
                    std::memset(mine, 1, bytes);
                    if (i % 8 == 0) {
                        mine = tarn_realloc(mine, bytes + (random >> 16) % 100);
                    }
                    tarn_free(shared[(random >> 20) % slots].exchange(mine));
                }
            });
        }
        for (std::thread& each : workers) {
            each.join();
        }
        for (auto& each : shared) {
            tarn_free(each.exchange(nullptr));
        }
        EXPECT_GT(heap::process.guarded_so_far.load(), rounds / 1000);
        EXPECT_EQ(sampled_heap.figures().live_blocks, 0U);
    });
}

}  // namespace
