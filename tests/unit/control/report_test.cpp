#include "control/report.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

#include "base/bits.hpp"
#include "base/text.hpp"
#include "heap/host.hpp"
#include "control/options.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::control;
using heap::misuse;
using heap::misuse_kind;
using heap::misuse_verdict;

std::string text_of(misuse const& event) {
    base::text_buffer<512> text;
    describe_misuse(event, text);
    EXPECT_FALSE(text.truncated());
    return std::string{text.view()};
}

void const* at(std::uintptr_t address) { return base::pointer_to(address); }

TEST(report, of_each_misuse_is_one_line_that_names_what_and_where) {
    EXPECT_EQ(text_of({.kind = misuse_kind::foreign_pointer,
                       .operation = "free",
                       .ptr = at(0x1234),
                       .caller = at(0x7777)}),
              "tarn: free of a foreign pointer 0x1234; caller 0x7777\n");
    EXPECT_EQ(text_of({.kind = misuse_kind::interior_pointer,
                       .operation = "realloc",
                       .ptr = at(0x1008),
                       .block = at(0x1000),
                       .block_bytes = 48,
                       .caller = at(0x7777)}),
              "tarn: realloc of an interior pointer 0x1008, 8 bytes into the 48-byte block 0x1000;"
              " caller 0x7777\n");
    EXPECT_EQ(text_of({.kind = misuse_kind::double_free,
                       .operation = "free",
                       .ptr = at(0x1000),
                       .block = at(0x1000),
                       .block_bytes = 48}),
              "tarn: double free of 0x1000, a 48-byte block\n");
    EXPECT_EQ(text_of({.kind = misuse_kind::size_overflow,
                       .operation = "calloc",
                       .count = 3,
                       .element_bytes = ~std::size_t{0},
                       .caller = at(0x7777)}),
              "tarn: size overflow: 3 * 18446744073709551615 bytes asked of calloc;"
              " caller 0x7777\n");
    EXPECT_EQ(text_of({.kind = misuse_kind::size_overflow,
                       .operation = "malloc",
                       .count = 1,
                       .element_bytes = 1234}),
              "tarn: size overflow: 1234 bytes asked of malloc\n");
    EXPECT_EQ(text_of({.kind = misuse_kind::reentry, .operation = "malloc"}),
              "tarn: malloc entered inside an allocation, from a signal handler or a wrapped "
              "system call\n");
}

TEST(report, of_the_longest_misuse_fits_its_line) {
    std::string const text = text_of({.kind = misuse_kind::interior_pointer,
                                      .operation = "malloc_usable_size",
                                      .ptr = at(~std::uintptr_t{0}),
                                      .block = at(1),
                                      .block_bytes = ~std::size_t{0},
                                      .caller = at(~std::uintptr_t{0})});
    EXPECT_LT(text.size(), 256U);  // the buffer of handle_misuse()
}

class files : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = testing::TempDir() + "tarn_report_XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
    }

    void TearDown() override {
        std::error_code error;
        std::filesystem::remove_all(folder_, error);
        EXPECT_FALSE(error);
    }

    static std::string read(std::string const& path) {
        std::ostringstream all;
        all << std::ifstream{path}.rdbuf();
        return all.str();
    }

    std::string folder_;
};

TEST_F(files, are_written_under_the_name_of_the_process) {
    ASSERT_TRUE(write_file(folder_ + "/a.%p.txt", "hello\n"));
    std::string const path = folder_ + "/a." + std::to_string(::getpid()) + ".txt";
    EXPECT_EQ(read(path), "hello\n");
    ASSERT_TRUE(write_file(path, "again\n"));
    EXPECT_EQ(read(path), "hello\nagain\n");
    ASSERT_TRUE(write_file(folder_ + "/%p%q%", "x"));
    EXPECT_EQ(read(folder_ + '/' + std::to_string(::getpid()) + "%q%"), "x");
}

TEST_F(files, that_cannot_be_opened_are_no_reason_to_fail) {
    EXPECT_FALSE(write_file(folder_ + "/missing/file", "x"));
    EXPECT_FALSE(write_file("", "x"));
    EXPECT_FALSE(write_file(std::string(5000, 'x'), "x"));
    std::string many = folder_ + '/';
    for (int i = 0; i < 200; ++i) {
        many += "%p";
    }
    EXPECT_FALSE(write_file(many, "x")) << "a name cut short would be another file";
}

