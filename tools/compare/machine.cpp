#include "compare/machine.hpp"

#include <fmt/core.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <string_view>

#include "cli/report.hpp"

namespace tarn::compare {

namespace {

/// The value of the first line "KEY<separator>VALUE" of a file, without quotes; empty if none.
std::string value_in_file(char const* path, std::string_view key, char separator) {
    std::ifstream file{path};
    for (std::string line; std::getline(file, line);) {
        if (line.compare(0, key.size(), key) != 0) {
            continue;
        }
        std::size_t const at = line.find(separator);
        if (at == std::string::npos) {
            continue;
        }
        std::string value = line.substr(at + 1);
        std::size_t const begin = value.find_first_not_of(" \t\"");
        std::size_t const end = value.find_last_not_of(" \t\"");
        return begin == std::string::npos ? "" : value.substr(begin, end - begin + 1);
    }
    return {};
}

std::string first_line(char const* path) {
    std::ifstream file{path};
    std::string line;
    std::getline(file, line);
    return line;
}

std::string bracketed(std::string const& text) {
    std::size_t const begin = text.find('[');
    std::size_t const end = text.find(']');
    return begin == std::string::npos || end == std::string::npos
               ? text
               : text.substr(begin + 1, end - begin - 1);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> describe_machine() {
    std::vector<std::pair<std::string, std::string>> facts;
    auto const add = [&facts](char const* name, std::string value) {
        if (!value.empty()) {
            facts.emplace_back(name, std::move(value));
        }
    };
    long const processors = ::sysconf(_SC_NPROCESSORS_ONLN);
    std::string const model = value_in_file("/proc/cpuinfo", "model name", ':');
    add("processors", fmt::format("{} x {}", processors, model.empty() ? "unknown" : model));
    auto const os_pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
    auto const os_page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    add("memory", fmt::format("{}, pages of {}", cli::format_bytes(os_pages * os_page_bytes),
                              cli::format_bytes(os_page_bytes)));
    utsname names{};
    ::uname(&names);
    add("system", fmt::format("{}, {} {} {}", value_in_file("/etc/os-release", "PRETTY_NAME", '='),
                              names.sysname, names.release, names.machine));
    add("transparent huge pages",
        bracketed(first_line("/sys/kernel/mm/transparent_hugepage/enabled")));
    add("overcommit", first_line("/proc/sys/vm/overcommit_memory"));
    return facts;
}

}  // namespace tarn::compare
