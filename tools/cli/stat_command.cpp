#include "stat_command.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <utility>

#include "failure.hpp"
#include "live/live_file.hpp"
#include "live/ranking.hpp"
#include "live/survey.hpp"
#include "live/text.hpp"
#include "process_numbers.hpp"

namespace tarn::cli {

namespace {

constexpr int exit_not_on_tarn = 1;
constexpr int exit_cannot_tell = 2;

void print(std::string const& text) { static_cast<void>(std::fputs(text.c_str(), stdout)); }

/// One of tarn_stats_as; nothing when no format was chosen.
std::optional<int> chosen_format(stat_request const& request) {
    std::optional<int> chosen;
    for (auto const& [is_chosen, as] :
         {std::pair{request.json, TARN_STATS_JSON},
          std::pair{request.prometheus, TARN_STATS_PROMETHEUS},
          std::pair{request.line, TARN_STATS_LINE}, std::pair{request.keys, TARN_STATS_KEYS}}) {
        if (!is_chosen) {
            continue;
        }
        if (chosen) {
            throw failure{"stat: --json, --prometheus, --line and --keys exclude each other"};
        }
        chosen = as;
    }
    return chosen;
}

/// What people see of one process.
std::string format_report(live::figures const& what, live::process const& owner) {
    std::string text;
    if (!what.is_answer) {
        text = live::format_stale(live::age_of(what, live::now_ms())) + "\n";
    }
    text += live::format_as(what, TARN_STATS_REPORT);
    return text + live::format_threads(what, owner.thread_names());
}

void show(live::figures what, live::process const& owner, std::optional<int> format) {
    what.stats.process_id = owner.number();  // in a container it believes to have another one
    if (!format) {
        print(format_report(what, owner));
        return;
    }
    if (!what.is_answer) {
        say(fmt::format("tarn: process {}: {}\n", owner.number(),
                        live::format_stale(live::age_of(what, live::now_ms()))));
    }
    print(live::format_as(what, *format));
}

int show_process(std::uint64_t number, stat_request const& request, std::optional<int> format) {
    try {
        live::live_file file{live::process{number}};
        file.request();
        auto const end =
            std::chrono::steady_clock::now() + std::chrono::milliseconds{request.wait_ms};
        show(file.read(end), file.owner(), format);
        return 0;
    } catch (live::unavailable const& error) {
        say(fmt::format("tarn: {}\n", error.what()));
        return error.why() == live::reason::not_on_tarn ? exit_not_on_tarn : exit_cannot_tell;
    }
}

int show_all(stat_request const& request, std::optional<int> format) {
    std::vector<live::process_figures> found =
        live::survey(std::chrono::milliseconds{request.wait_ms});
    if (found.empty()) {
        say("tarn: no process on Tarn that shows its statistics and may be read\n");
        return exit_not_on_tarn;
    }
    if (!format) {
        for (std::string const& line : live::format_processes(
                 live::history{}.rank(found, live::now_ms()), live::columns::few)) {
            print(line + "\n");
        }
        return 0;
    }
    for (live::process_figures& each : found) {
        each.what.stats.process_id = each.number;
        print(live::format_as(each.what, *format));
    }
    return 0;
}

}  // namespace

void describe(CLI::App& command, stat_request& request) {
    command.add_flag("--json", request.json, "Print a JSON object on a line for each process");
    command.add_flag("--prometheus", request.prometheus,
                     "Print the text that Prometheus scrapes, of one process");
    command.add_flag("--line", request.line, "Print one line key=value ... for each process");
    command.add_flag("--keys", request.keys, "Print a line \"key value\" for each figure");
    command
        .add_option("--wait", request.wait_ms,
                    "How long to wait for fresh figures before the last ones are shown")
        ->type_name("MS")
        ->check(CLI::Range(0U, 60'000U))
        ->capture_default_str();
    command.add_option("PID", request.processes,
                       "Numbers of processes; without one, a line for each process on Tarn");
    command.footer(
        "Shows what the memory of running processes on Tarn does now. They are asked, not "
        "stopped.\n"
        "Exit status: 0 when all was shown; 1 when a process is not on Tarn or shows no "
        "statistics;\n"
        "2 when that can't be told (no such process, not permitted, ended, a damaged file); 125 "
        "for\n"
        "wrong usage.");
}

int run_stat(stat_request const& request) {
    std::optional<int> const format = chosen_format(request);
    std::vector<std::uint64_t> const numbers = parse_process_numbers("stat", request.processes);
    if (request.prometheus && numbers.size() != 1) {
        throw failure{"stat: --prometheus needs one process: metrics of several would be mixed up"};
    }
    if (numbers.empty()) {
        return show_all(request, format);
    }
    int status = 0;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (i != 0 && !format) {
            print("\n");
        }
        status = std::max(status, show_process(numbers[i], request, format));
    }
    return status;
}

}  // namespace tarn::cli
