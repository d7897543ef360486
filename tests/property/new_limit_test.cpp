// new_limit_test - a program that runs into the hard limit can unwind, report and go on.
#include <gtest/gtest.h>

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "tarn/tarn.h"

#include "support/build.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

/// Takes memory in pieces of some kind until there is none, and says so as programs do.
void fill(std::size_t bytes) {
    std::vector<std::unique_ptr<char[]>> all;
    all.reserve(mib);
    try {
        for (;;) {
            all.push_back(std::make_unique_for_overwrite<char[]>(bytes));
        }
    } catch (std::bad_alloc const& failure) {
        // Allocates while the heap is full: the text, and the exception itself.
        throw std::runtime_error{"after " + std::to_string(all.size()) + " pieces of " +
                                 std::to_string(bytes) + " bytes: " + failure.what()};
    }
}

TEST(hard_limit, lets_programs_unwind_and_go_on) {
    tarn_limits limits{
        .size = sizeof limits, .soft_bytes = 0, .hard_bytes = 128 * mib, .reserve_bytes = 0};
    ASSERT_EQ(tarn_limits_set(&limits), 0);
    std::uint64_t const rounds = scaled(100);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        for (std::size_t const bytes : {2 * kib, 40 * kib, 3 * mib}) {
            std::string said;
            try {
                fill(bytes);
            } catch (std::runtime_error const& failure) {
                said = failure.what();
            }
            ASSERT_NE(said.find("bad_alloc"), std::string::npos) << said;
        }
    }
    std::vector<char> const fits(100 * mib, 'x');
    EXPECT_EQ(fits.back(), 'x');
    limits.hard_bytes = 0;
    ASSERT_EQ(tarn_limits_set(&limits), 0);
}

}  // namespace
}  // namespace tarn::test
