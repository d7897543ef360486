// control/statistics.hpp - what the allocator holds, derived from pages when asked.
//
// Threads    any. Exact for the calling thread and for pages without owner; of other threads that
//            allocate meanwhile a snapshot, to one page per class and thread: blocks in their
//            allocation lists count as live.
// Cost       a walk over all descriptors and heaps; nothing on the fast path
#pragma once

#include <array>
#include <cstdint>

#include "base/text.hpp"
#include "sizing/size_class.hpp"

namespace tarn::impl::control {

struct class_statistics {
    std::uint64_t allocations = 0;
    std::uint64_t live_blocks = 0;
    std::uint64_t live_bytes = 0;
    std::uint64_t free_blocks = 0;  // made and not live, those in threads' lists too
};

struct statistics {
    std::uint64_t live_bytes = 0;
    std::uint64_t live_peak_bytes = 0;
    std::uint64_t live_blocks = 0;
    std::uint64_t mapped_bytes = 0;
    std::uint64_t reserved_bytes = 0;
    std::uint64_t metadata_bytes = 0;
    std::uint64_t held_by_threads_bytes = 0;
    std::uint64_t free_in_bins_bytes = 0;
    std::uint64_t free_runs_bytes = 0;
    std::uint64_t purged_bytes = 0;
    std::uint64_t huge_blocks = 0;  // in mappings of their own
    std::uint64_t huge_bytes = 0;
    std::uint64_t huge_blocks_peak = 0;
    std::uint64_t huge_peak_bytes = 0;
    std::uint64_t arena_peak_bytes = 0;  // of what arenas held mapped
    std::uint64_t free_runs = 0;         // number of free stretches that still hold memory
    std::uint64_t cross_thread_frees = 0;
    std::uint64_t threads = 0;
    std::uint64_t page_count = 0;
    std::array<class_statistics, sizing::class_count> classes{};  // 0: blocks above small_max
};

[[nodiscard]] statistics collect_statistics() noexcept;

/// The report for people.
void describe_statistics(statistics const& of, base::text_sink& to) noexcept;

/// "key value" lines for tools; the first is "tarn VERSION pid N".
void export_statistics(statistics const& of, base::text_sink& to) noexcept;

/// Enough for either text.
inline constexpr std::size_t statistics_text_bytes = 4096;

}  // namespace tarn::impl::control
