// block_pool_test - blocks of one size: where they lie, when memory goes back, what misuse gets.
#include "tarn/block_pool.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "pool/counting_resource.hpp"
#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace {

using tarn::block_pool;
using tarn::test::counting_resource;
using tarn::test::random_stream;

constexpr std::size_t chunk_bytes = std::size_t{16} * 1024;

TEST(block_pool, has_aligned_blocks_of_every_size) {
    for (std::size_t bytes = 1; bytes <= 5000; bytes += bytes < 100 ? 1 : 379) {
        for (std::size_t alignment = 1; alignment <= 4096; alignment *= 4) {
            block_pool pool{{.block_bytes = bytes, .alignment = alignment}};
            EXPECT_GE(pool.block_bytes(), bytes);
            EXPECT_EQ(pool.block_bytes() % alignment, 0U);
            std::vector<void*> blocks;
            for (std::uint64_t i = 0; i < 40; ++i) {
                blocks.push_back(pool.allocate());
                ASSERT_EQ(reinterpret_cast<std::uintptr_t>(blocks.back()) % alignment, 0U);
                tarn::test::fill(blocks.back(), bytes, i);
            }
            for (std::uint64_t i = 0; i < blocks.size(); ++i) {
                ASSERT_EQ(tarn::test::first_wrong(blocks[i], bytes, i), tarn::test::intact);
                pool.deallocate(blocks[i]);
            }
            EXPECT_EQ(pool.size(), 0U);
        }
    }
}

TEST(block_pool, hands_out_what_came_back_last) {
    block_pool pool{{.block_bytes = 24}};
    void* const first = pool.allocate();
    void* const second = pool.allocate();
    pool.deallocate(first);
    pool.deallocate(second);
    EXPECT_EQ(pool.allocate(), second);
    EXPECT_EQ(pool.allocate(), first);
}

TEST(block_pool, does_not_touch_what_was_never_used) {
    std::array<std::byte, 4096> buffer{};
    buffer.fill(std::byte{0x5a});
    block_pool pool{buffer, {.block_bytes = 64}};
    auto* const block = static_cast<std::byte*>(pool.allocate());
    EXPECT_TRUE(std::all_of(block + 16, buffer.data() + buffer.size(),
                            [](std::byte each) { return each == std::byte{0x5a}; }));
}

TEST(block_pool, over_a_buffer_stays_inside) {
    constexpr std::byte before{0x77};
    std::array<std::byte, 2048> memory{};
    for (std::size_t begin = 0; begin < 70; ++begin) {
        memory.fill(before);
        std::span<std::byte> const buffer{memory.data() + begin, 1500 + begin % 7};
        std::set<void*> blocks;
        {
            block_pool pool{buffer, {.block_bytes = 40, .alignment = 8}};
            while (void* const block = pool.try_allocate()) {
                ASSERT_GE(block, buffer.data());
                ASSERT_LE(static_cast<std::byte*>(block) + 40, buffer.data() + buffer.size());
                std::memset(block, 1, 40);
                ASSERT_TRUE(blocks.insert(block).second);
            }
            EXPECT_EQ(blocks.size(), pool.blocks_most());
            EXPECT_GE(blocks.size(), (1500U - 450U) / 40U);
            EXPECT_THROW(static_cast<void>(pool.allocate()), std::bad_alloc);
            pool.deallocate(*blocks.begin());
            EXPECT_EQ(pool.allocate(), *blocks.begin());
        }
        for (std::size_t i = 0; i < memory.size(); ++i) {
            if (i < begin || i >= begin + buffer.size()) {
                ASSERT_EQ(memory[i], before);
            }
        }
    }
}

TEST(block_pool, refuses_what_makes_no_sense) {
    EXPECT_THROW(block_pool{{}}, std::invalid_argument);
    EXPECT_THROW((block_pool{{.block_bytes = 8, .alignment = 24}}), std::invalid_argument);
    EXPECT_THROW((block_pool{{.block_bytes = 8, .alignment = 0}}), std::invalid_argument);
    EXPECT_THROW((block_pool{{.block_bytes = SIZE_MAX}}), std::bad_array_new_length);
    EXPECT_THROW((block_pool{{.block_bytes = 8, .alignment = std::size_t{1} << 60}}),
                 std::bad_array_new_length);
    std::array<std::byte, 1000> buffer{};
    for (std::size_t bytes = 0; bytes < 250; ++bytes) {
        EXPECT_THROW((block_pool{std::span{buffer.data(), bytes}, {.block_bytes = 256}}),
                     std::invalid_argument);
    }
    EXPECT_THROW((block_pool{std::span<std::byte>{}, {.block_bytes = 1}}), std::invalid_argument);
}

