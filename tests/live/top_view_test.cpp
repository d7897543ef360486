#include "live/top_view.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using namespace tarn::live;

std::vector<ranked_process> some_rows(std::size_t count) {
    std::vector<ranked_process> rows(count);
    for (std::size_t i = 0; i < count; ++i) {
        rows[i].number = i + 1;
        rows[i].name = "name";
        rows[i].live_bytes = i;
    }
    return rows;
}

TEST(top_view, keys) {
    top_view view;
    EXPECT_EQ(apply_keys("x", view), key_effect::none);
    EXPECT_EQ(apply_keys("", view), key_effect::none);
    EXPECT_EQ(apply_keys("s", view), key_effect::redraw);
    EXPECT_EQ(view.sort, sort_key::mapped);
    EXPECT_EQ(apply_keys("ssss", view), key_effect::redraw);
    EXPECT_EQ(view.sort, sort_key::live);
    EXPECT_EQ(apply_keys("p", view), key_effect::redraw);
    EXPECT_TRUE(view.is_paused);
    EXPECT_EQ(apply_keys("pqs", view), key_effect::quit);
    EXPECT_FALSE(view.is_paused);
    EXPECT_EQ(view.sort, sort_key::live);
}

TEST(top_view, sequences_of_other_keys_mean_nothing) {
    top_view view;
    EXPECT_EQ(apply_keys("\x1b[s", view), key_effect::none);
    EXPECT_EQ(apply_keys("\x1bq", view), key_effect::none);
    EXPECT_EQ(view.sort, sort_key::live);
}

TEST(top_view, screen) {
    auto lines = compose_screen(some_rows(2), {}, "1 s", {});
    ASSERT_EQ(lines.size(), 5U);
    EXPECT_EQ(lines[0], "tarn top: 2 processes on Tarn, by live, every 1 s");
    EXPECT_EQ(lines[1].substr(0, 9), "PID  NAME");
    EXPECT_EQ(lines[2].substr(0, 9), "  2  name");
    EXPECT_EQ(lines[4], "q quit  s sort  p pause");
    lines = compose_screen(some_rows(1), {.sort = sort_key::rate, .is_paused = true}, "1 s", {});
    EXPECT_EQ(lines[0], "tarn top: 1 process on Tarn, by rate, paused");
    EXPECT_EQ(compose_screen({}, {}, "1 s", {}).size(), 3U);
}

TEST(top_view, screen_fits_every_window) {
    for (std::size_t rows = 1; rows < 12; ++rows) {
        for (std::size_t const columns : {1U, 20U, 200U}) {
            auto const lines = compose_screen(some_rows(7), {}, "1 s", {rows, columns});
            EXPECT_EQ(lines.size(), std::min<std::size_t>(rows, 10));
            for (std::string const& each : lines) {
                EXPECT_LE(each.size(), columns);
            }
        }
    }
    auto const lines = compose_screen(some_rows(7), {}, "1 s", {5, 80});
    EXPECT_EQ(lines[2].substr(0, 9), "  7  name");
    EXPECT_EQ(lines[4], "q quit  s sort  p pause  (5 more)");
}

TEST(top_view, drawing_does_not_scroll) {
    EXPECT_EQ(draw({"a", "b"}), "\x1b[H\x1b[Ka\r\n\x1b[Kb\x1b[J");
    EXPECT_EQ(draw({}), "\x1b[H\x1b[J");
}

}  // namespace
