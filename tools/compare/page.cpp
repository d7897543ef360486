#include "compare/page.hpp"

#include <fmt/core.h>
#include <fmt/format.h>

#include <iterator>
#include <string_view>

#include "compare/machine.hpp"
#include "compare/markup.hpp"
#include "compare/plot.hpp"
#include "compare/records.hpp"
#include "compare/table.hpp"

namespace tarn::compare {

namespace {

constexpr std::string_view style = R"(
:root { color-scheme: light dark; --line: #8884; --best: #2288331f; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
td.best { background: var(--best); font-weight: 600; } td.tie { background: var(--best); }
td.void { color: #c00; } tr.mean td { font-weight: 600; border-top: 2px solid var(--line); }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; } small { opacity: 0.75; }
)";

class page {
public:
    page(campaign_result const& result, summary const& summary)
        : result_{result}, summary_{summary} {}

    std::string make() {
        add("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
            "<meta name=\"viewport\" content=\"width=device-width\">"
            "<title>Allocators compared</title><style>{}</style></head><body>\n",
            style);
        add("<h1>Allocators compared</h1>\n<p>{}, {} rounds in {}.</p>\n",
            format_time(result_.begin), result_.rounds, format_duration(result_.duration));
        for (std::string const& note : result_.notes) {
            add("<p><b>{}.</b></p>\n", escaped(note));
        }
        add("{}", plot_overview(summary_));
        add_means();
        add_aa();
        add_void_rows();
        for (quantity const what : process_quantities) {
            bool const drawn = what == quantity::wall || what == quantity::peak;
            add_section(what, {}, std::string{describe(what).title}, drawn);
        }
        for (std::string const& group : figure_groups(summary_)) {
            add_section(quantity::figure, group, group, true);
        }
        add_method();
        add("</body></html>\n");
        return std::move(text_);
    }

private:
    template <class... Values>
    void add(fmt::format_string<Values...> format, Values&&... values) {
        fmt::format_to(std::back_inserter(text_), format, std::forward<Values>(values)...);
    }

    void begin_table(std::string const& first, std::string const& second) {
        add("<div class=\"wide\"><table><tr><th>{}</th><th>{}</th>", first, second);
        for (std::string const& column : summary_.columns) {
            add("<th>{}</th>", escaped(column));
        }
    }

    void add_means() {
        if (summary_.means.empty()) {
            return;
        }
        add("<h2>Geometric means of the ratios to each row's best</h2>\n");
        begin_table("", "rows");
        add("</tr>\n");
        for (mean const& one : summary_.means) {
            add("<tr{}><td>{}{}</td><td>{}</td>", one.group.empty() ? " class=\"mean\"" : "",
                one.what == quantity::figure ? std::string_view{} : describe(one.what).title,
                one.group.empty()              ? std::string{}
                : one.what == quantity::figure ? escaped(one.group)
                                               : ": " + escaped(one.group),
                one.rows);
            for (ratio_estimate const& estimate : one.of) {
                add("<td>{:.3f}{}</td>", estimate.ratio,
                    estimate.error ? fmt::format(" <small>&plusmn;{:.1f}&thinsp;%</small>",
                                                 100 * *estimate.error)
                                   : "");
            }
            add("</tr>\n");
        }
        add("</table></div>\n");
    }

    void add_aa() {
        if (!summary_.twin) {
            return;
        }
        add("<h2>A/A: {} against itself</h2>\n<p>",
            escaped(result_.plan.columns[*summary_.twin].name));
        for (quantity const what :
             {quantity::wall, quantity::cpu, quantity::peak, quantity::figure}) {
            tie_count const count = count_ties(of_quantity(summary_, what));
            if (count.rows != 0) {
                add("{}: {} of {} rows tie, mean ratio {:.3f}. ", describe(what).title, count.ties,
                    count.rows, count.mean->ratio);
            }
        }
        add("Noise alone makes a few rows differ, the fewer rounds the more.</p>\n");
    }

    void add_void_rows() {
        std::vector<std::string> const lines = void_rows(result_);
        if (!lines.empty()) {
            add("<h2>Void rows</h2>\n<ul>\n");
            for (std::string const& line : lines) {
                add("<li>{}</li>\n", escaped(line));
            }
            add("</ul>\n");
        }
    }

    void add_section(quantity what, std::string const& group, std::string const& title,
                     bool drawn) {
        std::vector<comparison const*> const rows = of_quantity(summary_, what, group);
        if (rows.empty()) {
            return;
        }
        add("<h2>{}</h2>\n{}", escaped(title), drawn ? plot_ratios(summary_, what, group) : "");
        begin_table("row", "best");
        add("{}</tr>\n", summary_.twin ? "<th>A/A</th>" : "");
        for (comparison const* const row : rows) {
            add_row(*row);
        }
        if (mean const* const mean = find_mean(summary_, what, group)) {
            add("<tr class=\"mean\"><td>mean of {}</td><td></td>", mean->rows);
            for (ratio_estimate const& one : mean->of) {
                add("<td>{:.3f}</td>", one.ratio);
            }
            add("</tr>\n");
        }
        add("</table></div>\n");
    }

    void add_row(comparison const& row) {
        add("<tr><td title=\"{}\">{}</td><td>{}</td>", escaped(row.about), escaped(row.row),
            row.best ? escaped(format_value(row.cells[*row.best].value, row.unit)) : "-");
        for (std::size_t column = 0; column < summary_.columns.size(); ++column) {
            cell const& cell = row.cells[column];
            verdict const what = judge(row, column);
            if (what == verdict::missing || what == verdict::is_void) {
                add("<td class=\"{}\" title=\"{}\">{}</td>", describe(what), escaped(cell.error),
                    what == verdict::is_void ? "void" : "-");
                continue;
            }
            add("<td class=\"{}\" title=\"{}\">{:.2f}{}</td>", describe(what),
                escaped(format_value(cell.value, row.unit)), cell.to_best.ratio,
                cell.to_best.error && what != verdict::best
                    ? fmt::format(" <small>&plusmn;{:.1f}&thinsp;%</small>",
                                  100 * *cell.to_best.error)
                    : "");
        }
        if (row.aa) {
            add("<td>{:.3f}{}</td>", row.aa->ratio, row.aa->is_tie() ? " tie" : "");
        } else if (summary_.twin) {
            add("<td>-</td>");
        }
        add("</tr>\n");
    }

    void add_method() {
        add("<h2>How it was measured</h2>\n"
            "<p>One process per run. In each round every row runs once on each allocator, in an "
            "order drawn anew, and runs are compared with those of the same round alone: ratios "
            "are trimmed means over rounds of logarithms, each round's median taken out. "
            "&plusmn; is one standard error of the ratio to the best. Shaded: the best, and what "
            "ties with it because the difference is below two standard errors. A run with another "
            "exit status or output is void, and so is its row for that allocator.</p>\n<table>\n");
        for (auto const& [name, value] : describe_machine()) {
            add("<tr><td>{}</td><td style=\"text-align:left\">{}</td></tr>\n", escaped(name),
                escaped(value));
        }
        for (std::size_t column = 0; column < summary_.columns.size(); ++column) {
            allocator const& one = result_.plan.columns[column];
            std::string settings;
            for (auto const& [name, value] : one.environment) {
                settings += fmt::format(", {}={}", name, value);
            }
            add("<tr><td>{}</td><td style=\"text-align:left\">{}{}</td></tr>\n", escaped(one.name),
                escaped(one.version), escaped(settings));
        }
        add("</table>\n");
    }

    campaign_result const& result_;
    summary const& summary_;
    std::string text_;
};

}  // namespace

std::string format_page(campaign_result const& result, summary const& summary) {
    return page{result, summary}.make();
}

}  // namespace tarn::compare
