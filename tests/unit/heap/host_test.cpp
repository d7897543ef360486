// The host of this test program, in place of malloc/host.cpp: it records what the heap tells it.
#include "heap/host.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "platform/os.hpp"
#include "platform/threads.hpp"
#include "heap/diversion.hpp"
#include "heap/process.hpp"
#include "heap/run_block.hpp"
#include "malloc/entry.hpp"
#include "heap_fixture.hpp"
#include "support/process.hpp"

namespace tarn::test {

host_record& host() noexcept {
    static host_record record;
    return record;
}

}  // namespace tarn::test

namespace tarn::impl::heap {

heap_options host_options() noexcept {
    ++test::host().options_asked;
    EXPECT_EQ(test::host().started, 0);
    EXPECT_EQ(test::host().threads_entered, 0);
    base::set_fatal_writer([](char const* text, unsigned long bytes) noexcept {
        platform::os::write_all(2, text, bytes);
    });
    EXPECT_TRUE(platform::install_thread_exit_hook(
        [](void* heap) { leave_thread(*static_cast<thread_heap*>(heap)); }));
    return {};
}

void host_started() noexcept {
    ++test::host().started;
    // The heap serves: what a hook's installation allocates comes from it.
    void* const probe = this_thread->allocate(24);
    EXPECT_NE(probe, nullptr);
    this_thread->deallocate(probe);
}

misuse_verdict host_misuse(misuse const& event) noexcept {
    test::host().misuses.push_back(event);
    return test::host().verdict;
}

void host_thread_entered(void* heap) noexcept {
    std::atomic_ref{test::host().threads_entered}.fetch_add(1);  // threads may enter at once
    EXPECT_EQ(heap, this_thread);
    static_cast<void>(platform::arm_thread_exit(heap));
}

bool host_memory_freed(bool /*allocating*/, std::uint64_t /*now_ms*/) noexcept { return true; }

void host_memory_grew() noexcept {}

bool host_limit_met(std::size_t /*bytes*/) noexcept { return false; }

void host_thread_left() noexcept {}

void host_forked() noexcept {}

void* host_allocate_sample(operation const& /*asked*/) noexcept { return nullptr; }

void host_deallocate_sample(operation const& /*asked*/) noexcept { ADD_FAILURE(); }

found_block host_find_sample(void const* /*ptr*/) noexcept { return {}; }

void host_forward_free(void* ptr) noexcept { test::host().forwarded.push_back(ptr); }

}  // namespace tarn::impl::heap

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using tarn::test::heap_test;
using tarn::test::host;
using tarn::test::host_record;
using tarn::test::scoped_heap;

using host_calls = heap_test;

// In a child, so that it is the first allocation of its process whatever ran before.
TEST(host, is_asked_once_then_told_once) {
    int const status = tarn::test::run_in_child(20, [] {
        if (process.start_state.load() != 0) {
            return 77;  // another test ran in this process before
        }
        void* const first = this_thread->allocate(1);
        void* const second = this_thread->allocate(1);
        host_record const& seen = host();
        bool const fine = first != nullptr && second != nullptr && seen.options_asked == 1 &&
                          seen.started == 1 && seen.threads_entered == 1 &&
                          this_thread != &empty_heap;
        return fine ? 0 : 1;
    });
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        GTEST_SKIP() << "needs a process of its own";
    }
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

// A thread of the parent had begun when the child was forked, and others may have waited for it.
TEST(host, is_asked_again_by_a_child_forked_while_the_parent_starts) {
    for (std::uint32_t const phase : {1U, 2U}) {  // starting, awaited
        int const status = tarn::test::run_in_child(20, [phase] {
            if (process.start_state.load() != 0) {
                return 77;  // another test ran in this process before
            }
            process.start_state.store(static_cast<std::uint32_t>(::getppid()) << 3 | phase);
            void* const block = this_thread->allocate(1);
            return block != nullptr && host().options_asked == 1 && host().started == 1 ? 0 : 1;
        });
        ASSERT_TRUE(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) {
            GTEST_SKIP() << "needs a process of its own";
        }
        EXPECT_EQ(WEXITSTATUS(status), 0) << phase;
    }
}

TEST_F(host_calls, foreign_pointers_are_reported_and_forwarded_on_demand) {
    scoped_heap heap;
    std::uint64_t local[2]{};  // as large as the block that it is not
    heap->deallocate(local);
    auto events = reported();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].kind, misuse_kind::foreign_pointer);
    EXPECT_EQ(events[0].ptr, local);
    EXPECT_STREQ(events[0].operation, "free");
    EXPECT_NE(events[0].caller, nullptr);
    EXPECT_TRUE(host().forwarded.empty());

    host().verdict = misuse_verdict::forward_to_libc;
    heap->deallocate(local);
    EXPECT_EQ(reported().size(), 1U);
    EXPECT_EQ(host().forwarded, std::vector<void*>{local});
}

