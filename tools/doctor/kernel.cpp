#include "doctor/kernel.hpp"

#include <fmt/core.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "cli/report.hpp"
#include "doctor/files.hpp"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

namespace tarn::doctor {

namespace {

using cli::format_bytes;

// Of Linux 5.14 and 6.1; not in all headers.
constexpr int advice_populate_write = 23;
constexpr int advice_collapse = 25;
constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

/// Memory to try things on.
class scratch {
public:
    scratch()
        : base_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
          error_(base_ == MAP_FAILED ? errno : 0) {}

    ~scratch() {
        if (error_ == 0) {
            ::munmap(base_, bytes);
        }
    }

    scratch(scratch const&) = delete;
    scratch& operator=(scratch const&) = delete;

    /// errno of having none.
    [[nodiscard]] int error() const { return error_; }

    /// The start of a huge page in it.
    [[nodiscard]] std::byte* huge_page() const {
        auto const address = reinterpret_cast<std::uintptr_t>(base_);
        std::size_t const skip = (huge_page_bytes - address % huge_page_bytes) % huge_page_bytes;
        return static_cast<std::byte*>(base_) + skip;
    }

private:
    static constexpr std::size_t bytes = 2 * huge_page_bytes;
    void* base_;
    int error_;
};

int try_move(std::byte* from, std::size_t page_bytes) {
    void* const moved =
        ::mremap(from, page_bytes, page_bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr);
    if (moved == MAP_FAILED) {
        return errno;
    }
    ::munmap(moved, page_bytes);
    return 0;
}

feature_errors try_features(std::size_t page_bytes) {
    scratch const memory;
    if (memory.error() != 0) {
        int const error = memory.error();
        return {.collapse = error,
                .move = error,
                .name = error,
                .populate = error,
                .membarrier = error};
    }
    auto const error_of = [](long result) { return result < 0 ? errno : 0; };
    std::byte* const start = memory.huge_page();
    feature_errors errors;
    errors.populate = error_of(::madvise(start, page_bytes, advice_populate_write));
    *static_cast<std::byte volatile*>(start) =
        std::byte{1};  // collapsing wants a page to start from
    errors.collapse = error_of(::madvise(start, huge_page_bytes, advice_collapse));
    errors.move = try_move(start, page_bytes);
    errors.name = error_of(::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, start, page_bytes, "tarn"));
    errors.membarrier = error_of(::syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0));
    return errors;
}

std::uint64_t number_in(std::string const& path) {
    return number_of(chosen_of(read_text(path).text)).value_or(0);
}

/// "CommitLimit:   123 kB".
std::uint64_t memory_value(std::string_view text, std::string_view key) {
    auto const words = words_of(value_of(text, key));
    return words.empty() ? 0 : number_of(words[0]).value_or(0) * 1024;
}

/// The folders of a group and of those above it, as far as we see them.
std::vector<std::string> with_parents(control_group const& group) {
    std::vector<std::string> folders;
    for (std::string folder = group.folder; folder.size() >= group.mount.size();) {
        folders.push_back(folder);
        std::size_t const slash = folder.rfind('/');
        if (slash == std::string::npos) {
            break;
        }
        folder.resize(slash);
    }
    return folders;
}

/// The least of the numbers that a file of this name holds in the folders.
std::optional<std::uint64_t> least_in(std::vector<std::string> const& folders,
                                      std::string const& name) {
    constexpr std::uint64_t as_good_as_none = std::uint64_t{1} << 62;  // how version 1 says so
    std::optional<std::uint64_t> least;
    for (std::string const& folder : folders) {
        auto const value = number_of(chosen_of(read_text(fmt::format("{}/{}", folder, name)).text));
        if (value && *value < as_good_as_none) {
            least = std::min(least.value_or(*value), *value);
        }
    }
    return least;
}

/// Processors that the folder's quota comes to.
std::optional<double> processors_of(std::string const& folder, unsigned version) {
    std::optional<std::uint64_t> quota;
    std::optional<std::uint64_t> period;
    if (version == 2) {
        std::string const text = chosen_of(read_text(folder + "/cpu.max").text);
        auto const words = words_of(text);
        if (words.size() == 2) {
            quota = number_of(words[0]);
            period = number_of(words[1]);
        }
    } else {
        quota = number_of(chosen_of(read_text(folder + "/cpu.cfs_quota_us").text));
        period = number_of(chosen_of(read_text(folder + "/cpu.cfs_period_us").text));
    }
    if (!quota || !period || *period == 0) {
        return std::nullopt;
    }
    return static_cast<double>(*quota) / static_cast<double>(*period);
}

