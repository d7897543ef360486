// base/ranked_mutex.hpp - ranked_mutex<Rank, Futex>: a lock of one word with a place in the order.
//
// Threads    any. Not recursive; not for signal handlers.
// Always     a thread takes locks in rising rank; checked builds (level >= 1) stop at the first
//            acquisition out of order, so a deadlock is found without being met.
// Fork       lock() before fork and unlock() in parent and child is allowed: the word carries no
//            thread identity. Between them the forking thread is lock_holder, and passes: other
//            libraries' fork handlers may allocate.
// Cost       uncontended: one atomic exchange to lock, one to unlock. Contended: spins briefly,
//            then sleeps in Futex::wait. Three states as in U. Drepper, "Futexes are tricky".
#pragma once

#include <atomic>
#include <cerrno>
#include <concepts>
#include <cstdint>

#include "base/attributes.hpp"
#include "base/check.hpp"
#include "base/thread_annotations.hpp"

namespace tarn::impl::base {

/// Every lock of the core, in the order in which they may be taken.
enum class lock_rank : std::uint8_t {
    checks = 2,         // whoever looks at checked blocks that are not his
    quarantine = 3,     // checked blocks that were freed
    slab = 4,           // slots of checked blocks that are free
    block_records = 5,  // new records of such blocks
    owners = 6,         // the list of pools, regions and heaps
    late_heap = 10,     // the heap of threads that are past their exit hook
    scavenging = 15,    // a pass that gives memory back, system calls included
    heap_making = 16,   // heaps of the program come, grow lanes and go
    heap_lane = 17,     // what one thread at a time uses of such a heap
    adoption = 20,      // the sweep of vanished threads' pages
    space = 30,         // runs of slices
    heap_records = 40,  // new records of thread heaps
    page_records = 50,  // new page descriptors
    lane_records = 51,  // new lanes
    user_heap_records = 52,
    state_records = 53,  // new records of the states of blocks
    cache_records = 54,  // new records of block caches
    shm_gate = 59,       // files of shared segments that have no client yet, or no more
    shm_repair = 60,     // what one thread at a time does for a shared segment
    shm_clients = 61     // attachments of shared segments that this process has
};

// clang-format off
template <class F>
concept futex = requires(std::atomic<std::uint32_t>& word, std::uint32_t expected) {
    { F::wait(word, expected) } noexcept;
    { F::wake_one(word) } noexcept;
};

// clang-format on

// initial-exec for held_ranks: touching it must never call the loader, which may allocate - and so
// come back here.
#if TARN_CHECK_LEVEL >= 1
#if defined(TARN_TLS_MODEL_DYNAMIC) && TARN_TLS_MODEL_DYNAMIC
#define TARN_RANKS_MODEL
#else
#define TARN_RANKS_MODEL __attribute__((tls_model("initial-exec")))
#endif

/// Ranks held by this thread, a bit per rank.
inline thread_local constinit std::uint64_t held_ranks TARN_RANKS_MODEL = 0;
#endif

/// The thread that holds every lock for a fork, known by the address of its errno; null: none.
TARN_HIDDEN inline constinit std::atomic<int const*> lock_holder{nullptr};

template <lock_rank Rank, futex Futex>
class TARN_CAPABILITY("mutex") ranked_mutex {
public:
    constexpr ranked_mutex() noexcept = default;
    ranked_mutex(ranked_mutex const&) = delete;
    ranked_mutex& operator=(ranked_mutex const&) = delete;

    void lock() noexcept TARN_ACQUIRE() {
        if (is_held_for_fork()) [[unlikely]] {
            return;
        }
        note_taken();
        lock_unranked();
    }

    /// The same for one of several locks of a rank that only this thread wants to hold together.
    void lock_unranked() noexcept TARN_ACQUIRE() {
        if (!try_take()) [[unlikely]] {
            lock_slow();
        }
    }

    void unlock_unranked() noexcept TARN_RELEASE() {
        // release: pairs with the acquire in lock() and lock_slow().
        if (word_.exchange(state_free, std::memory_order_release) == state_waited) [[unlikely]] {
            Futex::wake_one(word_);
        }
    }

    /// Does not wait. True: the caller holds the lock.
    [[nodiscard]] bool try_lock() noexcept TARN_TRY_ACQUIRE(true) {
        if (is_held_for_fork()) [[unlikely]] {
            return true;
        }
        if (!try_take()) {
            return false;
        }
        note_taken();
        return true;
    }

    void unlock() noexcept TARN_RELEASE() {
        if (is_held_for_fork()) [[unlikely]] {
            return;
        }
        note_given();
        unlock_unranked();
    }

private:
    static constexpr std::uint32_t state_free = 0;
    static constexpr std::uint32_t state_held = 1;
    static constexpr std::uint32_t state_waited = 2;
    static constexpr int spins_max = 64;

    static bool is_held_for_fork() noexcept {
        // relaxed: equal only to what this thread itself has stored.
        int const* const holder = lock_holder.load(std::memory_order_relaxed);
        return holder != nullptr && holder == &errno;
    }

    bool try_take() noexcept {
        std::uint32_t expected = state_free;
        // acquire: pairs with the release in unlock().
        return word_.compare_exchange_strong(expected, state_held, std::memory_order_acquire,
                                             std::memory_order_relaxed);
    }

    TARN_COLD void lock_slow() noexcept {
        for (int spin = 0; spin < spins_max; ++spin) {
            std::uint32_t expected = state_free;
            if (word_.load(std::memory_order_relaxed) == state_free &&
                word_.compare_exchange_weak(expected, state_held, std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
                return;
            }
        }
        while (word_.exchange(state_waited, std::memory_order_acquire) != state_free) {
            Futex::wait(word_, state_waited);
        }
    }

#if TARN_CHECK_LEVEL >= 1
    static_assert(static_cast<unsigned>(Rank) < 64);  // a bit of held_ranks
    static constexpr std::uint64_t bit = std::uint64_t{1} << static_cast<unsigned>(Rank);

    static void note_taken() noexcept {
        TARN_CHECK(held_ranks < bit);  // else: locks taken out of order
        held_ranks |= bit;
    }

    static void note_given() noexcept {
        TARN_CHECK((held_ranks & bit) != 0);  // else: this thread does not hold the lock
        held_ranks &= ~bit;
    }
#else
    static void note_taken() noexcept {}

    static void note_given() noexcept {}
#endif

    std::atomic<std::uint32_t> word_{state_free};
};

/// Holds a lock for a scope.
template <class Mutex>
class TARN_SCOPED_CAPABILITY lock_guard {
public:
    explicit lock_guard(Mutex& mutex) noexcept TARN_ACQUIRE(mutex) : mutex_{mutex} {
        mutex_.lock();
    }

    ~lock_guard() TARN_RELEASE() { mutex_.unlock(); }

    lock_guard(lock_guard const&) = delete;
    lock_guard& operator=(lock_guard const&) = delete;

private:
    Mutex& mutex_;
};

}  // namespace tarn::impl::base
