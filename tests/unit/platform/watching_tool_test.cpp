#include "platform/watching_tool.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "support/build.hpp"

namespace {

using namespace tarn::impl::platform;

TEST(watching_tool, is_what_the_test_was_built_with) {
    watching_tool const found = find_watching_tool();
    if constexpr (tarn::test::under_asan) {
        EXPECT_EQ(found, watching_tool::address_sanitizer);
    } else if constexpr (tarn::test::under_tsan) {
        EXPECT_EQ(found, watching_tool::thread_sanitizer);
    } else {
        EXPECT_TRUE(found == watching_tool::none || found == watching_tool::valgrind)
            << name_of(found);
    }
}

TEST(watching_tool, says_which_blocks_are_a_sanitizers) {
    constexpr std::size_t bytes = 37;
    auto* const block = static_cast<char*>(std::calloc(1, bytes));
    watched_block const whole = ask_sanitizer(block);
    EXPECT_EQ(whole.is_block, is_sanitized);
    EXPECT_EQ(whole.bytes, is_sanitized ? bytes : 0);
    // TSan of Clang 14 takes an address inside of a block for the block.
    EXPECT_TRUE(!ask_sanitizer(block + 1).is_block || tarn::test::under_tsan);
    std::free(block);
    EXPECT_FALSE(ask_sanitizer(&bytes).is_block);
}

TEST(watching_tool, has_a_name) {
    EXPECT_EQ(std::string_view{name_of(watching_tool::none)}, "nothing");
    EXPECT_EQ(std::string_view{name_of(watching_tool::valgrind)}, "Valgrind");
    EXPECT_EQ(std::string_view{name_of(watching_tool::address_sanitizer)}, "AddressSanitizer");
}

}  // namespace
