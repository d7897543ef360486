#include "report.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace tarn::cli;

bool contains(std::string const& text, std::string const& part) {
    return text.find(part) != std::string::npos;
}

process_stats some_stats(std::uint64_t pid) {
    process_stats stats;
    stats.version = "0.1.0";
    stats.pid = pid;
    stats.live_peak_bytes = 3 << 20;
    stats.resident_peak_bytes = 5 << 20;
    stats.cross_thread_frees = 1234;
    stats.threads = 1;
    return stats;
}

run_outcome outcome_of(int status, std::vector<process_stats> reports) {
    run_outcome outcome;
    outcome.program = "prog";
    outcome.child.pid = 42;
    outcome.child.status = status;
    outcome.files.push_back({.name = "42", .reports = std::move(reports), .error = {}});
    return outcome;
}

TEST(report, formats_bytes_as_the_library_does) {
    EXPECT_EQ(format_bytes(0), "0 B");
    EXPECT_EQ(format_bytes(1023), "1023 B");
    EXPECT_EQ(format_bytes(1024), "1.0 KiB");
    EXPECT_EQ(format_bytes((1 << 20) - 1), "1023.9 KiB");
    EXPECT_EQ(format_bytes(std::uint64_t{3} << 30), "3.0 GiB");
    EXPECT_EQ(format_bytes(std::numeric_limits<std::uint64_t>::max()), "17179869183.9 GiB");
}

TEST(report, groups_digits) {
    EXPECT_EQ(format_count(0), "0");
    EXPECT_EQ(format_count(999), "999");
    EXPECT_EQ(format_count(1000), "1,000");
    EXPECT_EQ(format_count(std::numeric_limits<std::uint64_t>::max()),
              "18,446,744,073,709,551,615");
}

TEST(report, shows_the_program) {
    process_stats stats = some_stats(42);
    for (std::uint64_t i = 0; i < 20; ++i) {
        stats.classes.push_back({.block_bytes = 16 * i, .allocations = 100 - i, .live_blocks = i});
    }
    std::string const text = format_report(outcome_of(0, {stats}));
    EXPECT_TRUE(contains(text, "prog (process 42), exit status 0")) << text;
    EXPECT_TRUE(contains(text, "3.0 MiB")) << text;
    EXPECT_TRUE(contains(text, "1,234")) << text;
    EXPECT_TRUE(contains(text, "large")) << text;
    EXPECT_TRUE(contains(text, " 176 B ")) << text;
    EXPECT_FALSE(contains(text, " 192 B ")) << text;  // twelve classes, not more
    EXPECT_FALSE(contains(text, "further process")) << text;
}

TEST(report, says_when_the_program_did_not_report) {
    EXPECT_TRUE(contains(format_report(outcome_of(0, {})), "The program did not report. It may"));
    std::string const killed = format_report(outcome_of(SIGKILL, {}));
    EXPECT_TRUE(contains(killed, "killed by signal 9 (Killed)")) << killed;
    EXPECT_TRUE(contains(killed, "did not report: it was killed")) << killed;
    EXPECT_TRUE(contains(killed, "whole run")) << killed;
}

TEST(report, sums_further_processes) {
    std::string const one = format_report(outcome_of(0, {some_stats(42), some_stats(43)}));
    EXPECT_TRUE(contains(one, "1 further process reported")) << one;
    std::string const two =
        format_report(outcome_of(0, {some_stats(43), some_stats(42), some_stats(44)}));
    EXPECT_TRUE(contains(two,
                         "2 further processes reported; summed up: live peak 6.0 MiB, "
                         "resident peak 10.0 MiB, cross-thread frees 2,468"))
        << two;
}

TEST(report, passes_errors_on) {
    run_outcome outcome = outcome_of(0, {});
    outcome.files[0].error = "file 42, line 3: bad";
    std::string const text = format_report(outcome);
    EXPECT_TRUE(contains(text, "Malformed statistics in file 42, line 3: bad")) << text;
}

}  // namespace
