#include "run_command.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "child.hpp"
#include "environment.hpp"
#include "failure.hpp"
#include "library.hpp"
#include "report.hpp"
#include "stats_file.hpp"
#include "temporary_folder.hpp"

namespace tarn::cli {

namespace {

constexpr std::array modes{"fast", "hardened", "debug"};

std::string check_mode(std::string const& mode) {
    if (std::find(modes.begin(), modes.end(), mode) != modes.end()) {
        return {};
    }
    return fmt::format("unknown mode '{}'; there are: {}", mode, fmt::join(modes, ", "));
}

std::string check_option(std::string const& option) {
    std::size_t const equals = option.find('=');
    if (equals == std::string::npos || equals == 0) {
        return fmt::format("'{}' is not of the form key=value", option);
    }
    if (option.find(',') != std::string::npos) {
        return fmt::format("'{}': a comma separates options; give each its own --option", option);
    }
    return {};
}

std::string joined(std::string first, char separator, std::string const& second) {
    if (!first.empty() && !second.empty()) {
        first += separator;
    }
    return first + second;
}

/// Puts Tarn into this process's environment, which the program inherits.
void set_environment(run_request const& request, std::string const& library,
                     std::string const& stats_pattern) {
    set_environment_value("LD_PRELOAD", joined(library, ':', environment_value("LD_PRELOAD")));
    if (!request.mode.empty()) {
        set_environment_value("TARN_MODE", request.mode);
    }
    std::string options = environment_value("TARN_OPTIONS");
    for (std::string const& option : request.options) {
        options = joined(options, ',', option);
    }
    if (!stats_pattern.empty()) {
        options = joined(options, ',', "stats_file=" + stats_pattern);
    }
    if (!options.empty()) {
        set_environment_value("TARN_OPTIONS", options);
    }
}

/// Says why the program could not be started. Returns the status that a shell would.
int report_not_started(std::string const& program, int error) {
    say(fmt::format("tarn: cannot run '{}': {}\n", program,
                    std::generic_category().message(error)));
    return error == ENOENT ? exit_not_found : exit_not_executable;
}

/// Becomes the program.
int replace_by_program(run_request const& request) {
    std::vector<char*> arguments = argument_vector(request.program);
    ::execvp(arguments[0], arguments.data());
    return report_not_started(request.program[0], errno);
}

/// Runs the program as a child and reports.
int watch_program(run_request const& request, std::string const& library) {
    // From here on no signal but SIGKILL ends tarn, so the folder never stays behind otherwise.
    signal_watch const signals;
    ended_child ended;
    std::vector<parsed_stats_file> files;
    {
        temporary_folder const folder;
        set_environment(request, library, folder.path().empty() ? "" : folder.path() + "/%p");
        ended = run_child(request.program, signals);
        files = read_stats_files(folder.path());
    }
    signals.stand_down();
    if (ended.start_error != 0) {
        return report_not_started(request.program[0], ended.start_error);
    }
    say(format_report({request.program[0], ended, std::move(files)}));
    return end_like(ended);
}

}  // namespace

void describe(CLI::App& command, run_request& request) {
    command
        .add_option("--mode", request.mode,
                    "How thorough Tarn is: fast, hardened or debug (default: TARN_MODE)")
        ->type_name("MODE")
        ->check(CLI::Validator{check_mode, ""});
    command
        .add_option("--option", request.options,
                    "An option of the library, key=value; may be repeated (adds to TARN_OPTIONS)")
        ->type_name("KEY=VALUE")
        ->check(CLI::Validator{check_option, ""})
        ->expected(1)
        ->take_all();
    command.add_option("--library", request.library, "libtarn.so to use (default: beside tarn)")
        ->type_name("PATH");
    command.add_flag("--stats", request.stats, "Report on memory when the program has ended");
    command.prefix_command();
    command.footer(
        "Exit status: the program's own, or 125 when tarn fails, 126 when PROGRAM can't be run,\n"
        "127 when it is not found.");
}

int run_program(run_request const& request) {
    if (request.program.empty()) {
        throw failure{"run: no program given; see tarn run --help"};
    }
    for (std::string const& option : request.options) {
        if (request.stats && option.rfind("stats_file=", 0) == 0) {
            throw failure{"--stats sets stats_file itself; leave out one of them"};
        }
    }
    std::string const library = find_library(request.library, request.own_path);
    if (request.stats) {
        return watch_program(request, library);
    }
    set_environment(request, library, {});
    return replace_by_program(request);
}

}  // namespace tarn::cli