group_limits examine_groups(std::string const& process) {
    std::string const groups = read_text("/proc/" + process + "/cgroup").text;
    std::string const mounts = read_text("/proc/self/mountinfo").text;
    group_limits limits;
    if (auto const group = group_of("memory", groups, mounts)) {
        auto const folders = with_parents(*group);
        limits.version = group->version;
        limits.folder = group->folder;
        limits.memory_bytes =
            least_in(folders, group->version == 2 ? "memory.max" : "memory.limit_in_bytes");
        limits.memory_high_bytes = least_in(folders, "memory.high");  // version 1 has no such file
    }
    if (auto const group = group_of("cpu", groups, mounts)) {
        for (std::string const& folder : with_parents(*group)) {
            auto const here = processors_of(folder, group->version);
            if (here) {
                limits.processors = std::min(limits.processors.value_or(*here), *here);
            }
        }
    }
    return limits;
}

std::string huge_pages_meaning(std::string const& choice) {
    if (choice == "always") {
        return "quick to fill, but memory given back may return 2 MiB at a time";
    }
    if (choice == "madvise") {
        return "Tarn asks for huge pages itself, from huge_after_bytes on";
    }
    if (choice == "never") {
        return "none on faults; a program that locks all its memory starts slowly";
    }
    return choice.empty() ? "this kernel has none: more page faults" : "";
}

fact overcommit_fact(kernel_facts const& facts) {
    if (facts.overcommit_mode == "2") {
        return {"overcommit", "strict",
                fmt::format("of {} that may be promised {} are; what Tarn reserves does not count, "
                            "what it commits does, and malloc fails at the limit",
                            format_bytes(facts.commit_limit_bytes),
                            format_bytes(facts.committed_bytes)),
                2};
    }
    if (facts.overcommit_mode == "1") {
        return {"overcommit", "always", "malloc does not fail; the kernel kills instead", 1};
    }
    return {"overcommit", facts.overcommit_mode == "0" ? "heuristic" : "unknown",
            "what Tarn reserves does not count", number_of(facts.overcommit_mode)};
}

fact mappings_fact(kernel_facts const& facts) {
    std::string const meaning = "a heap needs 2 to 3 mappings a GiB; at the limit malloc fails";
    if (!facts.mappings) {
        return {"mappings", fmt::format("at most {}", facts.mappings_max), meaning,
                facts.mappings_max};
    }
    bool const is_near = *facts.mappings >= facts.mappings_max / 5 * 4;
    return {"mappings", fmt::format("{} of at most {}", *facts.mappings, facts.mappings_max),
            is_near ? "near the limit (vm.max_map_count), at which malloc fails" : meaning,
            facts.mappings};
}

void add_group(section& to, group_limits const& group) {
    if (group.version == 0) {
        to.facts.push_back({"memory_cgroup", "none", "nothing but the machine limits memory"});
    } else {
        std::string const where = fmt::format("version {}", group.version);
        to.facts.push_back(
            {"memory_cgroup",
             where + (group.memory_bytes ? ", at most " + format_bytes(*group.memory_bytes)
                                         : std::string{", no limit"}),
             group.memory_bytes ? "at the limit the kernel kills, malloc does not fail" : "",
             group.memory_bytes});
        if (group.memory_high_bytes) {
            to.facts.push_back({"memory_cgroup_high", format_bytes(*group.memory_high_bytes),
                                "above it the kernel takes pages away and slows the program",
                                group.memory_high_bytes});
        }
    }
    to.facts.push_back({"processor_quota",
                        group.processors ? fmt::format("{:.2f} processors", *group.processors)
                                         : std::string{"none"},
                        group.processors ? "threads beyond it wait; each still has a heap" : ""});
}

void add_limit(section& to, std::string key, limit const& of, std::string meaning) {
    std::string value = "unknown";
    if (of.is_known) {
        value = of.value ? format_bytes(*of.value) : "unlimited";
    }
    to.facts.push_back(
        {std::move(key), std::move(value), of.value ? std::move(meaning) : "", of.value});
}

