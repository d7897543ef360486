// control/statistics_text.hpp - statistics as text: for people, logs, Prometheus and other tools.
//
// Threads    any
// Always     says no more than the tarn_stats it is given; missing arrays are left out
// Source     Prometheus text exposition format 0.0.4; RFC 8259 (JSON)
#pragma once

#include <cstddef>

#include "base/text.hpp"

#include "tarn/tarn.h"

namespace tarn::impl::control {

/// `as`: one of tarn_stats_as; writes nothing for any other.
void describe_statistics(tarn_stats const& of, int as, base::text_sink& to) noexcept;

/// TARN_STATS_REPORT of what the process holds now, owners included.
void describe_report_now(base::text_sink& to) noexcept;

/// Enough for TARN_STATS_REPORT, TARN_STATS_LINE and TARN_STATS_KEYS.
inline constexpr std::size_t statistics_text_bytes = 6144;

}  // namespace tarn::impl::control
