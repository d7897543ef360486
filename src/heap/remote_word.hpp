// heap/remote_word.hpp - the one atomic word through which threads that do not own a page reach it.
//
// Layout     bits 0-1   state: held, adrift or binned
//            bits 4-47  first block of the remote list (blocks are 16-byte aligned), 0: none
//            bits 48-63 number of blocks in that list
//            (bits 2-3 unused)
// States     held     the page has an owner, or one thread is handing it over
//            adrift   full, list empty, in no list anywhere: whoever frees into it first turns it
//                     to held by one compare-exchange and owns it
//            binned   partly free and in the shared stack of its class: whoever pops it owns it
// Always     only try_push() changes a word in another thread's hands; adrift implies an empty list
// Source     docs/design/page-ownership.md holds the protocol and why it is safe; the model and
//            its mutants are in tests/model; tests/lockfree runs this code in all interleavings,
//            for which it takes its atomics as a parameter
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/bits.hpp"
#include "base/check.hpp"

#include "tarn/detail/atomic_policy.hpp"

#include "heap/free_block.hpp"

namespace tarn::impl::heap {

enum class hold : std::uint8_t { held = 0, adrift = 1, binned = 2 };

/// A value of the word.
struct remote_state {
    std::uint64_t bits = 0;

    static constexpr std::uint64_t hold_mask = 3;
    static constexpr std::uint64_t block_mask = 0x0000'ffff'ffff'fff0;
    static constexpr unsigned count_shift = 48;

    static constexpr remote_state of(hold how) noexcept {
        return {static_cast<std::uint64_t>(how)};
    }

    static remote_state of(hold how, block* list, std::uint64_t count) noexcept {
        return {static_cast<std::uint64_t>(how) | base::address_of(list) | count << count_shift};
    }

    [[nodiscard]] hold how() const noexcept { return static_cast<hold>(bits & hold_mask); }

    [[nodiscard]] block* list() const noexcept {
        return reinterpret_cast<block*>(base::pointer_to(bits & block_mask));
    }

    [[nodiscard]] std::uint32_t count() const noexcept {
        return static_cast<std::uint32_t>(bits >> count_shift);
    }
};

template <tarn::detail::atomic_policy Atomics>
class basic_remote_word {
public:
    [[nodiscard]] remote_state load() const noexcept {
        return {bits_.load(std::memory_order_relaxed)};
    }

    /// Puts a word of a page that no other thread knows into `how`.
    void reset(hold how) noexcept {
        bits_.store(remote_state::of(how).bits, std::memory_order_relaxed);
    }

    /// A full page leaves its owner. False: blocks came back meanwhile, and it stays.
    [[nodiscard]] bool set_adrift() noexcept {
        std::uint64_t expected = remote_state::of(hold::held).bits;
        // release: pairs with the acquire in try_claim(); the claimer sees the page as left.
        return bits_.compare_exchange_strong(expected, remote_state::of(hold::adrift).bits,
                                             std::memory_order_release, std::memory_order_relaxed);
    }

    /// Takes an adrift page. False: somebody else did.
    [[nodiscard]] bool try_claim() noexcept {
        std::uint64_t expected = remote_state::of(hold::adrift).bits;
        return bits_.compare_exchange_strong(expected, remote_state::of(hold::held).bits,
                                             std::memory_order_acquire, std::memory_order_relaxed);
    }

    /// The owner is about to push the page on its bin's stack; the list stays.
    void set_binned() noexcept {
        // The stack's push publishes the page; this bit only has to be set before it.
        bits_.fetch_or(remote_state::of(hold::binned).bits, std::memory_order_relaxed);
    }

    /// As load(), for an owner that follows the list's links.
    [[nodiscard]] remote_state look() const noexcept {
        // acquire: pairs with the release in try_push(); makes each ->next of the list visible.
        return {bits_.load(std::memory_order_acquire)};
    }

    /// The owner takes the list of a word last seen as `seen`, also the first time after the page
    /// left its bin. False: more was posted, and `seen` is what it is now. The owner writes down
    /// where the list belongs *before* it asks: a thread that vanishes in fork then loses none.
    [[nodiscard]] bool try_take(remote_state& seen) noexcept {
        // Only the owner takes, so an equal word lists the same blocks (no ABA).
        // acquire: as in look(). release: what was written down comes first.
        return bits_.compare_exchange_weak(seen.bits, remote_state::of(hold::held).bits,
                                           std::memory_order_acq_rel, std::memory_order_acquire);
    }

    /// The same at once, where nobody posts any more or the list is to be dropped.
    [[nodiscard]] remote_state take() noexcept {
        return {bits_.exchange(remote_state::of(hold::held).bits, std::memory_order_acquire)};
    }

    /// For a block with a page of its own: the first caller gets held, every later one adrift.
    [[nodiscard]] remote_state mark_freed() noexcept {
        return {bits_.exchange(remote_state::of(hold::adrift).bits, std::memory_order_acq_rel)};
    }

    /// Adds a block to a word last seen as `seen`, which must not be adrift. False: it changed,
    /// and `seen` is what it is now.
    [[nodiscard]] bool try_push(remote_state& seen, block* freed) noexcept {
        write_link(freed, seen.list());
        return try_post(seen, freed);
    }

    /// The same where blocks have states: `freed` is counted, and linked to nothing.
    [[nodiscard]] bool try_post(remote_state& seen, block* freed) noexcept {
        TARN_ASSERT(seen.how() != hold::adrift);
        remote_state const wanted = remote_state::of(seen.how(), freed, seen.count() + 1);
        // release: pairs with the acquire in look() and try_take().
        return bits_.compare_exchange_weak(seen.bits, wanted.bits, std::memory_order_release,
                                           std::memory_order_relaxed);
    }

private:
    typename Atomics::template atomic<std::uint64_t> bits_{0};
};

using remote_word = basic_remote_word<tarn::detail::std_atomics>;

}  // namespace tarn::impl::heap
