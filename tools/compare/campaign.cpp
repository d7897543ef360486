#include "compare/campaign.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <numeric>
#include <random>
#include <sstream>
#include <system_error>
#include <utility>

#include "cli/environment.hpp"
#include "cli/failure.hpp"
#include "cli/temporary_folder.hpp"
#include "compare/markup.hpp"

namespace tarn::compare {

namespace {

using clock = std::chrono::steady_clock;

constexpr std::size_t line_bytes_max = 100;

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
                               more_b ? printable(b, line_bytes_max) : std::string{"missing"});
        }
    }
}

/// An output to compare others with; of a long one only the beginning is kept in full.
class reference_output {
public:
    explicit reference_output(std::string const& text)
        : beginning_{text.substr(0, kept_bytes)},
          bytes_{text.size()},
          hash_{std::hash<std::string>{}(text)} {}

    [[nodiscard]] bool equals(std::string const& text) const {
        return text.size() == bytes_ && std::hash<std::string>{}(text) == hash_ &&
               text.compare(0, beginning_.size(), beginning_) == 0;
    }

    [[nodiscard]] std::string difference(std::string const& text) const {
        return text.compare(0, beginning_.size(), beginning_) == 0 && bytes_ > kept_bytes
                   ? fmt::format("it differs after its first {} bytes", kept_bytes)
                   : first_difference(beginning_, text);
    }

private:
    static constexpr std::size_t kept_bytes = std::size_t{1} << 20;

    std::string beginning_;
    std::size_t bytes_;
    std::size_t hash_;
};

class campaign {
public:
    campaign(campaign_plan plan, cli::signal_watch const& signals,
             std::function<void(progress const&)> const& show)
        : signals_{signals}, show_{show} {
        result_.plan = std::move(plan);
        result_.begin = std::chrono::system_clock::now();
        outputs_.resize(rows().size());
        errors_.resize(rows().size(), std::vector<std::string>(columns().size()));
        cost_s_.resize(rows().size(), std::vector<double>(columns().size(), 0));
        for (std::size_t round = 0; round < result_.plan.rounds; ++round) {
            for (row const& row : rows()) {
                runs_ += takes_part(row, round) ? columns().size() : 0;
            }
        }
    }

    campaign_result run() {
        adopt_descendants();
        check_inputs();
        try {
            for (std::size_t round = 0; round < result_.plan.rounds; ++round) {
                if (!has_time_for(round)) {
                    result_.notes.push_back(
                        fmt::format("the time limit left room for {} of {} rounds", round,
                                    result_.plan.rounds));
                    break;
                }
                run_round(round);
            }
        } catch (interrupted const& stop) {
            result_.signal = stop.signal;
            result_.notes.push_back(fmt::format("interrupted in round {} of {}", result_.rounds + 1,
                                                result_.plan.rounds));
        } catch (cli::failure const& error) {
            if (result_.rounds == 0) {
                throw;
            }
            result_.failed = true;
            result_.notes.push_back(fmt::format("ended in round {} of {}: {}", result_.rounds + 1,
                                                result_.plan.rounds, error.what()));
        }
        if (!traced_) {
            result_.notes.emplace_back(
                "tracing is not permitted here: whether the libraries were loaded was not checked, "
                "memory at the end is not known, and peaks below tarn's own are not");
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

    void check_inputs() const {
        for (row const& row : rows()) {
            std::error_code error;
            if (!row.input.empty() && !std::filesystem::is_regular_file(row.input, error)) {
                throw cli::failure{fmt::format("row {}: its input {} is not a regular file{}",
                                               row.name, row.input,
                                               error ? ": " + error.message() : std::string{})};
            }
        }
    }

    /// What a run of this row and column will probably take.
    [[nodiscard]] double expected_s(std::size_t row, std::size_t column) const {
        if (!errors_[row][column].empty()) {
            return 0;
        }
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
                run_record const warm_up = run_once(row, 0);
                if (!started_ && rows().size() == 1) {
                    throw cli::failure{warm_up.error};
                }
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
                run_record record = run_unless_void(row, column);
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

    run_record run_unless_void(std::size_t row, std::size_t column) {
        run_record record;
        record.row = row;
        record.column = column;
        record.error = errors_[row][column];
        if (record.error.empty()) {
            record = run_once(row, column);
            errors_[row][column] = record.error;
        }
        return record;
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
        if (row.uses_folder) {
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
        plan.input = row.input;

        run_result const got = run_measured(plan, signals_);
        traced_ = traced_ && got.traced;
        started_ = got.started;
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
        std::optional<reference_output>& wanted = outputs_[row_index];
        if (!wanted) {
            wanted.emplace(output);
        } else if (!wanted->equals(output)) {
            record.error = fmt::format("another output than that of the first run: {}",
                                       wanted->difference(output));
        }
    }

    cli::signal_watch const& signals_;
    std::function<void(progress const&)> const& show_;
    campaign_result result_;
    std::vector<std::optional<reference_output>> outputs_;  // of each row's first good run
    std::vector<std::vector<std::string>> errors_;          // why void, by row and column
    bool traced_ = true;
    bool started_ = true;                      // the program of the last run
    std::vector<std::vector<double>> cost_s_;  // of the last run, by row and column
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
                                           printable(line, line_bytes_max), unit)};
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
