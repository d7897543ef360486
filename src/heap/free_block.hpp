// heap/free_block.hpp - how a free block is linked: plainly, or sealed (mode hardened).
//
// Threads    the state is written once, before the first operation; the rest: whoever holds the
//            block
// Always     plain: the first word is the next block's address. Sealed: the first word is that
//            address mixed with a secret and the block's own, the second a mark of both. Whoever
//            writes into a freed block without knowing the secret makes a mark that is wrong, and a
//            link that leads nowhere. So a list is read by read_link() alone, but on fast paths,
//            whose lists are empty while hardening is on.
//            A canary is a word that follows from the secret and the block's address, none of its
//            bytes zero: what lies behind the bytes that were asked for (heap/hardening.hpp).
// Cost       plain: a branch. Sealed: two multiplications
// Source     docs/design/hardened.md
// Tests      unit/heap/free_block_test.cpp
#pragma once

#include <atomic>
#include <cstdint>
#include <new>

#include "base/attributes.hpp"
#include "base/bits.hpp"

namespace tarn::impl::heap {

/// A free block: its first word links it.
struct block {
    block* next;
};

/// The same, sealed.
struct sealed_block {
    std::uint64_t link;
    std::uint64_t mark;
};

/// A choice of the process. Relaxed: whoever has a block knows what was chosen before it was made.
class chosen_once {
public:
    constexpr chosen_once() noexcept = default;

    TARN_HOT explicit operator bool() const noexcept {
        return is_on_.load(std::memory_order_relaxed);
    }

    void set(bool is_on) noexcept { is_on_.store(is_on, std::memory_order_relaxed); }

private:
    std::atomic<bool> is_on_{false};
};

/// Zero, but in mode hardened. Set before the first operation of the process.
struct hardening_state {
    chosen_once on;
    bool zero_on_free = false;
    std::uint64_t mix_key = 0;
    std::uint64_t odd_key = 0;
    std::uint64_t mark_key = 0;
    std::uint64_t canary_key = 0;
    std::uint64_t ones = 0;        // in each byte: no byte of a canary is zero
    std::uint64_t alone_mark = 0;  // of no next block, before it is mixed with an address

    void set_keys(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d) noexcept {
        mix_key = a;
        odd_key = b | 1;
        mark_key = c;
        canary_key = d;
        ones = 0x0101'0101'0101'0101;
        alone_mark = mark_key * odd_key;
    }
};

TARN_HIDDEN inline constinit hardening_state hardening;

/// What an address is mixed to. Its upper bits depend on all of the address: they are what lies
/// behind blocks that have little slack.
TARN_HOT std::uint64_t mix(void const* at) noexcept {
    return (base::address_of(at) ^ hardening.mix_key) * hardening.odd_key;
}

TARN_HOT std::uint64_t canary_of_mixed(std::uint64_t mixed) noexcept {
    return (mixed ^ hardening.canary_key) | hardening.ones;
}

/// The canary of the block at `at`.
[[nodiscard]] inline std::uint64_t canary_of(void const* at) noexcept {
    return canary_of_mixed(mix(at));
}

TARN_HOT std::uint64_t mark_of(block const* next, std::uint64_t mixed) noexcept {
    return ((base::address_of(next) ^ hardening.mark_key) * hardening.odd_key) ^ mixed;
}

TARN_HOT void seal(void* at, block* next, std::uint64_t mixed) noexcept {
    ::new (at) sealed_block{.link = base::address_of(next) ^ mixed, .mark = mark_of(next, mixed)};
}

TARN_HOT block* unseal(sealed_block const& of, std::uint64_t mixed) noexcept {
    return reinterpret_cast<block*>(base::pointer_to(of.link ^ mixed));
}

/// A free block that no link leads to or from, in a block_cache.
TARN_HOT void seal_alone(void* at, std::uint64_t mixed) noexcept {
    ::new (at) sealed_block{.link = mixed, .mark = hardening.alone_mark ^ mixed};
}

[[nodiscard]] TARN_HOT bool is_sealed_alone(block const* at, std::uint64_t mixed) noexcept {
    auto const& sealed = *reinterpret_cast<sealed_block const*>(at);
    return ((sealed.link ^ mixed) | (sealed.mark ^ mixed ^ hardening.alone_mark)) == 0;
}

/// Whether nobody wrote into the words of a sealed block that a link leads to.
[[nodiscard]] TARN_HOT bool is_sealed_whole(block const* at, std::uint64_t mixed) noexcept {
    auto const& sealed = *reinterpret_cast<sealed_block const*>(at);
    return sealed.mark == mark_of(unseal(sealed, mixed), mixed);
}

/// Makes free memory a block that `next` follows.
inline void write_link(void* at, block* next) noexcept {
    if (hardening.on) [[unlikely]] {
        seal(at, next, mix(at));
    } else {
        ::new (at) block{next};
    }
}

/// What follows the block at `at`, of which `copy` is a copy. Where somebody wrote into it:
/// anything.
[[nodiscard]] inline block* read_link(block const* copy, void const* at) noexcept {
    if (hardening.on) [[unlikely]] {
        return unseal(*reinterpret_cast<sealed_block const*>(copy), mix(at));
    }
    return copy->next;
}

[[nodiscard]] inline block* read_link(block const* at) noexcept { return read_link(at, at); }

/// Whether nobody wrote into the first two words of a free block. Plain ones can't tell.
[[nodiscard]] inline bool is_whole(block const* at) noexcept {
    if (!hardening.on) [[likely]] {
        return true;
    }
    return is_sealed_whole(at, mix(at));
}

}  // namespace tarn::impl::heap
