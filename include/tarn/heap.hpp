// tarn/heap.hpp - heap: memory with a name, a limit and an end of its own, for any thread.
//
// Threads    any, but for construction and destruction of the object. Over memory that was given,
//            one at a time inside: others wait
// Always     A block never moves. destroy(), or the end of the object, frees all blocks at once;
//            no destructor runs. A deallocate() that another thread has begun by then does nothing,
//            if it has looked at its block; so let frees come to their end before.
//            Over the system: blocks lie in Tarn's pages and count in its statistics; tarn_free(),
//            and free() under libtarn.so, take them, too. Pages without blocks go back by
//            themselves, but for a few.
//            Over given memory: nothing is taken from anywhere else; the best hole is chosen, and
//            holes beside each other become one. Each block takes 8 bytes more, which lie before
//            it. After a fork in the midst of another thread's call the child can't use or end it.
// Errors     std::bad_alloc, from try_allocate() null: out of memory, or the limit;
//            std::invalid_argument: an alignment that is no power of two, given memory without room
//            for one block, a NUMA node below 0. Reported (option on_misuse: abort): what is freed
//            twice (as far as tarn_free() finds it; over given memory: always), in another heap or
//            after destroy(); where the report returns, nothing happens.
// Cost       over the system a lock that few threads share, some 35 ns a call; over given memory
//            one lock and O(log n) in the number of holes. Its end: a look at each page
// Source     docs/design/heaps.md
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <type_traits>

#include <tarn/detail/misuse.hpp>
#include <tarn/fit_heap.hpp>
#include <tarn/tarn.h>

namespace tarn {

struct heap_options {
    std::string_view name = {};         // cut to 31 bytes
    std::size_t limit_bytes = 0;        // of its pages, or of blocks in given memory; 0: none
    std::optional<int> numa_node = {};  // a wish; not for given memory
};

/// Bytes, where not said otherwise.
struct heap_statistics {
    std::uint64_t live_blocks = 0;      // a count
    std::uint64_t live_bytes = 0;       // of those, with rounding
    std::uint64_t held_bytes = 0;       // of its pages; of given memory: what live blocks take
    std::uint64_t held_peak_bytes = 0;  // so far
    std::uint64_t metadata_bytes = 0;   // over the system: beside held_bytes; else part of them
    std::uint64_t limit_bytes = 0;      // 0: none
    std::uint64_t refusals = 0;         // a count: allocations that the limit stopped, so far
    std::uint64_t given_bytes = 0;      // that can be used of given memory; 0: over the system
};

/// A block and the bytes that may be used of it.
struct heap_block {
    void* start = nullptr;
    std::size_t bytes = 0;
};

class heap final : public std::pmr::memory_resource {
public:
    explicit heap(heap_options const& options = {}) {
        set_name(options.name);
        tarn_heap_options wanted{};
        wanted.size = sizeof wanted;
        wanted.name = name_.data();
        wanted.limit_bytes = options.limit_bytes;
        if (options.numa_node) {
            if (*options.numa_node < 0) {
                throw std::invalid_argument{"tarn::heap: a NUMA node below 0"};
            }
            wanted.has_numa_node = 1;
            wanted.numa_node = *options.numa_node;
        }
        id_ = tarn_heap_create(&wanted);
        if (id_.id == 0) {
            throw std::bad_alloc{};
        }
    }

    /// In `memory` alone, which must outlive the heap.
    explicit heap(std::span<std::byte> memory, heap_options const& options = {}) {
        set_name(options.name);
        given_.emplace(memory);
        given_->limit_bytes = options.limit_bytes;
    }

    heap(heap const&) = delete;
    heap& operator=(heap const&) = delete;

    ~heap() override { destroy(); }

    // allocate(bytes, alignment) and deallocate(block, bytes, alignment) are the base's.
    using std::pmr::memory_resource::deallocate;

    /// Null where allocate() throws std::bad_alloc, and for an alignment that is no power of two.
    [[nodiscard]] void* try_allocate(std::size_t bytes,
                                     std::size_t alignment = natural_alignment) noexcept {
        if (!std::has_single_bit(alignment)) {
            return nullptr;
        }
        if (given_) {
            return use_given("allocate", nullptr, static_cast<void*>(nullptr), [&] {
                return given_->allocate(bytes, std::max(alignment, natural_alignment));
            });
        }
        return alignment <= natural_alignment ? tarn_heap_malloc(id_, bytes)
                                              : tarn_heap_aligned_alloc(id_, alignment, bytes);
    }

