// The macros expand to what both compilers accept, on functions and members alike.
#include "base/attributes.hpp"

#include <gtest/gtest.h>

namespace {

TARN_HOT int hot(int value) { return value + 1; }

TARN_COLD int cold(int value) { return value + 2; }

struct holder {
    [[nodiscard]] TARN_NOINLINE int apart(int value) const { return value + base; }

    int base = 3;
};

TEST(attributes, leave_meaning_alone) {
    EXPECT_EQ(hot(1), 2);
    EXPECT_EQ(cold(1), 3);
    EXPECT_EQ(holder{}.apart(1), 4);
}

TEST(attributes, check_level_is_known) {
    EXPECT_GE(TARN_CHECK_LEVEL, 0);
    EXPECT_LE(TARN_CHECK_LEVEL, 2);
}

}  // namespace
