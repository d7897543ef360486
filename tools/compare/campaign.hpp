// compare/campaign.hpp - runs rows on allocators, round by round.
//
// In a round every row is run once on each allocator, one process after the other, in an order that
// is drawn anew; so whatever drifts hits all alike. Before the first round each row is run once for
// the system's caches; that run does not count. An allocator on which a row was void is not tried
// on it again.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/child.hpp"
#include "compare/allocator.hpp"
#include "compare/measured_run.hpp"
#include "compare/suite.hpp"

namespace tarn::compare {

struct campaign_plan {
    std::vector<row> rows;
    std::vector<allocator> columns;
    std::optional<std::size_t> twin;  // the last column is this one again: the A/A run
    std::size_t rounds = 8;
    std::optional<std::chrono::seconds> time_limit;  // no round begins that would not end by then
    std::uint64_t seed = 1;                          // of the order within rounds
};

struct figure {
    std::string name;
    double value;
};

struct run_record {
    std::size_t round = 0;
    std::size_t row = 0;
    std::size_t column = 0;
    std::size_t place = 0;  // in the order of its row and round, from 0
    std::string error;      // why it does not count; empty: it does
    measurement measured;
    std::vector<figure> figures;  // for rows that print them, in their order
};

struct campaign_result {
    campaign_plan plan;
    std::vector<run_record> runs;  // of finished rounds
    std::size_t rounds = 0;        // finished
    std::chrono::system_clock::time_point begin;
    std::chrono::seconds duration{0};
    std::vector<std::string> notes;  // what a reader of the results has to know
    int signal = 0;                  // that ended it early
    bool failed = false;             // tarn could not go on; a note says why
};

/// What is to be run next.
struct progress {
    std::size_t round;  // from 1
    std::size_t rounds;
    std::size_t runs_done;  // over all rounds
    std::size_t runs;
    std::string row;
    std::string column;
    std::chrono::seconds elapsed;
    std::chrono::seconds left;  // expected
};

/// Calls `show` before each run. Throws cli::failure when a row's input is no regular file, or when
/// the only row's program can't be started.
campaign_result run_campaign(campaign_plan plan, cli::signal_watch const& signals,
                             std::function<void(progress const&)> const& show);

/// The figure with this name; null when there is none.
figure const* find_figure(std::vector<figure> const& figures, std::string const& name);

/// The lines `NAME VALUE UNIT` of `text`, which must all be of this unit. Throws cli::failure,
/// which quotes the line, for one that is not of this form or repeats a name, and when there is
/// none.
std::vector<figure> parse_figures(std::string const& text, std::string const& unit);

}  // namespace tarn::compare
