#include "live/ranking.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "cli/report.hpp"
#include "live/text.hpp"

namespace tarn::live {

namespace {

using cli::format_bytes;
using cli::format_count;

std::uint64_t held_bytes(tarn_stats const& stats) {
    std::uint64_t const free = stats.held_by_threads_bytes + stats.free_in_bins_bytes +
                               stats.free_in_heaps_bytes + stats.free_runs_bytes;
    return free - std::min(free, stats.purged_inside_bytes);
}

std::uint64_t per_second(std::uint64_t count, std::uint64_t interval_ms) {
    constexpr std::uint64_t second_ms = 1000;
    std::uint64_t const most = ~std::uint64_t{0};
    return count > most / second_ms ? count / interval_ms * second_ms
                                    : count * second_ms / interval_ms;
}

std::uint64_t value_of(ranked_process const& of, sort_key key) {
    switch (key) {
        case sort_key::live:
            return of.live_bytes;
        case sort_key::mapped:
            return of.mapped_bytes;
        case sort_key::resident:
            return of.resident_bytes;
        case sort_key::held:
            return of.held_bytes;
        case sort_key::rate:
            return of.rate.value_or(0);
    }
    return 0;
}

}  // namespace

std::string_view name_of(sort_key key) { return sort_names[static_cast<std::size_t>(key)]; }

std::optional<sort_key> sort_key_called(std::string_view name) {
    auto const found = std::find(sort_names.begin(), sort_names.end(), name);
    if (found == sort_names.end()) {
        return std::nullopt;
    }
    return static_cast<sort_key>(found - sort_names.begin());
}

sort_key next_of(sort_key key) {
    return static_cast<sort_key>((static_cast<std::size_t>(key) + 1) % sort_names.size());
}

std::vector<ranked_process> history::rank(std::vector<process_figures> const& found,
                                          std::uint64_t now_ms) {
    std::map<std::uint64_t, sample> current;
    std::vector<ranked_process> rows;
    for (process_figures const& each : found) {
        tarn_stats const& stats = each.what.stats;
        sample now{each.what.taken_ms, stats.allocations, std::nullopt};
        auto const before = last_.find(each.number);
        if (before != last_.end() && before->second.allocations <= now.allocations) {
            sample const& then = before->second;
            now.rate = now.taken_ms > then.taken_ms ? per_second(now.allocations - then.allocations,
                                                                 now.taken_ms - then.taken_ms)
                                                    : then.rate;
        }
        current[each.number] = now;
        rows.push_back({.number = each.number,
                        .name = each.name,
                        .live_bytes = stats.live_bytes,
                        .mapped_bytes = stats.mapped_bytes,
                        .resident_bytes = stats.resident_bytes,
                        .held_bytes = held_bytes(stats),
                        .threads = stats.threads,
                        .rate = now.rate,
                        .age_ms = each.what.is_answer ? std::nullopt
                                                      : std::optional{age_of(each.what, now_ms)}});
    }
    last_ = std::move(current);
    return rows;
}

void sort_by(sort_key key, std::vector<ranked_process>& rows) {
    std::sort(rows.begin(), rows.end(), [key](auto const& one, auto const& other) {
        std::uint64_t const first = value_of(one, key);
        std::uint64_t const second = value_of(other, key);
        return first != second ? first > second : one.number < other.number;
    });
}

std::vector<std::string> format_processes(std::vector<ranked_process> const& rows, columns which) {
    std::vector<table_row> cells{{"PID", "NAME", "LIVE", "MAPPED", "RESIDENT", "THREADS"}};
    if (which == columns::all) {
        cells[0].insert(cells[0].end(), {"HELD", "ALLOC/S"});
    }
    bool const has_stale =
        std::any_of(rows.begin(), rows.end(), [](auto const& each) { return each.age_ms; });
    if (has_stale) {
        cells[0].emplace_back("AGE");
    }
    for (ranked_process const& each : rows) {
        table_row row{fmt::format("{}", each.number),    each.name,
                      format_bytes(each.live_bytes),     format_bytes(each.mapped_bytes),
                      format_bytes(each.resident_bytes), format_count(each.threads)};
        if (which == columns::all) {
            row.push_back(format_bytes(each.held_bytes));
            row.push_back(each.rate ? format_count(*each.rate) : "-");
        }
        if (has_stale) {
            row.push_back(each.age_ms ? format_age(*each.age_ms) : "");
        }
        cells.push_back(std::move(row));
    }
    return format_table(cells, 1);
}

}  // namespace tarn::live
