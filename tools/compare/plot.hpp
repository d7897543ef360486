// compare/plot.hpp - a summary as pictures: SVG without scripts or outside parts.
//
// Colours hold on light and on dark paper; an allocator has the same colour and shape in every
// picture.
#pragma once

#include <string>

#include "compare/summary.hpp"

namespace tarn::compare {

/// Each allocator at its geometric means of wall time and of peak memory: down and left is better.
/// Empty when there is no row in which all ran.
std::string plot_overview(summary const& summary);

/// A line for each row, on it each allocator's ratio to the best, with twice its standard error.
/// Empty when there are no such rows. `group`: empty for all.
std::string plot_ratios(summary const& summary, quantity what, std::string const& group);

}  // namespace tarn::compare
