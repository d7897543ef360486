#include "stats_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

namespace {

using namespace tarn::cli;

std::string good_report(unsigned pid) {
    std::string text = "tarn 0.1.0 pid " + std::to_string(pid) + "\n";
    std::uint64_t value = 100;
    for (auto const& [name, member] : keys) {
        text += std::string{name} + ' ' + std::to_string(value++) + '\n';
    }
    return text + "class 32 1000 12\nclass 0 7 1\n";
}

/// The error in "file f, line N: ..." without the file.
std::string error_in(std::string const& text) {
    parsed_stats_file const file = parse_stats("f", text);
    std::string const prefix = "file f, ";
    EXPECT_EQ(file.error.substr(0, prefix.size()), file.error.empty() ? "" : prefix);
    return file.error.empty() ? "" : file.error.substr(prefix.size());
}

/// good_report(1) with its first `from` replaced.
std::string damaged(std::string const& from, std::string const& to) {
    std::string text = good_report(1);
    std::size_t const at = text.find(from);
    EXPECT_NE(at, std::string::npos);
    return text.replace(at, from.size(), to);
}

TEST(stats_file, reads_what_only_later_libraries_tell) {
    parsed_stats_file const older = parse_stats("1", good_report(1));
    ASSERT_EQ(older.reports.size(), 1U);
    EXPECT_EQ(older.reports[0].guard_bytes, 0U);
    parsed_stats_file const later =
        parse_stats("1", good_report(1) + "quarantined_bytes 7\nguard_bytes 8\n");
    ASSERT_EQ(later.reports.size(), 1U);
    EXPECT_EQ(later.reports[0].quarantined_bytes, 7U);
    EXPECT_EQ(later.reports[0].guard_bytes, 8U);
}

TEST(stats_file, reads_every_key) {
    parsed_stats_file const file = parse_stats("1234", good_report(1234));
    EXPECT_EQ(file.error, "");
    EXPECT_EQ(file.name, "1234");
    ASSERT_EQ(file.reports.size(), 1U);
    process_stats const& stats = file.reports[0];
    EXPECT_EQ(stats.version, "0.1.0");
    EXPECT_EQ(stats.pid, 1234U);
    EXPECT_EQ(stats.live_bytes, 100U);
    EXPECT_EQ(stats.page_faults, 115U);
    std::uint64_t value = 100;
    for (auto const& [name, member] : keys) {
        EXPECT_EQ(stats.*member, value++) << name;
    }
    ASSERT_EQ(stats.classes.size(), 2U);
    EXPECT_EQ(stats.classes[0].block_bytes, 32U);
    EXPECT_EQ(stats.classes[0].allocations, 1000U);
    EXPECT_EQ(stats.classes[0].live_blocks, 12U);
    EXPECT_EQ(stats.classes[1].block_bytes, 0U);
}

TEST(stats_file, takes_keys_in_any_order_and_skips_unknown_ones) {
    EXPECT_EQ(error_in(damaged("live_bytes 100\nlive_peak_bytes 101\n",
                               "live_peak_bytes 101\nof_a_later_version 5\nlive_bytes 100\n")),
              "");
}

TEST(stats_file, needs_no_classes) { EXPECT_EQ(error_in(damaged("class 32 1000 12\n", "")), ""); }

TEST(stats_file, reads_several_reports) {
    parsed_stats_file const file = parse_stats("9", good_report(9) + good_report(9));
    EXPECT_EQ(file.error, "");
    EXPECT_EQ(file.reports.size(), 2U);
    EXPECT_EQ(file.reports[1].classes.size(), 2U);
}

TEST(stats_file, reads_the_largest_number_and_no_larger) {
    std::string const largest = "live_bytes 18446744073709551615\n";
    EXPECT_EQ(error_in(damaged("live_bytes 100\n", largest)), "");
    EXPECT_EQ(error_in(damaged("live_bytes 100\n", "live_bytes 18446744073709551616\n")),
              "line 2: expected 'KEY NUMBER', found 'live_bytes 18446744073709551616'");
}

TEST(stats_file, names_the_line_of_an_error) {
    EXPECT_EQ(error_in(""), "line 1: empty");
    EXPECT_EQ(error_in("\n"), "line 1: expected 'tarn VERSION pid NUMBER', found ''");
    EXPECT_EQ(error_in("hello\n"), "line 1: expected 'tarn VERSION pid NUMBER', found 'hello'");
    EXPECT_EQ(error_in("tarn 0.1.0 pid x\n"),
              "line 1: expected 'tarn VERSION pid NUMBER', found 'tarn 0.1.0 pid x'");
    EXPECT_EQ(error_in("tarn 0.1.0 pid 1"), "line 1: cut off");
    EXPECT_EQ(error_in("tarn 0.1.0 pid 1\n"),
              "line 1: the report of process 1 has no 'live_bytes'");
    EXPECT_EQ(error_in(damaged("live_blocks 102\n", "live_blocks\n")),
              "line 4: expected 'KEY NUMBER', found 'live_blocks'");
    EXPECT_EQ(error_in(damaged("live_blocks 102\n", "live_blocks -1\n")),
              "line 4: expected 'KEY NUMBER', found 'live_blocks -1'");
    EXPECT_EQ(error_in(damaged("live_blocks 102\n", "live_blocks 0x10\n")),
              "line 4: expected 'KEY NUMBER', found 'live_blocks 0x10'");
    EXPECT_EQ(error_in(damaged("live_blocks 102\n", "live_blocks  1\n")),
              "line 4: expected 'KEY NUMBER', found 'live_blocks  1'");
    EXPECT_EQ(error_in(damaged("live_blocks 102\n", "live_bytes 1\n")),
              "line 4: a second 'live_bytes'");
    EXPECT_EQ(error_in(damaged("live_blocks 102\n", "")),
              "line 18: the report of process 1 has no 'live_blocks'");
    EXPECT_EQ(error_in(damaged("class 0 7 1\n", "class 0 7\n")),
              "line 19: expected 'class BLOCK_BYTES ALLOCATIONS LIVE_BLOCKS', found 'class 0 7'");
    EXPECT_EQ(error_in(damaged("class 0 7 1\n", "class 0 7 1")), "line 19: cut off");
}

TEST(stats_file, keeps_complete_reports_before_an_error) {
    parsed_stats_file const file = parse_stats("f", good_report(1) + "tarn 0.1.0 pid 1\nbad\n");
    EXPECT_EQ(file.reports.size(), 1U);
    EXPECT_NE(file.error, "");
}

TEST(stats_file, quotes_garbage_safely) {
    EXPECT_EQ(error_in("\x1b[2J\x80\n"),
              "line 1: expected 'tarn VERSION pid NUMBER', found '?[2J?'");
    std::string const shown(40, 'x');
    EXPECT_EQ(error_in(std::string(100'000, 'x') + "\n"),
              "line 1: expected 'tarn VERSION pid NUMBER', found '" + shown + "...'");
    EXPECT_NE(error_in(std::string(1000, '\0')), "");
}

// Whatever is cut or changed, parsing ends, and a report that comes out is complete.
TEST(stats_file, survives_any_damage) {
    std::string const whole = good_report(77);
    for (std::size_t size = 0; size < whole.size(); ++size) {
        parsed_stats_file const file = parse_stats("f", whole.substr(0, size));
        EXPECT_LE(file.reports.size(), 1U);
        EXPECT_EQ(file.reports.empty() && file.error.empty(), false);
    }
    std::mt19937 random{4711};
    for (int round = 0; round < 20'000; ++round) {
        std::string text = good_report(77);
        for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
            text[random() % text.size()] = static_cast<char>(random());
        }
        parsed_stats_file const file = parse_stats("f", text);
        EXPECT_LE(file.reports.size() + (file.error.empty() ? 0 : 1), 3U);
    }
}

class stats_folder : public testing::Test {
protected:
    stats_folder() { std::filesystem::create_directory(path_); }

    ~stats_folder() override { std::filesystem::remove_all(path_); }

    void write(std::string const& name, std::string const& text) const {
        std::ofstream{path_ + "/" + name} << text;
    }

    std::string const path_ = testing::TempDir() + "tarn_stats_" + std::to_string(::getpid());
};

TEST_F(stats_folder, is_read_in_order) {
    write("20", good_report(20));
    write("10", "bad\n");
    auto const files = read_stats_files(path_);
    ASSERT_EQ(files.size(), 2U);
    EXPECT_EQ(files[0].name, "10");
    EXPECT_EQ(files[0].error.substr(0, 16), "file 10, line 1:");
    EXPECT_EQ(files[1].reports.size(), 1U);
}

TEST_F(stats_folder, may_hold_what_is_no_file) {
    ASSERT_EQ(::mkfifo((path_ + "/fifo").c_str(), 0600), 0);
    ASSERT_EQ(::symlink("/etc/passwd", (path_ + "/link").c_str()), 0);
    std::filesystem::create_directory(path_ + "/sub");
    write("large", std::string(3U << 20, 'x'));
    auto const files = read_stats_files(path_);
    ASSERT_EQ(files.size(), 4U);
    EXPECT_EQ(files[0].error, "file fifo: not a regular file");
    EXPECT_EQ(files[1].error, "file large: too long for a report");
    EXPECT_EQ(files[2].error.substr(0, 10), "file link:");
    EXPECT_EQ(files[3].error, "file sub: not a regular file");
}

TEST_F(stats_folder, may_be_missing) {
    EXPECT_TRUE(read_stats_files("").empty());
    EXPECT_TRUE(read_stats_files(path_ + "/none").empty());
}

}  // namespace
