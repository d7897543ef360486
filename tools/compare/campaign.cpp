#include "compare/campaign.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <sstream>
#include <utility>

#include "cli/environment.hpp"
#include "cli/failure.hpp"
#include "cli/temporary_folder.hpp"

namespace tarn::compare {

namespace {

using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point begin) {
    return std::chrono::duration<double>(clock::now() - begin).count();
}

std::chrono::seconds whole(double seconds) { return std::chrono::seconds{std::llround(seconds)}; }

/// The first line in which two outputs differ, as text for a message.
std::string first_difference(std::string const& wanted, std::string const& got) {
    std::istringstream wanted_lines{wanted};
    std::istringstream got_lines{got};
    std::string a;
    std::string b;
    for (std::size_t number = 1;; ++number) {
        bool const more_a = static_cast<bool>(std::getline(wanted_lines, a));
        bool const more_b = static_cast<bool>(std::getline(got_lines, b));
        if (!more_a && !more_b) {
            return "its end";
        }
        if (more_a != more_b || a != b) {
            return fmt::format("line {} is '{}'", number,
                               more_b ? b.substr(0, 100) : std::string{"missing"});
        }
    }
}

class campaign {
public:
    campaign(campaign_plan plan, cli::signal_watch const& signals,
             std::function<void(progress const&)> const& show)
        : signals_{signals}, show_{show} {
        result_.plan = std::move(plan);
        result_.begin = std::chrono::system_clock::now();
        outputs_.resize(rows().size());
        cost_s_.resize(rows().size(), std::vector<double>(columns().size(), 0));
        for (std::size_t round = 0; round < result_.plan.rounds; ++round) {
            for (row const& row : rows()) {
                runs_ += takes_part(row, round) ? columns().size() : 0;
            }
        }
    }

    campaign_result run() {
        try {
            for (std::size_t round = 0; round < result_.plan.rounds; ++round) {
                if (!has_time_for(round)) {
                    result_.note = fmt::format("the time limit left room for {} of {} rounds",
                                               round, result_.plan.rounds);
                    break;
                }
                run_round(round);
            }
        } catch (interrupted const& stop) {
            result_.signal = stop.signal;
            result_.note = fmt::format("interrupted in round {} of {}", result_.rounds + 1,
                                       result_.plan.rounds);
        }
        result_.duration = whole(seconds_since(begin_));
        return std::move(result_);
    }

private:
    [[nodiscard]] std::vector<row> const& rows() const { return result_.plan.rows; }

    [[nodiscard]] std::vector<allocator> const& columns() const { return result_.plan.columns; }

    [[nodiscard]] static bool takes_part(row const& row, std::size_t round) {
        return row.rounds == 0 || round < row.rounds;
    }

    /// What a run of this row and column will probably take.
    [[nodiscard]] double expected_s(std::size_t row, std::size_t column) const {
        double const known = cost_s_[row][column];
        return known > 0 ? known : done_ > 0 ? spent_s_ / static_cast<double>(done_) : 1;
    }

    [[nodiscard]] double expected_round_s(std::size_t round) const {
        double sum = 0;
        for (std::size_t row = 0; row < rows().size(); ++row) {
            for (std::size_t column = 0; column < columns().size(); ++column) {
                sum += takes_part(rows()[row], round) ? expected_s(row, column) : 0;
            }
        }
        return sum;
    }

    [[nodiscard]] bool has_time_for(std::size_t round) const {
        return round == 0 || !result_.plan.time_limit ||
               seconds_since(begin_) + expected_round_s(round) <=
                   static_cast<double>(result_.plan.time_limit->count());
    }

    void run_round(std::size_t round) {
        std::vector<run_record> records;
        double left_s = 0;
        for (std::size_t later = round + 1; later < result_.plan.rounds; ++later) {
            left_s += expected_round_s(later);
        }
        double round_left_s = expected_round_s(round);
        for (std::size_t row = 0; row < rows().size(); ++row) {
            if (!takes_part(rows()[row], round)) {
                continue;
            }
            if (round == 0 && rows()[row].rounds != 1) {
                static_cast<void>(run_once(row, 0));
            }
            std::vector<std::size_t> order(columns().size());
            std::iota(order.begin(), order.end(), std::size_t{0});
            std::seed_seq seed{result_.plan.seed, std::uint64_t{round}, std::uint64_t{row}};
            std::mt19937 random{seed};
            std::shuffle(order.begin(), order.end(), random);
            for (std::size_t place = 0; place < order.size(); ++place) {
                std::size_t const column = order[place];
                show_({round + 1, result_.plan.rounds, done_, runs_, rows()[row].name,
                       columns()[column].name, whole(seconds_since(begin_)),
                       whole(std::max(0.0, left_s + round_left_s))});
                round_left_s -= expected_s(row, column);
                clock::time_point const start = clock::now();
                run_record record = run_once(row, column);
                record.round = round;
                record.place = place;
                records.push_back(std::move(record));
                cost_s_[row][column] = seconds_since(start);
                spent_s_ += cost_s_[row][column];
                ++done_;
            }
        }
        result_.runs.insert(result_.runs.end(), records.begin(), records.end());
        ++result_.rounds;
    }

