#include "compare/summary.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace tarn::compare {

namespace {

/// The value of one run, or nothing when this one was not measured.
std::optional<double> value_of(run_record const& run, quantity what, std::string const& figure) {
    // A thing that is absent counts as one of it: there is no ratio to nothing.
    constexpr double least_s = 1e-6;
    constexpr double least_count = 1;
    measurement const& m = run.measured;
    switch (what) {
        case quantity::wall:
            return std::max(m.wall_s, least_s);
        case quantity::cpu:
            return std::max(m.cpu_s, least_s);
        case quantity::peak:
            return std::max(static_cast<double>(m.peak_bytes), least_count);
        case quantity::final:
            if (!m.final_bytes) {
                return std::nullopt;
            }
            return std::max(static_cast<double>(*m.final_bytes), least_count);
        case quantity::faults:
            return std::max(static_cast<double>(m.faults), least_count);
        case quantity::figure:
            break;
    }
    auto const* const found = find_figure(run.figures, figure);
    return found == nullptr ? std::nullopt : std::optional{found->value};
}

using runs_of_row = std::vector<std::vector<run_record const*>>;  // by round and column

class summarizer {
public:
    explicit summarizer(campaign_result const& result)
        : plan_{result.plan},
          columns_{plan_.columns.size()},
          ranked_{columns_ - (plan_.twin ? 1 : 0)} {
        std::vector<std::map<std::size_t, std::vector<run_record const*>>> rounds(
            plan_.rows.size());
        for (run_record const& run : result.runs) {
            auto& round = rounds[run.row].try_emplace(run.round, columns_).first->second;
            round[run.column] = &run;
        }
        rows_.resize(plan_.rows.size());
        for (std::size_t row = 0; row < rounds.size(); ++row) {
            for (auto const& [number, round] : rounds[row]) {
                rows_[row].push_back(round);
            }
        }
    }

    summary make() {
        summary result;
        result.twin = plan_.twin;
        for (std::size_t column = 0; column < ranked_; ++column) {
            result.columns.push_back(plan_.columns[column].name);
        }
        for (std::size_t row = 0; row < rows_.size(); ++row) {
            add_row(row, result.comparisons);
        }
        add_means(result);
        return result;
    }

private:
    void add_row(std::size_t row, std::vector<comparison>& out) const {
        if (rows_[row].empty()) {
            return;
        }
        if (plan_.rows[row].figures.empty()) {
            for (quantity const what : process_quantities) {
                out.push_back(compare_row(row, what, {}));
            }
            return;
        }
        std::set<std::string> seen;
        std::vector<std::string> names;
        for (auto const& round : rows_[row]) {
            for (run_record const* const run : round) {
                for (auto const& [name, value] : run->figures) {
                    if (seen.insert(name).second) {
                        names.push_back(name);
                    }
                }
            }
        }
        if (names.empty()) {
            names.push_back(plan_.rows[row].name);  // void in every column, and shown
        }
        for (std::string const& name : names) {
            out.push_back(compare_row(row, quantity::figure, name));
        }
    }

    /// Why a column has no value in a row; empty when it has one in every round.
    [[nodiscard]] std::string error_of(runs_of_row const& runs, std::size_t column, quantity what,
                                       std::string const& figure) const {
        for (auto const& round : runs) {
            if (!round[column]->error.empty()) {
                return round[column]->error;
            }
            if (!value_of(*round[column], what, figure)) {
                return std::string{not_measured};
            }
        }
        return {};
    }

    [[nodiscard]] comparison compare_row(std::size_t row_index, quantity what,
                                         std::string const& figure) const {
        row const& row = plan_.rows[row_index];
        runs_of_row const& runs = rows_[row_index];
        comparison result;
        result.row = figure.empty() ? row.name : figure;
        result.group = row.group;
        result.about = row.about;
        result.what = what;
        result.unit = what == quantity::figure ? row.figures : std::string{describe(what).unit};
        result.rounds = runs.size();
        result.cells.resize(columns_);
        std::vector<std::size_t> good;  // columns with values; ranked ones first
        std::size_t good_ranked = 0;
        for (std::size_t column = 0; column < columns_; ++column) {
            result.cells[column].error = error_of(runs, column, what, figure);
            if (result.cells[column].error.empty()) {
                good.push_back(column);
                good_ranked += column < ranked_ ? 1 : 0;
            }
        }
        if (good_ranked == 0) {
            return result;
        }
        samples measured{good_ranked};
        for (auto const& round : runs) {
            std::vector<double> values;
            values.reserve(good.size());
            for (std::size_t const column : good) {
                values.push_back(*value_of(*round[column], what, figure));
            }
            measured.add_round(values);
        }
        std::size_t const best = measured.best();
        result.best = good[best];
        for (std::size_t index = 0; index < good.size(); ++index) {
            cell& cell = result.cells[good[index]];
            cell.value = measured.value(index);
            cell.to_best = measured.ratio(index, best);
        }
        if (plan_.twin) {
            auto const twin = std::find(good.begin(), good.end(), *plan_.twin);
            if (twin != good.end() && good.back() == columns_ - 1) {
                result.aa =
                    measured.ratio(good.size() - 1, static_cast<std::size_t>(twin - good.begin()));
            }
        }
        return result;
    }

