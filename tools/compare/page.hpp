// compare/page.hpp - a campaign as one HTML page, complete in itself.
#pragma once

#include <string>

#include "compare/summary.hpp"

namespace tarn::compare {

std::string format_page(campaign_result const& result, summary const& summary);

}  // namespace tarn::compare
