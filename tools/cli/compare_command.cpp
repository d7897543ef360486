#include "compare_command.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
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

suite_settings parse_settings(std::vector<std::string> const& texts) {
    suite_settings settings;
    for (std::string const& text : texts) {
        std::size_t const equals = text.find('=');
        if (equals == std::string::npos || equals == 0) {
            throw failure{fmt::format("--set {}: not of the form KEY=VALUE", text)};
        }
        settings[text.substr(0, equals)] = text.substr(equals + 1);
    }
    return settings;
}

/// Options that would have no effect are refused: who gives one believes in it.
void check_options(compare_request const& request) {
    if (request.suite.empty()) {
        if (request.program.empty()) {
            throw failure{"compare: no program given; see tarn compare --help"};
        }
        if (!request.rows.empty() || !request.settings.empty() || request.list) {
            throw failure{"compare: --rows, --set and --list need --suite"};
        }
        return;
    }
    if (!request.program.empty()) {
        throw failure{"compare: a program and --suite exclude each other"};
    }
    if (!request.input.empty() || !request.output.empty() || request.time_limit_s != 0) {
        throw failure{
            "compare: with --suite its rows say what --input, --output and --time-limit "
            "would"};
    }
}

std::vector<row> find_rows(compare_request const& request) {
    if (!request.suite.empty()) {
        suite_settings const settings = parse_settings(request.settings);
        return select_rows(read_suite(request.suite, request.list ? nullptr : &settings),
                           request.rows);
    }
    row only;
    only.name = fs::path{request.program[0]}.filename().native();
    only.command = request.program;
    only.input = request.input;
    only.output = request.output == "any" ? output_rule::any : output_rule::same;
    if (request.time_limit_s != 0) {
        only.time_limit_s = request.time_limit_s;
    }
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

std::string reason() { return std::generic_category().message(errno); }

/// The files of results in a folder; old ones are removed first, lest they pass for new.
class result_folder {
public:
    explicit result_folder(fs::path folder) : folder_{std::move(folder)} {
        std::error_code error;
        fs::create_directories(folder_, error);
        if (error || ::access(folder_.c_str(), W_OK) != 0) {
            throw failure{
                fmt::format("--out {}: {}", folder_.native(), error ? error.message() : reason())};
        }
        for (fs::directory_entry const& entry : fs::directory_iterator{folder_}) {
            std::string const name = entry.path().filename().native();
            if (std::find(names.begin(), names.end(), name) != names.end() ||
                (name.rfind(figures_prefix, 0) == 0 && entry.path().extension() == ".svg")) {
                fs::remove(entry.path(), error);
            }
        }
    }

    void write(campaign_result const& result, summary const& summary) const {
        write("runs.csv", format_runs_csv(result));
        write("rows.csv", format_rows_csv(summary));
        write("summary.json", format_json(result, summary));
        write("report.html", format_page(result, summary));
        write("overview.svg", plot_overview(summary));
        write("time.svg", plot_ratios(summary, quantity::wall, {}));
        write("memory.svg", plot_ratios(summary, quantity::peak, {}));
        for (std::string group : figure_groups(summary)) {
            std::string const picture = plot_ratios(summary, quantity::figure, group);
            std::replace(group.begin(), group.end(), ' ', '-');
            write(fmt::format("{}{}.svg", figures_prefix, group), picture);
        }
    }

private:
    static constexpr std::array<std::string_view, 7> names{
        "runs.csv",     "rows.csv", "summary.json", "report.html",
        "overview.svg", "time.svg", "memory.svg"};
    static constexpr char const* figures_prefix = "figures-";

    void write(std::string const& name, std::string const& text) const {
        if (text.empty()) {
            return;
        }
        fs::path const path = folder_ / name;
        std::ofstream file{path, std::ios::binary};
        file << text;
        file.close();
        if (!file) {
            throw failure{fmt::format("{}: {}", path.native(), reason())};
        }
    }

    fs::path folder_;
};

/// So that no file that tarn opens later becomes a standard one.
void open_standard_files() {
    for (int number = 0; number <= STDERR_FILENO; ++number) {
        if (::fcntl(number, F_GETFD) < 0) {
            static_cast<void>(!::open("/dev/null", O_RDWR));
        }
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
        ->check(CLI::Range{0.01, 100'000.0});
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
    open_standard_files();
    check_options(request);
    if (request.list) {
        list_rows(find_rows(request));
        return 0;
    }
    std::vector<std::string> notes;
    campaign_plan plan = make_plan(request, notes);
    for (std::string const& note : notes) {
        say("tarn: " + note + "\n");
    }
    std::optional<result_folder> folder;
    if (!request.folder.empty()) {
        folder.emplace(request.folder);
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
        say("tarn: " + result.notes.back() + "; no results\n");
        return 128 + result.signal;
    }
    summary const summary = summarize(result);
    if (folder) {
        folder->write(result, summary);
    }
    std::string text = format_tables(result, summary);
    if (folder) {
        text += fmt::format("\nwritten: {}/report.html, and beside it CSV, JSON and SVG\n",
                            request.folder);
    }
    if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
        throw failure{"cannot write the results: " + reason()};
    }
    if (result.signal != 0) {
        return 128 + result.signal;
    }
    if (result.failed) {
        return exit_own_failure;
    }
    return void_rows(result).empty() ? 0 : exit_void_runs;
}

}  // namespace tarn::cli
