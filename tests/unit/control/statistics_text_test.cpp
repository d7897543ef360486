#include "control/statistics_text.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tarn/tarn.h"

#include "control/statistics.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::control;

constexpr std::uint64_t most = ~std::uint64_t{0};

std::string text_of(tarn_stats const& of, int as) {
    std::string text(tarn_stats_format(&of, as, nullptr, 0), '\0');
    EXPECT_EQ(tarn_stats_format(&of, as, text.data(), text.size() + 1), text.size());
    return text;
}

/// A number in each field: its place, counted in words.
statistics numbered() {
    statistics of;
    auto* const words = reinterpret_cast<std::uint64_t*>(static_cast<tarn_stats*>(&of));
    for (std::size_t i = 0; i < offsetof(tarn_stats, by_class) / sizeof(std::uint64_t); ++i) {
        words[i] = 1000 + i;
    }
    // And those behind the arrays.
    std::uint64_t last = 1000 + offsetof(tarn_stats, by_class) / sizeof(std::uint64_t);
    for (auto const later :
         {&tarn_stats::quarantined_blocks, &tarn_stats::quarantined_bytes, &tarn_stats::guard_bytes,
          &tarn_stats::guarded_blocks, &tarn_stats::guarded_so_far, &tarn_stats::guards_refused}) {
        of.*later = last++;
    }
    std::uint64_t next = 1;
    for (tarn_class_stats& each : of.classes) {
        each = {.block_bytes = next == 1 ? 0 : 16 * next,
                .allocations = next,
                .live_blocks = 2,
                .live_bytes = 3,
                .free_blocks = 4,
                .pages = 5,
                .page_bytes = 6,
                .requested_bytes = 7,
                .requested_error_bytes = 8,
                .sampled_blocks = 9};
        ++next;
    }
    static_cast<void>(of.with_classes());
    return of;
}

constexpr std::size_t first_number = offsetof(tarn_stats, live_bytes) / sizeof(std::uint64_t);
constexpr std::size_t later_numbers = 6;
constexpr std::size_t numbers =
    (offsetof(tarn_stats, by_class) - offsetof(tarn_stats, live_bytes)) / sizeof(std::uint64_t) +
    later_numbers;

/// Whether each number of the struct is there, in the struct's order.
void expect_every_number(std::string const& text, std::string const& before,
                         std::string const& after) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < numbers; ++i) {
        std::string const wanted = before + std::to_string(1000 + first_number + i) + after;
        at = text.find(wanted, at);
        ASSERT_NE(at, std::string::npos) << wanted;
    }
}

TEST(statistics_text, has_every_number_of_the_struct) {
    statistics const of = numbered();
    expect_every_number(text_of(of, TARN_STATS_KEYS), " ", "\n");
    expect_every_number(text_of(of, TARN_STATS_LINE) + " ", "=", "");
    expect_every_number(text_of(of, TARN_STATS_JSON), ":", ",");
    expect_every_number(text_of(of, TARN_STATS_PROMETHEUS), " ", "\n");
}

TEST(statistics_text, as_keys_is_one_number_a_line_and_the_busiest_classes) {
    std::istringstream lines{text_of(numbered(), TARN_STATS_KEYS)};
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(line, std::string{"tarn "} + tarn_version() + " pid 1002");
    std::size_t keys = 0;
    std::vector<std::uint64_t> busiest;
    while (std::getline(lines, line)) {
        std::istringstream words{line};
        std::string key;
        std::uint64_t value = 0;
        words >> key >> value;
        ASSERT_FALSE(words.fail()) << line;
        if (key == "class") {
            words >> value;
            busiest.push_back(value);
        } else {
            ++keys;
        }
    }
    EXPECT_EQ(keys, numbers);
    ASSERT_EQ(busiest.size(), 12U);
    for (std::size_t i = 0; i < busiest.size(); ++i) {
        EXPECT_EQ(busiest[i], sizing::class_count - i);
    }
}

TEST(statistics_text, as_a_line_is_one_line) {
    std::string const line = text_of(numbered(), TARN_STATS_LINE);
    EXPECT_EQ(line.find('\n'), line.size() - 1);
    EXPECT_EQ(line.rfind("tarn pid=1002 live_bytes=", 0), 0U);
}

