#include "live/text.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>

#include "cli/report.hpp"

namespace tarn::live {

namespace {

using cli::format_bytes;
using cli::format_count;

constexpr std::string_view column_gap = "  ";

std::string name_of(std::uint64_t thread, std::map<std::uint64_t, std::string> const& names) {
    if (thread == 0) {
        return "(past their exit)";
    }
    auto const found = names.find(thread);
    return found == names.end() ? "(ended)" : found->second;
}

}  // namespace

std::string format_as(figures const& of, int as) {
    tarn_stats stats = of.stats;
    std::vector<tarn_class_stats> classes = of.classes;
    std::vector<tarn_thread_stats> threads = of.threads;
    stats.by_class = classes.data();
    stats.class_count = classes.size();
    stats.by_thread = threads.data();
    stats.thread_count = threads.size();
    std::string text(tarn_stats_format(&stats, as, nullptr, 0), '\0');
    tarn_stats_format(&stats, as, text.data(), text.size() + 1);
    return text;
}

std::string format_threads(figures const& of, std::map<std::uint64_t, std::string> const& names) {
    if (of.threads.empty()) {
        return {};
    }
    std::vector<tarn_thread_stats> threads = of.threads;
    std::stable_sort(threads.begin(), threads.end(),
                     [](tarn_thread_stats const& one, tarn_thread_stats const& other) {
                         return one.free_bytes > other.free_bytes;
                     });
    std::vector<table_row> rows{{"thread", "name", "pages", "free, held", "allocations"}};
    for (tarn_thread_stats const& each : threads) {
        rows.push_back({fmt::format("{}", each.thread_id), name_of(each.thread_id, names),
                        format_count(each.pages), format_bytes(each.free_bytes),
                        format_count(each.allocations)});
    }
    std::string text;
    for (std::string const& line : format_table(rows, 1)) {
        text += line + "\n";
    }
    if (of.stats.threads > threads.size()) {
        text += fmt::format("and {} more threads, for which the file has no room\n",
                            of.stats.threads - threads.size());
    }
    return text;
}

std::string format_stale(std::uint64_t age_ms) {
    return fmt::format(
        "no answer: these figures are {} old; a process with one thread takes new ones when it "
        "next takes or gives back a page",
        format_age(age_ms));
}

std::string format_age(std::uint64_t age_ms) {
    constexpr std::uint64_t minute_s = 60;
    constexpr std::uint64_t hour_s = 60 * minute_s;
    constexpr std::uint64_t day_s = 24 * hour_s;
    std::uint64_t const seconds = age_ms / 1000;
    if (seconds < 10) {
        return fmt::format("{}.{} s", seconds, age_ms % 1000 / 100);
    }
    if (seconds < 2 * minute_s) {
        return fmt::format("{} s", seconds);
    }
    if (seconds < 2 * hour_s) {
        return fmt::format("{} min", seconds / minute_s);
    }
    if (seconds < 2 * day_s) {
        return fmt::format("{} h", seconds / hour_s);
    }
    return fmt::format("{} d", seconds / day_s);
}

std::uint64_t age_of(figures const& what, std::uint64_t now_ms) {
    return now_ms - std::min(now_ms, what.taken_ms);
}

std::vector<std::string> format_table(std::vector<table_row> const& rows, std::size_t left_column) {
    std::vector<std::size_t> widths;
    for (table_row const& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i) {
            widths[i] = std::max(widths[i], row[i].size());
        }
    }
    std::vector<std::string> lines;
    for (table_row const& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += i == 0 ? "" : column_gap;
            line += i == left_column ? fmt::format("{:<{}}", row[i], widths[i])
                                     : fmt::format("{:>{}}", row[i], widths[i]);
        }
        line.resize(line.find_last_not_of(' ') + 1);
        lines.push_back(std::move(line));
    }
    return lines;
}

}  // namespace tarn::live
