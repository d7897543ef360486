#include "symbolize/raw_frame.hpp"

#include <gtest/gtest.h>

namespace {

using namespace tarn::symbolize;

TEST(raw_frame, numbered_lines) {
    auto const line = parse_numbered("  tarn: #12 rest of it");
    ASSERT_TRUE(line);
    EXPECT_EQ(line->before, "  tarn: ");
    EXPECT_EQ(line->number, 12U);
    EXPECT_EQ(line->rest, "rest of it");
    for (char const* const other : {"", "#", "#1", "#a b", "# 1", "#99999999999 x", "none"}) {
        EXPECT_FALSE(parse_numbered(other)) << other;
    }
}

TEST(raw_frame, of_an_address) {
    auto const frame =
        parse_frame("0x000055d0c0ffee12 in /usr/lib/libfoo.so+0x1234 (build id 0123abcd) and more");
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->what, "0x000055d0c0ffee12");
    EXPECT_FALSE(frame->has_function());
    EXPECT_EQ(frame->module, "/usr/lib/libfoo.so");
    EXPECT_EQ(frame->offset, 0x1234U);
    EXPECT_EQ(frame->build_id, "0123abcd");
    EXPECT_EQ(frame->after, " and more");
}

TEST(raw_frame, of_a_function) {
    auto const frame = parse_frame("operator in (int) const in /opt/with space/lib++.so.6+0xff");
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->what, "operator in (int) const");
    EXPECT_TRUE(frame->has_function());
    EXPECT_EQ(frame->module, "/opt/with space/lib++.so.6");
    EXPECT_EQ(frame->build_id, "");
    EXPECT_EQ(frame->after, "");
}

TEST(raw_frame, of_a_module_without_folder) {
    auto const frame = parse_frame("0x00007ffd12345678 in linux-vdso.so.1+0x9 (build id 1)");
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->module, "linux-vdso.so.1");
    EXPECT_EQ(frame->build_id, "1");
}

TEST(raw_frame, what_is_none) {
    for (char const* const other :
         {"", "function at /file.cpp:12", "f in /file", "f in /file+12", "f in /file+0x",
          "f in +0x12", " in /file+0x12", "f in /file+0xfffffffffffffffff"}) {
        EXPECT_FALSE(parse_frame(other)) << other;
    }
    // An odd end is text like any other.
    for (char const* const end :
         {" (build id ", " (build id )", " (build id xy)", " (build id 12"}) {
        auto const frame = parse_frame(std::string{"f in /file+0x12"} + end);
        ASSERT_TRUE(frame) << end;
        EXPECT_EQ(frame->build_id, "");
    }
}

TEST(raw_frame, anywhere_in_a_line) {
    constexpr std::string_view text =
        "0x12 of 0x0000000000000012 freed by 0x000055d0c0ffee12 in /lib/a.so+0x1, then";
    auto const place = find_place(text);
    ASSERT_TRUE(place);
    EXPECT_EQ(place->before, "0x12 of 0x0000000000000012 freed by ");
    EXPECT_EQ(place->module, "/lib/a.so");
    EXPECT_EQ(place->after, ", then");
    EXPECT_FALSE(find_place("f in /lib/a.so+0x1"));
    EXPECT_FALSE(find_place("0x000055d0c0ffee12 in nothing"));
}

TEST(raw_frame, hexadecimal_numbers) {
    EXPECT_EQ(parse_hexadecimal("0xff"), 255U);
    EXPECT_EQ(parse_hexadecimal("0xffffffffffffffff"), ~std::uint64_t{0});
    for (char const* const other : {"", "0x", "ff", "0xg", "0x1 ", "0x10000000000000000", "0x-1"}) {
        EXPECT_FALSE(parse_hexadecimal(other)) << other;
    }
}

}  // namespace
