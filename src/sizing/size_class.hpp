// sizing/size_class.hpp - which block size serves a request, and how many slices a page of it has.
//
// Always     class 0 is unused (it marks large blocks). Up to 256 bytes classes step by 16; above,
//            each doubling has 8 classes. A request above 128 bytes loses at most 12.5 %.
//            Every block size is a multiple of 16, and for each power of two A up to
//            slice_bytes and each size that is a multiple of A there is a class which is a
//            multiple of A and, where the size itself is m * A with m <= 16, loses nothing.
// Cost       class_of: compare, add, shift up to 256 bytes; about 8 instructions above
// Source     eight steps per doubling: jemalloc's size classes; the loss bound follows from it
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/bits.hpp"
#include "base/units.hpp"

namespace tarn::impl::sizing {

inline constexpr std::size_t quantum = 16;  // alignment of every block, in bytes

// The unit of runs and of the page map: a multiple of every OS page there is.
#if defined(__x86_64__)
inline constexpr unsigned slice_shift = 14;
#else
inline constexpr unsigned slice_shift = 16;
#endif
inline constexpr std::size_t slice_bytes = std::size_t{1} << slice_shift;

inline constexpr std::size_t linear_max = 256;  // bytes; below, classes step by one quantum
inline constexpr unsigned linear_classes = linear_max / quantum;
inline constexpr unsigned steps_per_doubling = 8;
inline constexpr std::size_t small_max = 128 * KiB;  // bytes; above, a block is a run of its own
inline constexpr unsigned class_count =
    linear_classes + 1 +
    steps_per_doubling * static_cast<unsigned>(std::bit_width(small_max / linear_max) - 1);

static_assert(linear_max == quantum * 2 * steps_per_doubling);  // the steps meet without a jump

/// Class of a request above linear_max and up to small_max.
constexpr unsigned class_of_geometric(std::size_t bytes) noexcept {
    // With bytes - 1 in [2^k, 2^(k+1)), its top four bits are 8 + step within the doubling.
    unsigned const k = static_cast<unsigned>(std::bit_width(bytes - 1)) - 1;
    auto const top = static_cast<unsigned>((bytes - 1) >> (k - 3));
    return (k - 8) * steps_per_doubling + top + linear_classes - steps_per_doubling + 1;
}

/// Class of a request of up to small_max bytes; 0 is served like 1.
constexpr unsigned class_of(std::size_t bytes) noexcept {
    if (bytes <= linear_max) {
        return bytes == 0 ? 1U : static_cast<unsigned>((bytes + quantum - 1) / quantum);
    }
    return class_of_geometric(bytes);
}

constexpr std::size_t class_bytes_computed(unsigned size_class) noexcept {
    if (size_class <= linear_classes) {
        return size_class * quantum;
    }
    unsigned const step = size_class - linear_classes - 1;
    unsigned const k = 8 + step / steps_per_doubling;
    return std::size_t{steps_per_doubling + step % steps_per_doubling + 1} << (k - 3);
}

inline constexpr auto class_bytes_table = [] {
    std::array<std::uint32_t, class_count> table{};
    for (unsigned size_class = 0; size_class < class_count; ++size_class) {
        table[size_class] = static_cast<std::uint32_t>(class_bytes_computed(size_class));
    }
    return table;
}();

/// Block size in bytes; 0 for class 0.
constexpr std::size_t class_bytes(unsigned size_class) noexcept {
    return class_bytes_table[size_class];
}

/// ceil(2^64 / class_bytes()): an offset is a multiple of the block size where their product wraps
/// to less than this (D. Lemire et al., "Faster remainder by direct computation", 2019; offsets
/// below 2^32), and its upper half is then the block's number. 0 for class 0.
inline constexpr auto class_reciprocal_table = [] {
    std::array<std::uint64_t, class_count> table{};
    for (unsigned size_class = 1; size_class < class_count; ++size_class) {
        table[size_class] = ~std::uint64_t{0} / class_bytes(size_class) + 1;
    }
    return table;
}();

constexpr std::uint64_t class_reciprocal(unsigned size_class) noexcept {
    return class_reciprocal_table[size_class];
}

static_assert(class_bytes(class_count - 1) == small_max);
static_assert(class_of(small_max) == class_count - 1);

/// Class for `bytes` at `alignment` (a power of two up to slice_bytes), or 0: none fits, use a run.
constexpr unsigned class_of_aligned(std::size_t bytes, std::size_t alignment) noexcept {
    if (bytes > small_max || alignment > slice_bytes) {  // also keeps align_up from wrapping around
        return 0;
    }
    // The class of a multiple of `alignment` is one too: where classes step by at least
    // `alignment`, every class is; where they step by less, each multiple has its own class.
    std::size_t const rounded = base::align_up(bytes == 0 ? std::size_t{1} : bytes, alignment);
    return rounded <= small_max ? class_of(rounded) : 0;
}

// Few, since a thread that uses one block of a class holds a page of it. What is left behind the
// last block is address space, not memory. docs/design/speed.md has figures for 1 to 8.
inline constexpr std::size_t blocks_per_page_min = 2;

// So many where the page then is no longer than this, to which pages grow with their number.
inline constexpr std::size_t blocks_per_page_wanted = 32;
inline constexpr std::size_t grown_page_bytes = 64 * KiB;

/// Slices of the smallest pages of this class.
constexpr std::size_t class_slices_min(unsigned size_class) noexcept {
    std::size_t const bytes = class_bytes(size_class);
    return base::divide_up(std::max(blocks_per_page_min * bytes,
                                    std::min(blocks_per_page_wanted * bytes, grown_page_bytes)),
                           slice_bytes);
}

/// Slices of its largest pages.
constexpr std::size_t class_slices_max(unsigned size_class) noexcept {
    return std::max(class_slices_min(size_class), grown_page_bytes / slice_bytes);
}

inline constexpr std::size_t page_slices_max = class_slices_max(class_count - 1);

/// Blocks in a page of this class that has so many slices.
constexpr std::size_t page_blocks(unsigned size_class, std::size_t slices) noexcept {
    return slices * slice_bytes / class_bytes(size_class);
}

static_assert(page_blocks(1, page_slices_max) <= 0xffff);  // heap/remote_word.hpp has 16 bits

}  // namespace tarn::impl::sizing
