// control/introspection.hpp - what glibc's introspection functions say, from our statistics.
//
// Threads    any
// Always     arena_bytes + huge_bytes is what is mapped for blocks; in_use_bytes + free_bytes is
//            arena_bytes. Large blocks lie in arenas like small ones and count there; only those
//            of 256 MiB and more, and those that realloc has moved, have mappings of their own.
// Source     mallinfo(3), malloc_info(3), malloc_stats(3), mallopt(3); the shapes of glibc 2.36
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/text.hpp"
#include "control/statistics.hpp"

namespace tarn::impl::control {

struct glibc_figures {
    std::uint64_t arena_bytes = 0;  // mapped and not given back, without records of our own
    std::uint64_t arena_peak_bytes = 0;
    std::uint64_t reserved_bytes = 0;
    std::uint64_t in_use_bytes = 0;
    std::uint64_t free_bytes = 0;
    std::uint64_t free_blocks = 0;  // free runs count as one each
    std::uint64_t huge_blocks = 0;
    std::uint64_t huge_bytes = 0;
    std::uint64_t returnable_bytes = 0;  // whole free runs
};

[[nodiscard]] glibc_figures glibc_view(statistics const& of) noexcept;

/// malloc_stats(): three lines for the arena, five for all.
void describe_as_malloc_stats(statistics const& of, base::text_sink& to) noexcept;

/// malloc_info(): XML, one heap; a size element for each class that has free blocks.
void describe_as_malloc_info(statistics const& of, base::text_sink& to) noexcept;

/// Enough for either.
inline constexpr std::size_t introspection_text_bytes = 16 * KiB;

}  // namespace tarn::impl::control
