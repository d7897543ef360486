// control/cgroup.hpp - what the cgroups of this process allow it: memory, CPU time, and how much
// tasks wait for memory. Version 1, version 2 and both at once, in containers and namespaces too.
//
// Threads    any. Async-signal-safe.
// Always     works before libc is ready; allocates nothing; keeps errno; 4.5 KiB of stack at most.
//            A file that is absent or not as documented counts as not told, and its ancestors may
//            still tell. An ancestor outside of what is mounted can't be seen.
// Cost       find_cgroup(): two files of /proc. The rest: a file or two per level of the hierarchy.
//            Some microseconds per file.
// For tests  `root` is put before every path: a tree of files in place of the system's
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "control/cgroup_text.hpp"

namespace tarn::impl::control {

enum class cgroup_controller : std::uint8_t { memory, cpu };

/// A group's directory, and what of it is the mount point, where its ancestors end.
struct cgroup {
    static constexpr std::size_t bytes_max = 512;  // a longer path counts as not told

    cgroup_version version = cgroup_version::none;  // none: there is no group, or it is not told
    std::uint16_t bytes = 0;
    std::uint16_t mount_bytes = 0;
    std::uint16_t limiting_bytes = 0;  // set by read_memory_limits()
    std::array<char, bytes_max> text;

    [[nodiscard]] std::string_view directory() const noexcept { return {text.data(), bytes}; }

    /// The group that sets the limit: an ancestor or the group itself.
    [[nodiscard]] std::string_view limiting_directory() const noexcept {
        return {text.data(), limiting_bytes};
    }
};

/// The group of this process. Where version 1 has the controller, that one.
[[nodiscard]] cgroup find_cgroup(cgroup_controller controller, std::string_view root = {}) noexcept;

struct memory_limits {
    std::size_t hard_bytes = no_limit;  // beyond it the kernel kills
    std::size_t high_bytes = no_limit;  // beyond it the kernel slows down; version 2 alone
};

/// The least limits of the group and its ancestors.
memory_limits read_memory_limits(cgroup& of) noexcept;

/// Memory in use by the group that sets the limit.
struct memory_usage {
    std::size_t charged_bytes = 0;  // all that the limit is compared with
    /// Without the file cache not used lately, which the kernel takes back before it refuses or
    /// kills: else a program that reads much would seem to be at its limit. Cache in use and
    /// kernel memory count.
    std::size_t needed_bytes = 0;
};

/// After read_memory_limits(), which finds the group. Nothing where the system does not tell.
[[nodiscard]] std::optional<memory_usage> read_memory_usage(cgroup const& of) noexcept;

/// How often the kernel has killed in the group that sets the limit, or found nothing else to do;
/// 0 where the system does not tell.
[[nodiscard]] std::uint64_t memory_exhaustions(cgroup const& of) noexcept;

/// Waits for memory in the group (version 2), else in the whole system.
[[nodiscard]] std::optional<memory_stall> read_memory_stall(cgroup const& of,
                                                            std::string_view root = {}) noexcept;

/// CPU time this process may use, in thousandths of a CPU: the least quota of its group and its
/// ancestors, and the CPUs the calling thread may run on. At least 1.
[[nodiscard]] std::uint32_t read_cpu_thousandths(std::string_view root = {}) noexcept;

}  // namespace tarn::impl::control
