#include "tarn/shm/fixed_vector.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

using tarn::shm::fixed_vector;

TEST(ShmFixedVector, IsTriviallyCopyableWithItsElements) {
    static_assert(std::is_trivially_copyable_v<fixed_vector<double, 5>>);
    static_assert(!std::is_trivially_copyable_v<fixed_vector<std::string, 5>>);
    static_assert(std::is_nothrow_move_constructible_v<fixed_vector<std::string, 5>>);
    static_assert(sizeof(fixed_vector<std::uint16_t, 4>) == 16);
    static_assert(sizeof(fixed_vector<double, 2>) == 24);
    fixed_vector<int, 4> const one{1, 2, 3};
    fixed_vector<int, 4> two;
    std::memcpy(static_cast<void*>(&two), &one, sizeof one);
    EXPECT_EQ(one, two);
}

TEST(ShmFixedVector, ConstructsInAllWays) {
    EXPECT_TRUE((fixed_vector<int, 3>{}.empty()));
    EXPECT_EQ((fixed_vector<int, 3>(2)), (fixed_vector<int, 3>{0, 0}));
    EXPECT_EQ((fixed_vector<int, 3>(2, 7)), (fixed_vector<int, 3>{7, 7}));
    std::vector<int> const source{4, 5};
    EXPECT_EQ((fixed_vector<int, 3>(source.begin(), source.end())), (fixed_vector<int, 3>{4, 5}));
    std::istringstream stream{"1 2 3 4"};
    using input = std::istream_iterator<int>;
    EXPECT_THROW((fixed_vector<int, 3>(input{stream}, input{})), std::length_error);
    EXPECT_THROW((fixed_vector<int, 3>(4)), std::length_error);
    EXPECT_THROW((fixed_vector<int, 3>{1, 2, 3, 4}), std::length_error);
}

TEST(ShmFixedVector, IsFullAtItsCapacity) {
    fixed_vector<std::string, 2> some;
    EXPECT_TRUE(some.try_push_back("one"));
    EXPECT_EQ(some.emplace_back(3U, 'x'), "xxx");
    EXPECT_TRUE(some.full());
    EXPECT_EQ(some.try_emplace_back("three"), nullptr);
    EXPECT_EQ(some.try_insert(some.begin(), "three"), nullptr);
    EXPECT_FALSE(some.try_push_back("three"));
    EXPECT_FALSE(some.try_resize(3));
    EXPECT_FALSE(some.try_assign(3, "y"));
    EXPECT_THROW(some.push_back("three"), std::length_error);
    EXPECT_THROW(some.insert(some.begin(), "three"), std::length_error);
    EXPECT_THROW(some.resize(3), std::length_error);
    EXPECT_THROW(some.reserve(3), std::length_error);
    EXPECT_THROW(some.assign(3, "y"), std::length_error);
    EXPECT_EQ(some, (fixed_vector<std::string, 2>{"one", "xxx"}));
    EXPECT_THROW(static_cast<void>(some.at(2)), std::out_of_range);
    EXPECT_EQ(some.at(1), "xxx");
    EXPECT_EQ(some.front(), "one");
    EXPECT_EQ(some.back(), "xxx");
}

TEST(ShmFixedVector, RangesThatDoNotFitChangeNothing) {
    fixed_vector<int, 4> some{1, 2, 3};
    std::istringstream stream{"7 8"};
    using input = std::istream_iterator<int>;
    EXPECT_THROW(some.insert(some.begin(), input{stream}, input{}), std::length_error);
    EXPECT_THROW(some.insert(some.begin(), {7, 8}), std::length_error);
    EXPECT_THROW(some.insert(some.begin(), 2, 7), std::length_error);
    EXPECT_THROW(some.insert(some.begin(), ~std::size_t{0}, 7), std::length_error);
    EXPECT_EQ(some, (fixed_vector<int, 4>{1, 2, 3}));
}

TEST(ShmFixedVector, OwnElementsMayBeInserted) {
    fixed_vector<std::string, 8> some{"a", "b", "c"};
    some.insert(some.begin(), some[2]);
    some.insert(some.begin() + 1, 2, some[1]);
    EXPECT_EQ(some, (fixed_vector<std::string, 8>{"c", "a", "a", "a", "b", "c"}));
    std::string const in_memory(100, 'd');
    some.push_back(in_memory);
    some.push_back(some.back());
    some.assign(2, some[6]);
    EXPECT_EQ(some, (fixed_vector<std::string, 8>{in_memory, in_memory}));
}

