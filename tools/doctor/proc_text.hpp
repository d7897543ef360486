// doctor/proc_text.hpp - the texts of /proc, read.
//
// Threads    pure; any thread
// Always     any text may be given; lines that make no sense are left out
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tarn::doctor {

/// The parts between separators, empty ones too; none for an empty text.
std::vector<std::string_view> split(std::string_view text, char separator);

/// The words between blanks and tabs.
std::vector<std::string_view> words_of(std::string_view text);

/// The whole text as a decimal number.
std::optional<std::uint64_t> number_of(std::string_view text);

/// What follows "KEY:" in a file of such lines, without blanks around it; empty when not there.
std::string_view value_of(std::string_view text, std::string_view key);

/// The choice that is in effect of a file like "always [madvise] never"; the text if none is.
std::string chosen_of(std::string_view text);

/// A file of /proc/PID/maps.
struct mapped_file {
    std::string path;
    bool is_deleted = false;
    bool is_code = false;        // some of it may be executed
    std::uint64_t start = 0;     // of its lowest mapping
    std::uint64_t end = 0;       // of the same
    std::uint64_t last_end = 0;  // of its highest mapping
};

struct memory_map {
    std::vector<mapped_file> files;  // each once, by address
    std::uint64_t mappings = 0;
    std::uint64_t tarn_bytes = 0;  // in mappings that Tarn has named
};

memory_map parse_maps(std::string_view text);

/// The environment that /proc/PID/environ holds.
class environment {
public:
    explicit environment(std::string text) : text_(std::move(text)) {}

    /// Empty when the variable is not set.
    [[nodiscard]] std::string value(std::string_view name) const;

    /// Whether it looks like one: programs may write over theirs, for a title in ps.
    [[nodiscard]] bool is_plausible() const;

private:
    std::string text_;
};

/// The value of an entry of /proc/PID/auxv.
std::optional<std::uint64_t> auxiliary_value(std::string_view bytes, std::uint64_t type);

/// The names in LD_PRELOAD, which blanks and colons separate, or in
/// /etc/ld.so.preload, which has comments too.
std::vector<std::string> preload_names(std::string_view list);

/// The soft limit of a line of /proc/PID/limits.
struct limit {
    bool is_known = false;
    std::optional<std::uint64_t> value;  // none: unlimited
};

limit soft_limit(std::string_view limits, std::string_view name);

/// A control group of a process, as a folder of this system.
struct control_group {
    unsigned version = 0;  // 1 or 2
    std::string mount;     // where the hierarchy begins, as we see it
    std::string folder;    // of the group, in `mount`; with `mount` alone when it lies outside
};

/// The group that `controller` ("memory", "cpu") obeys: `cgroup` is /proc/PID/cgroup, `mounts` our
/// own /proc/self/mountinfo.
std::optional<control_group> group_of(std::string_view controller, std::string_view cgroup,
                                      std::string_view mounts);

}  // namespace tarn::doctor
