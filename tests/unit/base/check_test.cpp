#include "base/check.hpp"

#include <gtest/gtest.h>

#include <array>
#include <csignal>

#include "support/fatal_text.hpp"

namespace {

int evaluations = 0;

[[maybe_unused]] bool evaluated(bool result) {
    ++evaluations;
    return result;
}

TEST(check, passes_quietly) {
    evaluations = 0;
    TARN_CHECK(evaluated(true));
    EXPECT_EQ(evaluations, 1);
}

TEST(check, is_one_statement) {
    // NOLINTBEGIN(readability-braces-around-statements): that it works without is what is tested
    if (evaluations < 0)
        TARN_CHECK(evaluated(false));
    else
        SUCCEED();
    // NOLINTEND(readability-braces-around-statements)
}

TEST(check_death, names_expression_and_place) {
    EXPECT_DEATH(
        {
            tarn::test::show_fatal_text();
            TARN_CHECK(1 + 1 == 3);
        },
        "tarn: internal check failed: 1 \\+ 1 == 3 at check_test\\.cpp:[0-9]+\n");
}

TEST(check_death, aborts_without_a_writer_too) {
    EXPECT_EXIT(
        {
            tarn::impl::base::set_fatal_writer(nullptr);
            TARN_CHECK(false);
        },
        testing::KilledBySignal(SIGABRT), "");
}

TEST(check_death, survives_text_longer_than_its_buffer) {
    static constexpr auto longest = [] {
        std::array<char, 1000> text{};
        text.fill('x');
        text.back() = '\0';
        return text;
    }();
    EXPECT_EXIT(
        {
            tarn::test::show_fatal_text();
            tarn::impl::base::fail_check(longest.data(), longest.data(), 7);
        },
        testing::KilledBySignal(SIGABRT), "tarn: internal check failed: x+\n");
}

#if TARN_CHECK_LEVEL >= 1

TEST(check_death, assert_checks) {
    EXPECT_DEATH(
        {
            tarn::test::show_fatal_text();
            TARN_ASSERT(evaluations < 0);
        },
        "evaluations < 0");
}

#else

TEST(check, assert_evaluates_nothing) {
    evaluations = 0;
    TARN_ASSERT(evaluated(false));
    EXPECT_EQ(evaluations, 0);
}

#endif

TEST(check, audit_runs_in_audit_builds_alone) {
    evaluations = 0;
    TARN_AUDIT(evaluated(true));
    EXPECT_EQ(evaluations, TARN_CHECK_LEVEL >= 2 ? 1 : 0);
}

}  // namespace
