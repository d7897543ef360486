#include "heap/hardening.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;

TEST(hardened_class, has_room_for_a_byte_more_from_512_bytes_on) {
    for (std::size_t bytes = 1; bytes <= hardened_small_max; ++bytes) {
        unsigned const size_class = hardened_class_of(bytes);
        std::size_t const block_bytes = sizing::class_bytes(size_class);
        ASSERT_GE(block_bytes, bytes + (bytes >= slack_bytes_min ? 1 : 0)) << bytes;
        ASSERT_LT(sizing::class_bytes(size_class - 1), bytes + 1) << bytes;
    }
}

TEST(hardened_class, is_none_beyond_and_never_wraps_around) {
    EXPECT_EQ(hardened_class_of(0), 0U);
    EXPECT_EQ(hardened_class_of(hardened_small_max + 1), 0U);
    EXPECT_EQ(hardened_class_of(~std::size_t{0}), 0U);
    EXPECT_EQ(hardened_class_of(~std::size_t{0} / 2), 0U);
}

TEST(short_canary, sees_each_changed_byte_of_the_slack_and_no_other) {
    constexpr std::uint64_t canary = 0x8877'6655'4433'2211;
    for (std::size_t slack = 0; slack <= short_slack_max; ++slack) {
        for (std::size_t changed = 0; changed < 16; ++changed) {
            alignas(16) std::array<std::byte, 16> block{};
            std::byte* const end = block.data() + block.size();
            write_short_canary(end, canary);
            ASSERT_TRUE(is_short_canary_whole(end, canary, slack));
            block[changed] = std::byte{0};
            ASSERT_EQ(is_short_canary_whole(end, canary, slack), changed < 16 - slack)
                << slack << ' ' << changed;
        }
    }
}

TEST(canary, agrees_with_the_short_form) {
    for (std::size_t slack = 0; slack <= short_slack_max; ++slack) {
        alignas(16) std::array<std::byte, 32> block{};
        write_canary({.start = block.data(), .bytes = 32, .requested = 32 - slack});
        EXPECT_TRUE(is_short_canary_whole(block.data() + 32, canary_of(block.data()), slack));
        for (std::size_t i = 0; i < 32 - slack; ++i) {
            EXPECT_EQ(block[i], std::byte{0}) << "asked for";
        }
    }
}

constexpr std::size_t canary_test_bytes = 512;

struct alignas(16) canary_test_block {
    std::array<std::byte, canary_test_bytes> bytes;
};

TEST(canary, is_the_same_in_a_new_block_and_one_in_use_whose_bytes_stay) {
    for (std::size_t requested = 0; requested <= canary_test_bytes; ++requested) {
        canary_test_block used;
        canary_test_block fresh;
        used.bytes.fill(std::byte{0x77});
        write_canary({used.bytes.data(), canary_test_bytes, requested});
        for (std::size_t at = 0; at < requested; ++at) {
            ASSERT_EQ(used.bytes[at], std::byte{0x77}) << requested << ' ' << at;
        }
        std::size_t const slack = canary_test_bytes - requested;
        std::uint64_t const canary = canary_of(used.bytes.data());
        fill_slack(fresh.bytes.data() + canary_test_bytes, canary, slack);
        ASSERT_TRUE(is_canary_whole(fresh.bytes.data() + canary_test_bytes, canary, slack));
        ASSERT_TRUE(is_canary_whole(used.bytes.data() + canary_test_bytes, canary, slack));
        if (slack > slack_in_state_max) {
            ASSERT_EQ(noted_slack(fresh.bytes.data() + canary_test_bytes, canary), slack);
            ASSERT_EQ(noted_slack(used.bytes.data() + canary_test_bytes, canary), slack);
        }
    }
}

TEST(canary, tells_the_first_changed_byte_of_any_slack) {
    constexpr std::size_t bytes = canary_test_bytes;
    for (std::size_t requested = 0; requested <= bytes; ++requested) {
        canary_test_block block{};
        block_extent const extent{block.bytes.data(), bytes, requested};
        write_canary(extent);
        ASSERT_EQ(find_damage(extent), undamaged) << requested;
        for (std::size_t at = 0; at < bytes; ++at) {
            bool const is_filled =
                at >= requested && (at < requested - requested % 16 + 32 || at >= bytes - 16);
            block.bytes[at] ^= std::byte{0x10};
            ASSERT_EQ(find_damage(extent), is_filled ? at : undamaged) << requested << ' ' << at;
            block.bytes[at] ^= std::byte{0x10};
        }
    }
}

TEST(state, says_how_long_the_slack_is_as_far_as_it_has_room) {
    EXPECT_EQ(state_for(0), state_live);
    EXPECT_EQ(state_for(slack_in_state_max), state_noted - 1);
    EXPECT_EQ(state_for(slack_in_state_max + 1), state_noted);
    EXPECT_EQ(state_for(100'000), state_noted);
}

}  // namespace
