// lockfree/expectations.hpp - that a scenario holds in all interleavings, or fails in one.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "explorer/explorer.hpp"

namespace tarn::test {

inline constexpr exploring with_buffers{.store_buffers = true};

template <class Scenario>
scenario_maker made() {
    return [] { return std::make_unique<Scenario>(); };
}

template <class Scenario>
void expect_holds(std::uint64_t runs_least) {
    for (exploring const& how : {exploring{}, with_buffers}) {
        exploration const seen = explore(made<Scenario>(), how);
        EXPECT_TRUE(seen.passed()) << seen;
        EXPECT_GE(seen.runs, runs_least);
    }
}

/// Finds it, and says how to see it again.
template <class Scenario>
void expect_fails(std::string_view failure, exploring const& how = {}) {
    exploration const seen = explore(made<Scenario>(), how);
    EXPECT_EQ(seen.failure, failure) << seen;
    EXPECT_EQ(replay(made<Scenario>(), seen.schedule, how).failure, failure);
}

}  // namespace tarn::test
