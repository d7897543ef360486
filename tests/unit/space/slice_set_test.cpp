#include "space/slice_set.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <random>
#include <vector>

namespace {

using tarn::impl::space::slice_set;

constexpr std::size_t slices = 200;  // ends inside a word

/// A set in its own memory.
struct owned_set {
    std::array<std::uint64_t, slice_set::words_for(slices)> words{};
    slice_set set{words.data(), slices};
};

TEST(slice_set, of_nothing_has_no_members) {
    slice_set const none;
    EXPECT_EQ(none.size(), 0U);
    EXPECT_EQ(none.next_present(0, 0), 0U);
    EXPECT_EQ(none.next_absent(0, 0), 0U);
    EXPECT_EQ(none.count({0, 0}), 0U);
    EXPECT_EQ(slice_set::words_for(0), 0U);
    EXPECT_EQ(slice_set::words_for(1), 1U);
    EXPECT_EQ(slice_set::words_for(64), 1U);
    EXPECT_EQ(slice_set::words_for(65), 2U);
}

TEST(slice_set, holds_exactly_the_range_put_in) {
    for (std::size_t first = 0; first < slices; first += 7) {
        for (std::size_t count = 1; first + count <= slices; count += 5) {
            owned_set owned;
            owned.set.insert({first, count});
            ASSERT_EQ(owned.set.count({0, slices}), count);
            ASSERT_EQ(owned.set.next_present(0, slices), first);
            ASSERT_EQ(owned.set.next_absent(first, slices), first + count);
            ASSERT_TRUE(owned.set.contains_all({first, count}));
            ASSERT_FALSE(owned.set.contains_all({first, count + 1}));
            ASSERT_EQ(owned.set.contains(slices - 1), first + count == slices);
            owned.set.remove({first, count});
            ASSERT_EQ(owned.set.next_present(0, slices), slices);
        }
    }
}

TEST(slice_set, does_not_look_behind_the_end_it_is_given) {
    owned_set owned;
    owned.set.insert({100, 1});
    EXPECT_EQ(owned.set.next_present(0, 100), 100U);
    EXPECT_EQ(owned.set.next_present(0, 64), 64U);
    EXPECT_EQ(owned.set.next_present(101, slices), slices);
    EXPECT_EQ(owned.set.next_present(150, 120), 120U);
    EXPECT_EQ(owned.set.next_absent(100, 101), 101U);
}

TEST(slice_set, refuses_a_range_behind_its_end) {
    owned_set owned;
    owned.set.insert({0, slices});
    EXPECT_TRUE(owned.set.contains_all({0, slices}));
    EXPECT_FALSE(owned.set.contains_all({1, slices}));
    EXPECT_FALSE(owned.set.contains_all({slices, 1}));
    EXPECT_TRUE(owned.set.contains_all({slices, 0}));
}

TEST(slice_set, agrees_with_a_plain_array) {
    std::mt19937_64 random{1};  // a fixed seed: the run is the same each time
    owned_set owned;
    std::vector<bool> model(slices, false);
    for (int round = 0; round < 20'000; ++round) {
        std::size_t const first = random() % slices;
        std::size_t const count = random() % (slices - first) + 1;
        bool const inserts = random() % 2 == 0;
        inserts ? owned.set.insert({first, count}) : owned.set.remove({first, count});
        for (std::size_t i = first; i < first + count; ++i) {
            model[i] = inserts;
        }
        std::size_t const from = random() % slices;
        std::size_t present = from;
        while (present < slices && !model[present]) {
            ++present;
        }
        std::size_t absent = from;
        while (absent < slices && model[absent]) {
            ++absent;
        }
        ASSERT_EQ(owned.set.next_present(from, slices), present) << round;
        ASSERT_EQ(owned.set.next_absent(from, slices), absent) << round;
        std::size_t members = 0;
        for (std::size_t i = first; i < slices; ++i) {
            members += model[i] ? 1 : 0;
        }
        ASSERT_EQ(owned.set.count({first, slices - first}), members) << round;
    }
}

}  // namespace