/// Runs handle_misuse() in a child whose TARN_OPTIONS are these. Its exit status is the verdict.
struct outcome {
    int status = 0;
    std::string text;  // on file descriptor 5
};

outcome handle(std::string const& options_text, misuse const& event) {
    int const file = ::memfd_create("report", 0);
    EXPECT_GE(file, 0);
    int const status = tarn::test::run_in_child(20, [&] {
        ::dup2(file, 5);
        // NOLINTNEXTLINE(concurrency-mt-unsafe): the child has one thread
        ::setenv("TARN_OPTIONS", options_text.c_str(), 1);
        load_options();
        return static_cast<int>(handle_misuse(event));
    });
    outcome result{.status = status, .text = std::string(16384, '\0')};
    ssize_t const got = ::pread(file, result.text.data(), result.text.size(), 0);
    result.text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    ::close(file);
    return result;
}

constexpr misuse foreign{.kind = misuse_kind::foreign_pointer, .operation = "free"};
constexpr misuse twice{.kind = misuse_kind::double_free, .operation = "free"};
constexpr misuse overflow{.kind = misuse_kind::size_overflow, .operation = "malloc"};
constexpr misuse reentry{.kind = misuse_kind::reentry, .operation = "malloc"};

void expect_abort(outcome const& got) {
    EXPECT_TRUE(WIFSIGNALED(got.status));
    EXPECT_EQ(WTERMSIG(got.status), SIGABRT);
    EXPECT_EQ(got.text.substr(0, 6), "tarn: ");
}

void expect_verdict(outcome const& got, misuse_verdict verdict, bool has_text) {
    EXPECT_TRUE(WIFEXITED(got.status));
    EXPECT_EQ(WEXITSTATUS(got.status), static_cast<int>(verdict));
    EXPECT_EQ(!got.text.empty(), has_text) << got.text;
}

TEST(handling, is_as_the_option_says) {
    expect_abort(handle("report_fd=5", foreign));
    expect_abort(handle("report_fd=5,on_misuse=abort", twice));
    for (misuse const* const each : {&foreign, &twice, &overflow}) {
        expect_verdict(handle("report_fd=5,on_misuse=warn", *each), misuse_verdict::ignore, true);
        expect_verdict(handle("report_fd=5,on_misuse=ignore", *each), misuse_verdict::ignore,
                       false);
    }
    expect_verdict(handle("report_fd=5,on_misuse=forward", foreign),
                   misuse_verdict::forward_to_libc, true);
    expect_verdict(handle("report_fd=5,on_misuse=forward", twice), misuse_verdict::ignore, true);
}

TEST(handling, refuses_an_overflow_and_goes_on) {
    expect_verdict(handle("report_fd=5,on_misuse=abort", overflow), misuse_verdict::ignore, true);
}

TEST(handling, never_goes_on_after_a_reentry) {
    for (char const* const action : {"abort", "warn", "ignore", "forward"}) {
        expect_abort(handle(std::string{"report_fd=5,on_misuse="} + action, reentry));
    }
}

TEST(handling, survives_a_closed_descriptor) {
    expect_verdict(handle("report_fd=999999,on_misuse=warn", foreign), misuse_verdict::ignore,
                   false);
}

TEST(handling, falls_back_to_the_descriptor_when_the_file_cannot_be_opened) {
    expect_verdict(handle("report_fd=5,report_file=/nowhere/at/all,on_misuse=warn", foreign),
                   misuse_verdict::ignore, true);
}

TEST(loading, says_what_is_in_effect_and_what_is_wrong) {
    outcome const got = handle("report_fd=5,verbose=1,nonsense=1,stats=7,on_misuse=warn", foreign);
    for (char const* const expected : {"unknown option 'nonsense'", "option stats: '7'",
                                       "purge_delay_ms", "on_misuse", "foreign pointer"}) {
        EXPECT_NE(got.text.find(expected), std::string::npos) << got.text;
    }
}

}  // namespace
