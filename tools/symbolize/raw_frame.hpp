// symbolize/raw_frame.hpp - raw frames in the text of reports, as platform/symbols_text.hpp writes
// them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tarn::symbolize {

/// "PATH+0x1234 (build id 0123abcd)", and what stands before it: "0x000055d0c0ffee12 in " or
/// "function in ".
struct raw_place {
    std::string_view before;    // of the text, up to the address or function
    std::string_view what;      // the address or function
    std::string_view module;    // path
    std::string_view build_id;  // empty: none
    std::uint64_t offset = 0;
    std::string_view after;  // of the text

    [[nodiscard]] bool has_function() const { return !what.starts_with("0x"); }
};

/// "  #12 rest": a line of a stack.
struct numbered_line {
    std::string_view before;  // spaces, or whatever a log puts there, without '#'
    unsigned number = 0;
    std::string_view rest;
};

[[nodiscard]] std::optional<numbered_line> parse_numbered(std::string_view line);

/// The raw place that `text` begins with: the rest of a numbered line.
[[nodiscard]] std::optional<raw_place> parse_frame(std::string_view text);

/// The first raw place with an address anywhere in `text`.
[[nodiscard]] std::optional<raw_place> find_place(std::string_view text);

/// Of "0x1234"; nothing when it is no such number.
[[nodiscard]] std::optional<std::uint64_t> parse_hexadecimal(std::string_view text);

}  // namespace tarn::symbolize
