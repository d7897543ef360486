// tests/unit/heap/heap_fixture.hpp - heaps that a test moves by hand, and the reports they make.
//
// Threads    one, unless a test says otherwise: a heap belongs to whoever calls it, so that one
//            thread can play several and stop each where it likes.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "base/bits.hpp"
#include "sizing/size_class.hpp"
#include "heap/host.hpp"
#include "heap/process.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::test {

/// What host_test.cpp, this program's host, has seen.
struct host_record {
    std::vector<impl::heap::misuse> misuses;
    std::vector<void*> forwarded;
    int options_asked = 0;
    int started = 0;
    int threads_entered = 0;
    impl::heap::misuse_verdict verdict = impl::heap::misuse_verdict::ignore;
};

host_record& host() noexcept;

/// A heap as a thread would have it.
class scoped_heap {
public:
    scoped_heap() {
        using namespace impl::heap;
        EXPECT_TRUE(start_process());
        impl::base::node_index const idle = process.heaps.pop(process.idle_heaps);
        heap_ = idle != impl::base::node_index::none ? process.heaps.at(idle)
                                                     : process.heaps.allocate();
        heap_->phase.store(heap_phase::active, std::memory_order_relaxed);
        process.active_heaps.fetch_add(1, std::memory_order_relaxed);
    }

    scoped_heap(scoped_heap const&) = delete;
    scoped_heap& operator=(scoped_heap const&) = delete;

    ~scoped_heap() {
        if (heap_ != nullptr) {
            leave();
        }
    }

    /// As the end of its thread.
    void leave() {
        using namespace impl::heap;
        heap_->audit();
        heap_->leave();
        heap_->phase.store(heap_phase::unused, std::memory_order_relaxed);
        process.active_heaps.fetch_sub(1, std::memory_order_relaxed);
        process.heaps.push(process.idle_heaps, *heap_);
        heap_ = nullptr;
    }

    impl::heap::thread_heap* operator->() const noexcept { return heap_; }

    impl::heap::thread_heap& operator*() const noexcept { return *heap_; }

private:
    impl::heap::thread_heap* heap_ = nullptr;
};

/// Starts with no page anywhere and demands that none is left.
class heap_test : public testing::Test {
protected:
    // Eight blocks in every page: few enough to count.
    static constexpr std::size_t big_bytes = 8 * impl::KiB;
    static constexpr unsigned big_class = impl::sizing::class_of(big_bytes);
    static constexpr int big_blocks = 8;
    static constexpr std::size_t big_slices = impl::sizing::class_slices_min(big_class);
    static_assert(big_slices == impl::sizing::class_slices_max(big_class));
    static_assert(impl::sizing::page_blocks(big_class, big_slices) == big_blocks);

    void SetUp() override {
        // By the first allocation of a thread that ends: the host is told before any test's thread.
        std::thread{[] {
            void* const block = impl::heap::this_thread->allocate(1);
            impl::heap::this_thread->deallocate(block);
        }}.join();
        impl::heap::process.options = impl::heap::heap_options{};
        host() = host_record{};
        clean();
    }

    void TearDown() override {
        clean();
        EXPECT_EQ(impl::heap::measure_outside().blocks, 0U);
        EXPECT_EQ(impl::heap::process.space.counts().used_bytes, 0U) << "a page is lost";
        EXPECT_EQ(impl::heap::process.active_heaps.load(), active_before_);
        EXPECT_TRUE(host().misuses.empty()) << "a report that no test asked for";
        impl::heap::process.space.audit();
        impl::heap::process.options = impl::heap::heap_options{};
    }

    /// For tests that sample: the heaps of threads that ended may have planned another sample.
    static void forget_idle_heaps() {
        while (impl::heap::process.heaps.pop(impl::heap::process.idle_heaps) !=
               impl::base::node_index::none) {
        }
    }

    /// Gives back what only waits in bins, or in the heap of this thread itself.
    static void clean() {
        if (impl::heap::this_thread != &impl::heap::empty_heap) {
            impl::heap::this_thread->collect();
        }
        impl::heap::late_heap.leave();
        impl::heap::sweep_bins(impl::heap::sweep_scope::all_bins);
    }

    static impl::heap::page& home_of(void const* block) {
        impl::heap::page* const home = impl::heap::page_of(block);
        EXPECT_NE(home, nullptr);
        return *home;
    }

    static std::vector<void*> allocate(impl::heap::thread_heap& from, std::size_t bytes,
                                       std::size_t count) {
        std::vector<void*> blocks;
        for (std::size_t i = 0; i < count; ++i) {
            blocks.push_back(from.allocate(bytes));
            EXPECT_NE(blocks.back(), nullptr);
        }
        return blocks;
    }

    static void free_all(impl::heap::thread_heap& from, std::vector<void*>& blocks) {
        for (void* const block : blocks) {
            from.deallocate(block);
        }
        blocks.clear();
    }

    static std::size_t used_slices() {
        return impl::heap::process.space.counts().used_bytes / impl::sizing::slice_bytes;
    }

    /// The misuses reported since the last call.
    static std::vector<impl::heap::misuse> reported() { return std::exchange(host().misuses, {}); }

private:
    std::uint32_t active_before_ = impl::heap::process.active_heaps.load();
};

}  // namespace tarn::test
