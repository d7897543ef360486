// heap/hardening.hpp - what mode hardened knows of a live block: how much was asked for, and
// whether what lies behind that is as it was.
//
// The bytes of a block behind those that were asked for are its slack. Its first 17 to 32 and its
// last 16 bytes, so all of it up to 33, are filled with the block's canary (heap/free_block.hpp).
// How long it is says the block's state (heap/block_states.hpp); where that has no room, the last 8
// bytes say it, sealed. A block in a run of its own has that in its descriptor.
//
// Threads    whoever the block belongs to: who allocates it, resizes it, or frees it
// Always     malloc_usable_size() says what was asked for
// Cost       some 10 instructions for the up to 15 bytes of slack that there are up to 256 bytes,
//            30 above
// Source     docs/design/hardened.md; canaries: StackGuard (C. Cowan and others, 1998)
// Tests      unit/heap/hardening_test.cpp
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "base/attributes.hpp"
#include "base/bits.hpp"
#include "sizing/size_class.hpp"
#include "heap/block_states.hpp"
#include "heap/free_block.hpp"
#include "heap/page.hpp"

namespace tarn::impl::heap {

/// What the class of a block foretells of its slack: below linear_max it is short, but where
/// memory is aligned or realloc made the block smaller.
enum class slack_length : std::uint8_t { is_short, any };

/// From here on what would fill its block takes the next class, so that there is slack. Below, a
/// block is filled by every 16th size, and has no canary then.
inline constexpr std::size_t slack_bytes_min = 512;

/// Up to here a block is one of many in mode hardened.
inline constexpr std::size_t hardened_small_max = sizing::small_max - 1;

/// The class of a request in mode hardened; 0: a run, or no bytes, which are served as 1.
[[nodiscard]] TARN_HOT unsigned hardened_class_of(std::size_t bytes) noexcept {
    if (bytes <= sizing::linear_max) [[likely]] {
        return static_cast<unsigned>((bytes + sizing::quantum - 1) / sizing::quantum);
    }
    if (bytes > hardened_small_max) [[unlikely]] {
        return 0;
    }
    return sizing::class_of_geometric(bytes + (bytes >= slack_bytes_min ? 1 : 0));
}

/// The same for whoever knows whether it is above linear_max.
template <slack_length Slack>
[[nodiscard]] TARN_HOT unsigned hardened_class_of(std::size_t bytes) noexcept {
    if constexpr (Slack == slack_length::is_short) {
        return static_cast<unsigned>((bytes + sizing::quantum - 1) / sizing::quantum);
    }
    return hardened_class_of(bytes);
}

/// The class for small requests in the mode that is on; 0: none, a run.
[[nodiscard]] inline unsigned class_in_mode(std::size_t bytes) noexcept {
    if (hardening.on) [[unlikely]] {
        return bytes == 0 ? 1 : hardened_class_of(bytes);
    }
    return bytes <= sizing::small_max ? sizing::class_of(bytes) : 0;
}

/// The same at an alignment. What fills its block there has no slack: it would be twice as large.
[[nodiscard]] unsigned class_in_mode(std::size_t bytes, std::size_t alignment) noexcept;

// The slack is filled in *granules* of 16 bytes, as blocks are aligned: the one in which it begins,
// the one behind that, and the last one of the block. So whoever writes on and on meets a canary.
// What lies in each follows from its address: no rotation, and no branch on how long the slack is,
// which nothing foretells where sizes are mixed.
inline constexpr std::size_t granule_bytes = 16;

/// What lies in one granule alone.
inline constexpr std::size_t short_slack_max = granule_bytes - 1;

/// Fills a granule.
TARN_HOT void write_granule(std::byte* granule, std::uint64_t canary) noexcept {
    __builtin_memcpy(granule, &canary, sizeof canary);
    __builtin_memcpy(granule + sizeof canary, &canary, sizeof canary);
}

/// Not 0: bytes of a granule were changed, behind the first `skipped`, at most 16.
[[nodiscard]] TARN_HOT std::uint64_t changes_in(std::byte const* granule, std::uint64_t canary,
                                                std::size_t skipped) noexcept {
#if defined(__x86_64__)
    __m128i const expected = _mm_set1_epi64x(static_cast<long long>(canary));
    __m128i const found = _mm_load_si128(reinterpret_cast<__m128i const*>(granule));
    auto const same = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(found, expected)));
    return (same ^ 0xffff) >> skipped;
#else
    // Little-endian. In two steps: a shift by all there are is none.
    __extension__ using wide = unsigned __int128;
    wide changed = 0;
    __builtin_memcpy(&changed, granule, sizeof changed);
    changed = (changed ^ (wide{canary} << 64 | canary)) >> 4 * skipped >> 4 * skipped;
    return static_cast<std::uint64_t>(changed) | static_cast<std::uint64_t>(changed >> 64);