    run_record run_once(std::size_t row_index, std::size_t column) {
        row const& row = rows()[row_index];
        allocator const& malloc = columns()[column];
        std::optional<cli::temporary_folder> folder;
        run_plan plan;
        plan.library = malloc.library;
        plan.environment = malloc.environment;
        plan.time_limit = std::chrono::seconds{row.time_limit_s};
        if (!malloc.library.empty()) {
            std::string const others = cli::environment_value("LD_PRELOAD");
            plan.environment.emplace_back("LD_PRELOAD",
                                          malloc.library + (others.empty() ? "" : ":" + others));
        }
        if (wants_folder(row)) {
            folder.emplace();
            if (folder->path().empty()) {
                throw cli::failure{"cannot make a temporary folder; TMPDIR names where"};
            }
        }
        auto const fill = [&](std::string const& word) {
            return folder ? with_folder(word, folder->path()) : word;
        };
        std::transform(row.command.begin(), row.command.end(), std::back_inserter(plan.program),
                       fill);
        std::transform(row.client.begin(), row.client.end(), std::back_inserter(plan.client), fill);
        plan.input = fill(row.input);

        run_result const got = run_measured(plan, signals_);
        run_record record;
        record.row = row_index;
        record.column = column;
        record.error = got.error;
        record.measured = got.figures;
        if (record.error.empty()) {
            check_output(row_index, got.output, record);
        }
        return record;
    }

    /// The first good run of a row says what its output must be.
    void check_output(std::size_t row_index, std::string const& output, run_record& record) {
        row const& row = rows()[row_index];
        if (!row.figures.empty()) {
            try {
                record.figures = parse_figures(output, row.figures);
            } catch (cli::failure const& error) {
                record.error = error.what();
            }
        }
        if (row.output == output_rule::any) {
            return;
        }
        std::optional<std::string>& wanted = outputs_[row_index];
        if (!wanted) {
            wanted = output;
        } else if (*wanted != output) {
            record.error = fmt::format("another output than that of the first run: {}",
                                       first_difference(*wanted, output));
        }
    }

    cli::signal_watch const& signals_;
    std::function<void(progress const&)> const& show_;
    campaign_result result_;
    std::vector<std::optional<std::string>> outputs_;  // of each row's first good run
    std::vector<std::vector<double>> cost_s_;          // of the last run, by row and column
    clock::time_point begin_ = clock::now();
    double spent_s_ = 0;
    std::size_t done_ = 0;
    std::size_t runs_ = 0;
};

}  // namespace

figure const* find_figure(std::vector<figure> const& figures, std::string const& name) {
    auto const found = std::find_if(figures.begin(), figures.end(),
                                    [&](figure const& one) { return one.name == name; });
    return found == figures.end() ? nullptr : &*found;
}

std::vector<figure> parse_figures(std::string const& text, std::string const& unit) {
    std::vector<figure> figures;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words{line};
        std::string name;
        double value = 0;
        std::string line_unit;
        std::string rest;
        if (!(words >> name >> value >> line_unit) || line_unit != unit || words >> rest ||
            !(value > 0) || find_figure(figures, name) != nullptr) {
            throw cli::failure{fmt::format("its output has '{}', not a new NAME VALUE {}",
                                           line.substr(0, 100), unit)};
        }
        figures.push_back({name, value});
    }
    if (figures.empty()) {
        throw cli::failure{"it printed no figures"};
    }
    return figures;
}

campaign_result run_campaign(campaign_plan plan, cli::signal_watch const& signals,
                             std::function<void(progress const&)> const& show) {
    return campaign{std::move(plan), signals, show}.run();
}

}  // namespace tarn::compare
