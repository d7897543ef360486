#include "heap/block_states.hpp"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "heap/page.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;

TEST(block_states, have_room_for_the_blocks_of_a_page_and_are_free) {
    auto const tables = std::make_unique<state_tables>();
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        block_state* const first = tables->allocate(size_class);
        block_state* const other = tables->allocate(size_class);
        ASSERT_NE(first, nullptr);
        ASSERT_NE(other, nullptr);
        for (std::size_t i = 0; i < guarded_blocks(size_class); ++i) {
            first[i].store(state_live, std::memory_order_relaxed);
        }
        for (std::size_t i = 0; i < guarded_blocks(size_class); ++i) {
            ASSERT_EQ(other[i].load(std::memory_order_relaxed), state_free);
        }
        tables->deallocate(size_class, first);
        tables->deallocate(size_class, other);
    }
    EXPECT_GT(tables->committed_bytes(), 0U);
    EXPECT_GE(tables->reserved_bytes(), tables->committed_bytes());
}

TEST(block_states, serve_again_and_are_free_then) {
    auto const tables = std::make_unique<state_tables>();
    block_state* const first = tables->allocate(1);
    first[5].store(state_live, std::memory_order_relaxed);
    tables->deallocate(1, first);
    block_state* const again = tables->allocate(1);
    EXPECT_EQ(again, first);
    EXPECT_EQ(again[5].load(std::memory_order_relaxed), state_free);
    tables->deallocate(1, again);
}

TEST(block_states, are_claimed_while_they_are_live) {
    for (unsigned before = 0; before < 256; ++before) {
        block_state state{static_cast<std::uint8_t>(before)};
        EXPECT_EQ(try_claim(state), before >= state_live);
        EXPECT_EQ(state.load(std::memory_order_relaxed),
                  before >= state_live ? state_away : before);
    }
}

TEST(block_states, are_told_apart_eight_at_a_time) {
    alignas(8) std::array<block_state, 8> states{};
    for (unsigned place = 0; place < 8; ++place) {
        for (unsigned state = 0; state < 256; ++state) {
            for (auto const others :
                 {state_free, state_zero, state_away, state_live, state_noted}) {
                for (block_state& each : states) {
                    each.store(others, std::memory_order_relaxed);
                }
                states[place].store(static_cast<std::uint8_t>(state), std::memory_order_relaxed);
                std::uint64_t const found = free_among(states.data());
                std::uint64_t const bit = std::uint64_t{1} << 8 * place;
                ASSERT_EQ((found & bit) != 0, state <= state_zero) << state;
                ASSERT_EQ(std::popcount(found & ~bit), others <= state_zero ? 7 : 0) << state;
            }
        }
    }
}

/// A page with states, its memory only numbers.
class page_with_states : public testing::Test {
protected:
    static constexpr int made = 43;
    static constexpr std::size_t bytes = 48;

    void SetUp() override {
        tested_.start = reinterpret_cast<std::byte*>(std::uintptr_t{0x10'0000});
        tested_.block_bytes.set(bytes);
        tested_.capacity.set(made);
        tested_.reserved.set(48);
        tested_.out.set(made);
        tested_.states.set(states_.data());
        for (block_state& each : states_) {
            each.store(state_live, std::memory_order_relaxed);
        }
    }

    void free_blocks(std::vector<std::size_t> const& which) {
        for (std::size_t const each : which) {
            bool const is_empty = tested_.put_back(states_[each]);
            EXPECT_EQ(is_empty, tested_.out.get() == 0);
        }
    }

    std::vector<std::size_t> take(std::size_t& cursor, int most) {
        std::vector<std::size_t> taken;
        int const out = tested_.out.get();
        int const count = tested_.take_free(
            cursor, most, [&](block* at, block_state& state, std::uint8_t before) {
                auto const index = static_cast<std::size_t>(&state - states_.data());
                EXPECT_EQ(reinterpret_cast<std::byte*>(at), tested_.start + index * bytes);
                EXPECT_LE(before, state_zero);
                taken.push_back(index);
            });
        EXPECT_EQ(static_cast<std::size_t>(count), taken.size());
        EXPECT_EQ(tested_.out.get(), out + count);
        for (std::size_t const each : taken) {
            EXPECT_EQ(states_[each].load(std::memory_order_relaxed), state_away);
        }
        return taken;
    }

    page tested_{};
    alignas(8) std::array<block_state, 56> states_{};
};

TEST_F(page_with_states, is_taken_from_in_rising_order_and_around) {
    using numbers = std::vector<std::size_t>;
    free_blocks({40, 3, 17, 42, 16});
    std::size_t cursor = 17;
    EXPECT_EQ(take(cursor, 2), (numbers{17, 40}));
    EXPECT_EQ(take(cursor, 2), (numbers{42, 3}));
    EXPECT_EQ(take(cursor, 2), (numbers{16}));
    EXPECT_EQ(take(cursor, 2), numbers{});
    EXPECT_EQ(tested_.free_counted(), 0);
}

TEST_F(page_with_states, has_no_blocks_behind_those_made) {
    states_[made].store(state_free, std::memory_order_relaxed);
    for (std::size_t cursor : {std::size_t{0}, std::size_t{made}, std::size_t{1000}}) {
        EXPECT_EQ(take(cursor, made), std::vector<std::size_t>{}) << cursor;
    }
}

TEST_F(page_with_states, gives_every_block_once_wherever_one_looks_from) {
    for (std::size_t from = 0; from <= made; ++from) {
        std::vector<std::size_t> all;
        for (std::size_t each = 0; each < made; ++each) {
            all.push_back(each);
        }
        free_blocks(all);
        std::size_t cursor = from;
        std::set<std::size_t> seen;
        for (int most = 1; tested_.free_counted() > 0; ++most) {
            for (std::size_t const each : take(cursor, most)) {
                EXPECT_TRUE(seen.insert(each).second) << each;
            }
        }
        EXPECT_EQ(seen.size(), all.size());
    }
}

TEST(block_states, leave_most_blocks_of_a_page) {
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        std::size_t const all =
            sizing::page_blocks(size_class, sizing::class_slices_max(size_class));
        EXPECT_GE(guarded_blocks(size_class) * 10, all * 9) << size_class;
    }
}

}  // namespace
