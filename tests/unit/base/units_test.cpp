#include "base/units.hpp"

#include <gtest/gtest.h>

namespace {

using namespace tarn::impl;

static_assert(KiB == std::size_t{1} << 10);
static_assert(MiB == std::size_t{1} << 20);
static_assert(GiB == std::size_t{1} << 30);

TEST(units, do_not_overflow_in_products) { EXPECT_EQ(4 * GiB / KiB, 4 * MiB); }

}  // namespace
