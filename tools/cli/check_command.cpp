#include "check_command.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "failure.hpp"
#include "live/live_file.hpp"
#include "process_numbers.hpp"
#include "report.hpp"

namespace tarn::cli {

namespace {

constexpr int exit_damaged = 1;
constexpr int exit_cannot_tell = 2;

std::string counted(std::uint64_t count, std::string const& one) {
    return fmt::format("{} {}{}", format_count(count), one, count == 1 ? "" : "s");
}

std::string format_result(live::process const& owner, tarn_live_check const& found) {
    std::string text =
        fmt::format("process {} ({}): checked {}, about {} of them in quarantine, in {} ms\n",
                    owner.number(), owner.name(), counted(found.blocks, "block"),
                    format_count(found.quarantined_blocks), found.duration_ms);
    text += found.damaged_blocks == 0 ? "  no damage\n"
                                      : fmt::format("  {} damaged: see its reports\n",
                                                    counted(found.damaged_blocks, "block"));
    return text + fmt::format("  so far: {} found damaged, {} in all\n",
                              counted(found.damaged_blocks_total, "block"),
                              counted(found.findings_total, "finding"));
}

std::string format_as_json(live::process const& owner, tarn_live_check const& found) {
    return fmt::format(
        "{{\"process_id\":{},\"checked_blocks\":{},\"quarantined_blocks\":{},"
        "\"damaged_blocks\":{},\"damaged_blocks_total\":{},\"findings_total\":{},"
        "\"duration_ms\":{}}}\n",
        owner.number(), found.blocks, found.quarantined_blocks, found.damaged_blocks,
        found.damaged_blocks_total, found.findings_total, found.duration_ms);
}

class asking {
public:
    explicit asking(check_request const& request) : request_(request) {}

    /// `is_named`: it is an error if it can't be asked.
    void ask(std::uint64_t number, bool is_named) {
        try {
            live::live_file file{live::process{number}};
            file.request_check();
            files_.push_back(std::move(file));
        } catch (live::unavailable const& error) {
            if (is_named) {
                complain(error);
            }
        }
    }

    /// After all were asked: they check at the same time. Returns the exit status.
    int show() {
        live::deadline const end =
            std::chrono::steady_clock::now() + std::chrono::milliseconds{request_.wait_ms};
        for (live::live_file const& file : files_) {
            try {
                tarn_live_check const found = file.read_check(end);
                std::string const text = request_.json ? format_as_json(file.owner(), found)
                                                       : format_result(file.owner(), found);
                static_cast<void>(std::fputs(text.c_str(), stdout));
                status_ = std::max(status_, found.damaged_blocks == 0 ? 0 : exit_damaged);
            } catch (live::unavailable const& error) {
                complain(error);
            }
        }
        return status_;
    }

    [[nodiscard]] bool is_empty() const { return files_.empty(); }

private:
    void complain(live::unavailable const& error) {
        say(fmt::format("tarn: {}\n", error.what()));
        status_ = exit_cannot_tell;
    }

    check_request const& request_;
    std::vector<live::live_file> files_;
    int status_ = 0;
};

}  // namespace

void describe(CLI::App& command, check_request& request) {
    command.add_flag("--json", request.json, "Print a JSON object on a line for each process");
    command.add_flag("--all", request.all, "All processes in mode debug that may be asked");
    command.add_option("--wait", request.wait_ms, "How long to wait for the answers")
        ->type_name("MS")
        ->check(CLI::Range(0U, 3'600'000U))
        ->capture_default_str();
    command.add_option("PID", request.processes, "Numbers of processes");
    command.footer(
        "Has running processes that were started with TARN_MODE=debug check all their blocks. What "
        "is\n"
        "damaged they report themselves, where they report everything; by default the first such "
        "report\n"
        "ends the process, with TARN_OPTIONS=on_misuse=warn it goes on.\n"
        "Exit status: 0 when all have checked and found no damage; 1 when a block is damaged; 2 "
        "when a\n"
        "process did not check (not in mode debug, no such process, not permitted, ended, no "
        "answer);\n"
        "125 for wrong usage.");
}

int run_check(check_request const& request) {
    std::vector<std::uint64_t> const numbers = parse_process_numbers("check", request.processes);
    if (request.all != numbers.empty()) {
        throw failure{"check: give numbers of processes, or --all; see tarn check --help"};
    }
    asking all{request};
    for (std::uint64_t const number : request.all ? live::all_processes() : numbers) {
        all.ask(number, !request.all);
    }
    if (request.all && all.is_empty()) {
        say("tarn: no process in mode debug that may be asked\n");
        return exit_cannot_tell;
    }
    return all.show();
}

}  // namespace tarn::cli
