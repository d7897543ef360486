#include "control/cgroup_text.hpp"

#include <algorithm>
#include <charconv>

namespace tarn::impl::control {

namespace {

/// Cuts the part before the next `separator` off the front; all of it when there is none.
std::string_view take_field(std::string_view& rest, char separator) noexcept {
    std::size_t const end = rest.find(separator);
    std::string_view field = rest;
    if (end == std::string_view::npos) {
        rest.remove_prefix(rest.size());
    } else {
        field.remove_suffix(rest.size() - end);
        rest.remove_prefix(end + 1);
    }
    return field;
}

bool is_in_list(std::string_view wanted, std::string_view list) noexcept {
    while (!list.empty()) {
        if (take_field(list, ',') == wanted) {
            return true;
        }
    }
    return false;
}

bool take_prefix(std::string_view prefix, std::string_view& text) noexcept {
    if (!text.starts_with(prefix)) {
        return false;
    }
    text.remove_prefix(prefix.size());
    return true;
}

/// The number at the front, which is cut off.
std::optional<std::uint64_t> take_number(std::string_view& text) noexcept {
    std::uint64_t number = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{}) {
        return std::nullopt;
    }
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return number;
}

constexpr std::string_view parent = "/..";

/// How many "/.." a path begins with, which are cut off.
std::size_t take_parents(std::string_view& path) noexcept {
    std::size_t count = 0;
    while (path.starts_with(parent) &&
           (path.size() == parent.size() || path[parent.size()] == '/')) {
        path.remove_prefix(parent.size());
        ++count;
    }
    return count;
}

}  // namespace

cgroup_line parse_cgroup_line(std::string_view line, std::string_view controller) noexcept {
    std::string_view const id = take_field(line, ':');
    std::string_view const controllers = take_field(line, ':');
    if (!line.starts_with('/')) {
        return {};
    }
    if (is_in_list(controller, controllers)) {
        return {.version = cgroup_version::v1, .path = line};
    }
    if (id == "0" && controllers.empty()) {
        return {.version = cgroup_version::v2, .path = line};
    }
    return {};
}

mount_line parse_mount_line(std::string_view line, std::string_view controller) noexcept {
    // 36 35 0:32 /root /point rw,relatime shared:1 master:2 - cgroup source rw,memory
    for (int i = 0; i < 3; ++i) {
        take_field(line, ' ');
    }
    mount_line result;
    result.root = take_field(line, ' ');
    result.point = take_field(line, ' ');
    while (!line.empty() && take_field(line, ' ') != "-") {
    }
    std::string_view const type = take_field(line, ' ');
    take_field(line, ' ');
    if (!result.root.starts_with('/') || !result.point.starts_with('/')) {
        return {};
    }
    if (type == "cgroup2") {
        result.version = cgroup_version::v2;
    } else if (type == "cgroup" && is_in_list(controller, take_field(line, ' '))) {
        result.version = cgroup_version::v1;
    }
    return result;
}

void append_unescaped(std::string_view text, base::text_sink& to) noexcept {
    auto const is_octal = [](char digit) { return digit >= '0' && digit <= '7'; };
    while (!text.empty()) {
        if (text.size() >= 4 && text[0] == '\\' && is_octal(text[1]) && is_octal(text[2]) &&
            is_octal(text[3])) {
            to << static_cast<char>((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text.remove_prefix(4);
        } else {
            to << text[0];
            text.remove_prefix(1);
        }
    }
}

std::optional<std::string_view> path_below(std::string_view root, std::string_view path) noexcept {
    if (root == "/") {
        root = {};
    }
    if (path == "/") {
        path = {};
    }
    std::size_t const root_parents = take_parents(root);
    std::size_t const path_parents = take_parents(path);
    if (root_parents > path_parents && root.empty()) {
        return std::string_view{};
    }
    if (root_parents != path_parents || !take_prefix(root, path) ||
        !(path.empty() || path.starts_with('/'))) {
        return std::nullopt;
    }
    return path;
}

std::optional<std::uint64_t> parse_number(std::string_view text) noexcept {
    std::optional<std::uint64_t> const number = take_number(text);
    return text.empty() || text == "\n" ? number : std::nullopt;
}

std::optional<std::uint64_t> parse_number_of(std::string_view key, std::string_view line) noexcept {
    if (!take_prefix(key, line) || !take_prefix(" ", line)) {
        return std::nullopt;
    }
    return parse_number(line);
}

std::size_t limit_of(std::optional<std::uint64_t> bytes) noexcept {
    // Version 1 says the largest number of pages that a long can count in bytes, which depends on
    // the size of a page. Nobody has half of that.
    constexpr std::uint64_t unlimited_bytes = std::uint64_t{1} << 62;
    return bytes && *bytes < unlimited_bytes ? static_cast<std::size_t>(*bytes) : no_limit;
}

std::size_t parse_limit(std::string_view text) noexcept { return limit_of(parse_number(text)); }

std::uint32_t cpu_thousandths(std::uint64_t quota_us, std::uint64_t period_us) noexcept {
    constexpr std::uint64_t us_max = std::uint64_t{1} << 50;  // the kernel's is lower
    if (period_us == 0 || quota_us > us_max) {
        return no_quota;
    }
    return static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(quota_us * 1000 / period_us, 1, no_quota));
}

std::uint32_t parse_cpu_max(std::string_view text) noexcept {
    std::optional<std::uint64_t> const quota = take_number(text);
    if (!quota || !take_prefix(" ", text)) {
        return no_quota;
    }
    std::optional<std::uint64_t> const period = parse_number(text);
    return period ? cpu_thousandths(*quota, *period) : no_quota;
}

bool parse_stall_line(std::string_view line, memory_stall& to) noexcept {
    std::string_view const kind = take_field(line, ' ');
    if (!take_prefix("avg10=", line)) {
        return false;
    }
    std::optional<std::uint64_t> const average = take_number(line);
    std::size_t const at = line.find(" total=");
    if (!average || *average > 100 || at == std::string_view::npos) {
        return false;
    }
    line.remove_prefix(at);
    take_prefix(" total=", line);
    std::optional<std::uint64_t> const total = parse_number(line);
    if (!total || (kind != "some" && kind != "full")) {
        return false;
    }
    (kind == "some" ? to.some_us : to.full_us) = *total;
    (kind == "some" ? to.some_avg10_percent : to.full_avg10_percent) =
        static_cast<std::uint32_t>(*average);
    return true;
}

}  // namespace tarn::impl::control
