// cli/main.cpp - the program `tarn`: reads the command line and hands over to a subcommand.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <tarn/tarn.h>

#include "check_command.hpp"
#include "compare_command.hpp"
#include "doctor_command.hpp"
#include "failure.hpp"
#include "run_command.hpp"
#include "shm_command.hpp"
#include "stat_command.hpp"
#include "symbolize_command.hpp"
#include "top_command.hpp"

namespace {

using namespace tarn::cli;

std::string version_text() {
    return fmt::format("tarn {}.{}.{}", TARN_VERSION_MAJOR, TARN_VERSION_MINOR, TARN_VERSION_PATCH);
}

/// Shows PROGRAM in the usage line, which CLI11 can't know.
class usage_formatter : public CLI::Formatter {
public:
    std::string make_usage(CLI::App const* app, std::string name) const override {
        if (app->get_name() == "doctor") {
            return fmt::format("Usage: {} [OPTIONS] PROGRAM|PID\n", name);
        }
        if (app->get_name() == "check") {
            return fmt::format("Usage: {} [OPTIONS] PID...\n", name);
        }
        if (app->get_name() == "stat") {
            return fmt::format("Usage: {} [OPTIONS] [PID...]\n", name);
        }
        if (app->get_name() == "symbolize") {
            return fmt::format("Usage: {} [OPTIONS] [FILE...]\n", name);
        }
        if (app->get_name() != "run" && app->get_name() != "compare") {
            return CLI::Formatter::make_usage(app, std::move(name));
        }
        return fmt::format("Usage: {} [OPTIONS] -- PROGRAM [ARGUMENTS...]\n", name);
    }
};

int run(int argc, char** argv) {
    // What follows the first "--" belongs to PROGRAM, whatever it looks like.
    std::vector<std::string> own(argv + 1, argv + argc);
    auto const mark = std::find(own.begin(), own.end(), "--");
    bool const marked = mark != own.end();
    std::vector<std::string> const program(marked ? mark + 1 : own.end(), own.end());
    own.erase(mark, own.end());

    CLI::App app{"Tarn, a memory allocator: runs programs on it and shows what their memory did."};
    app.name("tarn");
    app.formatter(std::make_shared<usage_formatter>());
    app.set_version_flag("--version", version_text());
    app.require_subcommand(1);

    run_request request;
    CLI::App* const run_app = app.add_subcommand("run", "Run a program on Tarn");
    describe(*run_app, request);
    compare_request comparison;
    CLI::App* const compare_app =
        app.add_subcommand("compare", "Time a program on several mallocs, in turns");
    describe(*compare_app, comparison);
    doctor_request question;
    CLI::App* const doctor_app =
        app.add_subcommand("doctor", "Say which malloc a program or process uses, and why");
    describe(*doctor_app, question);
    stat_request inquiry;
    CLI::App* const stat_app =
        app.add_subcommand("stat", "Show what the memory of running processes does now");
    describe(*stat_app, inquiry);
    check_request examination;
    CLI::App* const check_app =
        app.add_subcommand("check", "Have processes in mode debug check all their blocks now");
    describe(*check_app, examination);
    top_request overview;
    CLI::App* const top_app =
        app.add_subcommand("top", "Show a live table of the processes on Tarn");
    describe(*top_app, overview);

    shm_request sharing;
    CLI::App* const shm_app =
        app.add_subcommand("shm", "Show segments of shared memory, and who holds what in them");
    describe(*shm_app, sharing);

    symbolize_request reading;
    CLI::App* const symbolize_app =
        app.add_subcommand("symbolize", "Put functions, files and lines into a report");
    describe(*symbolize_app, reading);

    std::vector<std::string> reversed(own.rbegin(), own.rend());  // as CLI11 wants them
    try {
        app.parse(reversed);
    } catch (CLI::ParseError const& error) {
        if (error.get_exit_code() == 0) {  // --help, --version
            return app.exit(error);
        }
        if (app.get_subcommands().empty() && !own.empty()) {
            throw failure{fmt::format("unknown command '{}'; see tarn --help", own[0])};
        }
        throw failure{fmt::format("{}; see tarn --help", error.what())};
    }
    CLI::App const& chosen = *app.get_subcommands().front();
    if (&chosen == doctor_app) {
        question.targets.insert(question.targets.end(), program.begin(), program.end());
        question.own_path = argv[0];
        return run_doctor(question);
    }
    if (&chosen == stat_app) {
        inquiry.processes.insert(inquiry.processes.end(), program.begin(), program.end());
        return run_stat(inquiry);
    }
    if (&chosen == check_app) {
        examination.processes.insert(examination.processes.end(), program.begin(), program.end());
        return run_check(examination);
    }
    if (&chosen == top_app) {
        if (marked) {
            throw failure{"top: shows all processes; see tarn top --help"};
        }
        return run_top(overview);
    }
    if (&chosen == shm_app) {
        return run_shm(chosen, sharing);
    }
    if (&chosen == symbolize_app) {
        reading.files.insert(reading.files.end(), program.begin(), program.end());
        return run_symbolize(reading);
    }
    std::vector<std::string> words = chosen.remaining();
    if (!words.empty() && words[0].rfind('-', 0) == 0) {
        throw failure{fmt::format("{0}: unknown option {1}; see tarn {0} --help", chosen.get_name(),
                                  words[0])};
    }
    if (marked && !words.empty()) {
        words.emplace_back("--");
    }
    words.insert(words.end(), program.begin(), program.end());
    if (&chosen == compare_app) {
        comparison.program = std::move(words);
        comparison.own_path = argv[0];
        return run_comparison(comparison);
    }
    request.program = std::move(words);
    request.own_path = argv[0];
    return run_program(request);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (std::exception const& error) {
        say(std::string{"tarn: "} + error.what() + "\n");
        return exit_own_failure;
    }
}
