// cli/process_numbers.hpp - numbers of processes, as given on a command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tarn::cli {

/// `command`: for the message. Throws failure: a text is no number.
std::vector<std::uint64_t> parse_process_numbers(std::string const& command,
                                                 std::vector<std::string> const& texts);

}  // namespace tarn::cli
