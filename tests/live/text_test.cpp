#include "live/text.hpp"

#include <gtest/gtest.h>

#include <string>

#include "live/process.hpp"

namespace {

using namespace tarn::live;

figures some_figures() {
    figures of;
    of.stats.size = sizeof of.stats;
    of.stats.process_id = 7;
    of.stats.threads = 3;
    of.classes.resize(1);
    of.classes[0].block_bytes = 48;
    of.threads.resize(2);
    of.threads[0].thread_id = 7;
    of.threads[0].allocations = 1234;
    of.threads[0].pages = 2;
    of.threads[0].free_bytes = 10;
    of.threads[1].allocations = 9;
    of.threads[1].pages = 1;
    of.threads[1].free_bytes = 4096;
    return of;
}

TEST(text, in_each_format) {
    std::string const json = format_as(some_figures(), TARN_STATS_JSON);
    EXPECT_NE(json.find(R"("by_class":[{"block_bytes":48)"), std::string::npos) << json;
    EXPECT_NE(json.find(R"("by_thread":[{"thread_id":7)"), std::string::npos) << json;
    EXPECT_EQ(json.back(), '\n');
    EXPECT_EQ(format_as(some_figures(), 99), "");
}

TEST(text, of_threads) {
    EXPECT_EQ(format_threads(some_figures(), {{7, "main"}}),
              "thread  name               pages  free, held  allocations\n"
              "     0  (past their exit)      1     4.0 KiB            9\n"
              "     7  main                   2        10 B        1,234\n"
              "and 1 more threads, for which the file has no room\n");
    EXPECT_NE(format_threads(some_figures(), {}).find("(ended)"), std::string::npos);
    EXPECT_EQ(format_threads(figures{}, {}), "");
}

TEST(text, of_ages) {
    EXPECT_EQ(format_age(0), "0.0 s");
    EXPECT_EQ(format_age(1999), "1.9 s");
    EXPECT_EQ(format_age(10'000), "10 s");
    EXPECT_EQ(format_age(119'999), "119 s");
    EXPECT_EQ(format_age(120'000), "2 min");
    EXPECT_EQ(format_age(7'200'000), "2 h");
    EXPECT_EQ(format_age(200'000'000), "2 d");
    figures of;
    of.taken_ms = 1000;
    EXPECT_EQ(age_of(of, 1500), 500U);
    EXPECT_EQ(age_of(of, 500), 0U);  // clocks that disagree
}

TEST(text, in_columns) {
    auto const lines = format_table({{"A", "NAME", "B"}, {"100", "x", "20"}, {"1", "", ""}}, 1);
    ASSERT_EQ(lines.size(), 3U);
    EXPECT_EQ(lines[0], "  A  NAME   B");
    EXPECT_EQ(lines[1], "100  x     20");
    EXPECT_EQ(lines[2], "  1");
}

TEST(text, of_names_steers_no_terminal) {
    EXPECT_EQ(printable("a\x1b[2J\n\xc3\xa4 z"), "a?[2J??? z");
    EXPECT_EQ(printable(""), "");
}

TEST(process_number, is_the_innermost) {
    EXPECT_EQ(innermost_number("Tgid:\t5\nNSpid:\t5\t3\t1\n", 5), 1U);
    EXPECT_EQ(innermost_number("NSpid:\t5\n", 6), 5U);
    EXPECT_EQ(innermost_number("Tgid:\t5\n", 6), 6U);
}

}  // namespace
