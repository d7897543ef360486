#include "doctor/process.hpp"

#include <elf.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "doctor/files.hpp"
#include "doctor/link_map.hpp"
#include "doctor/proc_text.hpp"
#include "doctor/user.hpp"

namespace tarn::doctor {

namespace {

namespace fs = std::filesystem;

/// The target of a link of /proc; empty when it can't be read.
std::string link_target(std::string const& path) {
    std::error_code error;
    fs::path const target = fs::read_symlink(path, error);
    return error ? std::string{} : target.native();
}

/// What stands in /proc for one process.
class process_folder {
public:
    explicit process_folder(std::uint64_t number) : folder_(fmt::format("/proc/{}", number)) {
        status_ = read_text(path("status")).text;
        if (status_.empty()) {
            bool const has_proc = ::access("/proc/self/status", R_OK) == 0;
            throw cannot_tell{has_proc ? fmt::format("process {}: there is none", number)
                                       : "/proc is not there, so processes can't be seen"};
        }
        is_here_ = link_target(path("ns/mnt")) == link_target("/proc/self/ns/mnt");
    }

    [[nodiscard]] std::string path(std::string_view name) const {
        return fmt::format("{}/{}", folder_, name);
    }

    [[nodiscard]] std::string status(std::string_view key) const {
        return std::string{value_of(status_, key)};
    }

    [[nodiscard]] uid_t user() const {
        auto const words = words_of(value_of(status_, "Uid"));
        auto const user = words.empty() ? std::nullopt : number_of(words[0]);
        return static_cast<uid_t>(user.value_or(0));
    }

    /// Whether the process sees the same file systems as we do.
    [[nodiscard]] bool is_here() const { return is_here_; }

    /// Where we find what the process calls `name`.
    [[nodiscard]] std::string as_process_sees(std::string const& name) const {
        return name.starts_with('/') ? path("root") + name : path("cwd") + "/" + name;
    }

