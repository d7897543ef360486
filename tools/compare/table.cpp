#include "compare/table.hpp"

#include <fmt/chrono.h>
#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "cli/report.hpp"

namespace tarn::compare {

namespace {

constexpr std::size_t column_width_min = 11;
constexpr std::size_t narrow_row_width = 10;
constexpr std::size_t single_width = 15;

class text {
public:
    template <class... Values>
    void add(fmt::format_string<Values...> format, Values&&... values) {
        fmt::format_to(std::back_inserter(text_), format, std::forward<Values>(values)...);
    }

    [[nodiscard]] std::string take() && { return std::move(text_); }

private:
    std::string text_;
};

/// A ratio with a mark: "*" is the best, "=" ties with it.
std::string format_ratio(comparison const& row, std::size_t column) {
    verdict const what = judge(row, column);
    if (what == verdict::missing) {
        return "- ";
    }
    if (what == verdict::is_void) {
        return "void ";
    }
    return fmt::format("{:.2f}{}", row.cells[column].to_best.ratio,
                       what == verdict::best  ? "*"
                       : what == verdict::tie ? "="
                                              : " ");
}

double typical_error(comparison const& row) {
    std::vector<double> errors;
    for (cell const& cell : row.cells) {
        if (cell.error.empty() && cell.to_best.error && *cell.to_best.error > 0) {
            errors.push_back(*cell.to_best.error);
        }
    }
    return errors.empty() ? 0 : median(std::move(errors));
}

std::size_t row_width(summary const& summary) {
    std::size_t width = narrow_row_width;
    for (comparison const& row : summary.comparisons) {
        width = std::max(width, row.row.size());
    }
    return width + 1;
}

/// Of the columns with ratios.
std::size_t column_width(summary const& summary) {
    std::size_t width = column_width_min;
    for (std::string const& column : summary.columns) {
        width = std::max(width, column.size() + 2);
    }
    return width;
}

void add_header(text& out, summary const& summary, std::string const& title, std::size_t width) {
    out.add("\n{}\n{:<{}}{:>11}", title, "", width, "best");
    for (std::string const& column : summary.columns) {
        out.add("{:>{}}", column, column_width(summary));
    }
    out.add("{:>8}\n", "se");
}

void add_mean_line(text& out, summary const& summary, quantity what, std::string const& group,
                   std::size_t width) {
    mean const* const mean = find_mean(summary, what, group);
    if (mean == nullptr) {
        return;
    }
    out.add("{:<{}}", fmt::format("mean of {}", mean->rows), width + 11);
    for (ratio_estimate const& one : mean->of) {
        out.add("{:>{}}", fmt::format("{:.3f} ", one.ratio), column_width(summary));
    }
    out.add("\n");
}

void add_table(text& out, summary const& summary, quantity what, std::string const& group,
               std::string const& title) {
    std::vector<comparison const*> const rows = of_quantity(summary, what, group);
    if (rows.empty()) {
        return;
    }
    std::size_t const width = row_width(summary);
    add_header(out, summary, title, width);
    for (comparison const* const row : rows) {
        out.add("{:<{}}{:>11}", row->row, width,
                row->best ? format_value(row->cells[*row->best].value, row->unit) : "-");
        for (std::size_t column = 0; column < summary.columns.size(); ++column) {
            out.add("{:>{}}", format_ratio(*row, column), column_width(summary));
        }
        double const error = typical_error(*row);
        out.add("{:>8}\n", error > 0 ? fmt::format("{:.1f} %", 100 * error) : "-");
    }
    add_mean_line(out, summary, what, group, width);
}

/// One row: allocators below each other, quantities side by side.
void add_single(text& out, summary const& summary) {
    std::size_t width = narrow_row_width;
    for (std::string const& column : summary.columns) {
        width = std::max(width, column.size() + 1);
    }
    out.add("{:<{}}", "", width);
    for (comparison const& row : summary.comparisons) {
        std::string_view const title = row.what == quantity::final  ? "final memory"
                                       : row.what == quantity::peak ? "peak memory"
                                       : row.what == quantity::cpu  ? "user+sys"
                                                                    : describe(row.what).title;
        out.add("{:>{}}", title, single_width);
    }
    out.add("\n");
    for (std::size_t column = 0; column < summary.columns.size(); ++column) {
        out.add("{:<{}}", summary.columns[column], width);
        for (comparison const& row : summary.comparisons) {
            std::string const value = row.cells[column].error.empty()
                                          ? format_value(row.cells[column].value, row.unit) + " "
                                          : std::string{};
            out.add("{:>{}}", value + format_ratio(row, column), single_width);
        }
        out.add("\n");
    }
    out.add("{:<{}}", "se", width);
    for (comparison const& row : summary.comparisons) {
        double const error = typical_error(row);
        out.add("{:>{}}", error > 0 ? fmt::format("{:.1f} % ", 100 * error) : "- ", single_width);
    }
    out.add("\n");
}

void add_aa(text& out, campaign_result const& result, summary const& summary) {
    if (!summary.twin) {
        return;
    }
    out.add("\nA/A: {} against itself\n", result.plan.columns[*summary.twin].name);
    for (quantity const what : {quantity::wall, quantity::peak, quantity::figure}) {
        tie_count const count = count_ties(of_quantity(summary, what));
        if (count.rows == 0) {
            continue;
        }
        out.add("  {:<22}{} of {} rows tie; mean ratio {:.3f}{}\n", describe(what).title,
                count.ties, count.rows, count.mean->ratio,
                count.mean->error ? fmt::format(" (se {:.1f} %)", 100 * *count.mean->error) : "");
    }
}

void add_void_rows(text& out, campaign_result const& result) {
    std::vector<std::string> const lines = void_rows(result);
    if (!lines.empty()) {
        out.add("\nvoid, and left out of all means:\n");
    }
    for (std::string const& line : lines) {
        out.add("  {}\n", line);
    }
}

}  // namespace

std::string format_value(double value, std::string const& unit) {
    if (unit == "B") {
        return cli::format_bytes(static_cast<std::uint64_t>(value));
    }
    if (unit.empty()) {
        return cli::format_count(static_cast<std::uint64_t>(std::llround(value)));
    }
    int const digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
    std::string const unit_text = unit == "instructions" ? "ins" : unit;
    return fmt::format("{:.{}f} {}", value, digits, unit_text);
}

std::string format_duration(std::chrono::seconds duration) {
    auto const total = duration.count();
    if (total >= 3600) {
        return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
    }
    return fmt::format("{}:{:02}", total / 60, total % 60);
}

std::string format_tables(campaign_result const& result, summary const& summary) {
    text out;
    bool const single = result.plan.rows.size() == 1 && result.plan.rows[0].figures.empty();
    out.add("{} of {} rounds in {}\n", result.rounds, result.plan.rounds,
            format_duration(result.duration));
    for (std::string const& note : result.notes) {
        out.add("{}\n", note);
    }
    if (single) {
        add_single(out, summary);
    } else {
        for (quantity const what : process_quantities) {
            add_table(out, summary, what, {},
                      fmt::format("{}: ratio to the row's best", describe(what).title));
        }
        for (std::string const& group : figure_groups(summary)) {
            add_table(out, summary, quantity::figure, group,
                      fmt::format("{}: ratio to the row's best", group));
        }
    }
    out.add(
        "\n*: the best; =: a tie with it, the difference is below two standard errors; se: "
        "standard error of a ratio{}\n",
        single ? "" : ";\nmean: geometric, over the rows where all ran");
    add_aa(out, result, summary);
    add_void_rows(out, result);
    return std::move(out).take();
}

}  // namespace tarn::compare
