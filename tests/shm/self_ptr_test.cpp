#include "tarn/shm/self_ptr.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>
#include <vector>

namespace {

using tarn::shm::self_ptr;

TEST(ShmSelfPtr, NullIsOne) {
    self_ptr<int> const null;
    std::int64_t word = 0;
    std::memcpy(&word, static_cast<void const*>(&null), sizeof word);
    EXPECT_EQ(word, 1);
    EXPECT_EQ(null.get(), nullptr);
    EXPECT_EQ(null, nullptr);
    EXPECT_FALSE(null);
    self_ptr<int> const copy = null;
    EXPECT_EQ(copy, nullptr);
}

TEST(ShmSelfPtr, CopiesPointToTheSameObject) {
    std::array<int, 4> values{1, 2, 3, 4};
    self_ptr<int> one{values.data()};
    self_ptr<int> two{one};
    EXPECT_EQ(one, two);
    EXPECT_NE(std::memcmp(static_cast<void const*>(&one), static_cast<void const*>(&two), 8), 0);
    ++two;
    EXPECT_EQ(*two, 2);
    EXPECT_EQ(two - one, 1);
    EXPECT_LT(one, two);
    one = two;
    EXPECT_EQ(one[1], 3);
    two = values.data();
    EXPECT_EQ(two, values.data());
    two += 3;
    two -= 1;
    EXPECT_EQ(*two, 3);
    EXPECT_EQ(*(two + 1), 4);
    two = nullptr;
    EXPECT_FALSE(two);
    // One may point to itself.
    self_ptr<self_ptr<int>> itself;
    itself = reinterpret_cast<self_ptr<int>*>(&itself);
    EXPECT_TRUE(itself);
}

struct part {
    self_ptr<part> next;
    std::uint64_t value = 0;
};

TEST(ShmSelfPtr, MovesWithItsBlock) {
    alignas(8) std::array<std::byte, 2 * sizeof(part)> from{};
    auto* const parts = reinterpret_cast<part*>(from.data());
    new (parts) part{};
    new (parts + 1) part{};
    parts[0].next = &parts[1];
    parts[1].value = 9;
    alignas(8) std::array<std::byte, 2 * sizeof(part)> to{};
    std::memcpy(to.data(), from.data(), from.size());
    auto const* const moved = reinterpret_cast<part const*>(to.data());
    EXPECT_EQ(moved->next.get(), moved + 1);
    EXPECT_EQ(moved->next->value, 9U);
}

TEST(ShmSelfPtr, CheckedFollowsNothingThatLeadsOut) {
    std::vector<std::uint64_t> memory(8);  // on the heap, where ASan sees what lies beyond
    std::span<std::byte const> const chunk = std::as_bytes(std::span{memory});
    auto* const at = new (&memory[2]) self_ptr<std::uint64_t>{};
    auto const put = [&](std::int64_t distance) {
        std::memcpy(static_cast<void*>(at), &distance, sizeof distance);
    };
    EXPECT_EQ(at->checked(chunk), nullptr);
    put(-16);
    EXPECT_EQ(at->checked(chunk), &memory[0]);
    EXPECT_EQ(at->checked(chunk, 8), &memory[0]);
    EXPECT_EQ(at->checked(chunk, 9), nullptr);
    EXPECT_EQ(at->checked(chunk, ~std::uint64_t{0} / 8 + 2), nullptr);
    put(40);
    EXPECT_EQ(at->checked(chunk), &memory[7]);
    EXPECT_EQ(at->checked(chunk, 2), nullptr);
    for (std::int64_t const wrong :
         {std::int64_t{-24}, std::int64_t{48}, std::int64_t{-12}, std::int64_t{4},
          std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max(),
          std::int64_t{1} << 32, std::int64_t{-1} << 32}) {
        put(wrong);
        EXPECT_EQ(at->checked(chunk), nullptr) << wrong;
    }
}

}  // namespace
