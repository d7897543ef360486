// platform/watching_tool.hpp - watching_tool: what looks at the process's memory beside us.
//
// Threads    any, before main too
// Always     needs nothing of a sanitizer's runtime and no header of Valgrind's: a runtime is known
//            by weak references to its symbols, Valgrind by instructions that it looks for
// Cost       a few instructions
// Source     Valgrind's manual, "The client request mechanism"
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn::impl::platform {

enum class watching_tool : std::uint8_t {
    none,
    address_sanitizer,
    hardware_address_sanitizer,
    thread_sanitizer,
    memory_sanitizer,
    leak_sanitizer,
    valgrind  // any of its tools
};

/// What a block of the heap is to a tool.
struct watched_block {
    bool is_block = false;
    std::size_t bytes = 0;
};

[[nodiscard]] watching_tool find_watching_tool() noexcept;

/// For people.
[[nodiscard]] char const* name_of(watching_tool tool) noexcept;

/// Whether a sanitizer's malloc has a live block that begins at `ptr`, which may be any address,
/// and of how many bytes. None without a sanitizer.
[[nodiscard]] watched_block ask_sanitizer(void const* ptr) noexcept;

/// Whether this library was itself built with a sanitizer.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool is_sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer) || __has_feature(hwaddress_sanitizer)
inline constexpr bool is_sanitized = true;
#else
inline constexpr bool is_sanitized = false;
#endif
#else
inline constexpr bool is_sanitized = false;
#endif

}  // namespace tarn::impl::platform