    /// The size given to deallocate() may be what was asked for, what is told here, or between.
    [[nodiscard]] heap_block allocate_at_least(std::size_t bytes,
                                               std::size_t alignment = natural_alignment) {
        void* const start = allocate(bytes, alignment);
        return {start, usable_size(start)};
    }

    /// Null is allowed.
    void deallocate(void* block) noexcept { give_back(block, any_size); }

    /// Makes a live block at least `bytes` long without moving it. False: that is not possible.
    [[nodiscard]] bool try_expand(void* block, std::size_t bytes) noexcept {
        if (given_) {
            return use_given("try_expand", block, false,
                             [&] { return given_->try_expand(block, bytes); });
        }
        return tarn_expand(block, bytes) != 0;
    }

    /// Whether `ptr` lies in this heap: inside a block or a page of it; over given memory: where a
    /// live block begins.
    [[nodiscard]] bool owns(void const* ptr) const noexcept {
        if (given_) {
            auto const guard = given_->look();
            return !given_->is_destroyed.load(std::memory_order_relaxed) && given_->fit.owns(ptr);
        }
        return id_.id != 0 && tarn_heap_of(ptr).id == id_.id;
    }

    /// Bytes that may be used of a live block.
    [[nodiscard]] std::size_t usable_size(void const* block) const noexcept {
        if (given_) {
            auto const guard = given_->look();
            return given_->fit.usable_size(block);
        }
        return tarn_malloc_usable_size(block);
    }

    /// Calls visit(void* start, std::size_t bytes) for each live block. Over the system it may use
    /// the heap, free the block too, and what others free meanwhile may be visited; over given
    /// memory it may not, which is reported, and others wait. It may not throw.
    template <class Visit>
    void for_each_block(Visit visit) {
        if (!given_) {
            auto const call = [](void* start, std::size_t bytes, void* context) {
                (*static_cast<Visit*>(context))(start, bytes);
                return 0;
            };
            tarn_heap_walk(id_, call, &visit);
            return;
        }
        use_given("for_each_block", nullptr, false, [&] {
            return given_->fit.for_each_block([&](std::byte* start, std::size_t bytes, bool live) {
                if (live) {
                    visit(static_cast<void*>(start), bytes);
                }
            });
        });
    }

    [[nodiscard]] heap_statistics statistics() const noexcept {
        if (given_) {
            auto const guard = given_->look();
            return given_->statistics();
        }
        tarn_heap_stats of{};
        of.size = sizeof of;
        if (tarn_heap_stats_get(id_, &of) != 0) {
            return {};
        }
        return {.live_blocks = of.live_blocks,
                .live_bytes = of.live_bytes,
                .held_bytes = of.held_bytes,
                .held_peak_bytes = of.held_peak_bytes,
                .metadata_bytes = of.metadata_bytes,
                .limit_bytes = of.limit_bytes,
                .refusals = of.limit_refusals,
                .given_bytes = 0};
    }

    [[nodiscard]] std::string_view name() const noexcept { return name_.data(); }

    /// 0: none. Below what is held: nothing new until enough was freed.
    void set_limit(std::size_t bytes) noexcept {
        if (given_) {
            auto const guard = given_->look();
            given_->limit_bytes = bytes;
        } else {
            static_cast<void>(tarn_heap_set_limit(id_, bytes));
        }
    }

    /// Gives free pages back. Returns their bytes; 0 over given memory.
    std::size_t trim() noexcept { return given_ ? 0 : tarn_heap_trim(id_); }

    /// Frees all blocks. What is asked of the heap afterwards is misuse.
    void destroy() noexcept {
        if (given_) {
            if (given_->is_inside()) {
                return report("destroy", nullptr, "called inside for_each_block()");
            }
            std::lock_guard const guard{given_->mutex};
            given_->is_destroyed.store(true, std::memory_order_relaxed);
            given_->fit.clear();
        } else if (!is_destroyed_.exchange(true, std::memory_order_relaxed)) {
            static_cast<void>(tarn_heap_destroy(id_));
        }
    }

    /// For the C interface; id 0 over given memory.
    [[nodiscard]] tarn_heap handle() const noexcept { return id_; }

private:
    static constexpr std::size_t natural_alignment = 16;
    static constexpr std::size_t any_size = ~std::size_t{0};

    /// A heap over memory that was given.
    struct given_memory {
        explicit given_memory(std::span<std::byte> memory) : fit{memory, {.policy = fit::best}} {}

