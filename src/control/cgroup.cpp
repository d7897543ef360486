#include "control/cgroup.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include "base/attributes.hpp"
#include "base/errno_keeper.hpp"
#include "platform/os.hpp"

namespace tarn::impl::control {

using platform::os;

namespace {

constexpr std::size_t name_bytes_max = 64;  // of a file in a group's directory
using file_path = base::text_buffer<cgroup::bytes_max + name_bytes_max>;

/// The lines of a file. A line longer than the room is cut off.
class line_reader {
public:
    line_reader(char const* path, std::span<char> room) noexcept
        : room_{room}, fd_{os::open_read(path)} {}

    ~line_reader() {
        if (fd_ >= 0) {
            os::close_file(fd_);
        }
    }

    line_reader(line_reader const&) = delete;
    line_reader& operator=(line_reader const&) = delete;

    /// The next line without its end, until the following call. False: there are no more.
    bool next(std::string_view& line) noexcept {
        std::memmove(room_.data(), room_.data() + start_, filled_ - start_);
        filled_ -= start_;
        start_ = 0;
        bool is_cut = false;
        std::size_t searched = 0;
        for (;;) {
            auto const* const newline = filled_ == searched ? nullptr
                                                            : std::memchr(room_.data() + searched,
                                                                          '\n', filled_ - searched);
            if (newline != nullptr) {
                std::size_t const end = offset_of(newline);
                start_ = end + 1;
                line = {room_.data(), is_cut ? cut_bytes() : end};
                return true;
            }
            if (filled_ == room_.size()) {  // keep the beginning, read on behind it
                is_cut = true;
                filled_ = cut_bytes();
            }
            searched = filled_;
            if (!fill()) {
                start_ = filled_;
                line = {room_.data(), filled_};
                return filled_ != 0;
            }
        }
    }

private:
    [[nodiscard]] std::size_t cut_bytes() const noexcept { return room_.size() / 4 * 3; }

    [[nodiscard]] std::size_t offset_of(void const* at) const noexcept {
        return static_cast<std::size_t>(static_cast<char const*>(at) - room_.data());
    }

    bool fill() noexcept {
        if (fd_ < 0) {
            return false;
        }
        std::ptrdiff_t const got =
            os::read_some(fd_, room_.data() + filled_, room_.size() - filled_);
        if (got <= 0) {
            return false;
        }
        filled_ += static_cast<std::size_t>(got);
        return true;
    }

