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

/// This architecture is tested in an emulator, which is slow and keeps a record of every page of
/// address space, reserved or not.
#if defined(__aarch64__)
inline constexpr bool under_emulation = true;
#else
inline constexpr bool under_emulation = false;
#endif

/// Each operation is slow: do fewer.
inline constexpr bool is_slow = under_tsan || under_asan || under_emulation;

/// The value of an environment variable, or null.
inline char const* environment(char const* name) noexcept {
    return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): no test changes the environment
}

/// The program runs with TARN_MODE=debug.
inline bool in_debug_mode() noexcept {
    char const* const value = environment("TARN_MODE");
    return value != nullptr && value[0] == 'd';
}

/// The program runs with TARN_MODE=hardened.
inline bool in_hardened_mode() noexcept {
    char const* const value = environment("TARN_MODE");
    return value != nullptr && value[0] == 'h';
}

/// TARN_SOAK=1 in the environment: hours instead of seconds.
inline bool soaking() noexcept {
    char const* const value = environment("TARN_SOAK");
    return value != nullptr && *value != '\0' && *value != '0';
}

/// `count` in a plain build, less where each operation is slow, far more when soaking.
inline std::uint64_t scaled(std::uint64_t count) noexcept {
    constexpr std::uint64_t soak_factor = 100;
    constexpr std::uint64_t slowness = under_tsan || under_emulation ? 16 : under_asan ? 4 : 1;
    std::uint64_t const least = count < 16 ? count : 16;
    std::uint64_t const here = count / slowness < least ? least : count / slowness;
    return soaking() ? here * soak_factor : here;
}

}  // namespace tarn::test
