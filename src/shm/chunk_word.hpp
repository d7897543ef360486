// shm/chunk_word.hpp - chunk_word: the one word of truth about a chunk.
//
// Threads    any thread of any process
// Always     Bits 0 to 47: the clients that hold it. Bits 48 to 63: its generation, one more at
//            each allocation. Since both are one word, one instruction decides whether a reference
//            still leads to what it was given out for.
// Source     docs/design/shm.md
#pragma once

#include <atomic>
#include <cstdint>

#include "tarn/detail/atomic_policy.hpp"

namespace tarn::impl::shm {

inline constexpr unsigned clients_most = 48;

/// Number of a client's slot, below clients_most.
enum class client_number : std::uint32_t {};
enum class generation : std::uint16_t {};

inline constexpr std::uint64_t holder_bits = (std::uint64_t{1} << clients_most) - 1;

constexpr std::uint64_t bit_of(client_number client) noexcept {
    return std::uint64_t{1} << static_cast<unsigned>(client);
}

constexpr std::uint64_t holders_of(std::uint64_t word) noexcept { return word & holder_bits; }

constexpr generation generation_of(std::uint64_t word) noexcept {
    return static_cast<generation>(word >> clients_most);
}

template <tarn::detail::atomic_policy Atomics>
class chunk_word {
public:
    /// False: somebody holds it, or did until now.
    bool try_claim(client_number me, generation& now) noexcept {
        std::uint64_t seen = word_.load(std::memory_order_seq_cst);
        if (holders_of(seen) != 0) {
            return false;
        }
        now = static_cast<generation>(static_cast<std::uint16_t>((seen >> clients_most) + 1));
        std::uint64_t const wanted = (static_cast<std::uint64_t>(now) << clients_most) | bit_of(me);
        // acquire: pairs with drop() of the last holder, whose use of the chunk is over.
        return word_.compare_exchange_strong(seen, wanted, std::memory_order_acq_rel,
                                             std::memory_order_relaxed);
    }

    /// Where somebody holds it, and it is of this generation. False: it is not, or changes all the
    /// time, which only a broken process makes it do. Nothing is left behind.
    bool try_add(client_number me, generation expected) noexcept {
        std::uint64_t seen = word_.load(std::memory_order_seq_cst);
        for (int tries = 0; tries < add_tries; ++tries) {
            if (holders_of(seen) == 0 || generation_of(seen) != expected) {
                return false;
            }
            // acq_rel: what the holders wrote is seen.
            if (word_.compare_exchange_weak(seen, seen | bit_of(me), std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) {
                return true;
            }
        }
        return false;
    }

    /// The word before. All use of the chunk was before, and that of earlier holders. seq_cst: a
    /// look at the hint follows (hint_bitmap.hpp).
    std::uint64_t drop(client_number me) noexcept {
        return word_.fetch_and(~bit_of(me), std::memory_order_seq_cst);
    }

    [[nodiscard]] std::uint64_t load() const noexcept {
        return word_.load(std::memory_order_seq_cst);
    }

private:
    static constexpr int add_tries = 1 << 16;

    typename Atomics::template atomic<std::uint64_t> word_{0};
};

}  // namespace tarn::impl::shm
