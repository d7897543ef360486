// tarn/detail/lock_free_store.hpp - lock_free_store: what block_store is, for many threads at once;
// which store a pool has by its Sync.
//
// Threads    any; clear(), for_each() and the end: alone, but for threads that end meanwhile
// Always     As lock_free_blocks. Each thread has a magazine for each pool that it uses, found by
//            the pool's number among its own. When it ends, it leaves them, and the pool's other
//            threads take what is in them; a pool that has ended is only forgotten. After that a
//            thread still may allocate and free, without a magazine.
//            A pool with a bound below 65,536 blocks has no magazines, so that all of it is in
//            every thread's reach; in one with a larger bound, what other threads keep counts. With
//            option pools=plain all blocks are the upstream's, under a lock.
// Cost       as lock_free_blocks, and finding the magazine: a look in thread-local memory. The
//            first use by a thread: 1 KiB of tarn_malloc(); the end: the number of magazines
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory_resource>
#include <mutex>
#include <optional>

#include <tarn/detail/atomic_policy.hpp>
#include <tarn/detail/block_store.hpp>
#include <tarn/detail/lock_free_blocks.hpp>
#include <tarn/memory_resource.hpp>
#include <tarn/tarn.h>

namespace tarn {

/// Any thread may use the pool, and none waits for another but where memory comes from upstream.
struct lock_free {
    void lock() noexcept {}

    void unlock() noexcept {}
};

namespace detail {

using pool_magazine = magazine<std_atomics>;

/// The magazines of a thread. Usable before any constructor of it has run and after all
/// destructors.
class thread_magazines {
public:
    /// Null: the thread has none of this pool, or one that is to be looked for.
    [[nodiscard]] pool_magazine* near(std::uint64_t pool) const noexcept {
        entry const& here = near_[pool % near_.size()];
        return here.pool == pool ? here.mine : nullptr;
    }

    /// As near(), but looks everywhere. Forgets pools that have ended.
    [[nodiscard]] pool_magazine* find(std::uint64_t pool) noexcept {
        pool_magazine* found = nullptr;
        pool_magazine** link = &all_;
        while (*link != nullptr) {
            pool_magazine& each = **link;
            if (each.is_closed()) {
                *link = each.next_of_thread;
                pool_magazine::leave(each);
                continue;
            }
            found = each.pool == pool ? &each : found;
            link = &each.next_of_thread;
        }
        if (found != nullptr) {
            near_[pool % near_.size()] = {pool, found};
        }
        return found;
    }

    void add(pool_magazine& mine) noexcept {
        mine.next_of_thread = all_;
        all_ = &mine;
        near_[mine.pool % near_.size()] = {mine.pool, &mine};
    }

    /// Whether the thread will come to leave_all(), so that it may have magazines.
    [[nodiscard]] bool is_watched() noexcept {
        if (!is_over_) {
            static thread_local leaver last_act;
            last_act.watch();
        }
        return !is_over_;
    }

private:
    struct entry {
        std::uint64_t pool = 0;
        pool_magazine* mine = nullptr;
    };

    struct leaver {
        void watch() noexcept {}

        ~leaver();
    };

    void leave_all() noexcept {
        is_over_ = true;
        near_ = {};
        while (all_ != nullptr) {
            pool_magazine& each = *all_;
            all_ = each.next_of_thread;
            pool_magazine::leave(each);
        }
    }

    std::array<entry, 8> near_{};
    pool_magazine* all_ = nullptr;
    bool is_over_ = false;
};

inline constinit thread_local thread_magazines this_thread_magazines{};

inline thread_magazines::leaver::~leaver() { this_thread_magazines.leave_all(); }

/// Another number for each pool, in whatever library it is made.
[[nodiscard]] inline std::uint64_t next_pool_serial() noexcept {
    static constinit std::atomic<std::uint64_t> last{0};
    std::uint64_t const here = reinterpret_cast<std::uintptr_t>(&last);
    // Multiples of an odd number are apart, and so are addresses.
    return (here << 32 ^ here >> 32) + last.fetch_add(1, std::memory_order_relaxed) + 1;
}

class lock_free_store {
public:
    static constexpr std::size_t unbounded = block_store::unbounded;

    lock_free_store(block_shape shape, std::size_t blocks_most, std::pmr::memory_resource* upstream)
        : blocks_{shape, blocks_most, next_pool_serial(), upstream, malloc_resource()},
          has_magazines_{blocks_most > exact_bound_most} {
        if (tarn_pools_are_plain() != 0) {
            has_magazines_ = false;
            plain_.emplace(shape, blocks_most, upstream);
        }
    }