TEST(statistics_text, as_json_has_arrays_as_far_as_there_are) {
    statistics of = numbered();
    tarn_thread_stats threads[2] = {{.thread_id = 7,
                                     .allocations = 1,
                                     .cross_thread_frees = 2,
                                     .pages = 3,
                                     .page_bytes = 4,
                                     .free_bytes = 5},
                                    {}};
    of.by_thread = threads;
    of.thread_count = 1;
    std::string const text = text_of(of, TARN_STATS_JSON);
    EXPECT_NE(text.find(R"("by_thread":[{"thread_id":7,"allocations":1,"cross_thread_frees":2,)"
                        R"("pages":3,"page_bytes":4,"free_bytes":5}],"by_owner":[]})"),
              std::string::npos)
        << text;
    of.by_class = nullptr;
    of.by_thread = nullptr;
    EXPECT_NE(text_of(of, TARN_STATS_JSON).find(R"("by_class":[],"by_thread":[],"by_owner":[]})"),
              std::string::npos);
}

TEST(statistics_text, names_owners_whatever_their_names) {
    statistics of = numbered();
    tarn_owner_stats owners[2] = {
        {.kind = "block_pool",
         .name = "a \"b\\\n",
         .owners = 3,
         .held_bytes = 4096,
         .live_bytes = 5},
        {.kind = "region", .name = "", .owners = 1, .held_bytes = 6, .live_bytes = 7}};
    of.by_owner = owners;
    of.owner_count = 2;
    of.size = offsetof(tarn_stats, by_owner);
    EXPECT_NE(text_of(of, TARN_STATS_JSON).find(R"("by_owner":[])"), std::string::npos);
    of.size = sizeof(tarn_stats);
    std::string const json = text_of(of, TARN_STATS_JSON);
    EXPECT_NE(json.find(R"("by_owner":[{"kind":"block_pool","name":"a \"b\\\u000a","owners":3,)"
                        R"("held_bytes":4096,"live_bytes":5},{"kind":"region","name":"",)"),
              std::string::npos)
        << json;
    std::string const report = text_of(of, TARN_STATS_REPORT);
    EXPECT_NE(report.find("  region                                 1         6 B         7 B\n"),
              std::string::npos)
        << report;
}

TEST(statistics_text, for_prometheus_says_what_each_metric_is) {
    std::istringstream lines{text_of(numbered(), TARN_STATS_PROMETHEUS)};
    std::map<std::string, std::string> types;
    std::string line;
    while (std::getline(lines, line)) {
        std::istringstream words{line};
        std::string first;
        std::string second;
        std::string name;
        std::string type;
        words >> first >> second >> name >> type;
        if (second == "TYPE") {
            EXPECT_TRUE(types.emplace(name, type).second) << name << " twice";
        } else if (first != "#") {
            std::string const metric = first.substr(0, first.find('{'));
            ASSERT_TRUE(types.contains(metric)) << line;
            EXPECT_EQ(types[metric] == "counter", metric.ends_with("_total")) << line;
        }
    }
    EXPECT_EQ(types.size(), numbers + 9);
}

TEST(statistics_text, is_cut_where_the_room_ends) {
    statistics const of = numbered();
    std::string const whole = text_of(of, TARN_STATS_JSON);
    char room[20];
    std::memset(room, 'x', sizeof room);
    EXPECT_EQ(tarn_stats_format(&of, TARN_STATS_JSON, room, 10), whole.size());
    EXPECT_EQ(std::string{room}, whole.substr(0, 9));
    EXPECT_EQ(room[10], 'x');
    EXPECT_EQ(tarn_stats_format(&of, TARN_STATS_JSON, room, 1), whole.size());
    EXPECT_EQ(room[0], '\0');
    EXPECT_EQ(tarn_stats_format(nullptr, TARN_STATS_JSON, room, 10), 0U);
    EXPECT_EQ(tarn_stats_format(&of, 99, room, 10), 0U);
    EXPECT_EQ(tarn_stats_format(&of, -1, nullptr, 0), 0U);
}

TEST(statistics_text, fits_with_the_largest_numbers) {
    statistics of = numbered();
    auto* const words = reinterpret_cast<std::uint64_t*>(static_cast<tarn_stats*>(&of));
    for (std::size_t i = 0; i < offsetof(tarn_stats, by_class) / sizeof(std::uint64_t); ++i) {
        words[i] = most;
    }
    of.classes.fill({most, most, most, most, most, most, most, most, most, most});
    for (int const as : {TARN_STATS_REPORT, TARN_STATS_LINE, TARN_STATS_KEYS}) {
        EXPECT_LT(text_of(of, as).size(), statistics_text_bytes);
    }
    EXPECT_NE(text_of(statistics{}, TARN_STATS_REPORT).find("live in blocks"), std::string::npos);
}

}  // namespace
