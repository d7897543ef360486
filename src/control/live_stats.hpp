// control/live_stats.hpp - statistics for tools outside, while the process runs (tarn/live.h).
//
// Threads    any; who finds another at it goes on
// Always     The scavenger's thread takes the figures where there is one: when asked, after a pass,
//            and before it sleeps. Else the threads of the program do, in slow paths: when asked,
//            and once a second, but for a thousandth of the time at most.
//            A process that lives less than a tenth of a second shows nothing and pays nothing.
// Cost       a comparison per slow path that took or gave back pages; a walk as
//            collect_statistics() when it is time. 36 KiB of shared memory, half of it touched.
#pragma once

#include <atomic>
#include <cstdint>

#include "platform/os_memory.hpp"

namespace tarn::impl::control {

/// When the first thread has its heap.
void start_live_stats() noexcept;

/// At the end of slow paths, where pages came or went.
void tick_live_stats(std::uint64_t now_ms) noexcept;

/// By the scavenger, after a pass: as that. Before it sleeps: in any case.
enum class scavenger_moment : std::uint8_t { passed, sleeps };

void show_from_scavenger(scavenger_moment moment) noexcept;

/// Waits until `word` is not `expected` any more, or for so long; shows statistics meanwhile,
/// whenever they are asked for.
void wait_and_show(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                   std::uint32_t most_ms = platform::forever_ms) noexcept;

/// Whether somebody outside has asked for a check of all blocks. A few loads.
[[nodiscard]] bool is_check_asked() noexcept;

/// Checks them, where it was asked for and nobody is at it, and tells. The scavenger does so where
/// it sleeps; else threads of the program, in any operation. `caller`: whose stack reports show.
void answer_check(void const* caller) noexcept;

/// In the child of a fork.
void forget_live_stats() noexcept;

}  // namespace tarn::impl::control