    void add_means(summary& result) const {
        for (quantity const what : process_quantities) {
            std::vector<std::string> groups{""};
            for (comparison const* const row : of_quantity(result, what)) {
                if (std::find(groups.begin(), groups.end(), row->group) == groups.end()) {
                    groups.push_back(row->group);
                }
            }
            for (std::string const& group : groups) {
                add_mean(result, what, group);
            }
        }
        for (std::string const& group : figure_groups(result)) {
            add_mean(result, quantity::figure, group);
        }
    }

    void add_mean(summary& result, quantity what, std::string const& group) const {
        std::vector<std::vector<ratio_estimate>> ratios(ranked_);
        std::size_t rows = 0;
        for (comparison const* const row : of_quantity(result, what, group)) {
            auto const end = row->cells.begin() + static_cast<std::ptrdiff_t>(ranked_);
            if (std::any_of(row->cells.begin(), end,
                            [](cell const& cell) { return !cell.error.empty(); })) {
                continue;
            }
            ++rows;
            for (std::size_t column = 0; column < ranked_; ++column) {
                ratios[column].push_back(row->cells[column].to_best);
            }
        }
        if (rows == 0) {
            return;
        }
        mean mean{what, group, rows, {}};
        for (auto const& column : ratios) {
            mean.of.push_back(geometric_mean(column));
        }
        result.means.push_back(std::move(mean));
    }

    campaign_plan const& plan_;
    std::size_t columns_;
    std::size_t ranked_;
    std::vector<runs_of_row> rows_;
};

}  // namespace

quantity_text describe(quantity what) {
    switch (what) {
        case quantity::wall:
            return {"wall", "wall time", "s"};
        case quantity::cpu:
            return {"cpu", "user + system time", "s"};
        case quantity::peak:
            return {"peak", "peak resident memory", "B"};
        case quantity::final:
            return {"final", "resident memory at the end", "B"};
        case quantity::faults:
            return {"faults", "page faults", ""};
        case quantity::figure:
            break;
    }
    return {"figure", "figures", ""};
}

verdict judge(comparison const& row, std::size_t column) {
    cell const& cell = row.cells[column];
    if (!cell.error.empty()) {
        return cell.error == not_measured ? verdict::missing : verdict::is_void;
    }
    if (row.best == column) {
        return verdict::best;
    }
    return !cell.to_best.error     ? verdict::unknown
           : cell.to_best.is_tie() ? verdict::tie
                                   : verdict::behind;
}

std::string_view describe(verdict what) {
    switch (what) {
        case verdict::best:
            return "best";
        case verdict::tie:
            return "tie";
        case verdict::behind:
            return "behind";
        case verdict::unknown:
            return "unknown";
        case verdict::missing:
            return "missing";
        case verdict::is_void:
            break;
    }
    return "void";
}

std::vector<std::string> void_rows(campaign_result const& result) {
    std::vector<std::string> lines;
    for (run_record const& run : result.runs) {
        if (!run.error.empty()) {
            std::string line = fmt::format("{} on {}: {}", result.plan.rows[run.row].name,
                                           result.plan.columns[run.column].name, run.error);
            if (std::find(lines.begin(), lines.end(), line) == lines.end()) {
                lines.push_back(std::move(line));
            }
        }
    }
    return lines;
}

summary summarize(campaign_result const& result) { return summarizer{result}.make(); }

std::vector<comparison const*> of_quantity(summary const& summary, quantity what,
                                           std::string const& group) {
    std::vector<comparison const*> result;
    for (comparison const& one : summary.comparisons) {
        if (one.what == what && (group.empty() || one.group == group)) {
            result.push_back(&one);
        }
    }
    return result;
}

mean const* find_mean(summary const& summary, quantity what, std::string const& group) {
    for (mean const& one : summary.means) {
        if (one.what == what && one.group == group) {
            return &one;
        }
    }
    return nullptr;
}

std::vector<std::string> figure_groups(summary const& summary) {
    std::vector<std::string> groups;
    for (comparison const* const row : of_quantity(summary, quantity::figure)) {
        if (std::find(groups.begin(), groups.end(), row->group) == groups.end()) {
            groups.push_back(row->group);
        }
    }
    return groups;
}

tie_count count_ties(std::vector<comparison const*> const& rows) {
    tie_count result;
    std::vector<ratio_estimate> ratios;
    for (comparison const* const row : rows) {
        if (row->aa && row->aa->error) {
            ++result.rows;
            result.ties += row->aa->is_tie() ? 1 : 0;
            ratios.push_back(*row->aa);
        }
    }
    if (!ratios.empty()) {
        result.mean = geometric_mean(ratios);
    }
    return result;
}

}  // namespace tarn::compare