TEST_F(host_calls, every_kind_of_bad_address_is_foreign) {
    scoped_heap heap;
    std::uint64_t const values[] = {1,
                                    16,
                                    0xffff,
                                    0x0000'7fff'ffff'fff0,
                                    0x0000'8000'0000'0000,
                                    0xffff'8000'0000'0000,
                                    ~std::uint64_t{0}};
    for (std::uint64_t const value : values) {
        heap->deallocate(base::pointer_to(value));
        auto const events = reported();
        ASSERT_EQ(events.size(), 1U) << std::hex << value;
        EXPECT_EQ(events[0].kind, misuse_kind::foreign_pointer);
        EXPECT_EQ(usable_bytes(base::pointer_to(value), nullptr), 0U);
        EXPECT_EQ(reallocate(&*heap, base::pointer_to(value), 10, nullptr), nullptr);
        EXPECT_EQ(reported().size(), 2U);
    }
    heap->deallocate(nullptr);
    EXPECT_TRUE(reported().empty());
}

TEST_F(host_calls, interior_pointers_name_their_block) {
    scoped_heap heap;
    auto* const block = static_cast<std::byte*>(heap->allocate(100));
    auto* const large = static_cast<std::byte*>(heap->allocate(300 * KiB));
    for (std::size_t const inside : {1U, 16U, 100U}) {
        heap->deallocate(block + inside);
        auto const events = reported();
        ASSERT_EQ(events.size(), 1U);
        EXPECT_EQ(events[0].kind, misuse_kind::interior_pointer);
        EXPECT_EQ(events[0].block, block);
        EXPECT_EQ(events[0].block_bytes, 112U);
        heap->deallocate(large + inside * 1000);
        auto const more = reported();
        ASSERT_EQ(more.size(), 1U);
        EXPECT_EQ(more[0].kind, misuse_kind::interior_pointer);
        EXPECT_EQ(more[0].block, large);
    }
    heap->deallocate(large);
    heap->deallocate(block);
    EXPECT_TRUE(reported().empty());
}

TEST_F(host_calls, a_block_freed_twice_in_a_row_is_reported) {
    scoped_heap heap;
    void* const kept = heap->allocate(64);
    void* const block = heap->allocate(64);
    heap->deallocate(block);
    heap->deallocate(block);
    auto const events = reported();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].kind, misuse_kind::double_free);
    EXPECT_EQ(events[0].ptr, block);
    EXPECT_EQ(events[0].block_bytes, 64U);
    heap->audit();
    heap->deallocate(kept);
}

TEST_F(host_calls, a_block_freed_twice_in_a_row_by_another_thread_is_reported) {
    scoped_heap owner;
    scoped_heap other;
    void* const kept = owner->allocate(64);
    void* const block = owner->allocate(64);
    other->deallocate(block);
    other->deallocate(block);
    auto const events = reported();
    EXPECT_EQ(events.size(), 1U);
    if (!events.empty()) {
        EXPECT_EQ(events[0].kind, misuse_kind::double_free);
        EXPECT_EQ(events[0].ptr, block);
    }
    other->deallocate(kept);
}

TEST_F(host_calls, a_free_into_an_empty_page_is_reported) {
    scoped_heap heap;
    scoped_heap const other;
    // The first page is full, and not the one that the second block comes from.
    std::vector<void*> blocks = allocate(*heap, big_bytes, big_blocks);
    void* const kept = heap->allocate(big_bytes);
    std::vector<void*> const twice = blocks;
    free_all(*heap, blocks);
    heap->deallocate(twice[0]);
    auto const events = reported();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].kind, misuse_kind::double_free);
    EXPECT_EQ(events[0].ptr, twice[0]);
    heap->audit();
    heap->deallocate(kept);
}

TEST_F(host_calls, a_large_block_freed_twice_is_foreign) {
    scoped_heap heap;
    void* const block = heap->allocate(1 * MiB);
    heap->deallocate(block);
    heap->deallocate(block);
    auto const events = reported();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].ptr, block);
}

TEST_F(host_calls, sizes_that_overflow_are_reported_and_refused) {
    scoped_heap heap;
    errno = 0;
    EXPECT_EQ(heap->allocate(std::size_t{PTRDIFF_MAX} + 1), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    auto events = reported();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].kind, misuse_kind::size_overflow);
    EXPECT_EQ(events[0].element_bytes, std::size_t{PTRDIFF_MAX} + 1);
    std::size_t product = 0;
    EXPECT_FALSE(entry::multiply("calloc", SIZE_MAX / 2, 3, product, nullptr));
    events = reported();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].count, SIZE_MAX / 2);
    EXPECT_EQ(events[0].element_bytes, 3U);
    EXPECT_EQ(allocate_aligned(&*heap, SIZE_MAX, 64, nullptr), nullptr);
    EXPECT_EQ(allocate_zeroed(&*heap, SIZE_MAX, nullptr), nullptr);
    EXPECT_EQ(reported().size(), 2U);
}

TEST_F(host_calls, entering_the_slow_path_inside_itself_is_reported) {
    scoped_heap heap;
    heap->in_slow_path = true;  // as a signal handler would find it
    void* const block = heap->allocate(40);
    auto const events = reported();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].kind, misuse_kind::reentry);
    EXPECT_FALSE(heap->in_slow_path);
    heap->deallocate(block);
}

}  // namespace