        /// Whether the calling thread is inside already, from a visitor.
        [[nodiscard]] bool is_inside() const noexcept {
            // relaxed: equal only to what this thread itself has stored.
            return inside.load(std::memory_order_relaxed) == std::this_thread::get_id();
        }

        /// For who but looks: also from a visitor.
        [[nodiscard]] std::unique_lock<std::mutex> look() const {
            return is_inside() ? std::unique_lock<std::mutex>{} : std::unique_lock{mutex};
        }

        void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
            std::size_t const before = fit.figures().live_bytes;
            void* const block = fit.try_allocate(bytes, alignment);
            return block != nullptr && is_over(before) ? (refuse(block), nullptr) : block;
        }

        bool try_expand(void* block, std::size_t bytes) noexcept {
            std::size_t const before = fit.figures().live_bytes;
            std::size_t const old_bytes = fit.requested_size(block);
            if (!fit.try_expand(block, bytes)) {
                return false;
            }
            if (is_over(before)) {
                static_cast<void>(fit.try_reallocate(block, old_bytes));  // shrinks where it is
                ++refusals;
                return false;
            }
            return true;
        }

        [[nodiscard]] bool is_over(std::size_t live_before) const noexcept {
            std::size_t const now = fit.figures().live_bytes;
            return limit_bytes != 0 && now > limit_bytes && now > live_before;
        }

        void refuse(void* block) noexcept {
            static_cast<void>(fit.try_deallocate(block));
            ++refusals;
        }

        [[nodiscard]] heap_statistics statistics() const noexcept {
            fit_figures const now = fit.figures();
            return {.live_blocks = now.live_blocks,
                    .live_bytes = now.live_bytes,
                    .held_bytes = now.live_bytes,
                    .held_peak_bytes = now.peak_live_bytes,
                    .metadata_bytes = detail::fit_blocks::tag_bytes * now.live_blocks,
                    .limit_bytes = limit_bytes,
                    .refusals = refusals,
                    .given_bytes = now.total_bytes};
        }

        mutable std::mutex mutex;
        std::atomic<bool> is_destroyed{false};  // set under the lock
        std::atomic<std::thread::id> inside{};  // whoever holds the lock to use the heap
        fit_heap fit;
        std::size_t limit_bytes = 0;
        std::uint64_t refusals = 0;
    };

    void set_name(std::string_view name) noexcept { name.copy(name_.data(), name_.size() - 1); }

    void report(char const* operation, void const* block, char const* reason) const noexcept {
        detail::report({"heap", name_.data(), operation, block, reason});
    }

    /// Calls use() under the lock. `otherwise`: what it says where it may not.
    template <class Result, class Use>
    Result use_given(char const* operation, void const* block, Result otherwise, Use use) {
        if (given_->is_inside()) {
            report(operation, block, "called inside for_each_block()");
            return otherwise;
        }
        // relaxed: who calls after destroy() has returned sees what it stored.
        if (given_->is_destroyed.load(std::memory_order_relaxed)) {
            report(operation, block, "the heap was destroyed");
            return otherwise;
        }
        std::lock_guard const guard{given_->mutex};
        if (given_->is_destroyed.load(std::memory_order_relaxed)) {
            return otherwise;  // meanwhile
        }
        given_->inside.store(std::this_thread::get_id(), std::memory_order_relaxed);
        Result const result = use();
        given_->inside.store(std::thread::id{}, std::memory_order_relaxed);
        return result;
    }

    void give_back(void* block, std::size_t bytes) noexcept {
        if (!given_) {
            return tarn_heap_free(id_, block);
        }
        if (block == nullptr) {
            return;
        }
        fit_return const found = use_given("deallocate", block, fit_return::done, [&] {
            bool const is_size = bytes == any_size || (bytes >= given_->fit.requested_size(block) &&
                                                       bytes <= given_->fit.usable_size(block));
            return is_size || !given_->fit.owns(block) ? given_->fit.try_deallocate(block)
                                                       : fit_return::other_size;
        });
        if (found != fit_return::done) {
            report("deallocate", block, to_string(found));
        }
    }

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (!std::has_single_bit(alignment)) {
            throw std::invalid_argument{"tarn::heap: alignment is no power of two"};
        }
        void* const block = try_allocate(bytes, alignment);
        if (block == nullptr) {
            throw std::bad_alloc{};
        }
        return block;
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t /*alignment*/) override {
        give_back(block, bytes);
    }

    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    tarn_heap id_{0};
    std::atomic<bool> is_destroyed_{false};
    std::array<char, TARN_HEAP_NAME_MAX + 1> name_{};
    std::optional<given_memory> given_;
};

}  // namespace tarn
