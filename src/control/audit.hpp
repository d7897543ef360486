// control/audit.hpp - a walk over everything the allocator holds, compared with its statistics.
//
// Threads    only while no other thread allocates or frees; waits for a scavenging pass
// Cost       a walk over every page and every free block
#pragma once

#include <cstddef>

#include "control/statistics.hpp"

namespace tarn::impl::control {

/// Fills `found` from the walk, but for what only counters know (peaks, numbers so far). Returns
/// the number of contradictions, each reported in a line.
std::size_t audit(statistics& found) noexcept;

}  // namespace tarn::impl::control
