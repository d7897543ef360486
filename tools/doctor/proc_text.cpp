#include "doctor/proc_text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <system_error>
#include <utility>

namespace tarn::doctor {

namespace {

constexpr std::string_view deleted_mark = " (deleted)";

std::string_view trimmed(std::string_view text) {
    std::size_t const start = text.find_first_not_of(" \t\n");
    return start == std::string_view::npos
               ? std::string_view{}
               : text.substr(start, text.find_last_not_of(" \t\n") + 1 - start);
}

std::optional<std::uint64_t> hexadecimal(std::string_view text) {
    std::uint64_t number = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
    bool const whole = error == std::errc{} && end == text.data() + text.size();
    return whole ? std::optional{number} : std::nullopt;
}

/// Undoes the kernel's "\012" for characters that would break a line.
std::string unescaped(std::string_view text) {
    constexpr std::size_t digits = 3;
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned code = 0;
        if (text[i] == '\\' && text.size() - i > digits) {
            char const* const from = text.data() + i + 1;
            auto const [end, error] = std::from_chars(from, from + digits, code, 8);
            if (error == std::errc{} && end == from + digits && code < 256) {
                result += static_cast<char>(code);
                i += digits;
                continue;
            }
        }
        result += text[i];
    }
    return result;
}

/// A line of maps: "START-END PERMISSIONS OFFSET DEVICE INODE   NAME".
struct mapping {
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    bool is_code = false;
    std::string_view name;
};

std::optional<mapping> parse_mapping(std::string_view line) {
    auto const words = words_of(line);
    constexpr std::size_t words_before_name = 5;
    if (words.size() < words_before_name) {
        return std::nullopt;
    }
    auto const range = split(words[0], '-');
    auto const start = range.size() == 2 ? hexadecimal(range[0]) : std::nullopt;
    auto const end = range.size() == 2 ? hexadecimal(range[1]) : std::nullopt;
    if (!start || !end || *end < *start) {
        return std::nullopt;
    }
    // The name may have blanks of its own, so it is all that follows the inode.
    std::string_view const inode = words[words_before_name - 1];
    auto const behind = static_cast<std::size_t>(inode.data() + inode.size() - line.data());
    return mapping{*start, *end, words[1].find('x') != std::string_view::npos,
                   trimmed(line.substr(behind))};
}

void add_mapping(memory_map& map, mapping const& each) {
    if (each.name == "[anon:tarn]") {
        map.tarn_bytes += each.end - each.start;
    }
    if (!each.name.starts_with('/')) {
        return;
    }
    bool const deleted = each.name.ends_with(deleted_mark);
    std::string path = unescaped(
        deleted ? each.name.substr(0, each.name.size() - deleted_mark.size()) : each.name);
    auto const known = std::find_if(
        map.files.begin(), map.files.end(),
        [&](mapped_file const& file) { return file.path == path && file.is_deleted == deleted; });
    if (known != map.files.end()) {
        known->is_code = known->is_code || each.is_code;
        known->last_end = each.end;
    } else {
        map.files.push_back(
            {std::move(path), deleted, each.is_code, each.start, each.end, each.end});
    }
}

/// A line of mountinfo: "ID PARENT DEVICE ROOT MOUNT OPTIONS FIELDS... - TYPE SOURCE OPTIONS".
struct mount_line {
    std::string root;
    std::string mount;
    std::string_view type;
    std::string_view options;
};

std::optional<mount_line> parse_mount(std::string_view line) {
    auto const words = words_of(line);
    auto const dash = std::find(words.begin(), words.end(), "-");
    if (dash - words.begin() < 6 || words.end() - dash < 4) {
        return std::nullopt;
    }
    return mount_line{unescaped(words[3]), unescaped(words[4]), dash[1], dash[3]};
}

bool lists(std::string_view list, std::string_view wanted) {
    auto const parts = split(list, ',');
    return std::find(parts.begin(), parts.end(), wanted) != parts.end();
}

/// The folder of group `path` in a hierarchy whose part from `root` on is mounted.
std::string group_folder(mount_line const& mount, std::string_view path) {
    std::string_view below = path;
    if (mount.root != "/") {
        bool const inside = below.starts_with(mount.root) &&
                            (below.size() == mount.root.size() || below[mount.root.size()] == '/');
        below = inside ? below.substr(mount.root.size()) : std::string_view{};
    }
    if (below == "/" || below.starts_with("/..")) {  // outside of our cgroup namespace
        below = {};
    }
    return mount.mount + std::string{below};
}

}  // namespace

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (std::size_t start = 0; !text.empty() && start <= text.size();) {
        std::size_t const end = std::min(text.find(separator, start), text.size());
        parts.push_back(text.substr(start, end - start));
        start = end + 1;
    }
    return parts;
}

