// debug/guard.hpp - guard bytes: what lies around a block, and whether it still does.
//
// Threads    stateless
// Cost       as memset and a comparison of words
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tarn::impl::debug {

/// What guard bytes read as: one byte for all, or, keyed, bytes that differ from block to block, so
/// that a guard copied from elsewhere does not pass.
struct guard_pattern {
    std::byte byte{0xAB};
    std::uint64_t key = 0;  // 0: not keyed

    /// The eight bytes for the block at `user`; all its guards repeat them, from addresses that are
    /// multiples of 8 on.
    [[nodiscard]] std::uint64_t word_of(void const* user) const noexcept {
        if (key == 0) [[likely]] {
            return static_cast<std::uint64_t>(byte) * 0x0101010101010101U;
        }
        // Finaliser of MurmurHash3 (A. Appleby): neighbours get unlike words.
        auto mixed = reinterpret_cast<std::uintptr_t>(user) ^ key;
        mixed = (mixed ^ mixed >> 33) * 0xff51afd7ed558ccdU;
        mixed = (mixed ^ mixed >> 33) * 0xc4ceb9fe1a85ec53U;
        // No byte is zero, the one that strings too long by one write.
        return (mixed ^ mixed >> 33) | 0x0101010101010101U;
    }
};

/// Fills memory with a repeated word, as of addresses that are multiples of 8.
inline void fill_words(std::byte* from, std::size_t bytes, std::uint64_t word) noexcept {
    std::size_t const skew = reinterpret_cast<std::uintptr_t>(from) % 8;
    if (skew != 0) {
        word = word >> 8 * skew | word << (64 - 8 * skew);
    }
    for (; bytes >= 8; bytes -= 8, from += 8) {
        std::memcpy(from, &word, 8);
    }
    std::memcpy(from, &word, bytes);
}

/// Bytes of a range that are not as they were left.
struct damage {
    std::size_t bytes = 0;  // so many; 0: none
    std::size_t first = 0;  // offsets from where the range begins
    std::size_t last = 0;
};

/// How much of memory filled with fill_words() reads otherwise.
[[nodiscard]] inline damage find_damage(std::byte const* from, std::size_t bytes,
                                        std::uint64_t word) noexcept {
    std::size_t const skew = reinterpret_cast<std::uintptr_t>(from) % 8;
    std::uint64_t const turned = skew == 0 ? word : word >> 8 * skew | word << (64 - 8 * skew);
    std::size_t intact = 0;
    for (std::uint64_t seen = 0; intact + 8 <= bytes; intact += 8) {
        std::memcpy(&seen, from + intact, 8);
        if (seen != turned) {
            break;
        }
    }
    damage found;
    for (std::size_t i = intact; i < bytes; ++i) {
        auto const expected = static_cast<std::byte>(turned >> 8 * (i % 8));
        if (from[i] != expected) {
            found.first = found.bytes == 0 ? i : found.first;
            found.last = i;
            ++found.bytes;
        }
    }
    return found;
}

}  // namespace tarn::impl::debug
