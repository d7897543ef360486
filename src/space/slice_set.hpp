// space/slice_set.hpp - slice_set: a set of slice numbers as bits in memory given by the owner.
//
// Threads    under the owner's lock
// Cost       one step per 64 slices looked at; ranges are set and cleared by words
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/bits.hpp"
#include "base/check.hpp"

namespace tarn::impl::space {

/// Slices [first, first + count).
struct slice_range {
    std::size_t first = 0;
    std::size_t count = 0;
};

class slice_set {
public:
    constexpr slice_set() noexcept = default;

    /// `words` holds `slices` bits rounded up to whole words, all zero.
    slice_set(std::uint64_t* words, std::size_t slices) noexcept : words_{words}, slices_{slices} {}

    static constexpr std::size_t words_for(std::size_t slices) noexcept {
        return base::divide_up(slices, bits);
    }

    [[nodiscard]] std::size_t size() const noexcept { return slices_; }

    [[nodiscard]] bool contains(std::size_t slice) const noexcept {
        return (words_[slice / bits] >> (slice % bits) & 1) != 0;
    }

    [[nodiscard]] bool contains_all(slice_range range) const noexcept {
        return range.first + range.count <= slices_ &&
               next_absent(range.first, range.first + range.count) == range.first + range.count;
    }

    void insert(slice_range range) noexcept {
        for_words(range, [](std::uint64_t& word, std::uint64_t mask) { word |= mask; });
    }

    void remove(slice_range range) noexcept {
        for_words(range, [](std::uint64_t& word, std::uint64_t mask) { word &= ~mask; });
    }

    /// First member in [from, end), else end.
    [[nodiscard]] std::size_t next_present(std::size_t from, std::size_t end) const noexcept {
        return scan(from, end, 0);
    }

    /// First non-member in [from, end), else end.
    [[nodiscard]] std::size_t next_absent(std::size_t from, std::size_t end) const noexcept {
        return scan(from, end, ~std::uint64_t{0});
    }

    /// Members in the range.
    [[nodiscard]] std::size_t count(slice_range range) const noexcept {
        std::size_t total = 0;
        for_words(range, [&total](std::uint64_t word, std::uint64_t mask) {
            total += static_cast<std::size_t>(std::popcount(word & mask));
        });
        return total;
    }

    [[nodiscard]] std::uint64_t& word(std::size_t index) noexcept { return words_[index]; }

    [[nodiscard]] std::uint64_t word(std::size_t index) const noexcept { return words_[index]; }

private:
    static constexpr std::size_t bits = 64;

    [[nodiscard]] std::size_t scan(std::size_t from, std::size_t end,
                                   std::uint64_t flip) const noexcept {
        while (from < end) {
            std::uint64_t const word = (words_[from / bits] ^ flip) >> (from % bits);
            if (word != 0) {
                std::size_t const found = from + static_cast<std::size_t>(std::countr_zero(word));
                return found < end ? found : end;
            }
            from = base::align_down(from, bits) + bits;
        }
        return end;
    }

    template <class Visit>
    void for_words(slice_range range, Visit visit) const noexcept {
        std::size_t const end = range.first + range.count;
        TARN_ASSERT(end <= slices_);
        for (std::size_t slice = range.first; slice < end;) {
            std::size_t const low = slice % bits;
            std::size_t const taken = end - slice < bits - low ? end - slice : bits - low;
            std::uint64_t const mask = (~std::uint64_t{0} >> (bits - taken)) << low;
            visit(words_[slice / bits], mask);
            slice += taken;
        }
    }

    std::uint64_t* words_ = nullptr;
    std::size_t slices_ = 0;
};

}  // namespace tarn::impl::space