    /// Where we find a file that maps names: paths there are as we see them, except those of
    /// another mount namespace.
    [[nodiscard]] std::string mapped_file_path(mapped_file const& file) const {
        std::string by_address = path(fmt::format("map_files/{:x}-{:x}", file.start, file.end));
        if (::access(by_address.c_str(), R_OK) == 0) {  // the very file, but for root only
            return by_address;
        }
        return is_here_ ? file.path : path("root") + file.path;
    }

private:
    std::string folder_;
    std::string status_;
    bool is_here_ = true;
};

/// Reads maps, or says why it can't.
memory_map read_maps(process_folder const& process, std::uint64_t number) {
    if (process.status("State").find_first_of("ZX") == 0) {
        throw cannot_tell{fmt::format("process {}: it has ended", number)};
    }
    if (process.status("VmSize").empty()) {
        throw cannot_tell{
            fmt::format("process {}: a thread of the kernel, which has no malloc", number)};
    }
    text_file const maps = read_text(process.path("maps"));
    if (maps.error == EACCES || maps.error == EPERM) {
        bool const is_helped = ::geteuid() != process.user() && ::geteuid() != 0;
        throw cannot_tell{fmt::format(
            "process {}: not permitted to look into it; it belongs to {}{}", number,
            user_name(process.user()), is_helped ? ": ask as that user or as root" : "")};
    }
    if (maps.text.empty()) {
        throw cannot_tell{fmt::format("process {}: it has ended", number)};
    }
    return parse_maps(maps.text);
}

object read_mapped(process_folder const& process, mapped_file const& file) {
    std::string const where = process.mapped_file_path(file);
    bool const is_gone = file.is_deleted && where == file.path;  // another file may lie there now
    auto read = is_gone ? std::nullopt : read_object(where, file.path);
    object result = read ? std::move(*read) : describe_unread_object(file.path);
    result.is_deleted = file.is_deleted;
    return result;
}

mapped_object read_program(process_folder const& process, memory_map const& map,
                           std::uint64_t number) {
    constexpr std::string_view deleted_mark = " (deleted)";
    std::string path = link_target(process.path("exe"));
    if (path.empty()) {
        throw cannot_tell{fmt::format("process {}: its program can't be seen", number)};
    }
    bool const is_deleted = path.ends_with(deleted_mark);
    if (is_deleted) {
        path.resize(path.size() - deleted_mark.size());
    }
    auto read = read_object(process.path("exe"), path);
    if (!read) {
        throw cannot_tell{fmt::format("process {}: its program {} can't be read", number, path)};
    }
    mapped_object program{std::move(*read)};
    program.what.is_deleted = is_deleted;
    for (mapped_file const& each : map.files) {
        if (each.path == path) {
            program.start = each.start;
            program.end = each.last_end;
        }
    }
    return program;
}

/// Paths of symbolic links become those of the files, as maps shows them.
std::vector<std::string> resolved(std::vector<std::string> names, process_folder const& process) {
    for (std::string& name : names) {
        std::error_code error;
        if (process.is_here() && name.starts_with('/')) {
            fs::path const real = fs::canonical(name, error);
            name = error ? name : real.native();
        }
    }
    return names;
}

std::optional<wanted_tarn> find_wanted(preload_settings const& settings,
                                       process_folder const& process) {
    for (auto const* names : {&settings.by_variable, &settings.by_file}) {
        for (std::string const& name : *names) {
            allocator const* const meant = allocator_called(name);
            if (meant != nullptr && meant->name == tarn_name) {
                bool const is_path = name.find('/') != std::string::npos;
                return wanted_tarn{
                    name, !is_path || ::access(process.as_process_sees(name).c_str(), R_OK) == 0};
            }
        }
    }
    return std::nullopt;
}

/// Needs the rights to read the process's memory, which are more than to see what it has mapped.
std::vector<std::uint64_t> read_loaded(process_folder const& process, std::string const& auxv) {
    auto const headers = auxiliary_value(auxv, AT_PHDR);
    auto const count = auxiliary_value(auxv, AT_PHNUM);
    std::ifstream memory{process.path("mem"), std::ios::binary};
    if (!headers || !count || !memory) {
        return {};
    }
    auto const read = [&memory](std::uint64_t address, std::span<std::byte> to) {
        memory.clear();
        memory.seekg(static_cast<std::streamoff>(address));
        memory.read(reinterpret_cast<char*>(to.data()), static_cast<std::streamsize>(to.size()));
        return static_cast<std::size_t>(memory.gcount()) == to.size();
    };
    return read_link_map(read, *headers, *count);
}

}  // namespace

process_facts examine_process(std::uint64_t number) {
    process_folder const process{number};
    process_facts facts;
    facts.number = number;
    facts.command = process.status("Name");
    facts.user = user_name(process.user());
    memory_map const map = read_maps(process, number);
    facts.program = read_program(process, map, number);
    for (mapped_file const& each : map.files) {
        if (each.is_code && each.path != facts.program.what.path) {
            facts.mapped.push_back({read_mapped(process, each), each.start, each.last_end});
        }
    }
    facts.mappings = map.mappings;
    facts.tarn_bytes = map.tarn_bytes;
    std::string const auxv = read_text(process.path("auxv")).text;
    auto const secure = auxiliary_value(auxv, AT_SECURE);
    facts.is_secure = secure ? std::optional{*secure != 0} : std::nullopt;
    if (is_readable(facts.program.what.file)) {
        facts.link_map = read_loaded(process, auxv);
    }
    facts.is_in_other_namespace = !process.is_here();

    environment const variables{read_text(process.path("environ")).text};
    auto const lookup = [&variables](char const* name) { return variables.value(name); };
    facts.has_environment = variables.is_plausible();
    facts.environment = describe_environment(lookup);
    preload_settings const settings = read_preload_settings(lookup, process.path("root"));
    facts.wanted = find_wanted(settings, process);
    facts.preload = {.by_variable = resolved(settings.by_variable, process),
                     .by_file = resolved(settings.by_file, process)};
    return facts;
}

}  // namespace tarn::doctor
