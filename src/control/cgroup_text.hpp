// control/cgroup_text.hpp - understands the text of /proc's and cgroupfs' files, line by line.
//
// Threads    any: pure functions
// Always     text that is not as documented counts as not told; views point into the text given
// Source     proc_pid_mountinfo(5), cgroups(7) and the kernel's Documentation/admin-guide:
//            cgroup-v1/memory.rst, cgroup-v2.rst, Documentation/accounting/psi.rst
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "base/text.hpp"

namespace tarn::impl::control {

enum class cgroup_version : std::uint8_t { none, v1, v2 };

inline constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();
inline constexpr std::uint32_t no_quota = std::numeric_limits<std::uint32_t>::max();

/// A line of /proc/self/cgroup: "4:memory:/jobs/7" or "0::/jobs/7".
struct cgroup_line {
    cgroup_version version = cgroup_version::none;  // none: of another controller
    std::string_view path;
};

[[nodiscard]] cgroup_line parse_cgroup_line(std::string_view line,
                                            std::string_view controller) noexcept;

/// A line of /proc/self/mountinfo. In root and point, blanks and the like are octal: "\040".
struct mount_line {
    cgroup_version version = cgroup_version::none;  // none: not a cgroup file system for us
    std::string_view root;                          // the cgroup that is mounted
    std::string_view point;                         // where
};

[[nodiscard]] mount_line parse_mount_line(std::string_view line,
                                          std::string_view controller) noexcept;

/// Appends `text` with "\040" and the like replaced by what they stand for.
void append_unescaped(std::string_view text, base::text_sink& to) noexcept;

/// What to append to a mount point to get to the group at `path`, where the group at `root` is
/// mounted. Both may begin with "/..": parts outside of a cgroup namespace. The empty text, that is
/// the nearest ancestor one can see, when `root` lies above the namespace and `path` in it. Nothing
/// when `path` is not below `root`.
[[nodiscard]] std::optional<std::string_view> path_below(std::string_view root,
                                                         std::string_view path) noexcept;

/// The number a line or a file consists of; one newline may follow.
[[nodiscard]] std::optional<std::uint64_t> parse_number(std::string_view text) noexcept;

/// The number in "key number".
[[nodiscard]] std::optional<std::uint64_t> parse_number_of(std::string_view key,
                                                           std::string_view line) noexcept;

/// memory.max, memory.limit_in_bytes and their kin. no_limit for "max", for version 1's largest
/// number of whole pages, and for what is not a number.
[[nodiscard]] std::size_t parse_limit(std::string_view text) noexcept;
[[nodiscard]] std::size_t limit_of(std::optional<std::uint64_t> bytes) noexcept;

/// cpu.max, "quota period" in us, in thousandths of a CPU, at least 1; no_quota for "max period",
/// and for what is not such text.
[[nodiscard]] std::uint32_t parse_cpu_max(std::string_view text) noexcept;
[[nodiscard]] std::uint32_t cpu_thousandths(std::uint64_t quota_us,
                                            std::uint64_t period_us) noexcept;

/// Time lost waiting for memory, since the system or the group was started.
struct memory_stall {
    std::uint64_t some_us = 0;  // at least one task waited
    std::uint64_t full_us = 0;  // all tasks waited that had work
    std::uint32_t some_avg10_percent = 0;
    std::uint32_t full_avg10_percent = 0;
};

/// Enters what a line of /proc/pressure/memory or memory.pressure says. False: it says nothing.
bool parse_stall_line(std::string_view line, memory_stall& to) noexcept;

}  // namespace tarn::impl::control