std::vector<std::string_view> words_of(std::string_view text) {
    std::vector<std::string_view> words;
    for (std::size_t start = text.find_first_not_of(" \t"); start < text.size();) {
        std::size_t const end = std::min(text.find_first_of(" \t", start), text.size());
        words.push_back(text.substr(start, end - start));
        start = text.find_first_not_of(" \t", end);
    }
    return words;
}

std::optional<std::uint64_t> number_of(std::string_view text) {
    std::uint64_t number = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    bool const whole = error == std::errc{} && end == text.data() + text.size();
    return whole ? std::optional{number} : std::nullopt;
}

std::string_view value_of(std::string_view text, std::string_view key) {
    for (std::string_view const line : split(text, '\n')) {
        if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ':') {
            return trimmed(line.substr(key.size() + 1));
        }
    }
    return {};
}

std::string chosen_of(std::string_view text) {
    std::size_t const begin = text.find('[');
    std::size_t const end = text.find(']');
    bool const marked = begin < end && end != std::string_view::npos;
    return std::string{marked ? text.substr(begin + 1, end - begin - 1) : trimmed(text)};
}

memory_map parse_maps(std::string_view text) {
    memory_map map;
    for (std::string_view const line : split(text, '\n')) {
        if (auto const each = parse_mapping(line)) {
            ++map.mappings;
            add_mapping(map, *each);
        }
    }
    return map;
}

std::string environment::value(std::string_view name) const {
    for (std::string_view const entry : split(text_, '\0')) {
        if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=') {
            return std::string{entry.substr(name.size() + 1)};
        }
    }
    return {};
}

bool environment::is_plausible() const {
    auto const entries = split(text_, '\0');
    return !entries.empty() && entries[0].find('=') != std::string_view::npos &&
           std::count(entries.begin(), entries.end(), "") <= 1;  // the end
}

std::optional<std::uint64_t> auxiliary_value(std::string_view bytes, std::uint64_t type) {
    using entry = std::array<std::uint64_t, 2>;
    for (std::size_t at = 0; at + sizeof(entry) <= bytes.size(); at += sizeof(entry)) {
        entry each{};
        std::memcpy(&each, bytes.data() + at, sizeof each);
        if (each[0] == type) {
            return each[1];
        }
    }
    return std::nullopt;
}

std::vector<std::string> preload_names(std::string_view list) {
    std::vector<std::string> names;
    constexpr std::string_view separators = ": \t";
    for (std::string_view line : split(list, '\n')) {
        line = line.substr(0, line.find('#'));
        for (std::size_t start = line.find_first_not_of(separators); start < line.size();) {
            std::size_t const end = std::min(line.find_first_of(separators, start), line.size());
            names.emplace_back(line.substr(start, end - start));
            start = line.find_first_not_of(separators, end);
        }
    }
    return names;
}

limit soft_limit(std::string_view limits, std::string_view name) {
    for (std::string_view const line : split(limits, '\n')) {
        auto const words = line.starts_with(name) ? words_of(line.substr(name.size()))
                                                  : std::vector<std::string_view>{};
        if (!words.empty()) {
            auto const value = number_of(words[0]);
            return {.is_known = value || words[0] == "unlimited", .value = value};
        }
    }
    return {};
}

std::optional<control_group> group_of(std::string_view controller, std::string_view cgroup,
                                      std::string_view mounts) {
    std::string_view first_path;   // of version 1
    std::string_view second_path;  // of version 2
    for (std::string_view const line : split(cgroup, '\n')) {
        std::size_t const one = line.find(':');
        std::size_t const two = one < line.size() ? line.find(':', one + 1) : one;
        if (two >= line.size()) {
            continue;
        }
        std::string_view const controllers = line.substr(one + 1, two - one - 1);
        if (lists(controllers, controller)) {
            first_path = line.substr(two + 1);
        } else if (controllers.empty()) {
            second_path = line.substr(two + 1);
        }
    }
    // A controller is in one hierarchy only; where version 1 has it, version 2 has not.
    bool const is_first = !first_path.empty();
    for (std::string_view const line : split(mounts, '\n')) {
        auto const mount = parse_mount(line);
        bool const fits =
            mount && (is_first ? mount->type == "cgroup" && lists(mount->options, controller)
                               : mount->type == "cgroup2" && !second_path.empty());
        if (fits) {
            return control_group{is_first ? 1U : 2U, mount->mount,
                                 group_folder(*mount, is_first ? first_path : second_path)};
        }
    }
    return std::nullopt;
}

}  // namespace tarn::doctor
