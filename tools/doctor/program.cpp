#include "doctor/program.hpp"

#include <fmt/core.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "cli/environment.hpp"
#include "cli/search_path.hpp"
#include "doctor/files.hpp"
#include "doctor/library_search.hpp"
#include "doctor/proc_text.hpp"
#include "doctor/user.hpp"

namespace tarn::doctor {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t script_line_max = 255;  // the kernel reads 256 bytes
constexpr int scripts_max = 6;                // then the kernel says ELOOP

std::string reason_of(int error) { return std::generic_category().message(error); }

/// The file to run for a name.
std::string find_file(std::string const& asked) {
    if (asked.empty()) {
        throw cannot_tell{"'': an empty name is no program"};
    }
    std::string path = cli::search_path(asked).native();
    if (path.empty()) {
        throw cannot_tell{fmt::format("{}: not found in PATH", asked)};
    }

    struct stat status {};

    if (::stat(path.c_str(), &status) != 0) {
        throw cannot_tell{fmt::format("{}: {}", path, reason_of(errno))};
    }
    if (S_ISDIR(status.st_mode)) {
        throw cannot_tell{fmt::format("{}: a folder, not a program", path)};
    }
    if (!S_ISREG(status.st_mode)) {
        throw cannot_tell{fmt::format("{}: not a regular file", path)};
    }
    if (::access(path.c_str(), X_OK) != 0) {
        throw cannot_tell{fmt::format("{}: not executable for you", path)};
    }
    return path;
}

/// What a "#!" line names: the interpreter and, as one word, what follows.
struct script_line {
    std::string interpreter;
    std::string argument;
};

script_line parse_script_line(std::string_view line) {
    auto const words = words_of(line);
    if (words.empty()) {
        return {};
    }
    std::size_t const rest =
        static_cast<std::size_t>(words[0].data() - line.data()) + words[0].size();
    std::size_t const start = line.find_first_not_of(" \t", rest);
    std::string_view const argument = start < line.size() ? line.substr(start) : std::string_view{};
    return {std::string{words[0]}, std::string{argument}};
}

/// The program that env(1) starts; empty when it starts none.
std::string program_of_env(std::string const& argument) {
    for (std::string_view word : words_of(argument)) {
        if (word.starts_with("-S") && word.size() > 2) {
            word.remove_prefix(2);
        }
        if (!word.starts_with('-') && word.find('=') == std::string_view::npos) {
            return std::string{word};
        }
    }
    return {};
}

/// One step from a script towards a program. Empty: `path` is no script.
std::string follow_script(std::string const& path, std::vector<std::string>& through) {
    text_file const beginning = read_text(path, script_line_max);
    if (beginning.error != 0) {
        throw cannot_tell{fmt::format("{}: can't be read: {}", path, reason_of(beginning.error))};
    }
    std::string_view const start = beginning.text;
    if (!start.starts_with("#!")) {
        return {};
    }
    script_line const line = parse_script_line(start.substr(2, start.find('\n') - 2));
    if (line.interpreter.empty()) {
        throw cannot_tell{fmt::format("{}: a script whose #! names no interpreter", path)};
    }
    through.push_back(fmt::format("{}: a script that {} runs", path, line.interpreter));
    std::string const started =
        file_name(line.interpreter) == "env" ? program_of_env(line.argument) : "";
    if (started.empty()) {
        return find_file(line.interpreter);
    }
    std::string found = find_file(started);
    through.push_back(fmt::format("{} starts {}", line.interpreter, found));
    return found;
}

/// The ELF file that the kernel would load for `asked`.
object open_program(std::string const& asked, std::vector<std::string>& through) {
    std::string path = find_file(asked);
    for (int i = 0; i < scripts_max; ++i) {
        std::string next = follow_script(path, through);
        if (next.empty()) {
            std::error_code error;
            fs::path const real = fs::canonical(path, error);
            auto program = read_object(path, error ? path : real.native());
            if (!program) {
                throw cannot_tell{fmt::format(
                    "{}: neither an ELF file nor a script with #! (a shell would read it itself)",
                    path)};
            }
            return std::move(*program);
        }
        path = std::move(next);
    }
    throw cannot_tell{fmt::format("{}: scripts that run each other without end", asked)};
}

bool ignores_raised_rights(std::string const& path) {
    struct statvfs status {};

    bool const is_ignored_there =
        ::statvfs(path.c_str(), &status) == 0 && (status.f_flag & ST_NOSUID) != 0;
    return is_ignored_there || ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

/// As the kernel does (bprm_fill_uid and cap_bprm_creds_from_file): rights are raised when the
/// file changes an id of the caller, or gives capabilities to a caller that is not root.
void examine_rights(program_facts& facts) {
    std::string const& path = facts.program.path;

    struct stat status {};

    if (::stat(path.c_str(), &status) != 0 || ignores_raised_rights(path)) {
        return;
    }
    auto const add = [&facts](bool is_for_caller, std::string reason) {
        std::string& to = is_for_caller ? facts.raised_by : facts.raised_for_others;
        if (to.empty()) {
            to = std::move(reason);
        }
    };
    if ((status.st_mode & S_ISUID) != 0) {
        add(status.st_uid != ::getuid(),
            fmt::format("it is set-user-ID to {}", user_name(status.st_uid)));
    }
    if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0) {
        add(status.st_gid != ::getgid(),
            fmt::format("it is set-group-ID to {}", group_name(status.st_gid)));
    }
    if (::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
        add(::getuid() != 0, "it has file capabilities");
    }
}

void examine_libraries(program_facts& facts) {
    bool const is_secure = !facts.raised_by.empty();
    library_search search{facts.program,
                          is_secure ? "" : cli::environment_value("LD_LIBRARY_PATH")};
    auto const order = symbol_order(
        facts.program, facts.preload.in_effect(is_secure),
        [&search](std::string const& name, object const& from) { return search.find(name, from); });
    if (object const* const owner = malloc_owner(order)) {
        facts.malloc_owner = *owner;
    }
    for (object const* each : order) {
        for (std::string const& name : each->file.needed) {
            if (search.find(name, *each) == nullptr) {
                facts.missing.push_back(name);
            }
        }
        allocator const* const contained = each->contains;
        if (!facts.sanitizer && contained != nullptr &&
            contained->kind == allocator_kind::sanitizer) {
            facts.sanitizer = *each;
        }
        if (!facts.heap_beside && each->runtime != nullptr) {
            facts.heap_beside = *each->runtime;
        }
    }
}

}  // namespace

program_facts examine_program(std::string const& asked, tarn_library library) {
    program_facts facts;
    facts.asked = asked;
    facts.library = std::move(library);
    facts.program = open_program(asked, facts.through);
    facts.preload = read_preload_settings(cli::environment_value, "");
    facts.environment = describe_environment(cli::environment_value);
    if (is_readable(facts.program.file)) {
        facts.has_loader = !facts.program.file.has_interpreter ||
                           ::access(facts.program.file.interpreter.c_str(), X_OK) == 0;
        examine_rights(facts);
        examine_libraries(facts);
    }
    return facts;
}

}  // namespace tarn::doctor