TEST(block_pool, has_a_bound_that_counts_live_blocks) {
    for (bool const is_large : {false, true}) {
        std::size_t const most = is_large ? 5000 : 3;
        block_pool pool{{.block_bytes = 48, .blocks_most = most}};
        std::vector<void*> blocks;
        for (std::size_t i = 0; i < most; ++i) {
            blocks.push_back(pool.allocate());
        }
        EXPECT_EQ(pool.try_allocate(), nullptr);
        EXPECT_THROW(static_cast<void>(pool.allocate()), std::bad_alloc);
        EXPECT_EQ(pool.size(), most);
        for (std::size_t i = 0; i < most; i += 2) {
            pool.deallocate(blocks[i]);
        }
        for (std::size_t i = 0; i < most; i += 2) {
            EXPECT_NE(pool.try_allocate(), nullptr);
        }
        EXPECT_EQ(pool.try_allocate(), nullptr);
    }
}

TEST(block_pool, gives_empty_chunks_back) {
    counting_resource upstream;
    {
        block_pool pool{{.block_bytes = 64, .upstream = &upstream}};
        std::vector<void*> blocks;
        for (int i = 0; i < 10'000; ++i) {
            blocks.push_back(pool.allocate());
        }
        EXPECT_GE(pool.held_bytes(), 10'000U * 64);
        EXPECT_LE(pool.held_bytes(), 10'000U * 66 + chunk_bytes);
        for (void* const block : blocks) {
            pool.deallocate(block);
        }
        EXPECT_LE(pool.held_bytes(), 12 * chunk_bytes);  // of 40
        pool.trim();
        EXPECT_EQ(pool.held_bytes(), 0U);
        EXPECT_EQ(pool.size(), 0U);
        static_cast<void>(pool.allocate());
        EXPECT_EQ(pool.size(), 1U);
    }
    EXPECT_EQ(upstream.live(), 0U);
    EXPECT_EQ(upstream.wrong(), 0U);
}

TEST(block_pool, moves_and_leaves_its_blocks_where_they_are) {
    counting_resource upstream;
    {
        block_pool pool{{.block_bytes = 32, .upstream = &upstream}};
        void* const block = pool.allocate();
        block_pool moved{std::move(pool)};
        EXPECT_TRUE(moved.owns(block));
        block_pool other{{.block_bytes = 100, .upstream = &upstream}};
        other = std::move(moved);
        other.deallocate(block);
        EXPECT_EQ(other.size(), 0U);
    }
    EXPECT_EQ(upstream.live(), 0U);
}

TEST(block_pool, passes_on_that_memory_is_out_and_stays_whole) {
    for (std::size_t nth = 1;; ++nth) {
        counting_resource upstream;
        upstream.fail_at(nth);
        std::size_t made = 0;
        try {
            block_pool pool{{.block_bytes = 500, .upstream = &upstream}};
            std::vector<void*> blocks;
            for (int i = 0; i < 1000; ++i) {
                try {
                    blocks.push_back(pool.allocate());
                } catch (std::bad_alloc const&) {
                    EXPECT_EQ(pool.size(), blocks.size());
                    blocks.push_back(pool.allocate());  // only the n-th fails
                }
            }
            std::sort(blocks.begin(), blocks.end());
            EXPECT_EQ(std::adjacent_find(blocks.begin(), blocks.end()), blocks.end());
            for (void* const block : blocks) {
                pool.deallocate_checked(block);
            }
            made = blocks.size();
        } catch (std::bad_alloc const&) {
            EXPECT_EQ(nth, 1U);  // the pool itself
        }
        EXPECT_EQ(upstream.live(), 0U);
        EXPECT_EQ(upstream.wrong(), 0U);
        if (!upstream.has_failed()) {
            EXPECT_EQ(made, 1000U);
            break;
        }
    }
}

/// What deallocate_checked() says.
std::string complaint(block_pool& pool, void* block) {
    try {
        pool.deallocate_checked(block);
    } catch (std::invalid_argument const& error) {
        return error.what();
    }
    return "";
}

TEST(block_pool, throws_for_what_is_not_its_own) {
    for (bool const is_small : {false, true}) {
        std::array<std::byte, 4096> buffer{};
        block_pool pool = is_small ? block_pool{buffer, {.block_bytes = 48, .name = "sessions"}}
                                   : block_pool{{.block_bytes = 48, .name = "sessions"}};
        block_pool other{{.block_bytes = 48}};
        std::vector<void*> blocks;
        for (int i = 0; i < (is_small ? 40 : 1000); ++i) {
            blocks.push_back(pool.allocate());
        }
        int local = 0;
        void* const foreign = other.allocate();
        EXPECT_NE(complaint(pool, &local).find("block_pool 'sessions': deallocate_checked of 0x"),
                  std::string::npos);
        EXPECT_NE(complaint(pool, foreign).find("not a block of this pool"), std::string::npos);
        EXPECT_NE(complaint(pool, reinterpret_cast<void*>(16)).find("not a block"),
                  std::string::npos);
        EXPECT_NE(complaint(pool, &pool).find("not a block"), std::string::npos);
        for (void* const block : {blocks.front(), blocks.back()}) {
            for (int const offset : {1, 8, 16, 47}) {
                EXPECT_NE(complaint(pool, static_cast<std::byte*>(block) + offset).find("start"),
                          std::string::npos);
            }
        }
        EXPECT_EQ(complaint(pool, nullptr), "");
        EXPECT_EQ(pool.size(), blocks.size());
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            pool.deallocate_checked(blocks[i]);
            for (std::size_t const j : {i, i / 2, std::size_t{0}}) {
                if (pool.held_bytes() != 0 && !pool.owns(blocks[j])) {
                    EXPECT_NE(complaint(pool, blocks[j]), "");
                }
            }
        }
        EXPECT_EQ(pool.size(), 0U);
        other.deallocate(foreign);
    }
}

/// Wherever the block waits: in the list that allocations take from, in batches behind it, in its
/// chunk.
TEST(block_pool, sees_a_second_return) {
    for (std::size_t const bytes : {16UL, 64UL, 700UL}) {
        block_pool pool{{.block_bytes = bytes}};
        std::vector<void*> blocks;
        for (int i = 0; i < 6000; ++i) {
            blocks.push_back(pool.allocate());
            std::memset(blocks.back(), 0xff, bytes);
        }
        for (std::size_t i = 0; i < blocks.size(); i += 3) {
            pool.deallocate(blocks[i]);
        }
        for (std::size_t i = 0; i < blocks.size(); i += 3) {
            ASSERT_NE(complaint(pool, blocks[i]).find("returned before"), std::string::npos);
        }
        EXPECT_EQ(pool.size(), 4000U);
    }
}

TEST(block_pool, sees_the_second_return_of_the_last_small_block) {
    block_pool pool{{.block_bytes = 8, .alignment = 8}};
    void* const first = pool.allocate();
    void* const second = pool.allocate();
    std::memset(second, 0, 8);
    pool.deallocate(first);
    EXPECT_NE(complaint(pool, first).find("returned before"), std::string::npos);
    EXPECT_EQ(complaint(pool, second), "");
    EXPECT_EQ(pool.size(), 0U);
}

/// Memory that nobody holds any more, in address space that may have gone.
TEST(block_pool, knows_that_a_chunk_is_gone) {
    block_pool pool{{.block_bytes = 64}};
    std::vector<void*> blocks;
    blocks.reserve(3000);
    for (int i = 0; i < 3000; ++i) {
        blocks.push_back(pool.allocate());
    }
    for (void* const block : blocks) {
        pool.deallocate(block);
    }
    pool.trim();
    for (void* const block : blocks) {
        ASSERT_NE(complaint(pool, block).find("not a block of this pool"), std::string::npos);
    }
}

TEST(block_pool, is_not_misled_by_what_programs_write) {
    if (tarn::test::under_asan) {
        GTEST_SKIP() << "reads a free block";
    }
    block_pool pool{{.block_bytes = 32}};
    void* const first = pool.allocate();
    void* const second = pool.allocate();
    pool.deallocate(first);
    std::memcpy(second, first, 32);  // with the key of a free block
    EXPECT_EQ(complaint(pool, second), "");
    EXPECT_EQ(pool.size(), 0U);
}

using block_pool_death = testing::Test;

TEST(block_pool_death, reports_and_ends_the_program) {
    block_pool pool{{.block_bytes = 48, .name = "jobs"}};
    void* const block = pool.allocate();
    EXPECT_DEATH(pool.deallocate(static_cast<std::byte*>(block) + 8),
                 "tarn: block_pool 'jobs': deallocate of 0x[0-9a-f]+: not the start of a block");
    pool.deallocate(block);
    EXPECT_DEATH(pool.deallocate(block), "returned before");
}

TEST(block_pool_death, touches_what_is_gone) {
    if (!tarn::test::under_asan) {
        GTEST_SKIP() << "needs AddressSanitizer";
    }
    std::array<std::byte, 4096> buffer{};
    for (bool const is_small : {false, true}) {
        block_pool pool =
            is_small ? block_pool{buffer, {.block_bytes = 48}} : block_pool{{.block_bytes = 48}};
        auto* const block = static_cast<char volatile*>(pool.allocate());
        block[47] = 1;
        pool.deallocate(const_cast<char*>(block));
        EXPECT_DEATH(block[0] = 1, "use-after-poison");
        EXPECT_DEATH(block[47] = 1, "use-after-poison");
        EXPECT_NE(complaint(pool, const_cast<char*>(block)), "");
        EXPECT_EQ(pool.allocate(), block);
        block[47] = 1;
        if (!is_small) {
            EXPECT_DEATH(block[48] = 1, "use-after-poison");  // not handed out yet
        }
    }
    buffer.fill(std::byte{1});  // the pool's end leaves nothing poisoned
}

TEST(block_pool, visits_what_is_allocated) {
    random_stream random{3};
    block_pool pool{{.block_bytes = 100}};
    std::set<void*> live;
    for (int i = 0; i < 5000; ++i) {
        if (!live.empty() && random.one_in(3)) {
            auto const gone = std::next(
                live.begin(), static_cast<std::ptrdiff_t>(random.below(live.size()) % 20));
            pool.deallocate(*gone);
            live.erase(gone);
        } else {
            live.insert(pool.allocate());
        }
        if (i % 500 == 0) {
            std::set<void*> visited;
            pool.for_each([&visited](void* block) { visited.insert(block); });
            ASSERT_EQ(visited, live);
            ASSERT_EQ(pool.size(), live.size());
        }
    }
    pool.clear();
    EXPECT_EQ(pool.size(), 0U);
    EXPECT_EQ(pool.held_bytes(), 0U);
    EXPECT_NE(pool.allocate(), nullptr);
}

/// Random work against what a set knows.
TEST(block_pool, keeps_every_block_under_random_work) {
    struct block {
        void* start;
        std::uint64_t pattern;
    };

    for (std::uint64_t seed = 1; seed <= tarn::test::scaled(8); ++seed) {
        random_stream random{seed};
        counting_resource upstream;
        std::size_t const bytes = random.size_up_to(3000);
        block_pool pool{{.block_bytes = bytes, .alignment = 8, .upstream = &upstream}};
        std::vector<block> live;
        std::size_t wanted = 0;
        for (int i = 0; i < 20'000; ++i) {
            if (i % 1000 == 0) {
                wanted = random.below(3000);
            }
            if (random.one_in(2000)) {
                pool.trim();
            }
            bool const grows = live.size() < wanted ? !random.one_in(4) : random.one_in(4);
            if (grows || live.empty()) {
                live.push_back({pool.allocate(), random.next()});
                tarn::test::fill(live.back().start, bytes, live.back().pattern);
                continue;
            }
            std::size_t const index = random.below(live.size());
            block const gone = live[index];
            live[index] = live.back();
            live.pop_back();
            ASSERT_EQ(tarn::test::first_wrong(gone.start, bytes, gone.pattern), tarn::test::intact);
            pool.deallocate_checked(gone.start);
        }
        ASSERT_EQ(pool.size(), live.size());
    }
}

}  // namespace
