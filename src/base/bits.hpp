// base/bits.hpp - powers of two and alignment on unsigned integers and addresses.
// Cost       a few instructions each; constexpr where no pointer is involved
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace tarn::impl::base {

/// Rounds up to a multiple of `alignment`, a power of two. Wraps around at the type's end: the
/// caller bounds `value` first.
template <std::unsigned_integral T>
constexpr T align_up(T value, std::size_t alignment) noexcept {
    return static_cast<T>((value + (alignment - 1)) & ~static_cast<T>(alignment - 1));
}

/// Rounds down to a multiple of `alignment`, a power of two.
template <std::unsigned_integral T>
constexpr T align_down(T value, std::size_t alignment) noexcept {
    return static_cast<T>(value & ~static_cast<T>(alignment - 1));
}

constexpr bool is_aligned(std::uintptr_t value, std::size_t alignment) noexcept {
    return (value & (alignment - 1)) == 0;
}

/// The quotient, rounded up. No value overflows.
template <std::unsigned_integral T>
constexpr T divide_up(T value, T divisor) noexcept {
    return static_cast<T>(value / divisor + (value % divisor != 0 ? 1 : 0));
}

inline std::uintptr_t address_of(void const* ptr) noexcept {
    return reinterpret_cast<std::uintptr_t>(ptr);
}

inline std::byte* pointer_to(std::uintptr_t address) noexcept {
    return reinterpret_cast<std::byte*>(address);
}

}  // namespace tarn::impl::base
