#include "control/options.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.hpp"
#include "base/units.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::control;

/// What parsing says.
std::string complaints_of(std::string_view text, options& target) {
    base::text_buffer<4096> complaints;
    parse_options(text, target, complaints);
    EXPECT_FALSE(complaints.truncated());
    return std::string{complaints.view()};
}

std::string complaints_of(std::string_view text) {
    options target;
    return complaints_of(text, target);
}

struct number_row {
    std::string name;
    std::uint64_t options::*member;
    std::uint64_t initial;
    std::uint64_t least;
    std::uint64_t largest;
};

std::vector<number_row> const number_rows{
#define TARN_ROW(name, initial, least, largest, help) \
    {#name, &options::name, initial, least, largest},
    TARN_NUMBER_OPTIONS(TARN_ROW)
#undef TARN_ROW
};

struct path_row {
    std::string name;
    path_text options::*member;
};

constexpr std::size_t choice_rows = 15;

std::vector<path_row> const path_rows{
#define TARN_ROW(name, help) {#name, &options::name},
    TARN_PATH_OPTIONS(TARN_ROW)
#undef TARN_ROW
};

TEST(options, have_sound_defaults) {
    options const fresh;
    for (number_row const& row : number_rows) {
        EXPECT_EQ(fresh.*row.member, row.initial) << row.name;
        EXPECT_GE(row.initial, row.least) << row.name;
        EXPECT_LE(row.initial, row.largest) << row.name;
    }
    for (path_row const& row : path_rows) {
        EXPECT_TRUE((fresh.*row.member).empty()) << row.name;
    }
    EXPECT_EQ(fresh.on_misuse, misuse_action::abort);
}

TEST(options, of_every_number_row_parse) {
    for (number_row const& row : number_rows) {
        for (std::uint64_t const value : {row.least, row.largest, row.initial}) {
            options target;
            EXPECT_EQ(complaints_of(row.name + '=' + std::to_string(value), target), "");
            EXPECT_EQ(target.*row.member, value) << row.name;
            for (number_row const& other : number_rows) {  // and no other changed
                EXPECT_TRUE(other.name == row.name || target.*other.member == other.initial);
            }
        }
    }
}

TEST(options, refuse_bad_numbers_and_keep_what_was) {
    for (number_row const& row : number_rows) {
        std::vector<std::string> bad{"",
                                     "x",
                                     "1x",
                                     "-1",
                                     "+1",
                                     " 1",
                                     "1 ",
                                     "0x10",
                                     "1.5",
                                     "K",
                                     "1KK",
                                     "1iB",
                                     "B",
                                     "1e3",
                                     "99999999999999999999",
                                     "99999999999999999999K",
                                     "18446744073709551615G"};
        bad.push_back(std::to_string(row.largest + 1));
        if (row.least != 0) {
            bad.push_back(std::to_string(row.least - 1));
        }
        for (std::string const& value : bad) {
            options target;
            std::string const text = complaints_of(row.name + '=' + value, target);
            EXPECT_EQ(target.*row.member, row.initial) << row.name << '=' << value;
            EXPECT_NE(text.find("option " + row.name + ": '" + value + "'"), std::string::npos)
                << text;
            EXPECT_NE(text.find(std::to_string(row.least) + " to " + std::to_string(row.largest)),
                      std::string::npos)
                << text;
            EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
        }
    }
}

TEST(options, know_suffixes) {
    struct example {
        char const* text;
        std::uint64_t bytes;
    };

    for (example const& each :
         {example{"65536", 64 * KiB}, example{"64K", 64 * KiB}, example{"64k", 64 * KiB},
          example{"64KiB", 64 * KiB}, example{"64KB", 64 * KiB}, example{"64Ki", 64 * KiB},
          example{"65536B", 64 * KiB}, example{"3M", 3 * MiB}, example{"3m", 3 * MiB},
          example{"3MiB", 3 * MiB}, example{"1G", 1 * GiB}, example{"1g", 1 * GiB},
          example{"1GiB", 1 * GiB}, example{"0", 0}, example{"0G", 0}, example{"007", 7}}) {
        options target;
        EXPECT_EQ(complaints_of(std::string{"thread_cache_bytes="} + each.text, target), "");
        EXPECT_EQ(target.thread_cache_bytes, each.bytes) << each.text;
    }
}

TEST(options, of_every_path_row_parse) {
    for (path_row const& row : path_rows) {
        options target;
        EXPECT_EQ(complaints_of(row.name + "=/tmp/a b/%p=x.txt", target), "");
        EXPECT_EQ((target.*row.member).view(), "/tmp/a b/%p=x.txt");
        EXPECT_EQ(complaints_of(row.name + "=/b", target), "");
        EXPECT_EQ((target.*row.member).view(), "/b");  // nothing of the longer one
        EXPECT_EQ(complaints_of(row.name + '=', target), "");
        EXPECT_TRUE((target.*row.member).empty());
        std::string const longest(path_text::bytes_max - 1, 'x');
        EXPECT_EQ(complaints_of(row.name + '=' + longest, target), "");
        EXPECT_EQ((target.*row.member).view(), longest);
        EXPECT_NE(complaints_of(row.name + "=y" + longest, target).find("511 bytes"),
                  std::string::npos);
        EXPECT_EQ((target.*row.member).view(), longest);
    }
}

TEST(options, of_misuse_parse) {
    struct example {
        char const* text;
        misuse_action action;
    };

    for (example const& each :
         {example{"abort", misuse_action::abort}, example{"warn", misuse_action::warn},
          example{"ignore", misuse_action::ignore}, example{"forward", misuse_action::forward}}) {
        options target;
        EXPECT_EQ(complaints_of(std::string{"on_misuse="} + each.text, target), "");
        EXPECT_EQ(target.on_misuse, each.action);
    }
    for (char const* const bad : {"", "Warn", "warning", "0", "abort "}) {
        options target;
        target.on_misuse = misuse_action::forward;
        std::string const text = complaints_of(std::string{"on_misuse="} + bad, target);
        EXPECT_EQ(target.on_misuse, misuse_action::forward);
        EXPECT_NE(text.find("abort, warn, ignore, forward; keeping forward"), std::string::npos)
            << text;
    }
}

TEST(options, are_separated_by_commas) {
    options target;
    EXPECT_EQ(complaints_of("stats=1,,verbose=1,purge_delay_ms=5,", target), "");
    EXPECT_EQ(target.stats, 1U);
    EXPECT_EQ(target.verbose, 1U);
    EXPECT_EQ(target.purge_delay_ms, 5U);
    EXPECT_EQ(complaints_of("stats=0,stats=1", target), "");
    EXPECT_EQ(target.stats, 1U) << "the last one counts";
    EXPECT_EQ(complaints_of(""), "");
    EXPECT_EQ(complaints_of(",,,"), "");
}

TEST(options, without_value_or_name_are_named) {
    EXPECT_EQ(complaints_of("stats"), "tarn: 'stats' in TARN_OPTIONS lacks '=value'\n");
    EXPECT_NE(complaints_of("=1").find("unknown option ''"), std::string::npos);
    options target;
    std::string const text = complaints_of("nonsense,stats=1,x=,report_fd=-1", target);
    EXPECT_EQ(target.stats, 1U) << "a bad one does not spoil the next";
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text;
}

TEST(options, unknown_are_answered_with_the_nearest_name) {
    struct example {
        char const* key;
        char const* nearest;
    };

    for (example const& each :
         {example{"purge_delay", "purge_delay_ms"}, example{"purgedelayms", "purge_delay_ms"},
          example{"stat", "stats"}, example{"sats", "stats"}, example{"report_fil", "report_file"},
          example{"reprot_fd", "report_fd"}, example{"on-misuse", "on_misuse"},
          example{"thread_cache", "thread_cache_bytes"}, example{"verbos", "verbose"},
          example{"arena_byte", "arena_bytes"}}) {
        std::string const expected = std::string{"tarn: unknown option '"} + each.key +
                                     "' in TARN_OPTIONS; did you mean '" + each.nearest + "'?\n";
        EXPECT_EQ(complaints_of(std::string{each.key} + "=1"), expected);
    }
    // A key of any length is answered.
    EXPECT_NE(complaints_of(std::string(500, 'q') + "=1").find("unknown option"),
              std::string::npos);
}

TEST(options, description_lists_every_row_and_can_be_read_back) {
    options odd;
    for (number_row const& row : number_rows) {
        odd.*row.member = row.largest;
    }
    odd.on_misuse = misuse_action::forward;
    odd.valgrind = valgrind_choice::stay;
    ASSERT_EQ(complaints_of("report_file=/r,stats_file=/s", odd), "");
    base::text_buffer<4096> text;
    describe_options(odd, text);
    ASSERT_FALSE(text.truncated());
    options back;
    std::size_t lines = 0;
    std::string_view rest = text.view();
    while (!rest.empty()) {
        std::string_view const line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(line.size() + 1);
        ++lines;
        std::string_view const name = line.substr(0, line.find(' '));
        std::size_t const start = line.find_first_not_of(' ', name.size());
        std::string_view const value = line.substr(start, line.find(' ', start) - start);
        EXPECT_GT(line.size(), start + value.size() + 10) << "says what it does: " << line;
        EXPECT_EQ(complaints_of(std::string{name} + '=' + std::string{value}, back), "") << line;
    }
    EXPECT_EQ(lines, number_rows.size() + path_rows.size() + choice_rows);
    for (number_row const& row : number_rows) {
        EXPECT_EQ(back.*row.member, row.largest) << row.name;
    }
    EXPECT_EQ(back.report_file.view(), "/r");
    EXPECT_EQ(back.stats_file.view(), "/s");
    EXPECT_EQ(back.on_misuse, misuse_action::forward);
    EXPECT_EQ(back.valgrind, valgrind_choice::stay);
}

// Whatever stands in the environment: no crash, and complaints that end in a newline.
TEST(options, survive_any_text) {
    std::uint64_t state = 1;
    for (int round = 0; round < 20'000; ++round) {
        std::string text;
        state = state * 6364136223846793005 + 1442695040888963407;
        std::size_t const length = state >> 33 & 63;
        for (std::size_t i = 0; i < length; ++i) {
            state = state * 6364136223846793005 + 1442695040888963407;
            constexpr std::string_view letters = "stasreport_fd=,,==19KMGiB\x01\xff -%p";
            text += letters[(state >> 33) % letters.size()];
        }
        std::string const complaints = complaints_of(text);
        ASSERT_TRUE(complaints.empty() || complaints.back() == '\n') << text;
    }
}

}  // namespace
