#include "compare_command.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>
#include <utility>

#include "child.hpp"
#include "compare/campaign.hpp"
#include "compare/page.hpp"
#include "compare/plot.hpp"
#include "compare/records.hpp"
#include "compare/summary.hpp"
#include "compare/table.hpp"
#include "failure.hpp"
#include "library.hpp"

namespace tarn::cli {

namespace {

namespace fs = std::filesystem;
using namespace tarn::compare;

constexpr int exit_void_runs = 1;

std::map<std::string, std::string> parse_settings(std::vector<std::string> const& texts) {
    std::map<std::string, std::string> settings;
    for (std::string const& text : texts) {
        std::size_t const equals = text.find('=');
        if (equals == std::string::npos || equals == 0) {
            throw failure{fmt::format("--set {}: not of the form KEY=VALUE", text)};
        }
        settings[text.substr(0, equals)] = text.substr(equals + 1);
    }
    return settings;
}

std::vector<row> find_rows(compare_request const& request) {
    if (!request.suite.empty()) {
        if (!request.program.empty()) {
            throw failure{"compare: a program and --suite exclude each other"};
        }
        return select_rows(read_suite(request.suite, parse_settings(request.settings)),
                           request.rows);
    }
    if (request.program.empty()) {
        throw failure{"compare: no program given; see tarn compare --help"};
    }
    row only;
    only.name = fs::path{request.program[0]}.filename().native();
    only.command = request.program;
    only.input = request.input;
    only.output = request.output == "any" ? output_rule::any : output_rule::same;
    only.time_limit_s = request.time_limit_s;
    return {only};
}

campaign_plan make_plan(compare_request const& request, std::vector<std::string>& notes) {
    campaign_plan plan;
    plan.rows = find_rows(request);
    std::vector<allocator> more;
    for (std::string const& text : request.libraries) {
        more.push_back(parse_allocator(text));
    }
    plan.columns = find_allocators(request.allocators, more,
                                   find_library(request.library, request.own_path), notes);
    plan.rounds = request.rounds;
    if (request.minutes > 0) {
        plan.time_limit = std::chrono::seconds{static_cast<std::int64_t>(request.minutes * 60)};
    }
    if (request.aa) {
        auto const tarn = std::find_if(plan.columns.begin(), plan.columns.end(),
                                       [](allocator const& one) { return one.name == "tarn"; });
        plan.twin =
            tarn == plan.columns.end() ? 0 : static_cast<std::size_t>(tarn - plan.columns.begin());
        plan.columns.push_back(plan.columns[*plan.twin]);
    }
    return plan;
}

/// One line that is written over on a terminal; in a log, a line for each round.
class progress_line {
public:
    void show(progress const& now) {
        if (on_terminal_) {
            say(fmt::format("\r\x1b[Kround {}/{}  {}/{}  {} on {}  {} gone, about {} left",
                            now.round, now.rounds, now.runs_done + 1, now.runs, now.row, now.column,
                            format_duration(now.elapsed), format_duration(now.left)));
        } else if (now.round != round_) {
            say(fmt::format("round {} of {}: {} gone, about {} left\n", now.round, now.rounds,
                            format_duration(now.elapsed), format_duration(now.left)));
        }
        round_ = now.round;
    }

    void clear() const {
        if (on_terminal_) {
            say("\r\x1b[K");
        }
    }

private:
    bool on_terminal_ = ::isatty(STDERR_FILENO) == 1;
    std::size_t round_ = 0;
};

void write_file(fs::path const& path, std::string const& text) {
    if (text.empty()) {
        return;
    }
    std::ofstream file{path, std::ios::binary};
    file << text;
    file.close();
    if (!file) {
        throw failure{fmt::format("{}: cannot be written", path.native())};
    }
}

void prepare_folder(std::string const& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error || ::access(folder.c_str(), W_OK) != 0) {
        throw failure{fmt::format("--out {}: cannot be made or written to", folder)};
    }
}

void write_results(fs::path const& folder, campaign_result const& result, summary const& summary) {
    write_file(folder / "runs.csv", format_runs_csv(result));
    write_file(folder / "rows.csv", format_rows_csv(summary));
    write_file(folder / "summary.json", format_json(result, summary));
    write_file(folder / "report.html", format_page(result, summary));
    write_file(folder / "overview.svg", plot_overview(summary));
    write_file(folder / "time.svg", plot_ratios(summary, quantity::wall, {}));
    write_file(folder / "memory.svg", plot_ratios(summary, quantity::peak, {}));
    for (std::string const& group : figure_groups(summary)) {
        write_file(folder / (group + ".svg"), plot_ratios(summary, quantity::figure, group));
    }
}

void list_rows(std::vector<row> const& rows) {
    for (row const& one : rows) {
        fmt::print("{:<18} {:<12} {}\n", one.name, one.group, one.about);
    }
}

}  // namespace

