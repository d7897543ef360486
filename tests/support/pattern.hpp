// support/pattern.hpp - fills blocks with a pattern that a seed decides, and finds what changed it.
//
// Always     the byte at an offset depends on seed and offset alone, so a block may move and be
// cut.
//            All of the first dense_bytes is written, then one word per sparse_step, and the end:
//            an untouched giant block stays cheap.
// Cost       one multiplication per word written
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "support/random.hpp"

namespace tarn::test {

inline constexpr std::size_t intact = ~std::size_t{0};  // "no byte is wrong"

namespace detail {

inline constexpr std::size_t word_bytes = sizeof(std::uint64_t);
inline constexpr std::size_t dense_bytes = 131'072;
inline constexpr std::size_t sparse_step = 16'384;
inline constexpr std::size_t end_bytes = 64;

constexpr std::uint64_t pattern_word(std::uint64_t seed, std::size_t offset) noexcept {
    return (seed + offset / word_bytes) * golden_ratio_bits ^ (seed >> 32);
}

// In both, `first` is a multiple of word_bytes. Whole words are a loop of their own: their size is
// then known to the compiler, and no call of memcpy or memcmp is left.

inline void fill_range(std::byte* block, std::size_t first, std::size_t last,
                       std::uint64_t seed) noexcept {
    for (; first + word_bytes <= last; first += word_bytes) {
        std::uint64_t const word = pattern_word(seed, first);
        std::memcpy(block + first, &word, word_bytes);
    }
    if (first < last) {
        std::uint64_t const word = pattern_word(seed, first);
        std::memcpy(block + first, &word, last - first);
    }
}

/// The first byte in [first, last) that is not the pattern's; at most one word is looked at.
inline std::size_t first_wrong_in_word(std::byte const* block, std::size_t first, std::size_t last,
                                       std::uint64_t seed) noexcept {
    std::byte expected[word_bytes];
    std::uint64_t const word = pattern_word(seed, first);
    std::memcpy(expected, &word, word_bytes);
    for (std::size_t i = 0; i < word_bytes && first + i < last; ++i) {
        if (block[first + i] != expected[i]) {
            return first + i;
        }
    }
    return intact;
}

inline std::size_t first_wrong_in_range(std::byte const* block, std::size_t first, std::size_t last,
                                        std::uint64_t seed) noexcept {
    for (; first + word_bytes <= last; first += word_bytes) {
        std::uint64_t const word = pattern_word(seed, first);
        if (std::memcmp(block + first, &word, word_bytes) != 0) {
            break;
        }
    }
    return first_wrong_in_word(block, first, last, seed);
}

/// Calls visit(first, last) for each range of a block that carries the pattern, until it says stop.
template <class Visit>
void for_each_range(std::size_t bytes, Visit visit) noexcept {
    std::size_t const dense = std::min(bytes, dense_bytes);
    if (!visit(std::size_t{0}, dense) || dense == bytes) {
        return;
    }
    std::size_t const end = (bytes - end_bytes) / word_bytes * word_bytes;
    for (std::size_t offset = dense; offset < end; offset += sparse_step) {
        if (!visit(offset, offset + word_bytes)) {
            return;
        }
    }
    visit(end, bytes);
}

}  // namespace detail

inline void fill(void* block, std::size_t bytes, std::uint64_t seed) noexcept {
    detail::for_each_range(bytes, [&](std::size_t first, std::size_t last) {
        detail::fill_range(static_cast<std::byte*>(block), first, last, seed);
        return true;
    });
}

/// The offset below `limit` of the first byte that fill(block, bytes, seed) did not write as it is
/// now, or `intact`.
inline std::size_t first_wrong(void const* block, std::size_t bytes, std::uint64_t seed,
                               std::size_t limit) noexcept {
    std::size_t wrong = intact;
    detail::for_each_range(bytes, [&](std::size_t first, std::size_t last) {
        wrong = detail::first_wrong_in_range(static_cast<std::byte const*>(block), first,
                                             std::min(last, limit), seed);
        return wrong == intact && last < limit;
    });
    return wrong;
}

inline std::size_t first_wrong(void const* block, std::size_t bytes, std::uint64_t seed) noexcept {
    return first_wrong(block, bytes, seed, bytes);
}

/// The offset of the first byte that is not zero, or `intact`. Looks at every byte up to 2 MiB and
/// at samples beyond.
inline std::size_t first_nonzero(void const* block, std::size_t bytes) noexcept {
    constexpr std::size_t all_up_to = 2'097'152;
    auto const* const data = static_cast<std::byte const*>(block);
    std::size_t const head = std::min(bytes, all_up_to);
    if (head != 0 && (data[0] != std::byte{0} || std::memcmp(data, data + 1, head - 1) != 0)) {
        return static_cast<std::size_t>(
            std::find_if(data, data + head, [](std::byte byte) { return byte != std::byte{0}; }) -
            data);
    }
    for (std::size_t offset = head; offset < bytes; offset += 4096) {
        if (data[offset] != std::byte{0}) {
            return offset;
        }
    }
    return bytes == 0 || data[bytes - 1] == std::byte{0} ? intact : bytes - 1;
}

}  // namespace tarn::test
