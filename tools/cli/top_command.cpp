#include "top_command.hpp"

#include <fmt/core.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "failure.hpp"
#include "live/live_file.hpp"
#include "live/ranking.hpp"
#include "live/survey.hpp"
#include "live/terminal.hpp"
#include "live/top_view.hpp"

namespace tarn::cli {

namespace {

constexpr double interval_min_s = 0.1;
constexpr double interval_max_s = 3600;

// Keys wait as long; a process that needs longer is asked again at the next look.
constexpr std::chrono::milliseconds patience{50};
constexpr std::chrono::milliseconds patience_once{200};

using kind = live::terminal_event::kind;

int show_once(live::sort_key sort) {
    auto rows = live::history{}.rank(live::survey(patience_once), live::now_ms());
    live::sort_by(sort, rows);
    for (std::string const& line : live::format_processes(rows, live::columns::all)) {
        static_cast<void>(std::fputs((line + "\n").c_str(), stdout));
    }
    return 0;
}

/// The table that is on the screen, and what it was made from.
class live_table {
public:
    void look() { rows_ = looks_.rank(live::survey(patience), live::now_ms()); }

    [[nodiscard]] bool show(live::terminal const& on, live::top_view const& view,
                            std::string const& interval) const {
        return on.write(live::draw(live::compose_screen(rows_, view, interval, on.size())));
    }

private:
    live::history looks_;
    std::vector<live::ranked_process> rows_;
};

int show_until_quit(live::sort_key sort, double interval_s) {
    live::terminal screen{std::chrono::milliseconds{static_cast<std::int64_t>(interval_s * 1000)}};
    live::top_view view{.sort = sort};
    std::string const interval = fmt::format("{:g} s", interval_s);
    live_table table;
    table.look();
    while (table.show(screen, view, interval)) {
        live::terminal_event const event = screen.next();
        if (event.what == kind::ended ||
            (event.what == kind::keys && apply_keys(event.keys, view) == live::key_effect::quit)) {
            break;
        }
        if (event.what == kind::tick && !view.is_paused) {
            table.look();
        }
    }
    return 0;
}

}  // namespace

void describe(CLI::App& command, top_request& request) {
    command.add_option("--interval", request.interval_s, "Time between two looks, 0.1 to 3600")
        ->type_name("S")
        ->check(CLI::Range(interval_min_s, interval_max_s))
        ->capture_default_str();
    command.add_option("--sort", request.sort, "live, mapped, resident, held or rate")
        ->type_name("KEY")
        ->capture_default_str();
    command.add_flag("--once", request.once, "Print the table once; so without a terminal, too");
    command.footer(
        "Shows all processes on Tarn that you may read, the largest first. HELD is free memory "
        "that\n"
        "was not given back to the system, ALLOC/S the rate of allocations since the last look, "
        "AGE\n"
        "that of figures which a process has not refreshed.\n"
        "Keys: q quits, s sorts by the next column, p pauses.");
}

int run_top(top_request const& request) {
    auto const sort = live::sort_key_called(request.sort);
    if (!sort) {
        throw failure{fmt::format("top: --sort {}: must be live, mapped, resident, held or rate",
                                  request.sort)};
    }
    if (!(request.interval_s >= interval_min_s)) {  // not a number passes the check of the option
        throw failure{"top: --interval: not a number"};
    }
    if (request.once || !live::has_terminal()) {
        return show_once(*sort);
    }
    return show_until_quit(*sort, request.interval_s);
}

}  // namespace tarn::cli
