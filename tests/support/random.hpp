// support/random.hpp - random_stream: seeded random numbers, the same on every machine.
//
// Threads    one stream belongs to one thread
// Source     splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace tarn::test {

inline constexpr std::uint64_t golden_ratio_bits = 0x9e37'79b9'7f4a'7c15;

constexpr std::uint64_t mix(std::uint64_t bits) noexcept {
    bits = (bits ^ (bits >> 30)) * 0xbf58'476d'1ce4'e5b9;
    bits = (bits ^ (bits >> 27)) * 0x94d0'49bb'1331'11eb;
    return bits ^ (bits >> 31);
}

class random_stream {
public:
    explicit constexpr random_stream(std::uint64_t seed) noexcept : state_{seed} {}

    constexpr std::uint64_t next() noexcept { return mix(state_ += golden_ratio_bits); }

    /// A number in [0, bound); `bound` > 0. The bias is below 2^-32 for bounds below 2^32.
    constexpr std::uint64_t below(std::uint64_t bound) noexcept { return next() % bound; }

    /// A number in [first, last].
    constexpr std::uint64_t between(std::uint64_t first, std::uint64_t last) noexcept {
        return first + below(last - first + 1);
    }

    constexpr bool one_in(std::uint64_t count) noexcept { return below(count) == 0; }

    /// A size in [1, max], every order of magnitude as likely as another.
    constexpr std::size_t size_up_to(std::size_t max) noexcept {
        auto const bits = below(static_cast<unsigned>(std::bit_width(max)));
        std::size_t const size = (std::size_t{1} << bits) + below(std::size_t{1} << bits);
        return size < max ? size : max;
    }

private:
    std::uint64_t state_;
};

}  // namespace tarn::test
