// tarn/fit.hpp - what a fit_heap is told, and what it answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tarn {

/// Which hole serves a request.
enum class fit : std::uint8_t {
    first,  // the one with the lowest address
    next,   // the first one behind the last block handed out; from the start where there is none
    best,   // the smallest one; among equals the one with the lowest address
    worst,  // the largest one; among equals the one with the lowest address
};

struct fit_options {
    fit policy = fit::best;
    std::size_t alignment = 16;  // of every block, and of sizes; a power of two from 16 to 4096
};

/// What became of a block that was to be returned. `done` also for null.
enum class [[nodiscard]] fit_return : std::uint8_t{
    done,
    foreign,     // outside of what blocks there can be
    misaligned,  // where no block can begin
    inside,      // inside a live block
    not_live,    // in a hole: returned before, or never a block
    other_size,  // a live block, but not one of that size
    damaged,     // a tag or a hole beside it, or one needed, was overwritten; it stays live
};

/// Why, for messages.
[[nodiscard]] constexpr char const* to_string(fit_return result) noexcept {
    switch (result) {
        case fit_return::done:
            return "done";
        case fit_return::foreign:
            return "outside of the heap";
        case fit_return::misaligned:
            return "misaligned: no block begins there";
        case fit_return::inside:
            return "inside a live block";
        case fit_return::not_live:
            return "not live: returned before?";
        case fit_return::other_size:
            return "a block of another size";
        case fit_return::damaged:
            return "damaged: a tag or a hole was overwritten";
    }
    return "unknown";
}

/// Bytes, where not said otherwise. Of a damaged heap: what it was; the largest hole may read 0.
struct fit_figures {
    std::size_t total_bytes = 0;         // all blocks and holes with their tags
    std::size_t requested_bytes = 0;     // asked for, and live
    std::size_t live_bytes = 0;          // of live blocks with tags and rounding
    std::size_t free_bytes = 0;          // total less live
    std::size_t largest_hole_bytes = 0;  // of which the tag's 8 can't be asked for
    std::size_t live_blocks = 0;         // a count
    std::size_t holes = 0;               // a count
    std::size_t peak_live_bytes = 0;
    std::size_t peak_requested_bytes = 0;

    /// The part of the live bytes that nobody asked for.
    [[nodiscard]] double internal_fragmentation() const noexcept {
        return live_bytes == 0
                   ? 0
                   : 1 - static_cast<double>(requested_bytes) / static_cast<double>(live_bytes);
    }

    /// The part of the free bytes that the largest request could not have.
    [[nodiscard]] double external_fragmentation() const noexcept {
        return free_bytes == 0
                   ? 0
                   : 1 - static_cast<double>(largest_hole_bytes) / static_cast<double>(free_bytes);
    }
};

/// The first thing that check() found wrong.
struct fit_fault {
    void const* where;  // where the block concerned begins
    std::string_view what;
};

}  // namespace tarn
