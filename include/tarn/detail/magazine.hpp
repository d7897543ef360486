// tarn/detail/magazine.hpp - magazine: free blocks that one thread keeps of one pool.
//
// Threads    contents: the thread that holds it. state: two parties, a thread and the pool, each
//            of which may end first.
// Protocol   held    a thread uses it
//            left    the thread has ended, or parted with it: whoever turns it to held by one
//                    compare-exchange has it, with its blocks
//            closed  the pool has ended, and its blocks are gone
//            Both ends are one exchange. Who finds that the other came first gives the magazine's
//            memory back; who came first never looks at it again. So the end of a thread touches
//            nothing of the pool's, which may be gone, nor the end of a pool a thread's.
// Always     a magazine is in its pool's list from join to the pool's end, whoever holds it
// Source     docs/design/lockfree.md, tests/model/pool_end.pml; magazines: J. Bonwick and J. Adams,
//            "Magazines and Vmem", 2001
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>

#include <tarn/detail/atomic_policy.hpp>

namespace tarn::detail {

enum class hold_of_magazine : std::uint8_t { held, left, closed };

inline constexpr std::uint32_t magazine_blocks_most = 64;

template <atomic_policy Atomics>
struct alignas(64) magazine {
    using hold = hold_of_magazine;

    // Written by the holder; read by others for size() alone.
    typename Atomics::template atomic<std::uint32_t> count{0};
    std::uint64_t pool = 0;         // its serial number
    std::uintptr_t near_begin = 0;  // blocks of the chunk that a pointer was last found in
    std::size_t near_bytes = 0;
    magazine* next_of_thread = nullptr;  // the holder's list
    magazine* next_of_pool = nullptr;    // set before others see the magazine
    std::pmr::memory_resource* home = nullptr;
    typename Atomics::template atomic<hold> state{hold::held};
    void* blocks[magazine_blocks_most];

    /// The thread's end. Afterwards the magazine is not to be touched.
    static void leave(magazine& mine) noexcept {
        // release: pairs with the acquire in try_take(), for the blocks. acquire: pairs with the
        // release in close(), whose accesses come before the memory goes.
        if (mine.state.exchange(hold::left, std::memory_order_acq_rel) == hold::closed) {
            give_back(mine);
        }
    }

    /// The pool's end. The same.
    static void close(magazine& its) noexcept {
        // acquire: pairs with the release in leave(). release: with the acquire in leave() and in
        // is_closed().
        if (its.state.exchange(hold::closed, std::memory_order_acq_rel) == hold::left) {
            give_back(its);
        }
    }

    /// By a thread that uses the pool, so that it cannot be closed meanwhile.
    [[nodiscard]] bool try_take() noexcept {
        hold seen = hold::left;
        // acquire: pairs with the release in leave() and put_back().
        return state.compare_exchange_strong(seen, hold::held, std::memory_order_acquire,
                                             std::memory_order_relaxed);
    }

    /// By a thread that took it, and uses the pool.
    void put_back() noexcept {
        // release: pairs with the acquire in try_take().
        state.store(hold::left, std::memory_order_release);
    }

    [[nodiscard]] bool is_left() const noexcept {
        return state.load(std::memory_order_relaxed) == hold::left;  // a hint
    }

    /// For its holder: the pool has ended, and leave() will give the memory back.
    [[nodiscard]] bool is_closed() const noexcept {
        return state.load(std::memory_order_acquire) == hold::closed;
    }

private:
    static void give_back(magazine& gone) noexcept {
        std::pmr::memory_resource* const to = gone.home;
        std::destroy_at(&gone);
        to->deallocate(&gone, sizeof(magazine), alignof(magazine));
    }
};

}  // namespace tarn::detail
