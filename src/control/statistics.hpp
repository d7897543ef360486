// control/statistics.hpp - what the allocator holds, derived from pages when asked.
//
// Threads    any. Exact while no other thread allocates or frees, but for lists that the system
//            refuses to read (tarn_stats::threads_unread); else a snapshot.
// Cost       a walk over all descriptors, heaps and their lists; nothing on the fast path
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "base/thread_annotations.hpp"

#include "tarn/tarn.h"

#include "sizing/size_class.hpp"
#include "heap/process.hpp"

namespace tarn::impl::control {

using class_statistics = tarn_class_stats;
using thread_statistics = tarn_thread_stats;

/// tarn_stats with its classes; class 0: blocks above small_max. What concerns the whole process
/// (resident_bytes and its like) is zero: see add_process_figures().
struct statistics : tarn_stats {
    statistics() noexcept : tarn_stats() {}

    /// This, with by_class pointing at `classes`.
    [[nodiscard]] tarn_stats const& with_classes() noexcept {
        by_class = classes.data();
        class_count = classes.size();
        return *this;
    }

    std::array<class_statistics, sizing::class_count> classes{};
};

/// Waits for a scavenging pass, which would hold pages that are nobody's. `threads`: null, or room
/// for a row per thread, from which thread_count tells how many are used.
[[nodiscard]] statistics collect_statistics(std::span<thread_statistics> threads = {}) noexcept;

/// The same into memory of the caller's, `classes` with sizing::class_count elements.
void collect_statistics(tarn_stats& totals, std::span<class_statistics> classes,
                        std::span<thread_statistics> threads) noexcept;

/// The same, exact in any case, where no other thread allocates or frees and the caller keeps
/// scavenging passes away. Before add_stand_in_figures(): what pages say.
[[nodiscard]] statistics collect_statistics_at_rest() noexcept
    TARN_REQUIRES(heap::process.scavenging);

/// Where all threads are answered by a stand-in (mode debug): what of the heap's live blocks is the
/// program's, and what is not. collect_statistics() has done so.
void add_stand_in_figures(tarn_stats& to) noexcept;

/// What the system says of the process. A few system calls.
void add_process_figures(tarn_stats& to) noexcept;

}  // namespace tarn::impl::control
