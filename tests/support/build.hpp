// support/build.hpp - which build this is, and how much work a test may do in it.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace tarn::test {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool under_tsan = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool under_tsan = true;
#else
inline constexpr bool under_tsan = false;
#endif
#else
inline constexpr bool under_tsan = false;
#endif

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool under_asan = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool under_asan = true;
#else
inline constexpr bool under_asan = false;
#endif
#else
inline constexpr bool under_asan = false;
#endif

/// TARN_SOAK=1 in the environment: hours instead of seconds.
inline bool soaking() noexcept {
    char const* const value = std::getenv("TARN_SOAK");
    return value != nullptr && *value != '\0' && *value != '0';
}

/// `count` in a plain build, less where each operation is slow, far more when soaking.
inline std::uint64_t scaled(std::uint64_t count) noexcept {
    constexpr std::uint64_t soak_factor = 100;
    constexpr std::uint64_t slowness = under_tsan ? 16 : under_asan ? 4 : 1;
    std::uint64_t const least = count < 16 ? count : 16;
    std::uint64_t const here = count / slowness < least ? least : count / slowness;
    return soaking() ? here * soak_factor : here;
}

}  // namespace tarn::test