    /// Null: the bound is met. std::bad_alloc of the upstream's passes through.
    template <std::size_t Bytes = 0>
    [[nodiscard]] void* allocate(fixed_shape<Bytes> /*shape*/ = {}) {
        pool_magazine* const mine = near();
        return mine != nullptr ? blocks_.allocate(*mine) : allocate_slow();
    }

    /// Whether `ptr`, which may be any, is a block to release(). If not, judge() knows why.
    template <std::size_t Bytes = 0>
    [[nodiscard]] bool accepts(void const* ptr, fixed_shape<Bytes> /*shape*/ = {}) const noexcept {
        return judge(ptr) == block_verdict::fine;
    }

    /// `ptr`: accepts() was true, and nothing has happened to it since.
    template <std::size_t Bytes = 0>
    void release(void* ptr, fixed_shape<Bytes> /*shape*/ = {}) noexcept {
        pool_magazine* const mine = near();
        mine != nullptr ? blocks_.release(*mine, ptr) : release_slow(ptr);
    }

    /// The same where judge() found it fine.
    void release_judged(void* ptr) noexcept { release(ptr); }

    /// From here on what is held is said there, all of it as live; until the store's end.
    void tell(tarn_owner* owner) noexcept { plain_ ? plain_->tell(owner) : blocks_.tell(owner); }

    /// Looks at a pointer that may be any.
    [[nodiscard]] block_verdict judge(void const* ptr) const noexcept {
        pool_magazine* const mine = near();
        return mine != nullptr ? blocks_.judge(*mine, ptr) : judge_slow(ptr);
    }

    /// What came from upstream stays until clear() or the end.
    std::size_t trim() noexcept { return 0; }

    void clear() noexcept { plain_ ? plain_->clear() : blocks_.clear(); }

    [[nodiscard]] std::size_t live() const noexcept {
        if (plain_) {
            std::lock_guard const guard{plain_mutex_};
            return plain_->live();
        }
        return blocks_.live();
    }

    [[nodiscard]] std::size_t held_bytes() const noexcept {
        if (plain_) {
            std::lock_guard const guard{plain_mutex_};
            return plain_->held_bytes();
        }
        return blocks_.held_bytes();
    }

    template <class Visit>
    void for_each(Visit visit) {
        plain_ ? plain_->for_each(visit) : blocks_.for_each(visit);
    }

private:
    [[nodiscard]] pool_magazine* near() const noexcept {
        return this_thread_magazines.near(blocks_.serial());
    }

    /// The thread's magazine, where near() does not know it. Null: it is to have none.
    [[nodiscard]] pool_magazine* enter() noexcept {
        if (!has_magazines_ || !this_thread_magazines.is_watched()) {
            return nullptr;
        }
        pool_magazine* mine = this_thread_magazines.find(blocks_.serial());
        if (mine == nullptr) {
            mine = blocks_.join();
            if (mine != nullptr) {
                this_thread_magazines.add(*mine);
            }
        }
        return mine;
    }

    [[gnu::noinline]] void* allocate_slow() {
        if (plain_) {
            std::lock_guard const guard{plain_mutex_};
            return plain_->allocate();
        }
        pool_magazine* const mine = enter();
        return mine != nullptr ? blocks_.allocate(*mine) : blocks_.allocate();
    }

    [[gnu::noinline]] void release_slow(void* ptr) noexcept {
        if (plain_) {
            std::lock_guard const guard{plain_mutex_};
            return plain_->release_judged(ptr);
        }
        pool_magazine* const mine = enter();
        mine != nullptr ? blocks_.release(*mine, ptr) : blocks_.release(ptr);
    }

    [[gnu::noinline]] block_verdict judge_slow(void const* ptr) const noexcept {
        if (plain_) {
            std::lock_guard const guard{plain_mutex_};
            return plain_->judge(ptr);
        }
        return blocks_.judge(ptr);
    }

    // Up to here a bound is one to the block: beyond, 64 blocks that a thread keeps are a
    // thousandth.
    static constexpr std::size_t exact_bound_most = 65'535;

    lock_free_blocks<std_atomics, std::mutex> blocks_;
    bool has_magazines_;
    mutable std::mutex plain_mutex_;
    std::optional<block_store> plain_;
};

/// What a pool keeps its blocks in.
template <class Sync>
struct store_for {
    using type = block_store;
};

template <>
struct store_for<lock_free> {
    using type = lock_free_store;
};

}  // namespace detail
}  // namespace tarn
