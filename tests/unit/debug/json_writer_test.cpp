#include "debug/json_writer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using namespace tarn::impl;
using debug::json_writer;

std::string written(std::string_view value) {
    base::text_buffer<4096> text;
    json_writer{text}.text(value);
    return std::string{text.view()};
}

TEST(json_writer, separates_members_and_elements) {
    base::text_buffer<256> text;
    json_writer to{text};
    to.open('{');
    to.key("a");
    to.open('[');
    to.close(']');
    to.key("b");
    to.open('[');
    to.number(std::numeric_limits<std::uint64_t>::max());
    to.signed_number(-5);
    to.null();
    to.open('{');
    to.close('}');
    to.boolean(true);
    to.close(']');
    to.key("c");
    to.address(0x7f00);
    to.key("d");
    to.text_or_null("");
    to.close('}');
    EXPECT_EQ(text.view(),
              R"({"a":[],"b":[18446744073709551615,-5,null,{},true],"c":"0x7f00","d":null})");
}

TEST(json_writer, goes_back_to_a_place) {
    base::text_buffer<64> text;
    json_writer to{text};
    to.open('[');
    json_writer::place const first = to.here();
    to.number(1);
    json_writer::place const second = to.here();
    to.number(2);
    to.return_to(second);
    to.number(3);
    EXPECT_EQ(text.view(), "[1,3");
    to.return_to(first);
    to.number(4);
    to.close(']');
    EXPECT_EQ(text.view(), "[4]");
}

TEST(json_writer, escapes_what_a_string_may_not_hold) {
    EXPECT_EQ(written("C:\\\"a\"\n\t\x01\x7f"), R"("C:\\\"a\"\n\t\u0001\u007f")");
    EXPECT_EQ(written("Stra\xc3\x9f"
                      "e \xe2\x82\xac \xf0\x9f\x98\x80"),
              "\"Stra\xc3\x9f"
              "e \xe2\x82\xac \xf0\x9f\x98\x80\"");
}

TEST(json_writer, replaces_what_is_no_utf8) {
    constexpr std::string_view instead = R"(\ufffd)";
    for (std::string_view const bad :
         {"\x80", "\xc0", "\xc1", "\xf5", "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x98"}) {
        std::string expected = "\"";
        for (std::size_t i = 0; i < bad.size(); ++i) {
            expected += instead;
        }
        EXPECT_EQ(written(bad), expected + '"') << bad.size();
    }
    EXPECT_EQ(written("\xc3("), R"("\ufffd(")");
    EXPECT_EQ(written("\xc0\xaf"), R"("\ufffd\ufffd")");                      // overlong
    EXPECT_EQ(written("\xe0\x80\x80"), R"("\ufffd\ufffd\ufffd")");            // overlong
    EXPECT_EQ(written("\xed\xa0\x80"), R"("\ufffd\ufffd\ufffd")");            // surrogate
    EXPECT_EQ(written("\xf4\x90\x80\x80"), R"("\ufffd\ufffd\ufffd\ufffd")");  // past the end
    EXPECT_EQ(written("\xf4\x8f\xbf\xbf"), "\"\xf4\x8f\xbf\xbf\"");
}

TEST(json_writer, any_bytes_are_a_string) {
    constexpr std::uint64_t seed = 7;
    SCOPED_TRACE(seed);
    tarn::test::random_stream random{seed};
    for (std::uint64_t round = 0; round < tarn::test::scaled(4000); ++round) {
        std::string bytes(random.below(30), '\0');
        for (char& each : bytes) {
            each = static_cast<char>(random.one_in(3) ? random.next() : 0xe0 + random.below(32));
        }
        auto const json = nlohmann::json::parse(written(bytes), nullptr, false);
        ASSERT_TRUE(json.is_string()) << round;
    }
}

}  // namespace
