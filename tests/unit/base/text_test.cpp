#include "base/text.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/units.hpp"

namespace {

using namespace tarn::impl;
using base::text_buffer;
using base::text_sink;

template <class T>
std::string written(T value) {
    text_buffer<64> text;
    text << value;
    return std::string{text.view()};
}

std::string hexadecimal(std::uint64_t number, std::size_t width) {
    text_buffer<64> text;
    text.hexadecimal(number, width);
    return std::string{text.view()};
}

TEST(text, writes_each_kind) {
    EXPECT_EQ(written("literal"), "literal");  // a literal is text, not an address
    EXPECT_EQ(written(std::string_view{"view"}), "view");
    EXPECT_EQ(written('c'), "c");
    EXPECT_EQ(written(0), "0");
    EXPECT_EQ(written(-17), "-17");
    EXPECT_EQ(written(std::uint32_t{4'000'000'000}), "4000000000");
    EXPECT_EQ(written(std::size_t{12}), "12");
    EXPECT_EQ(written(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
    EXPECT_EQ(written(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
    EXPECT_EQ(written(static_cast<void const*>(nullptr)), "0x0");
    EXPECT_EQ(written(reinterpret_cast<void const*>(0x12'abcdULL)), "0x12abcd");
    EXPECT_EQ(written(reinterpret_cast<void const*>(~0ULL)), "0xffffffffffffffff");
    EXPECT_EQ(hexadecimal(0, 1), "0");
    EXPECT_EQ(hexadecimal(0x12ab, 2), "12ab");
    EXPECT_EQ(hexadecimal(0x12ab, 8), "000012ab");
}

TEST(text, chains) {
    text_buffer<64> text;
    text << "a" << 1 << 'b' << std::string_view{"c"};
    EXPECT_EQ(text.view(), "a1bc");
}

TEST(text, pads) {
    text_buffer<64> text;
    text.padded(std::uint64_t{42}, 5).padded("ab", 4) << '|';
    EXPECT_EQ(text.view(), "   42ab  |");
    text.clear();
    text.padded(std::uint64_t{12345}, 3).padded("abc", 2) << '|';
    EXPECT_EQ(text.view(), "12345abc|");
}

TEST(text, writes_bytes_in_units) {
    auto const bytes = [](std::uint64_t count, std::size_t width = 0) {
        text_buffer<64> text;
        text.bytes(count, width);
        return std::string{text.view()};
    };
    EXPECT_EQ(bytes(0), "0 B");
    EXPECT_EQ(bytes(1023), "1023 B");
    EXPECT_EQ(bytes(KiB), "1.0 KiB");
    EXPECT_EQ(bytes(1536), "1.5 KiB");
    EXPECT_EQ(bytes(MiB - 1), "1023.9 KiB");
    EXPECT_EQ(bytes(12 * MiB + 300 * KiB), "12.2 MiB");
    EXPECT_EQ(bytes(3 * GiB), "3.0 GiB");
    EXPECT_EQ(bytes(std::numeric_limits<std::uint64_t>::max()), "17179869183.9 GiB");
    EXPECT_EQ(bytes(1, 6), "   1 B");
}

TEST(text, drops_what_does_not_fit) {
    text_buffer<4> text;
    text << "abc";
    EXPECT_FALSE(text.truncated());
    text << 12;
    EXPECT_EQ(text.view(), "abc1");
    EXPECT_TRUE(text.truncated());
    text << 'x' << "" << 5;
    EXPECT_EQ(text.view(), "abc1");
    text.clear();
    EXPECT_FALSE(text.truncated());
    EXPECT_EQ(text.view(), "");
}

TEST(text, cut_is_as_if_the_rest_had_never_been) {
    text_buffer<8> text;
    text << "abc";
    EXPECT_EQ(text.room(), 5U);
    text << "defghijk";
    EXPECT_TRUE(text.truncated());
    EXPECT_EQ(text.room(), 0U);
    text.cut(3);
    EXPECT_EQ(text.view(), "abc");
    EXPECT_FALSE(text.truncated());
    EXPECT_EQ(text.length(), 3U);
    text << "xy";
    EXPECT_EQ(text.view(), "abcxy");
}

TEST(text, never_writes_past_its_storage) {
    std::array<char, 8> storage;
    for (std::size_t capacity = 0; capacity <= 4; ++capacity) {
        storage.fill('#');
        text_sink sink{storage.data(), capacity};
        sink << "abcdef" << -123456;
        sink.padded(std::uint64_t{1}, 20).padded("x", 20).bytes(5 * MiB, 20);
        EXPECT_EQ(sink.view().size(), capacity);
        for (std::size_t i = capacity; i < storage.size(); ++i) {
            EXPECT_EQ(storage[i], '#');
        }
    }
}

}  // namespace
