// debug/mp_text.hpp - the statistics of mp.h as text and as JSON.
//
// Threads    stateless
#pragma once

#include "base/text.hpp"
#include "debug/mp_pool.hpp"

namespace tarn::impl::debug {

/// Lines: all blocks together, then a table with a row for each slab and one for larger blocks.
void describe_mp_stats(mp_figures const& figures, base::text_sink& to) noexcept;

/// One line, an object.
void describe_mp_stats_json(mp_figures const& figures, base::text_sink& to) noexcept;

}  // namespace tarn::impl::debug
