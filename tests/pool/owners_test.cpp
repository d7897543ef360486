// owners_test - pools say in statistics what they hold.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tarn/block_pool.hpp"
#include "tarn/object_pool.hpp"
#include "tarn/pool_resource.hpp"
#include "tarn/stats.hpp"

#include "support/build.hpp"

namespace {

/// The row of a kind and name; without owners where there is none.
tarn_owner_stats row_of(std::string const& kind, std::string const& name) {
    tarn::statistics const now = tarn::statistics::now();
    for (tarn_owner_stats const& each : now.by_owner()) {
        if (each.kind == kind && each.name == name) {
            return each;
        }
    }
    return {};
}

TEST(owners, name_what_a_pool_holds) {
    {
        tarn::block_pool pool{{.block_bytes = 100, .name = "sessions"}};
        tarn::block_pool other{{.block_bytes = 100, .name = "sessions"}};
        std::vector<void*> blocks;
        blocks.reserve(1000);
        for (int i = 0; i < 1000; ++i) {
            blocks.push_back(pool.allocate());
        }
        tarn_owner_stats const full = row_of("block_pool", "sessions");
        EXPECT_EQ(full.owners, 2U);
        EXPECT_EQ(full.held_bytes, pool.held_bytes());
        EXPECT_LE(full.live_bytes, 1000 * pool.block_bytes());
        EXPECT_GE(full.live_bytes, 800 * pool.block_bytes());
        tarn::block_pool moved{std::move(pool)};
        for (void* const block : blocks) {
            moved.deallocate(block);
        }
        moved.trim();
        EXPECT_EQ(row_of("block_pool", "sessions").held_bytes, 0U);
        EXPECT_EQ(row_of("block_pool", "sessions").live_bytes, 0U);
        EXPECT_NE(moved.allocate(), nullptr);
        moved.clear();
        EXPECT_EQ(row_of("block_pool", "sessions").held_bytes, 0U);
    }
    EXPECT_EQ(row_of("block_pool", "sessions").owners, 0U);
}

TEST(owners, know_pools_in_buffers) {
    std::array<std::byte, 8192> buffer{};
    tarn::block_pool pool{buffer, {.block_bytes = 64, .name = "fixed"}};
    tarn_owner_stats const row = row_of("block_pool", "fixed");
    EXPECT_EQ(row.held_bytes, pool.blocks_most() * 64);
    EXPECT_EQ(row.live_bytes, 0U);
}

TEST(owners, follow_a_pool_up_and_down) {
    tarn::object_pool<std::array<char, 48>> pool{{.name = "nodes"}};
    std::vector<std::array<char, 48>*> elements;
    for (std::size_t round = 0; round < 20; ++round) {
        std::size_t const wanted = round % 3 * 3000;
        while (elements.size() < wanted) {
            elements.push_back(pool.new_element());
        }
        while (elements.size() > wanted) {
            pool.delete_element(elements.back());
            elements.pop_back();
        }
        tarn_owner_stats const row = row_of("object_pool", "nodes");
        ASSERT_EQ(row.held_bytes, pool.held_bytes());
        // Blocks that wait for the next allocations count.
        std::size_t const live = elements.size() * 48;
        ASSERT_LE(live, row.live_bytes + std::size_t{64} * 1024);
        ASSERT_LE(row.live_bytes, live + std::size_t{256} * 1024);
        ASSERT_LE(row.live_bytes, row.held_bytes);
    }
}

TEST(owners, add_up_what_a_resource_holds) {
    {
        tarn::pool_resource resource{tarn::malloc_resource(), "parser"};
        for (std::size_t bytes = 8; bytes < 512; bytes += 8) {
            static_cast<void>(resource.allocate(bytes, 8));
        }
        static_cast<void>(resource.allocate(100'000));
        tarn_owner_stats const row = row_of("pool_resource", "parser");
        EXPECT_GE(row.held_bytes, 63 * 16384U + 100'000U);
        EXPECT_GE(row.live_bytes, 100'000U);
        resource.release();
        EXPECT_EQ(row_of("pool_resource", "parser").held_bytes, 0U);
    }
    EXPECT_EQ(row_of("pool_resource", "parser").owners, 0U);
}

TEST(owners, know_the_pools_behind_new_element) {
    int* const one = tarn::new_element<int>(1);
    EXPECT_EQ(row_of("element_pools", "").owners, 64U);
    EXPECT_GE(row_of("element_pools", "").held_bytes, 16384U);
    tarn::delete_element(one);
}

TEST(owners, may_be_made_in_many_threads) {
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([] {
            for (std::uint64_t j = 0; j < tarn::test::scaled(500); ++j) {
                tarn::object_pool<int> pool{{.name = "short"}};
                pool.delete_element(pool.new_element(1));
                EXPECT_GE(row_of("object_pool", "short").owners, j % 50 == 0 ? 1U : 0U);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(row_of("object_pool", "short").owners, 0U);
}

}  // namespace