void describe(CLI::App& command, compare_request& request) {
    command
        .add_option("--allocators", request.allocators,
                    "Which, separated by commas: own (as the program is), glibc, tarn, mimalloc, "
                    "jemalloc, tcmalloc, tbbmalloc, and names that --lib gives (default: all that "
                    "are installed, but own)")
        ->type_name("LIST");
    command
        .add_option("--lib", request.libraries,
                    "A further malloc, and variables to set for it; may be repeated")
        ->type_name("NAME=PATH[,ENV=VALUE]")
        ->expected(1)
        ->take_all();
    command.add_option("--library", request.library, "libtarn.so to use (default: beside tarn)")
        ->type_name("PATH");
    command.add_option("--rounds", request.rounds, "Runs on each malloc (default: 8)")
        ->check(CLI::Range{1, 10'000});
    command
        .add_option("--minutes", request.minutes,
                    "Begin no round that would not end by then (default: no limit)")
        ->check(CLI::PositiveNumber);
    command
        .add_option("--time-limit", request.time_limit_s,
                    "Seconds after which a run counts as hung (default: 120)")
        ->check(CLI::Range{1, 100'000});
    command.add_flag("--aa,!--no-aa", request.aa,
                     "Run Tarn (or the first malloc) once more in each round, to show the noise "
                     "(default: yes)");
    command.add_option("--input", request.input, "File for standard input (default: none)")
        ->type_name("FILE")
        ->check(CLI::ExistingFile);
    command
        .add_option("--output", request.output,
                    "What the program prints must be the same in every run, or may be any")
        ->type_name("same|any")
        ->check(CLI::IsMember({"same", "any"}));
    command
        .add_option("--out", request.folder,
                    "Folder for CSV, JSON, SVG and an HTML page (default: none)")
        ->type_name("DIR");
    command.add_option("--suite", request.suite, "Rows to run, a JSON file, instead of a program")
        ->type_name("FILE")
        ->check(CLI::ExistingFile);
    command
        .add_option("--rows", request.rows,
                    "Which rows or groups of the suite, separated by commas (default: all)")
        ->type_name("LIST");
    command
        .add_option("--set", request.settings,
                    "What {KEY} in the suite stands for; may be repeated")
        ->type_name("KEY=VALUE")
        ->expected(1)
        ->take_all();
    command.add_flag("--list", request.list, "Only list the suite's rows");
    command.prefix_command();
    command.footer(
        "The mallocs take turns, one process per run, and are compared within the same round.\n"
        "Exit status: 0; 1 when a run ended badly or printed something else; 125 when tarn fails;\n"
        "128 + N when signal N ended it early, with the results of the finished rounds.");
}

int run_comparison(compare_request const& request) {
    if (request.list) {
        list_rows(find_rows(request));
        return 0;
    }
    std::vector<std::string> notes;
    campaign_plan plan = make_plan(request, notes);
    for (std::string const& note : notes) {
        say("tarn: " + note + "\n");
    }
    if (!request.folder.empty()) {
        prepare_folder(request.folder);
    }
    progress_line line;
    campaign_result result;
    {
        signal_watch const signals;
        result = run_campaign(std::move(plan), signals,
                              [&line](progress const& now) { line.show(now); });
        signals.stand_down();
    }
    line.clear();
    if (result.rounds == 0) {
        say("tarn: " + result.note + "; no results\n");
        return 128 + result.signal;
    }
    summary const summary = summarize(result);
    fmt::print("{}", format_tables(result, summary));
    if (!request.folder.empty()) {
        write_results(request.folder, result, summary);
        fmt::print("\nwritten: {}/report.html, and beside it CSV, JSON and SVG\n", request.folder);
    }
    if (result.signal != 0) {
        return 128 + result.signal;
    }
    bool const clean = std::all_of(result.runs.begin(), result.runs.end(),
                                   [](run_record const& run) { return run.error.empty(); });
    return clean ? 0 : exit_void_runs;
}

}  // namespace tarn::cli