    std::span<char> room_;
    int fd_;
    std::size_t start_ = 0;  // of what next() has not given yet
    std::size_t filled_ = 0;
};

/// Calls visit(line) for every line until it says true. True: it did. Not inlined: its room is not
/// to add to that of other calls.
template <std::size_t Room = 256, class Visit>
TARN_NOINLINE bool any_line(std::string_view directory, std::string_view name,
                            Visit visit) noexcept {
    file_path path;
    path << directory << name << '\0';
    if (path.truncated()) {
        return false;
    }
    std::array<char, Room> room;
    line_reader lines{path.view().data(), room};
    for (std::string_view line; lines.next(line);) {
        if (visit(line)) {
            return true;
        }
    }
    return false;
}

/// The first line, as `parse` understands it; what it makes of an empty line when there is none.
template <class Parse>
auto first_line(std::string_view directory, std::string_view name, Parse parse) noexcept {
    auto result = parse(std::string_view{});
    any_line(directory, name, [&](std::string_view line) {
        result = parse(line);
        return true;
    });
    return result;
}

std::optional<std::uint64_t> number_of(std::string_view key, std::string_view directory,
                                       std::string_view name) noexcept {
    std::optional<std::uint64_t> number;
    any_line(directory, name, [&](std::string_view line) {
        number = parse_number_of(key, line);
        return number.has_value();
    });
    return number;
}

/// Calls visit(directory) for the group and its ancestors up to the mount point.
template <class Visit>
void for_each_level(cgroup const& of, Visit visit) noexcept {
    std::string_view directory = of.directory();
    for (;;) {  // each time one '/' less
        visit(directory);
        if (directory.size() <= of.mount_bytes) {
            return;
        }
        directory.remove_suffix(directory.size() - directory.rfind('/'));
    }
}

std::string_view name_of(cgroup_controller controller) noexcept {
    return controller == cgroup_controller::memory ? "memory" : "cpu";
}

constexpr std::size_t mount_line_bytes_max = 1024;  // those of other file systems may be longer

/// The path in /proc/self/cgroup; the version of the hierarchy it belongs to.
cgroup_version find_path(std::string_view controller, std::string_view root,
                         base::text_sink& path) noexcept {
    cgroup_version found = cgroup_version::none;
    any_line<mount_line_bytes_max>(root, "/proc/self/cgroup", [&](std::string_view line) {
        cgroup_line const parsed = parse_cgroup_line(line, controller);
        if (parsed.version == cgroup_version::none) {
            return false;
        }
        found = parsed.version;
        path.clear();
        path << parsed.path;
        // Version 1 first: where both are mounted, the controller is in one of them.
        return found == cgroup_version::v1;
    });
    return path.truncated() ? cgroup_version::none : found;
}

}  // namespace

cgroup find_cgroup(cgroup_controller controller, std::string_view root) noexcept {
    base::errno_keeper const kept;
    cgroup result;
    base::text_buffer<cgroup::bytes_max> path;
    cgroup_version const version = find_path(name_of(controller), root, path);
    if (version == cgroup_version::none) {
        return result;
    }
    std::size_t shortest = no_limit;  // the mount that shows most ancestors
    any_line<mount_line_bytes_max>(root, "/proc/self/mountinfo", [&](std::string_view line) {
        mount_line const mount = parse_mount_line(line, name_of(controller));
        if (mount.version != version || mount.root.size() >= shortest) {
            return false;
        }
        base::text_buffer<cgroup::bytes_max> mounted;
        append_unescaped(mount.root, mounted);
        std::optional<std::string_view> const below = path_below(mounted.view(), path.view());
        if (mounted.truncated() || !below) {
            return false;
        }
        base::text_sink directory{result.text.data(), result.text.size()};
        directory << root;
        append_unescaped(mount.point, directory);
        std::size_t const mount_bytes = directory.view().size();
        directory << *below;
        shortest = mount.root.size();
        result.version = directory.truncated() ? cgroup_version::none : version;
        result.mount_bytes = static_cast<std::uint16_t>(mount_bytes);
        result.bytes = static_cast<std::uint16_t>(directory.view().size());
        result.limiting_bytes = result.bytes;
        return false;
    });
    return result;
}

memory_limits read_memory_limits(cgroup& of) noexcept {
    base::errno_keeper const kept;
    memory_limits least;
    of.limiting_bytes = of.bytes;
    if (of.version == cgroup_version::none) {
        return least;
    }
    bool const is_v1 = of.version == cgroup_version::v1;
    for_each_level(of, [&](std::string_view level) {
        std::size_t const before = std::min(least.hard_bytes, least.high_bytes);
        std::size_t const hard =
            first_line(level, is_v1 ? "/memory.limit_in_bytes" : "/memory.max", parse_limit);
        std::size_t const high = is_v1 ? no_limit : first_line(level, "/memory.high", parse_limit);
        least.hard_bytes = std::min(least.hard_bytes, hard);
        least.high_bytes = std::min(least.high_bytes, high);
        if (std::min(hard, high) < before) {
            of.limiting_bytes = static_cast<std::uint16_t>(level.size());
        }
    });
    if (is_v1) {
        // Includes ancestors that are not mounted. The nearest of those is out of sight, and the
        // topmost group one can see is the one whose usage comes closest to its.
        std::size_t const all =
            limit_of(number_of("hierarchical_memory_limit", of.directory(), "/memory.stat"));
        if (all < least.hard_bytes) {
            least.hard_bytes = all;
            of.limiting_bytes = of.mount_bytes;
        }
    }
    return least;
}

std::optional<memory_usage> read_memory_usage(cgroup const& of) noexcept {
    base::errno_keeper const kept;
    if (of.version == cgroup_version::none) {
        return std::nullopt;
    }
    bool const is_v1 = of.version == cgroup_version::v1;
    std::string_view const group = of.limiting_directory();
    std::optional<std::uint64_t> const used =
        first_line(group, is_v1 ? "/memory.usage_in_bytes" : "/memory.current", parse_number);
    if (!used) {
        return std::nullopt;
    }
    std::uint64_t const idle_cache =
        number_of(is_v1 ? "total_inactive_file" : "inactive_file", group, "/memory.stat")
            .value_or(0);
    return memory_usage{
        .charged_bytes = static_cast<std::size_t>(*used),
        .needed_bytes = static_cast<std::size_t>(*used - std::min(*used, idle_cache))};
}

std::uint64_t memory_exhaustions(cgroup const& of) noexcept {
    base::errno_keeper const kept;
    switch (of.version) {
        case cgroup_version::none:
            break;
        case cgroup_version::v1:
            return number_of("oom_kill", of.limiting_directory(), "/memory.oom_control")
                .value_or(0);
        case cgroup_version::v2:
            return number_of("oom", of.limiting_directory(), "/memory.events").value_or(0);
    }
    return 0;
}

std::optional<memory_stall> read_memory_stall(cgroup const& of, std::string_view root) noexcept {
    base::errno_keeper const kept;
    auto const read = [](std::string_view directory, std::string_view name) {
        memory_stall stall;
        bool is_told = false;
        any_line(directory, name, [&](std::string_view line) {
            is_told = parse_stall_line(line, stall) || is_told;
            return false;
        });
        return is_told ? std::optional{stall} : std::nullopt;
    };
    if (of.version == cgroup_version::v2) {
        auto const stall = read(of.directory(), "/memory.pressure");
        if (stall) {
            return stall;
        }
    }
    return read(root, "/proc/pressure/memory");
}

std::uint32_t read_cpu_thousandths(std::string_view root) noexcept {
    base::errno_keeper const kept;
    std::uint32_t const cpus = std::min<std::uint32_t>(os::cpus_allowed(), no_quota / 1000);
    std::uint32_t least = cpus * 1000;
    cgroup const group = find_cgroup(cgroup_controller::cpu, root);
    if (group.version == cgroup_version::none) {
        return least;
    }
    for_each_level(group, [&](std::string_view level) {
        if (group.version == cgroup_version::v2) {
            least = std::min(least, first_line(level, "/cpu.max", parse_cpu_max));
            return;
        }
        auto const quota = first_line(level, "/cpu.cfs_quota_us", parse_number);  // -1: none
        auto const period = first_line(level, "/cpu.cfs_period_us", parse_number);
        if (quota && period) {
            least = std::min(least, cpu_thousandths(*quota, *period));
        }
    });
    return least;
}

}  // namespace tarn::impl::control
