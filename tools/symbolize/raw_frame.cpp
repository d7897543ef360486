#include "symbolize/raw_frame.hpp"

#include <charconv>

namespace tarn::symbolize {

namespace {

constexpr std::string_view hexadecimal_digits = "0123456789abcdef";
constexpr std::string_view in = " in ";
constexpr std::size_t address_chars = 18;  // 0x and 16 digits

std::string_view up_to(std::string_view text, std::size_t end) { return text.substr(0, end); }

/// "PATH+0x1234 (build id X)" at the start of `text`; the path may have spaces.
std::optional<raw_place> parse_place(std::string_view text) {
    constexpr std::string_view mark = "+0x";
    constexpr std::string_view build_id = " (build id ";
    std::size_t const plus = text.find(mark);
    if (plus == std::string_view::npos || plus == 0) {
        return std::nullopt;
    }
    raw_place place;
    place.module = up_to(text, plus);
    text.remove_prefix(plus + 1);
    std::size_t const end = std::min(text.find_first_not_of(hexadecimal_digits, 2), text.size());
    auto const offset = parse_hexadecimal(up_to(text, end));
    if (!offset) {
        return std::nullopt;
    }
    place.offset = *offset;
    text.remove_prefix(end);
    place.after = text;
    if (text.starts_with(build_id)) {
        text.remove_prefix(build_id.size());
        std::size_t const digits =
            std::min(text.find_first_not_of(hexadecimal_digits), text.size());
        if (digits != 0 && digits != text.size() && text[digits] == ')') {
            place.build_id = up_to(text, digits);
            place.after = text.substr(digits + 1);
        }
    }
    return place;
}

bool is_address(std::string_view text) {
    return text.size() == address_chars && parse_hexadecimal(text).has_value();
}

}  // namespace

std::optional<std::uint64_t> parse_hexadecimal(std::string_view text) {
    constexpr int base = 16;
    std::uint64_t value = 0;
    if (!text.starts_with("0x")) {
        return std::nullopt;
    }
    auto const [end, error] =
        std::from_chars(text.data() + 2, text.data() + text.size(), value, base);
    bool const is_whole = error == std::errc{} && end == text.data() + text.size();
    return is_whole ? std::optional{value} : std::nullopt;
}

std::optional<numbered_line> parse_numbered(std::string_view line) {
    std::size_t const hash = line.find('#');
    if (hash == std::string_view::npos) {
        return std::nullopt;
    }
    numbered_line found;
    found.before = up_to(line, hash);
    char const* const start = line.data() + hash + 1;
    char const* const end = line.data() + line.size();
    auto const [stop, error] = std::from_chars(start, end, found.number);
    if (error != std::errc{} || stop == end || *stop != ' ') {
        return std::nullopt;
    }
    found.rest = line.substr(static_cast<std::size_t>(stop + 1 - line.data()));
    return found;
}

std::optional<raw_place> parse_frame(std::string_view text) {
    // A function's name may contain " in "; what follows the right one begins a path.
    std::size_t middle = text.find(" in /");
    if (middle == std::string_view::npos) {
        middle = text.find(in);
    }
    if (middle == std::string_view::npos || middle == 0) {
        return std::nullopt;
    }
    auto place = parse_place(text.substr(middle + in.size()));
    if (place) {
        place->before = up_to(text, 0);
        place->what = up_to(text, middle);
    }
    return place;
}

std::optional<raw_place> find_place(std::string_view text) {
    for (std::size_t at = text.find("0x"); at != std::string_view::npos;
         at = text.find("0x", at + 1)) {
        std::string_view const here = text.substr(at);
        if (!is_address(up_to(here, address_chars)) ||
            !here.substr(address_chars).starts_with(in)) {
            continue;
        }
        auto place = parse_place(here.substr(address_chars + in.size()));
        if (place) {
            place->before = up_to(text, at);
            place->what = up_to(here, address_chars);
            return place;
        }
    }
    return std::nullopt;
}

}  // namespace tarn::symbolize
