// doctor/diagnosis.hpp - what `tarn doctor` found out, as text and as JSON.
//
// Threads    pure; any thread
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace tarn::doctor {

/// The question can't be answered; a message for the user that names the thing.
class cannot_tell : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// One line: `value` for people, `number` beside it for machines where it is one.
struct fact {
    std::string key;  // snake_case, or a name from elsewhere; people see blanks
    std::string value;
    std::string meaning;  // what it means for Tarn; may be empty
    std::optional<std::uint64_t> number = std::nullopt;
};

struct section {
    std::string key;
    std::vector<fact> facts;
};

enum class answer : std::uint8_t { tarn, other, unknown };

struct diagnosis {
    answer is = answer::unknown;
    std::string verdict;               // one line
    std::string malloc_name;           // "Tarn", "glibc"; empty: not known
    std::string malloc_file;           // empty: not known
    std::vector<std::string> reasons;  // why, and what to do
    std::vector<section> sections;
};

/// Verdict first, then reasons, then a block for each section.
std::string format_text(diagnosis const& found);

/// The same as one JSON object.
std::string format_json(diagnosis const& found);

/// 0, 1 or 2.
int exit_status(answer is);

}  // namespace tarn::doctor
