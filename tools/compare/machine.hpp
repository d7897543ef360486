// compare/machine.hpp - what a measurement was made on, in words that name no host.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tarn::compare {

/// Pairs of a heading and a value, in the order to show them: processor, memory, system, ...
std::vector<std::pair<std::string, std::string>> describe_machine();

}  // namespace tarn::compare