#endif
}

/// Fills the slack of a block that has at most short_slack_max bytes of it.
TARN_HOT void write_short_canary(std::byte* end, std::uint64_t canary) noexcept {
    write_granule(end - granule_bytes, canary);
}

/// Whether that slack is as it was.
[[nodiscard]] TARN_HOT bool is_short_canary_whole(std::byte const* end, std::uint64_t canary,
                                                  std::size_t slack) noexcept {
    return changes_in(end - granule_bytes, canary, granule_bytes - slack) == 0;
}

/// Granules that hold the start of the slack, and the next; the last one, where there is no next.
struct first_granules {
    std::byte* first;
    std::byte* second;
    std::size_t skipped;  // bytes of the first one that are no slack, or all 16

    TARN_HOT first_granules(std::byte* end, std::size_t slack) noexcept {
        std::byte* const last = end - granule_bytes;
        std::byte* const start = end - slack;
        first = std::min(start - base::address_of(start) % granule_bytes, last);
        second = std::min(first + granule_bytes, last);
        skipped = static_cast<std::size_t>(start - first);
    }
};

/// The last word of slack of any length.
TARN_HOT std::uint64_t last_canary(std::uint64_t canary, std::size_t slack) noexcept {
    return slack > slack_in_state_max ? canary ^ slack : canary;
}

/// The slack of a block that is said to have noted it. Where that was overwritten: too much.
TARN_HOT std::size_t noted_slack(std::byte const* end, std::uint64_t canary) noexcept {
    std::uint64_t note = 0;
    __builtin_memcpy(&note, end - sizeof note, sizeof note);
    note ^= canary;
    return note > slack_in_state_max ? note : ~std::size_t{0};
}

/// Fills slack of any length. May write to what comes before it.
TARN_HOT void fill_slack(std::byte* end, std::uint64_t canary, std::size_t slack) noexcept {
    first_granules const in{end, slack};
    write_granule(in.first, canary);
    write_granule(in.second, canary);
    std::uint64_t const last = last_canary(canary, slack);
    __builtin_memcpy(end - 2 * sizeof last, &canary, sizeof canary);
    __builtin_memcpy(end - sizeof last, &last, sizeof last);
}

/// Whether slack of any length is as it was.
[[nodiscard]] TARN_HOT bool is_canary_whole(std::byte* end, std::uint64_t canary,
                                            std::size_t slack) noexcept {
    first_granules const in{end, slack};
    std::byte const* const last = end - granule_bytes;
    std::uint64_t changed = changes_in(in.first, canary, in.skipped);
    if (slack > slack_in_state_max) [[unlikely]] {  // noted in the last word
        std::uint64_t words[2];
        __builtin_memcpy(&words, last, sizeof words);
        changed |= (words[0] ^ canary) | (words[1] ^ last_canary(canary, slack));
        return (changed | changes_in(in.second, canary, 0)) == 0;
    }
    // If all three are one, what is no slack counts in none.
    std::size_t const skipped = in.first == last ? in.skipped : 0;
    return (changed | changes_in(in.second, canary, skipped) | changes_in(last, canary, skipped)) ==
           0;
}

/// A block, and what lies behind the bytes that were asked for.
struct block_extent {
    std::byte* start;
    std::size_t bytes;      // of the block
    std::size_t requested;  // at most those
};

inline constexpr std::size_t undamaged = ~std::size_t{0};

/// Fills the slack. Bytes that were asked for are not touched.
void write_canary(block_extent const& of) noexcept;

/// The first byte of the slack, counted from the block's start, that is not as it was; or
/// undamaged.
[[nodiscard]] std::size_t find_damage(block_extent const& of) noexcept;

/// The state that says how long the slack is.
[[nodiscard]] constexpr std::uint8_t state_for(std::size_t slack) noexcept {
    return static_cast<std::uint8_t>(state_live + std::min(slack, slack_in_state_max + 1));
}

/// Whether what lies behind the block's bytes is known: blocks of threads' pages and runs while
/// hardening is on, but not those of user heaps, and no guarded samples.
[[nodiscard]] bool is_hardened(page const& home) noexcept;

/// Of a live block, in such a page.
struct block_facts {
    bool is_live;
    block_extent extent;
    std::size_t
        damage;  // first byte; undamaged: none. Where it hides what was asked for, that is 0
};

[[nodiscard]] block_facts look_at_block(page const& home, void const* ptr) noexcept;

/// From here on so much was asked for, of a block that is live, or about to be. The caller sets
/// requested_bytes of a run.
void note_request(page& home, void* ptr, std::size_t requested) noexcept;

}  // namespace tarn::impl::heap
