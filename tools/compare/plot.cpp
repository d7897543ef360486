#include "compare/plot.hpp"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "compare/markup.hpp"
#include "compare/table.hpp"

namespace tarn::compare {

namespace {

// After P. Tol's "bright" scheme, told apart by the colour-blind too.
constexpr std::array colours{"#4477aa", "#d6336c", "#228833", "#b8860b",
                             "#66a3c7", "#aa3377", "#7a7a7a", "#e07b39"};
constexpr double mark_radius = 4.5;
constexpr std::size_t longest_shown = 30;  // letters of a row's name

/// Collects the elements of one picture.
class drawing {
public:
    drawing(double width, double height) : width_{width}, height_{height} {}

    template <class... Values>
    void add(fmt::format_string<Values...> format, Values&&... values) {
        fmt::format_to(std::back_inserter(body_), format, std::forward<Values>(values)...);
        body_ += '\n';
    }

    void text(double x, double y, std::string const& anchor, std::string const& words) {
        add(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>)", x, y, anchor,
            escaped(words));
    }

    void line(double x1, double y1, double x2, double y2, std::string const& style) {
        add(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" {}/>)", x1, y1, x2, y2, style);
    }

    /// An allocator's sign, with a text that shows when pointed at.
    void mark(std::size_t column, double x, double y, std::string const& title) {
        char const* const colour = colours.at(column % colours.size());
        double const r = mark_radius;
        std::string shape;
        switch (column % 3) {
            case 0:
                shape = fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}")", x, y, r);
                break;
            case 1:
                shape = fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}")",
                                    x - r + 0.5, y - r + 0.5, 2 * r - 1, 2 * r - 1);
                break;
            default:
                shape = fmt::format(R"(<path d="M{:.1f} {:.1f}l{:.1f} {:.1f}h{:.1f}z")", x,
                                    y - r - 0.5, r + 0.5, 2 * r, -2 * r - 1);
        }
        add(R"({} fill="{}" fill-opacity="0.85"><title>{}</title>{})", shape, colour,
            escaped(title),
            column % 3 == 0   ? "</circle>"
            : column % 3 == 1 ? "</rect>"
                              : "</path>");
    }

    [[nodiscard]] std::string take() && {
        return fmt::format(
            R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:.0f} {1:.0f}" )"
            R"(width="{0:.0f}" height="{1:.0f}" font-family="sans-serif" font-size="12" )"
            R"(fill="#808080">
{2}</svg>
)",
            width_, height_, body_);
    }

private:
    double width_;
    double height_;
    std::string body_;
};

constexpr char const* grid_style = R"(stroke="#808080" stroke-opacity="0.25")";
constexpr char const* axis_style = R"(stroke="#808080")";

/// Ratios from 1 up on a logarithmic scale between two places on the paper.
class ratio_scale {
public:
    ratio_scale(double most, double begin, double end)
        : most_{std::max(most, 1.1)}, begin_{begin}, end_{end} {}

    [[nodiscard]] double at(double ratio) const {
        double const part = std::log(std::clamp(ratio, 1.0, most_)) / std::log(most_);
        return begin_ + part * (end_ - begin_);
    }

    /// Round numbers, not too close to each other.
    [[nodiscard]] std::vector<double> ticks() const {
        constexpr double closest = 34;
        std::vector<double> result;
        for (double const tick : {1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0,
                                  10.0, 20.0, 50.0, 100.0, 1000.0, 10000.0}) {
            if (tick <= most_ &&
                (result.empty() || std::abs(at(tick) - at(result.back())) >= closest)) {
                result.push_back(tick);
            }
        }
        return result;
    }

private:
    double most_;
    double begin_;
    double end_;
};

void add_legend(drawing& out, summary const& summary, double x, double y) {
    constexpr double letter_width = 7;
    constexpr double gap = 26;
    for (std::size_t column = 0; column < summary.columns.size(); ++column) {
        out.mark(column, x, y, summary.columns[column]);
        out.text(x + 10, y + 4, "start", summary.columns[column]);
        x += gap + letter_width * static_cast<double>(summary.columns[column].size());
    }
}

}  // namespace

