#include "platform/symbols_text.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <regex>
#include <string>
#include <vector>

#include "support/known_calls.hpp"

namespace {

using namespace tarn::impl;

std::string described(std::vector<void const*> const& addresses, std::size_t indentation) {
    base::text_buffer<16 * 1024> text;
    platform::describe_stack(addresses, text, indentation);
    EXPECT_FALSE(text.truncated());
    return std::string{text.view()};
}

TEST(symbols_text, lines_of_all_kinds) {
    tarn::test::known_call const inlined = tarn::test::with_inlined();
    tarn::test::known_call const plain = tarn::test::static_function("");
    std::string const text =
        described({inlined.address, plain.address, reinterpret_cast<void const*>(0x1234)}, 4);
    std::string const name = R"([A-Za-z_:() ]*)";
    std::string const file = R"( at [^ ]*/known_calls\.hpp:)";
    EXPECT_TRUE(std::regex_match(
        text, std::regex{"    #0 " + name + R"(inlined_inner(\(\))?)" + file +
                         std::to_string(inlined.line) + R"( \(inlined\)\n)" + "    #1 " + name +
                         R"(with_inlined\(\))" + file + std::to_string(inlined.outer_line) + "\n" +
                         "    #2 " + name + R"(static_function\(char const\*\))" + file +
                         std::to_string(plain.line) + "\n" + "    #3 0x0000000000001234\n"}))
        << text;
}

TEST(symbols_text, nothing_of_nothing) { EXPECT_EQ(described({}, 2), ""); }

TEST(symbols_text, a_place) {
    auto const* const function = reinterpret_cast<void const*>(&std::fgetpos);
    base::text_buffer<2048> text;
    platform::describe_place(function, text);
    std::array<char, 32> address;
    std::snprintf(address.data(), address.size(), "0x%016llx",
                  static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(function)));
    EXPECT_TRUE(std::regex_match(
        std::string{text.view()},
        std::regex{address.data() +
                   std::string{R"( in /[^ ]+\+0x[0-9a-f]+( \(build id [0-9a-f]+\))?)"}}))
        << text.view();
}

TEST(symbols_text, a_full_sink_is_no_harm) {
    tarn::test::known_call const call = tarn::test::with_inlined();
    base::text_buffer<20> text;
    platform::describe_stack({&call.address, 1}, text, 0);
    EXPECT_TRUE(text.truncated());
}

}  // namespace
