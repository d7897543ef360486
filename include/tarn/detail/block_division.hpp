// tarn/detail/block_division.hpp - block_division: which block of a row an offset begins, if any.
//
// Threads    any
// Always     quotient(offset) is below n exactly where offset is one of 0, bytes, ... (n - 1) *
//            bytes, for every 64-bit offset and n * bytes below 2^64. So one comparison tells both
//            that an address lies in a row of n blocks, and that a block starts there.
// Cost       a multiplication and a rotation
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace tarn::detail {

/// By the inverse of the odd part, modulo 2^64, and a rotation that moves what is left of the even
/// part to the top (T. Granlund and P. Montgomery, "Division by invariant integers using
/// multiplication", 1994, section 9).
class block_division {
public:
    constexpr explicit block_division(std::size_t bytes) noexcept
        : inverse_{inverse_of(bytes >> std::countr_zero(bytes))},
          rotation_{std::countr_zero(bytes)} {}

    [[nodiscard]] constexpr std::uint64_t quotient(std::uint64_t offset) const noexcept {
        return std::rotr(offset * inverse_, rotation_);
    }

private:
    /// Newton's iteration: each step doubles the number of right bits, of which odd * odd has 3.
    static constexpr std::uint64_t inverse_of(std::uint64_t odd) noexcept {
        std::uint64_t inverse = odd;
        for (int right_bits = 3; right_bits < 64; right_bits *= 2) {
            inverse *= 2 - odd * inverse;
        }
        return inverse;
    }

    std::uint64_t inverse_;
    int rotation_;
};

}  // namespace tarn::detail
