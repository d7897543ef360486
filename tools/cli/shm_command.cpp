#include "shm_command.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <tarn/shm.h>

#include "shm/measure.hpp"
#include "shm/observed.hpp"
#include "shm/text.hpp"
#include "failure.hpp"
#include "live/terminal.hpp"
#include "live/top_view.hpp"

namespace tarn::cli {

namespace {

using json = nlohmann::ordered_json;
using shared::lines;
using shared::observed_segment;

constexpr int exit_faults = 1;

void print(std::string const& line) {
    static_cast<void>(std::fputs((line + "\n").c_str(), stdout));
}

void print(lines const& text) {
    for (std::string const& line : text) {
        print(line);
    }
}

observed_segment open(shm_request const& request) {
    try {
        return {request.segment, request.domain};
    } catch (std::runtime_error const& error) {
        throw failure{fmt::format("shm: {}", error.what())};
    }
}

json as_json(tarn_shm_info const& about, std::vector<tarn_shm_pool_info> const& pools) {
    json all = json::array();
    for (tarn_shm_pool_info const& pool : pools) {
        all.push_back({{"chunk_bytes", pool.chunk_bytes},
                       {"stride_bytes", pool.stride_bytes},
                       {"alignment", pool.alignment},
                       {"ready", pool.ready},
                       {"count_most", pool.count_most},
                       {"free", pool.free}});
    }
    return {{"name", about.name},
            {"id", about.id},
            {"clients", about.clients},
            {"recoveries", about.recoveries},
            {"control_bytes", about.control_bytes},
            {"ready_bytes", about.ready_bytes},
            {"payload_bytes", about.payload_bytes},
            {"pools", all}};
}

json as_json(shared::observed_client const& client) {
    tarn_shm_client_info const& about = client.about;
    return {{"client", client.number},
            {"label", about.label},
            {"state", shared::name_of_state(about.state)},
            {"process_id", about.process_id},
            {"user_id", about.user_id},
            {"held", about.held},
            {"held_bytes", about.held_bytes},
            {"shared", about.allocations}};
}

std::string text_of(json const& what) {
    // What a label holds need not be text.
    return what.dump(-1, ' ', false, json::error_handler_t::replace);
}

int show_list(shm_request const& request) {
    std::vector<shared::listed_segment> all;
    int status = 0;
    for (std::string const& name : shared::segment_names(request.domain)) {
        try {
            observed_segment const seen{name, request.domain};
            all.push_back({.name = name, .about = seen.info(), .pools = seen.pools()});
        } catch (std::runtime_error const& error) {
            say(fmt::format("tarn: shm: {}\n", error.what()));
            status = exit_faults;
        }
    }
    if (!request.json) {
        print(shared::format_list(all));
        return status;
    }
    for (shared::listed_segment const& each : all) {
        print(text_of(as_json(each.about, each.pools)));
    }
    return status;
}

lines look_at(observed_segment const& seen) {
    return shared::format_segment(seen.info(), seen.pools(), seen.clients());
}

int show_top(shm_request const& request) {
    observed_segment const seen = open(request);
    if (request.json) {
        json all = as_json(seen.info(), seen.pools());
        all["holders"] = json::array();
        for (shared::observed_client const& each : seen.clients()) {
            all["holders"].push_back(as_json(each));
        }
        print(text_of(all));
        return 0;
    }
    if (request.once || !live::has_terminal()) {
        print(look_at(seen));
        return 0;
    }
    constexpr double ms_in_s = 1000;
    live::terminal screen{
        std::chrono::milliseconds{static_cast<std::int64_t>(request.interval_s * ms_in_s)}};
    live::top_view view;
    lines text = look_at(seen);
    for (;;) {
        lines shown = text;
        live::window_size const window = screen.size();
        shown.resize(std::min(shown.size(), window.rows - std::min<std::size_t>(window.rows, 1)));
        shown.emplace_back("q quit  p pause");
        for (std::string& line : shown) {
            line.resize(std::min(line.size(), window.columns));
        }
        if (!screen.write(live::draw(shown))) {
            return 0;
        }
        live::terminal_event const event = screen.next();
        if (event.what == live::terminal_event::kind::ended ||
            (event.what == live::terminal_event::kind::keys &&
             live::apply_keys(event.keys, view) == live::key_effect::quit)) {
            return 0;
        }
        if (event.what == live::terminal_event::kind::tick && !view.is_paused) {
            text = look_at(seen);
        }
    }
}

struct chunk_place {
    std::uint32_t pool;
    std::uint32_t number;
};

std::uint64_t number_in(std::string const& text, std::size_t from, std::size_t end, int radix) {
    std::string const digits = text.substr(from, end - from);
    std::size_t used = 0;
    try {
        std::uint64_t const number = std::stoull(digits, &used, radix);
        if (used == digits.size() && digits[0] != '-' && digits[0] != '+') {
            return number;
        }
    } catch (std::logic_error const&) {
        // said below
        used = 0;
    }
    throw failure{
        fmt::format("shm: who: '{}' is neither POOL/NUMBER nor a reference like 0x1234", text)};
}

/// "1/42", or a reference as programs print it, in hexadecimal with 0x.
chunk_place parse_chunk(std::string const& text, std::uint32_t segment) {
    std::size_t const slash = text.find('/');
    if (slash != std::string::npos) {
        // What has no place in 32 bits is no chunk's number.
        auto const narrow = [](std::uint64_t number) {
            return static_cast<std::uint32_t>(std::min<std::uint64_t>(number, UINT32_MAX));
        };
        return {.pool = narrow(number_in(text, 0, slash, 10)),
                .number = narrow(number_in(text, slash + 1, text.size(), 10))};
    }
    constexpr int hexadecimal = 16;
    std::uint64_t const reference = text.rfind("0x", 0) == 0
                                        ? number_in(text, 2, text.size(), hexadecimal)
                                        : number_in(text, text.size(), text.size(), 10);
    if (tarn_shm_reference_segment(reference) != segment) {
        throw failure{fmt::format("shm: who: {} is of segment {:04x}, this one is {:04x}", text,
                                  tarn_shm_reference_segment(reference), segment)};
    }
    return {.pool = tarn_shm_reference_pool(reference),
            .number = tarn_shm_reference_number(reference)};
}

int show_holders(shm_request const& request) {
    observed_segment const seen = open(request);
    chunk_place const place = parse_chunk(request.chunk, seen.info().id);
    try {
        print(shared::format_chunk(place.pool, place.number, seen.chunk(place.pool, place.number),
                                   seen.clients()));
    } catch (std::runtime_error const& error) {
        throw failure{fmt::format("shm: {}", error.what())};
    }
    return 0;
}

int show_audit(shm_request const& request) {
    observed_segment const seen = open(request);
    if (request.recover) {
        print(fmt::format("{} dead clients cleared away", seen.recover()));
    }
    lines const faults = seen.audit();
    print(faults);
    print(fmt::format("segment {}: {} faults{}", request.segment, faults.size(),
                      faults.empty() ? "" : "; in a segment that is in use they may be passing"));
    return faults.empty() ? 0 : exit_faults;
}

int clean(shm_request const& request) {
    char const* const domain = request.domain.empty() ? nullptr : request.domain.c_str();
    for (std::string const& name : shared::segment_names(request.domain)) {
        try {
            int const dead = observed_segment{name, request.domain}.recover();
            if (dead != 0) {
                print(fmt::format("segment {}: {} dead clients cleared away", name, dead));
            }
        } catch (std::runtime_error const& error) {
            say(fmt::format("tarn: shm: {}\n", error.what()));
        }
        if (request.unused && tarn_shm_remove(name.c_str(), domain, 0, nullptr) == 0) {
            print(fmt::format("segment {}: removed, nobody was attached", name));
        }
    }
    tarn_shm_failure said;
    int const files = tarn_shm_clean(domain, &said);
    if (files < 0 && said.code != TARN_SHM_NOT_FOUND) {
        throw failure{fmt::format("shm: {}", said.text)};
    }
    if (files > 0) {
        print(fmt::format("{} files removed that killed creations and removals had left", files));
    }
    return 0;
}

int dump(shm_request const& request) {
    observed_segment const seen = open(request);
    print(text_of(as_json(seen.info(), seen.pools())));
    for (shared::observed_client const& each : seen.clients()) {
        print(text_of(as_json(each)));
    }
    std::vector<tarn_shm_pool_info> const pools = seen.pools();
    for (std::uint32_t pool = 0; pool < pools.size(); ++pool) {
        for (std::uint32_t number = 0; number < pools[pool].ready; ++number) {
            tarn_shm_chunk_info const chunk = seen.chunk(pool, number);
            if (chunk.holders != 0) {
                print(text_of({{"chunk", fmt::format("{}/{}", pool, number)},
                               {"holders", shared::numbers_in(chunk.holders)},
                               {"generation", chunk.generation},
                               {"sequence", chunk.sequence},
                               {"payload_bytes", chunk.payload_bytes},
                               {"origin", chunk.origin}}));
            }
        }
    }
    return 0;
}

int bench(shm_request const& request) {
    for (shared::measured const& each : shared::measure_all({.rounds = request.rounds})) {
        if (request.json) {
            print(text_of({{"what", each.what},
                           {"unit", each.unit},
                           {"median", each.median},
                           {"least", each.least},
                           {"most", each.most}}));
        } else {
            print(fmt::format("{:<46} {:>9.1f} {:<9} ({:.1f} to {:.1f})", each.what, each.median,
                              each.unit, each.least, each.most));
        }
    }
    return 0;
}

CLI::App* add(CLI::App& to, char const* name, char const* text, shm_request& request) {
    CLI::App* const command = to.add_subcommand(name, text);
    command->add_option("--domain", request.domain, "Another domain than the user's own")
        ->type_name("NAME|PATH");
    return command;
}

CLI::App* add_of_segment(CLI::App& to, char const* name, char const* text, shm_request& request) {
    CLI::App* const command = add(to, name, text, request);
    command->add_option("SEGMENT", request.segment, "Its name")->required();
    return command;
}

}  // namespace

void describe(CLI::App& command, shm_request& request) {
    command.require_subcommand(1);
    CLI::App* const list = add(command, "ls", "List the segments of a domain", request);
    list->add_flag("--json", request.json, "Print a JSON object on a line for each");
    CLI::App* const top =
        add_of_segment(command, "top", "Show a segment's pools and who holds how much", request);
    top->add_option("--interval", request.interval_s, "Time between two looks, 0.1 to 3600")
        ->type_name("S")
        ->check(CLI::Range(0.1, 3600.0))
        ->capture_default_str();
    top->add_flag("--once", request.once, "Print it once; so without a terminal, too");
    top->add_flag("--json", request.json, "Print it once, as JSON");
    CLI::App* const who = add_of_segment(command, "who", "Show who holds a chunk", request);
    who->add_option("CHUNK", request.chunk, "POOL/NUMBER, or a reference: 0x...")->required();
    CLI::App* const audit =
        add_of_segment(command, "audit", "Check a segment that nobody changes just now", request);
    audit->add_flag("--recover", request.recover, "First take back what the dead have held");
    audit->footer("Exit status: 0 without faults, 1 with, 125 for wrong usage.");
    CLI::App* const cleaning =
        add(command, "clean", "Take back what dead clients held, remove what they left", request);
    cleaning->add_flag("--unused", request.unused,
                       "Remove segments to which nobody is attached, too");
    add_of_segment(command, "dump", "Print all chunks that are held, as JSON", request);
    CLI::App* const measuring = command.add_subcommand("bench", "Measure how fast pools are here");
    measuring->add_option("--rounds", request.rounds, "Of each operation")
        ->check(CLI::Range(1000U, 1'000'000'000U))
        ->capture_default_str();
    measuring->add_flag("--json", request.json, "Print a JSON object on a line for each");
}

int run_shm(CLI::App const& command, shm_request const& request) {
    std::string const name = command.get_subcommands().front()->get_name();
    try {
        if (name == "ls") {
            return show_list(request);
        }
        if (name == "top") {
            return show_top(request);
        }
        if (name == "who") {
            return show_holders(request);
        }
        if (name == "audit") {
            return show_audit(request);
        }
        if (name == "clean") {
            return clean(request);
        }
        return name == "dump" ? dump(request) : bench(request);
    } catch (failure const&) {
        throw;
    } catch (std::runtime_error const& error) {
        throw failure{fmt::format("shm: {}", error.what())};
    }
}

}  // namespace tarn::cli
