#include "compare/records.hpp"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "compare/machine.hpp"
#include "compare/table.hpp"

namespace tarn::compare {

namespace {

using json = nlohmann::ordered_json;

/// A CSV field: quoted where it must be (RFC 4180).
std::string quoted(std::string const& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) {
        return text;
    }
    std::string result = "\"";
    for (char const letter : text) {
        result += letter == '"' ? "\"\"" : std::string{letter};
    }
    return result + "\"";
}

json to_json(ratio_estimate const& estimate) {
    json result{{"ratio", estimate.ratio}};
    result["se"] = estimate.error ? json(*estimate.error) : json(nullptr);
    return result;
}

json to_json(comparison const& row, campaign_plan const& plan, std::size_t ranked) {
    json result{{"row", row.row},         {"group", row.group},
                {"about", row.about},     {"quantity", describe(row.what).key},
                {"unit", row.unit},       {"rounds", row.rounds},
                {"cells", json::object()}};
    for (std::size_t column = 0; column < ranked; ++column) {
        cell const& cell = row.cells[column];
        json entry{{"verdict", describe(judge(row, column))}};
        if (cell.error.empty()) {
            entry["value"] = cell.value;
            entry["text"] = format_value(cell.value, row.unit);
            entry.update(to_json(cell.to_best));
        } else {
            entry["error"] = cell.error;
        }
        result["cells"][plan.columns[column].name] = std::move(entry);
    }
    if (row.aa) {
        result["aa"] = to_json(*row.aa);
        result["aa"]["tie"] = row.aa->is_tie();
    }
    return result;
}

}  // namespace

std::string format_time(std::chrono::system_clock::time_point time) {
    return fmt::format("{:%Y-%m-%d %H:%M} UTC",
                       fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

std::string format_runs_csv(campaign_result const& result) {
    std::string text =
        "round,row,allocator,place,wall_s,user_sys_s,peak_bytes,final_bytes,page_faults,figure,"
        "value,unit,error\n";
    for (run_record const& run : result.runs) {
        row const& row = result.plan.rows[run.row];
        bool const again = result.plan.twin && run.column + 1 == result.plan.columns.size();
        measurement const& m = run.measured;
        std::string const front =
            fmt::format("{},{},{},{},{:.6f},{:.6f},{},{},{}", run.round + 1, quoted(row.name),
                        quoted(result.plan.columns[run.column].name + (again ? " again" : "")),
                        run.place + 1, m.wall_s, m.cpu_s, m.peak_bytes,
                        m.final_bytes ? std::to_string(*m.final_bytes) : std::string{}, m.faults);
        if (run.figures.empty()) {
            text += fmt::format("{},,,,{}\n", front, quoted(run.error));
        }
        for (auto const& [name, value] : run.figures) {
            text += fmt::format("{},{},{},{},{}\n", front, quoted(name), value, quoted(row.figures),
                                quoted(run.error));
        }
    }
    return text;
}

std::string format_rows_csv(summary const& summary) {
    std::string text = "group,row,quantity,unit,rounds,allocator,value,ratio,se,verdict,error\n";
    for (comparison const& row : summary.comparisons) {
        for (std::size_t column = 0; column < summary.columns.size(); ++column) {
            cell const& cell = row.cells[column];
            text += fmt::format("{},{},{},{},{},{},", quoted(row.group), quoted(row.row),
                                describe(row.what).key, quoted(row.unit), row.rounds,
                                quoted(summary.columns[column]));
            text +=
                cell.error.empty()
                    ? fmt::format("{:.9g},{:.4f},{}", cell.value, cell.to_best.ratio,
                                  cell.to_best.error ? fmt::format("{:.4f}", *cell.to_best.error)
                                                     : std::string{})
                    : std::string{",,"};
            text += fmt::format(",{},{}\n", describe(judge(row, column)), quoted(cell.error));
        }
    }
    return text;
}

std::string format_json(campaign_result const& result, summary const& summary) {
    json all;
    all["begin"] = format_time(result.begin);
    all["duration_s"] = result.duration.count();
    all["rounds"] = result.rounds;
    all["notes"] = result.notes;
    for (auto const& [name, value] : describe_machine()) {
        all["machine"][name] = value;
    }
    all["allocators"] = json::array();
    for (std::size_t column = 0; column < summary.columns.size(); ++column) {
        allocator const& one = result.plan.columns[column];
        json environment = json::object();
        for (auto const& [name, value] : one.environment) {
            environment[name] = value;
        }
        all["allocators"].push_back(
            {{"name", one.name}, {"version", one.version}, {"environment", environment}});
    }
    all["means"] = json::array();
    for (mean const& one : summary.means) {
        json entry{{"quantity", describe(one.what).key}, {"group", one.group}, {"rows", one.rows}};
        for (std::size_t column = 0; column < summary.columns.size(); ++column) {
            entry["of"][summary.columns[column]] = to_json(one.of[column]);
        }
        all["means"].push_back(std::move(entry));
    }
    if (summary.twin) {
        all["aa"]["allocator"] = result.plan.columns[*summary.twin].name;
        for (quantity const what : {quantity::wall, quantity::cpu, quantity::peak, quantity::final,
                                    quantity::faults, quantity::figure}) {
            tie_count const count = count_ties(of_quantity(summary, what));
            if (count.rows != 0) {
                json entry = to_json(*count.mean);
                entry["ties"] = count.ties;
                entry["rows"] = count.rows;
                all["aa"][std::string{describe(what).key}] = std::move(entry);
            }
        }
    }
    all["comparisons"] = json::array();
    for (comparison const& one : summary.comparisons) {
        all["comparisons"].push_back(to_json(one, result.plan, summary.columns.size()));
    }
    return all.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace tarn::compare
