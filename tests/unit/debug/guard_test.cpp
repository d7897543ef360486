#include "debug/guard.hpp"

#include <gtest/gtest.h>

#include <array>

namespace {

using namespace tarn::impl::debug;

constexpr std::size_t room = 64;

struct memory {
    alignas(16) std::array<std::byte, room> bytes{};
};

TEST(guard, one_byte_repeats) {
    guard_pattern const plain{.byte = std::byte{0xAB}};
    EXPECT_EQ(plain.word_of(&plain), 0xABABABABABABABABU);
    memory m;
    fill_words(m.bytes.data() + 3, 21, plain.word_of(&m));
    for (std::size_t i = 0; i < room; ++i) {
        EXPECT_EQ(m.bytes[i], i >= 3 && i < 24 ? std::byte{0xAB} : std::byte{0}) << i;
    }
}

TEST(guard, keyed_words_differ_between_blocks_and_keys) {
    guard_pattern const one{.key = 1};
    guard_pattern const two{.key = 2};
    memory m;
    EXPECT_NE(one.word_of(&m), two.word_of(&m));
    EXPECT_NE(one.word_of(m.bytes.data()), one.word_of(m.bytes.data() + 16));
}

TEST(guard, the_end_of_a_string_is_seen_in_keyed_words) {
    memory m;
    for (std::uint64_t key = 1; key <= 1000; ++key) {
        std::uint64_t const word = guard_pattern{.key = key}.word_of(&m);
        for (unsigned byte = 0; byte < 8; ++byte) {
            EXPECT_NE(word >> 8 * byte & 0xFF, 0U) << key;
        }
    }
}

TEST(guard, what_is_filled_is_found_whole_from_any_start_for_any_length) {
    std::uint64_t const word = guard_pattern{.key = 12345}.word_of(nullptr);
    for (std::size_t from = 0; from < 16; ++from) {
        for (std::size_t bytes = 0; from + bytes <= room; ++bytes) {
            memory m;
            fill_words(m.bytes.data() + from, bytes, word);
            EXPECT_EQ(find_damage(m.bytes.data() + from, bytes, word).bytes, 0U);
            // A part of it, looked at by itself, is whole as well: bytes depend on addresses.
            std::size_t const half = bytes / 2;
            EXPECT_EQ(find_damage(m.bytes.data() + from + half, bytes - half, word).bytes, 0U);
        }
    }
}

TEST(guard, each_changed_byte_is_found) {
    std::uint64_t const word = guard_pattern{.key = 99}.word_of(nullptr);
    for (std::size_t from : {0U, 5U}) {
        constexpr std::size_t bytes = 41;
        for (std::size_t first = 0; first < bytes; ++first) {
            for (std::size_t last = first; last < bytes; last += 7) {
                memory m;
                fill_words(m.bytes.data() + from, bytes, word);
                m.bytes[from + first] ^= std::byte{1};
                if (last != first) {
                    m.bytes[from + last] ^= std::byte{0x80};
                }
                damage const found = find_damage(m.bytes.data() + from, bytes, word);
                EXPECT_EQ(found.bytes, first == last ? 1U : 2U);
                EXPECT_EQ(found.first, first);
                EXPECT_EQ(found.last, last);
            }
        }
    }
}

}  // namespace