std::string plot_overview(summary const& summary) {
    mean const* const time = find_mean(summary, quantity::wall, {});
    mean const* const memory = find_mean(summary, quantity::peak, {});
    if (time == nullptr || memory == nullptr) {
        return {};
    }
    constexpr double width = 640;
    constexpr double height = 400;
    constexpr double left = 60;
    constexpr double right = width - 90;
    constexpr double top = 20;
    constexpr double bottom = height - 50;
    auto const largest = [](mean const& mean) {
        double most = 1.1;
        for (ratio_estimate const& one : mean.of) {
            most = std::max(most, one.ratio);
        }
        return most * 1.05;
    };
    ratio_scale const x{largest(*time), left, right};
    ratio_scale const y{largest(*memory), bottom, top};
    drawing out{width, height};
    for (double const tick : x.ticks()) {
        out.line(x.at(tick), top, x.at(tick), bottom, grid_style);
        out.text(x.at(tick), bottom + 16, "middle", fmt::format("{:g}", tick));
    }
    for (double const tick : y.ticks()) {
        out.line(left, y.at(tick), right, y.at(tick), grid_style);
        out.text(left - 6, y.at(tick) + 4, "end", fmt::format("{:g}", tick));
    }
    out.line(left, top, left, bottom, axis_style);
    out.line(left, bottom, right, bottom, axis_style);
    out.text((left + right) / 2, height - 12, "middle",
             fmt::format("wall time: geometric mean of {} ratios to the best", time->rows));
    out.add(
        R"svg(<text transform="translate(16 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>)svg",
        (top + bottom) / 2, "peak resident memory: the same");
    for (std::size_t column = 0; column < summary.columns.size(); ++column) {
        double const at_x = x.at(time->of[column].ratio);
        double const at_y = y.at(memory->of[column].ratio);
        out.mark(column, at_x, at_y,
                 fmt::format("{}: time {:.3f}, memory {:.3f}", summary.columns[column],
                             time->of[column].ratio, memory->of[column].ratio));
        out.text(at_x + 9, at_y + 4, "start", summary.columns[column]);
    }
    return std::move(out).take();
}

std::string plot_ratios(summary const& summary, quantity what, std::string const& group) {
    std::vector<comparison const*> const rows = of_quantity(summary, what, group);
    if (rows.empty()) {
        return {};
    }
    constexpr double most_shown = 8;  // what lies beyond stands at the edge, with its number
    constexpr double width = 760;
    constexpr double letter_width = 6.5;
    std::size_t longest = 10;
    for (comparison const* const row : rows) {
        longest = std::max(longest, row->row.size());
    }
    double const left = 80 + letter_width * static_cast<double>(std::min(longest, longest_shown));
    constexpr double right = width - 50;
    constexpr double top = 50;
    constexpr double row_height = 22;
    double const bottom = top + row_height * static_cast<double>(rows.size());
    double most = 1.2;
    for (comparison const* const row : rows) {
        for (std::size_t column = 0; column < summary.columns.size(); ++column) {
            most = std::max(most, row->cells[column].to_best.ratio);
        }
    }
    most = std::min(most * 1.05, most_shown);
    ratio_scale const x{most, left, right};
    drawing out{width, bottom + 30};
    add_legend(out, summary, left, 14);
    for (double const tick : x.ticks()) {
        out.line(x.at(tick), top - 8, x.at(tick), bottom, grid_style);
        out.text(x.at(tick), bottom + 18, "middle", fmt::format("{:g}", tick));
        out.text(x.at(tick), top - 14, "middle", fmt::format("{:g}", tick));
    }
    double y = top + row_height / 2;
    for (comparison const* const row : rows) {
        std::string const best =
            row->best ? format_value(row->cells[*row->best].value, row->unit) : std::string{};
        out.text(left - 12, y + 4, "end",
                 fmt::format("{}  {}", printable(row->row, longest_shown), best));
        out.line(left, y, right, y, grid_style);
        for (std::size_t reverse = summary.columns.size(); reverse > 0; --reverse) {
            std::size_t const column = reverse - 1;
            cell const& cell = row->cells[column];
            if (!cell.error.empty()) {
                continue;
            }
            double const ratio = cell.to_best.ratio;
            double const spread = std::exp(2 * cell.to_best.error.value_or(0));
            if (spread > 1 && ratio <= most) {
                out.line(x.at(ratio / spread), y, x.at(ratio * spread), y,
                         fmt::format(R"(stroke="{}" stroke-opacity="0.5" stroke-width="2")",
                                     colours.at(column % colours.size())));
            }
            out.mark(column, x.at(ratio), y,
                     fmt::format("{} {}: {:.3f} ({})", summary.columns[column], row->row, ratio,
                                 format_value(cell.value, row->unit)));
            if (ratio > most) {
                out.text(right + 8, y + 4, "start", fmt::format("{:.1f}", ratio));
            }
        }
        y += row_height;
    }
    return std::move(out).take();
}

}  // namespace tarn::compare