void add_feature(section& to, std::string key, int error, std::string_view works,
                 std::string_view fails) {
    std::string value = "there";
    if (error == EINVAL || error == ENOSYS) {
        value = "not there";
    } else if (error != 0) {
        // NOLINTNEXTLINE(concurrency-mt-unsafe): tarn has one thread
        value = fmt::format("refused ({})", std::strerror(error));
    }
    to.facts.push_back({std::move(key), std::move(value), std::string{error == 0 ? works : fails},
                        error == 0 ? 1U : 0U});
}

}  // namespace

kernel_facts examine_kernel(std::string const& process) {
    kernel_facts facts;
    utsname names{};
    ::uname(&names);
    facts.release = names.release;
    facts.page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    std::string const huge = "/sys/kernel/mm/transparent_hugepage/";
    facts.huge_pages = chosen_of(read_text(huge + "enabled").text);
    facts.huge_pages_defrag = chosen_of(read_text(huge + "defrag").text);
    facts.overcommit_mode = chosen_of(read_text("/proc/sys/vm/overcommit_memory").text);
    std::string const memory = read_text("/proc/meminfo").text;
    facts.commit_limit_bytes = memory_value(memory, "CommitLimit");
    facts.committed_bytes = memory_value(memory, "Committed_AS");
    facts.mappings_max = number_in("/proc/sys/vm/max_map_count");
    facts.group = examine_groups(process);
    facts.has_pressure = read_text("/proc/pressure/memory").error == 0;
    std::string const limits = read_text("/proc/" + process + "/limits").text;
    facts.address_space = soft_limit(limits, "Max address space");
    facts.data = soft_limit(limits, "Max data size");
    facts.locked = soft_limit(limits, "Max locked memory");
    facts.features = try_features(facts.page_bytes);
    return facts;
}

section describe_kernel(kernel_facts const& facts) {
    section to{"kernel", {}};
    to.facts.push_back({"release", facts.release, ""});
    to.facts.push_back({"page_size", format_bytes(facts.page_bytes),
                        facts.page_bytes == 4096 ? "" : "Tarn asks for huge pages only with 4 KiB",
                        facts.page_bytes});
    to.facts.push_back({"huge_pages", facts.huge_pages.empty() ? "none" : facts.huge_pages,
                        huge_pages_meaning(facts.huge_pages)});
    if (!facts.huge_pages_defrag.empty()) {
        to.facts.push_back({"huge_pages_defrag", facts.huge_pages_defrag,
                            facts.huge_pages_defrag == "always"
                                ? "page faults may wait until a huge page is made"
                                : ""});
    }
    to.facts.push_back(overcommit_fact(facts));
    to.facts.push_back(mappings_fact(facts));
    add_group(to, facts.group);
    to.facts.push_back({"memory_pressure", facts.has_pressure ? "there" : "not there",
                        facts.has_pressure ? "/proc/pressure/memory says when memory is short"
                                           : "nothing says when memory is short",
                        facts.has_pressure ? 1U : 0U});
    add_limit(to, "limit_address_space", facts.address_space,
              "Tarn reserves less; a limit set after its start may leave it without memory");
    add_limit(to, "limit_data", facts.data, "Tarn reserves less; malloc fails at the limit");
    add_limit(to, "limit_locked_memory", facts.locked,
              "a program that locks all its memory is refused more");
    feature_errors const& errors = facts.features;
    add_feature(to, "MADV_COLLAPSE", errors.collapse, "huge pages for small blocks of big heaps",
                "no huge pages on request");
    add_feature(to, "MREMAP_DONTUNMAP", errors.move, "realloc of large blocks moves pages",
                "realloc of large blocks copies");
    add_feature(to, "anonymous_names", errors.name, "Tarn's mappings are named in /proc/PID/maps",
                "Tarn's mappings have no names");
    add_feature(to, "MADV_POPULATE_WRITE", errors.populate, "not needed by this version",
                "not needed by this version");
    add_feature(to, "membarrier", errors.membarrier, "not needed by this version",
                "not needed by this version");
    return to;
}

}  // namespace tarn::doctor
