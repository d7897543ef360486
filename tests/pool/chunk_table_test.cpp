// chunk_table_test - a set of addresses against std::set.
#include "tarn/detail/chunk_table.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <set>

#include "support/random.hpp"

namespace {

using tarn::detail::chunk_table;
using tarn::test::random_stream;

TEST(chunk_table, holds_what_a_set_holds) {
    constexpr std::uintptr_t chunk_bytes = 16384;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        random_stream random{seed};
        chunk_table table{std::pmr::new_delete_resource()};
        std::set<std::uintptr_t> model;
        std::size_t most = 0;
        for (int i = 0; i < 3000; ++i) {
            most = i % 500 == 0 ? random.size_up_to(300) : most;
            std::uintptr_t const chunk = random.between(1, 400) * chunk_bytes;
            ASSERT_EQ(table.contains(chunk), model.contains(chunk));
            if (model.contains(chunk)) {
                table.erase(chunk);
                model.erase(chunk);
            } else if (model.size() < most) {
                table.reserve_one();
                table.insert(chunk);
                model.insert(chunk);
            }
            ASSERT_EQ(table.size(), model.size());
        }
        std::set<std::uintptr_t> visited;
        table.for_each([&visited](std::uintptr_t each) { visited.insert(each); });
        EXPECT_EQ(visited, model);
        table.clear();
        EXPECT_EQ(table.size(), 0U);
        EXPECT_FALSE(table.contains(chunk_bytes));
    }
}

TEST(chunk_table, finds_nothing_before_the_first) {
    chunk_table const table{std::pmr::null_memory_resource()};
    EXPECT_FALSE(table.contains(0));
    EXPECT_FALSE(table.contains(4096));
}

}  // namespace
