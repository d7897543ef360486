// Scopes with a rule. What they report is read from a child's standard error; tests/death has the
// report that ends the process.
#include <gtest/gtest.h>
#include <unistd.h>

#include <regex>
#include <string>
#include <thread>

#include "tarn/memory_resource.hpp"
#include "tarn/testing.hpp"

#include "support/process.hpp"

namespace {

using tarn::expected_allocations;
using tarn::freeing;
using tarn::no_alloc_scope;
using tarn::on_breach;

/// What body() writes to standard error in a child, which must end well.
template <class Body>
std::string report_of(Body body) {
    int channel[2];
    if (::pipe(channel) != 0) {
        return "no pipe";
    }
    int const status = tarn::test::run_in_child(20, [&channel, &body] {
        ::dup2(channel[1], STDERR_FILENO);
        body();
        return 0;
    });
    ::close(channel[1]);
    std::string text(4000, '\0');
    ssize_t const got = ::read(channel[0], text.data(), text.size());
    ::close(channel[0]);
    text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    EXPECT_EQ(status, 0) << text;
    return text;
}

TEST(no_alloc_scope, counts_breaches_and_lets_them_happen) {
    void* const before = tarn_malloc(10);
    no_alloc_scope const quiet{{.action = on_breach::count}};
    EXPECT_EQ(quiet.breaches(), 0U);
    EXPECT_FALSE(quiet.first_breach().has_value());
    void* block = tarn_malloc(64);
    ASSERT_NE(block, nullptr);
    block = tarn_realloc(block, 100);
    tarn_free(block);
    tarn_free(before);
    EXPECT_EQ(quiet.breaches(), 2U) << "to free is allowed";
    ASSERT_TRUE(quiet.first_breach().has_value());
    EXPECT_STREQ(quiet.first_breach()->name, "malloc");
    EXPECT_EQ(quiet.first_breach()->bytes, 64U);
}

TEST(no_alloc_scope, forbids_to_free_where_that_is_wanted) {
    void* const before = tarn_malloc(10);
    no_alloc_scope const strict{{.action = on_breach::count, .frees = freeing::forbidden}};
    tarn_free(nullptr);
    EXPECT_EQ(strict.breaches(), 0U);
    tarn_free(before);
    EXPECT_EQ(strict.breaches(), 1U);
    EXPECT_EQ(strict.first_breach()->kind, TARN_FREE);
    EXPECT_EQ(strict.first_breach()->block, before);
}

TEST(no_alloc_scope, reports_each_breach_with_its_call_site) {
    std::string const text = report_of([] {
        no_alloc_scope const scope{
            {.name = "mixer", .action = on_breach::log, .frees = freeing::forbidden}};
        void* const block = tarn_malloc(64);
        void* const moved = tarn_realloc(block, 4000);
        tarn_free(moved);
        tarn_free(tarn_calloc(3, 5));
    });
    std::string rest = text;
    auto const next_line = [&rest] {
        std::size_t const end = rest.find('\n');
        std::string line = rest.substr(0, end);
        rest.erase(0, end == std::string::npos ? end : end + 1);
        return line;
    };
    auto const expect_line = [&next_line](std::string const& pattern) {
        std::string const line = next_line();
        EXPECT_TRUE(std::regex_match(line, std::regex{pattern})) << line;
    };
    std::string const caller = "; caller 0x[0-9a-f]+";
    expect_line("tarn: no_alloc_scope 'mixer': malloc of 64 bytes" + caller);
    expect_line("tarn: no_alloc_scope 'mixer': realloc of 0x[0-9a-f]+ to 4000 bytes" + caller);
    expect_line("tarn: no_alloc_scope 'mixer': free of 0x[0-9a-f]+" + caller);
    expect_line("tarn: no_alloc_scope 'mixer': calloc of 15 bytes" + caller);
    expect_line("tarn: no_alloc_scope 'mixer': free of 0x[0-9a-f]+" + caller);
    EXPECT_EQ(rest, "");
}

TEST(no_alloc_scope, with_a_very_long_name_still_reports_the_call_site) {
    std::string const name(1000, 'n');
    std::string const text = report_of([&name] {
        no_alloc_scope const scope{{.name = name.c_str(), .action = on_breach::log}};
        tarn_free(tarn_malloc(64));
    });
    EXPECT_NE(text.find("malloc of 64 bytes; caller 0x"), std::string::npos) << text;
}

TEST(no_alloc_scope, allows_what_is_unwatched_and_other_threads) {
    no_alloc_scope const scope{{.action = on_breach::count}};
    std::thread{[] { tarn_free(tarn_malloc(10)); }}.join();
    {
        tarn::unwatched_scope const allowed;
        tarn_free(tarn_malloc(10));
    }
    EXPECT_EQ(scope.breaches(), 0U);
}

TEST(no_alloc_scope, nested_breaks_the_rule_of_both) {
    no_alloc_scope const outer{{.action = on_breach::count}};
    {
        no_alloc_scope const inner{{.action = on_breach::count}};
        tarn_free(tarn_malloc(10));
        EXPECT_EQ(inner.breaches(), 1U);
    }
    tarn_free(tarn_malloc(10));
    EXPECT_EQ(outer.breaches(), 2U);
}

TEST(expected_allocations, are_silent_where_they_are_met) {
    EXPECT_EQ(report_of([] {
                  expected_allocations const wanted{
                      {.allocations = 2, .frees = 2, .live_blocks = 0, .live_bytes = 0}};
                  tarn_free(tarn_malloc(10));
                  if (wanted.are_met()) {
                      ::_exit(1);
                  }
                  tarn_free(tarn_malloc(10));
                  if (!wanted.are_met()) {
                      ::_exit(1);
                  }
              }),
              "");
}

TEST(expected_allocations, name_each_count_that_differs) {
    EXPECT_EQ(report_of([] {
                  void* const before = tarn_malloc(10);
                  expected_allocations const wanted{
                      {.allocations = 2, .reallocations = 0, .live_blocks = 0},
                      {.name = "parse", .action = on_breach::log}};
                  tarn_free(before);
              }),
              "tarn: expected_allocations 'parse': 0 allocations, not 2\n"
              "tarn: expected_allocations 'parse': -1 live blocks, not 0\n");
}

TEST(expected_allocations, without_a_report_are_for_the_test_to_ask) {
    EXPECT_EQ(
        report_of([] {
            expected_allocations const wanted{{.allocations = 1}, {.action = on_breach::count}};
            if (wanted.are_met() || wanted.counts().allocations != 0) {
                ::_exit(1);
            }
        }),
        "");
}

}  // namespace
