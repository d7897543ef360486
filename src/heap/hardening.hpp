// heap/hardening.hpp - what mode hardened knows of a live block: how much was asked for, and
// whether what lies behind that is as it was.
//
// The bytes of a block behind those that were asked for are its slack. Its first 32 and its last
// 16 bytes, so all of it up to 48, are filled with the block's canary (heap/free_block.hpp). How
// long it is says the block's state (heap/block_states.hpp); where that has no room, the last 8
// bytes say it, sealed. A block in a run of its own has that in its descriptor.
//
// Threads    whoever the block belongs to: who allocates it, resizes it, or frees it
// Always     malloc_usable_size() says what was asked for
// Cost       up to 15 bytes of slack, which is all there is up to 256 bytes: two words
// Source     docs/design/hardened.md; canaries: StackGuard (C. Cowan and others, 1998)
// Tests      unit/heap/hardening_test.cpp
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/attributes.hpp"
#include "sizing/size_class.hpp"
#include "heap/block_states.hpp"
#include "heap/free_block.hpp"
#include "heap/page.hpp"

namespace tarn::impl::heap {

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

/// The class for small requests in the mode that is on; 0: none, a run.
[[nodiscard]] inline unsigned class_in_mode(std::size_t bytes) noexcept {
    if (hardening.on) [[unlikely]] {
        return bytes == 0 ? 1 : hardened_class_of(bytes);
    }
    return bytes <= sizing::small_max ? sizing::class_of(bytes) : 0;
}

/// The same at an alignment. What fills its block there has no slack: it would be twice as large.
[[nodiscard]] unsigned class_in_mode(std::size_t bytes, std::size_t alignment) noexcept;

/// Slack of up to so many bytes is dealt with on fast paths.
inline constexpr std::size_t short_slack_max = 15;

/// Fills the slack of a block that has 0 to short_slack_max bytes of it. Writes the last 16 bytes.
TARN_HOT void write_short_canary(std::byte* end, std::uint64_t canary) noexcept {
    __builtin_memcpy(end - 16, &canary, sizeof canary);
    __builtin_memcpy(end - 8, &canary, sizeof canary);
}

/// Whether that slack is as it was.
[[nodiscard]] TARN_HOT bool is_short_canary_whole(std::byte const* end, std::uint64_t canary,
                                                  std::size_t slack) noexcept {
    std::uint64_t last = 0;
    __builtin_memcpy(&last, end - 8, sizeof last);
    last ^= canary;
    // Little-endian: the slack is in the upper bytes. Of none, all are shifted out, in two steps.
    if (slack < 8) [[likely]] {
        return last >> 8 >> (56 - 8 * slack) == 0;
    }
    std::uint64_t first = 0;
    __builtin_memcpy(&first, end - 16, sizeof first);
    return (last | (first ^ canary) >> 8 >> (120 - 8 * slack)) == 0;
}

// Slack of 16 bytes and more is filled so far from its start, and so far from its end.
inline constexpr std::size_t canary_first_bytes = 32;
inline constexpr std::size_t canary_last_bytes = 16;

/// The last word of such slack.
TARN_HOT std::uint64_t last_canary(std::uint64_t canary, std::size_t slack) noexcept {
    return slack > slack_in_state_max ? canary ^ slack : canary;
}

/// The canary as it lies at the start of slack that ends at a multiple of 8.
TARN_HOT std::uint64_t first_canary(std::uint64_t canary, std::size_t slack) noexcept {
    return std::rotl(canary, static_cast<int>(8 * (slack % sizeof canary)));
}

/// Fills slack of 16 bytes and more.
TARN_HOT void fill_long_slack(std::byte* end, std::uint64_t canary, std::size_t slack) noexcept {
    std::uint64_t const first = first_canary(canary, slack);
    std::uint64_t const last = last_canary(canary, slack);
    std::byte* const behind = end - slack;
    __builtin_memcpy(behind, &first, sizeof first);
    __builtin_memcpy(behind + 8, &first, sizeof first);
    if (slack >= canary_first_bytes) {
        __builtin_memcpy(behind + 16, &first, sizeof first);
        __builtin_memcpy(behind + 24, &first, sizeof first);
    }
    __builtin_memcpy(end - 16, &canary, sizeof canary);
    __builtin_memcpy(end - 8, &last, sizeof last);
}

/// Whether it is as it was.
[[nodiscard]] TARN_HOT bool is_long_canary_whole(std::byte const* end, std::uint64_t canary,
                                                 std::size_t slack) noexcept {
    auto const changed = [end](std::size_t before_end, std::uint64_t expected) {
        std::uint64_t word = 0;
        __builtin_memcpy(&word, end - before_end, sizeof word);
        return word ^ expected;
    };
    std::uint64_t const first = first_canary(canary, slack);
    std::uint64_t sum =
        changed(16, canary) | changed(8, last_canary(canary, slack)) | changed(slack, first);
    // Of 16 to 23 bytes the second word runs into the last one, which may be a note.
    if (slack >= canary_last_bytes + sizeof canary) {
        sum |= changed(slack - 8, first);
    }
    if (slack >= canary_first_bytes) {
        sum |= changed(slack - 16, first) | changed(slack - 24, first);
    }
    return sum == 0;
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
    return slack <= slack_in_state_max ? static_cast<std::uint8_t>(state_live + slack)
                                       : state_noted;
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
