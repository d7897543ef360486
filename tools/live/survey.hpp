// live/survey.hpp - the figures of all processes on Tarn that may be read.
//
// Threads    one
// Always     processes that come, go or can't be read are no errors: they are left out
// Cost       a look at every open file of every process; one bounded wait for all answers together
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "live/figures.hpp"

namespace tarn::live {

struct process_figures {
    std::uint64_t number = 0;
    std::string name;
    figures what;
};

/// By number. Asks all first, then waits up to `patience` for the answers.
std::vector<process_figures> survey(std::chrono::milliseconds patience);

}  // namespace tarn::live
