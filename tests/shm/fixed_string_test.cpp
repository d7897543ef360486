#include "tarn/shm/fixed_string.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <unordered_set>

namespace {

using tarn::shm::fixed_string;

TEST(ShmFixedString, ConstructsInAllWays) {
    static_assert(std::is_trivially_copyable_v<fixed_string<7>>);
    static_assert(sizeof(fixed_string<7>) == 16);
    EXPECT_EQ(fixed_string<7>{}, "");
    EXPECT_EQ(fixed_string<7>{"abc"}, "abc");
    EXPECT_EQ(fixed_string<7>{std::string{"abc"}}, std::string_view{"abc"});
    EXPECT_EQ((fixed_string<7>(3, 'x')), std::string{"xxx"});
    std::string const source = "hello";
    EXPECT_EQ((fixed_string<7>(source.rbegin(), source.rend())), "olleh");
    EXPECT_THROW(fixed_string<7>{"eight..."}, std::length_error);
    EXPECT_THROW((fixed_string<3>(source.begin(), source.end())), std::length_error);
    EXPECT_STREQ(fixed_string<3>{"abc"}.c_str(), "abc");
}

TEST(ShmFixedString, NoRoomChangesNothing) {
    fixed_string<5> text = "abc";
    EXPECT_FALSE(text.try_append("def"));
    EXPECT_FALSE(text.try_assign("abcdef"));
    EXPECT_FALSE(text.try_insert(0, "def"));
    EXPECT_FALSE(text.try_resize(6));
    EXPECT_THROW(text += "def", std::length_error);
    EXPECT_THROW(text.append(~std::size_t{0}, 'x'), std::length_error);
    EXPECT_THROW(text.insert(0, 3, 'x'), std::length_error);
    EXPECT_THROW(text.replace(1, 1, "12345"), std::length_error);
    EXPECT_THROW(text.insert(4, "x"), std::out_of_range);
    EXPECT_THROW(text.erase(4), std::out_of_range);
    EXPECT_THROW(static_cast<void>(text.at(3)), std::out_of_range);
    EXPECT_THROW(static_cast<void>(text.substr(4)), std::out_of_range);
    EXPECT_EQ(text, "abc");
    EXPECT_TRUE(text.try_push_back('d'));
    text += 'e';
    EXPECT_FALSE(text.try_push_back('f'));
    EXPECT_TRUE(text.full());
    EXPECT_EQ(text, "abcde");
}

TEST(ShmFixedString, MayBeMadeOfItself) {
    fixed_string<20> text = "abcdef";
    text.append(text.view().substr(2, 2));
    EXPECT_EQ(text, "abcdefcd");
    text.assign(text.view().substr(4));
    EXPECT_EQ(text, "efcd");
    text.replace(1, 1, text.view());
    EXPECT_EQ(text, "eefcdcd");
    text.insert(2, text.view().substr(0, 3));
    EXPECT_EQ(text, "eeeeffcdcd");
}

TEST(ShmFixedString, FindsAsAViewDoes) {
    fixed_string<20> const text = "one, two, one";
    EXPECT_EQ(text.find("one", 1), 10U);
    EXPECT_EQ(text.rfind("one"), 10U);
    EXPECT_EQ(text.find('t'), 5U);
    EXPECT_EQ(text.find_first_of(", "), 3U);
    EXPECT_EQ(text.find_last_not_of("one"), 9U);
    EXPECT_EQ(text.find("three"), text.npos);
    EXPECT_TRUE(text.starts_with("one") && text.ends_with('e') && text.contains("two"));
    EXPECT_EQ(text.substr(5, 3), "two");
    EXPECT_LT(text, "two");
    EXPECT_GT(text, fixed_string<3>{"one"});
    EXPECT_NE(text, fixed_string<3>{"one"});
    EXPECT_EQ(std::unordered_set<fixed_string<20>>({text, text}).size(), 1U);
    std::string_view const view = text;
    EXPECT_EQ(view.size(), 13U);
}

TEST(ShmFixedString, ASpoiltSizeReachesNoFurtherThanItsCapacity) {
    auto const text = std::make_unique<fixed_string<7>>("abcdefg");  // ASan sees what lies beyond
    std::uint64_t const rubbish = ~std::uint64_t{0} - 5;
    std::memcpy(static_cast<void*>(text.get()), &rubbish, sizeof rubbish);
    EXPECT_EQ(text->size(), 7U);
    EXPECT_EQ(text->view(), "abcdefg");
    EXPECT_FALSE(text->try_append("h"));
    EXPECT_EQ(text->rbegin()[0], 'g');
    text->pop_back();
    EXPECT_EQ(*text, "abcdef");
}

TEST(ShmFixedString, DoesAsStdStringDoes) {
    std::uint32_t const seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random{seed};
    auto const below = [&](std::size_t most) { return random() % (most + 1); };
    fixed_string<30> mine;
    std::string model;
    for (int i = 0; i < 5000; ++i) {
        std::string const piece(below(30 - model.size()), static_cast<char>('a' + i % 26));
        std::size_t const at = below(model.size());
        std::size_t const count = below(model.size() + 2);
        switch (below(6)) {
            case 0:
                mine.insert(at, piece);
                model.insert(at, piece);
                break;
            case 1:
                mine.erase(at, count);
                model.erase(at, count);
                break;
            case 2:
                mine.replace(at, count, piece);
                model.replace(at, count, piece);
                break;
            case 3:
                mine.append(piece);
                model.append(piece);
                break;
            case 4:
                mine.insert(at, piece.size(), '-');
                model.insert(at, piece.size(), '-');
                break;
            default:
                mine.resize(at, '?');
                model.resize(at, '?');
        }
        ASSERT_EQ(mine, model) << i;
        ASSERT_EQ(std::strlen(mine.c_str()), model.size());
        ASSERT_EQ(mine.compare(piece) < 0, model.compare(piece) < 0);
    }
}

}  // namespace