TEST(ShmFixedVector, EveryElementIsDestroyedOnce) {
    auto const counted = std::make_shared<int>(0);
    {
        fixed_vector<std::shared_ptr<int>, 8> one(5, counted);
        fixed_vector<std::shared_ptr<int>, 8> two{one};
        EXPECT_EQ(counted.use_count(), 11);
        fixed_vector<std::shared_ptr<int>, 8> const three{std::move(two)};
        two = one;
        one.resize(2);
        one = two;
        two.erase(two.begin() + 1, two.begin() + 4);
        EXPECT_EQ(counted.use_count(), 1 + 5 + 2 + 5);
        swap(one, two);
        EXPECT_EQ(one.size(), 2U);
        EXPECT_EQ(two.size(), 5U);
        one.insert(one.begin(), two.begin(), two.end());
        EXPECT_EQ(erase(one, counted), 7U);
        two.pop_back();
        two.clear();
        EXPECT_EQ(counted.use_count(), 6);
    }
    EXPECT_EQ(counted.use_count(), 1);
}

TEST(ShmFixedVector, Compares) {
    using some = fixed_vector<int, 4>;
    EXPECT_LT((some{1, 2}), (some{1, 2, 3}));
    EXPECT_GT((some{2}), (some{1, 9}));
    EXPECT_NE((some{1}), (some{2}));
    some const three{1, 2, 3};
    EXPECT_EQ((std::vector<int>{three.rbegin(), three.rend()}), (std::vector<int>{3, 2, 1}));
}

TEST(ShmFixedVector, ASpoiltSizeReachesNoFurtherThanItsCapacity) {
    auto const spoilt = std::make_unique<fixed_vector<int, 3>>(3, 5);  // ASan sees what lies beyond
    std::uint64_t const rubbish = ~std::uint64_t{0};
    std::memcpy(static_cast<void*>(spoilt.get()), &rubbish, sizeof rubbish);
    EXPECT_EQ(spoilt->size(), 3U);
    EXPECT_TRUE(spoilt->full());
    EXPECT_EQ(std::distance(spoilt->begin(), spoilt->end()), 3);
    EXPECT_EQ(spoilt->back(), 5);
    EXPECT_FALSE(spoilt->try_push_back(1));
    fixed_vector<int, 3> const copy = *spoilt;
    EXPECT_EQ(copy, (fixed_vector<int, 3>{5, 5, 5}));
    spoilt->pop_back();
    EXPECT_EQ(spoilt->size(), 2U);
}

TEST(ShmFixedVector, DoesAsStdVectorDoes) {
    std::uint32_t const seed = std::random_device{}();
    RecordProperty("seed", static_cast<int>(seed));
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random{seed};
    fixed_vector<std::string, 20> mine;
    std::vector<std::string> model;
    auto const below = [&](std::size_t most) { return random() % (most + 1); };
    for (int i = 0; i < 2000 && !HasFailure(); ++i) {
        std::string const value(below(40), static_cast<char>('a' + i % 26));
        auto const at = static_cast<std::ptrdiff_t>(below(model.size()));
        std::size_t const count = below(20 - model.size());
        switch (below(7)) {
            case 0:
                mine.insert(mine.begin() + at, count, value);
                model.insert(model.begin() + at, count, value);
                break;
            case 1: {
                auto const last = at + static_cast<std::ptrdiff_t>(
                                           below(model.size() - static_cast<std::size_t>(at)));
                auto const after = mine.erase(mine.begin() + at, mine.begin() + last);
                model.erase(model.begin() + at, model.begin() + last);
                ASSERT_EQ(after - mine.begin(), at);
                break;
            }
            case 2:
                if (model.size() < 20) {
                    auto const where = mine.emplace(mine.begin() + at, value);
                    model.emplace(model.begin() + at, value);
                    ASSERT_EQ(*where, value);
                }
                break;
            case 3: {
                std::vector<std::string> const several(count, value);
                mine.insert(mine.begin() + at, several.begin(), several.end());
                model.insert(model.begin() + at, several.begin(), several.end());
                break;
            }
            case 4:
                mine.resize(model.size() / 2 + count / 2, value);
                model.resize(model.size() / 2 + count / 2, value);
                break;
            case 5:
                mine.assign(model.rbegin(), model.rend());
                std::reverse(model.begin(), model.end());
                break;
            default:
                if (!model.empty()) {
                    mine.pop_back();
                    model.pop_back();
                }
        }
        ASSERT_TRUE(std::equal(mine.begin(), mine.end(), model.begin(), model.end())) << i;
    }
}

}  // namespace
