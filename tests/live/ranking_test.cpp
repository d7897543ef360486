#include "live/ranking.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace tarn::live;

process_figures look(std::uint64_t number, std::uint64_t taken_ms, std::uint64_t allocations) {
    process_figures one;
    one.number = number;
    one.name = "name";
    one.what.taken_ms = taken_ms;
    one.what.is_answer = true;
    one.what.stats.allocations = allocations;
    return one;
}

TEST(ranking, names_of_keys) {
    EXPECT_EQ(name_of(sort_key::live), "live");
    EXPECT_EQ(name_of(sort_key::rate), "rate");
    EXPECT_EQ(sort_key_called("held"), sort_key::held);
    EXPECT_FALSE(sort_key_called("size"));
    EXPECT_EQ(next_of(sort_key::live), sort_key::mapped);
    EXPECT_EQ(next_of(sort_key::rate), sort_key::live);
}

TEST(ranking, rates_need_two_looks) {
    history looks;
    EXPECT_FALSE(looks.rank({look(1, 1000, 50)}, 1000)[0].rate);
    EXPECT_EQ(looks.rank({look(1, 1500, 150)}, 1500)[0].rate, 200U);
    EXPECT_EQ(looks.rank({look(1, 1500, 150)}, 2500)[0].rate, 200U);  // nothing new
    EXPECT_EQ(looks.rank({look(1, 3500, 150)}, 3500)[0].rate, 0U);
    // Another process with the same number, and one that had gone.
    EXPECT_FALSE(looks.rank({look(1, 4500, 20)}, 4500)[0].rate);
    EXPECT_TRUE(looks.rank({}, 5000).empty());
    EXPECT_FALSE(looks.rank({look(1, 5500, 30)}, 5500)[0].rate);
}

TEST(ranking, rates_do_not_overflow) {
    history looks;
    std::uint64_t const most = ~std::uint64_t{0};
    static_cast<void>(looks.rank({look(1, 0, 0)}, 0));
    auto const rate = looks.rank({look(1, 1000, most)}, 1000)[0].rate;
    EXPECT_GT(rate, most - 1000);
}

TEST(ranking, held_is_free_and_not_given_back) {
    process_figures one = look(1, 1, 1);
    one.what.is_answer = false;
    one.what.stats.held_by_threads_bytes = 10;
    one.what.stats.free_in_bins_bytes = 20;
    one.what.stats.free_runs_bytes = 30;
    one.what.stats.purged_inside_bytes = 5;
    auto const row = history{}.rank({one}, 101)[0];
    EXPECT_EQ(row.held_bytes, 55U);
    EXPECT_EQ(row.age_ms, 100U);
    one.what.stats.purged_inside_bytes = 100;
    EXPECT_EQ(history{}.rank({one}, 101)[0].held_bytes, 0U);
}

TEST(ranking, sorts_by_each_key) {
    std::vector<ranked_process> rows(3);
    rows[0].number = 3;
    rows[1].number = 2;
    rows[2].number = 1;
    auto const first = [&rows](sort_key key) {
        sort_by(key, rows);
        return rows[0].number;
    };
    EXPECT_EQ(first(sort_key::live), 1U);
    for (auto const& [field, key] : {std::pair{&ranked_process::live_bytes, sort_key::live},
                                     std::pair{&ranked_process::mapped_bytes, sort_key::mapped},
                                     std::pair{&ranked_process::resident_bytes, sort_key::resident},
                                     std::pair{&ranked_process::held_bytes, sort_key::held}}) {
        rows[1].*field = 5;
        std::uint64_t const number = rows[1].number;
        EXPECT_EQ(first(key), number);
        rows[0].*field = 0;
    }
    sort_by(sort_key::live, rows);
    rows[2].rate = 5;
    EXPECT_EQ(first(sort_key::rate), 3U);
}

TEST(ranking, table) {
    std::vector<ranked_process> rows(2);
    rows[0] = {.number = 12,
               .name = "redis",
               .live_bytes = 1024,
               .mapped_bytes = 2048,
               .resident_bytes = 4096,
               .held_bytes = 17,
               .threads = 4,
               .rate = 1234,
               .age_ms = std::nullopt};
    rows[1].number = 7;
    EXPECT_EQ(format_processes(rows, columns::few),
              (std::vector<std::string>{"PID  NAME      LIVE   MAPPED  RESIDENT  THREADS",
                                        " 12  redis  1.0 KiB  2.0 KiB   4.0 KiB        4",
                                        "  7             0 B      0 B       0 B        0"}));
    rows[1].age_ms = 12'000;
    auto const lines = format_processes(rows, columns::all);
    EXPECT_EQ(lines[0], "PID  NAME      LIVE   MAPPED  RESIDENT  THREADS  HELD  ALLOC/S   AGE");
    EXPECT_EQ(lines[1], " 12  redis  1.0 KiB  2.0 KiB   4.0 KiB        4  17 B    1,234");
    EXPECT_EQ(lines[2], "  7             0 B      0 B       0 B        0   0 B        -  12 s");
}

}  // namespace
