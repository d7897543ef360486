#include "process_numbers.hpp"

#include <fmt/core.h>

#include "doctor/proc_text.hpp"
#include "failure.hpp"

namespace tarn::cli {

std::vector<std::uint64_t> parse_process_numbers(std::string const& command,
                                                 std::vector<std::string> const& texts) {
    std::vector<std::uint64_t> numbers;
    for (std::string const& text : texts) {
        if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) {
            throw failure{fmt::format("{}: '{}' is no number of a process", command, text)};
        }
        numbers.push_back(doctor::number_of(text).value_or(UINT64_MAX));  // there is none, anyway
    }
    return numbers;
}

}  // namespace tarn::cli
