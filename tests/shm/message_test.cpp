#include "tarn/shm/message.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "shm/shm_support.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::test;
using tarn::shm::message_builder;
using tarn::shm::message_view;
using tarn::shm::pool_manager;
using tarn::shm::segment;
using tarn::shm::self_ptr;
using tarn::shm::shm_string;
using tarn::shm::shm_vector;

struct item {
    shm_string name;
    std::uint64_t count = 0;
};

struct order {
    std::uint64_t number = 0;
    shm_string customer;
    shm_vector<item> items;
    shm_vector<std::uint32_t> codes;
    self_ptr<item> best;
};

/// What the message says, followed as a receiver must; empty where something leads out.
std::string read(std::span<std::byte const> chunk) {
    message_view const message{chunk};
    auto const* const root = message.root<order>();
    if (root == nullptr) {
        return {};
    }
    auto const customer = message.get(root->customer);
    auto const items = message.get(root->items);
    auto const codes = message.get(root->codes);
    if (!customer || !items || !codes) {
        return {};
    }
    std::string text{*customer};
    for (item const& each : *items) {
        auto const name = message.get(each.name);
        if (!name) {
            return {};
        }
        text += ' ' + std::string{*name} + '*' + std::to_string(each.count);
    }
    std::uint32_t sum = 0;
    for (std::uint32_t const code : *codes) {
        sum += code;
    }
    item const* const best = message.get(root->best);
    return text + " = " + std::to_string(sum) +
           (best == nullptr ? "" : ", best " + std::to_string(best->count));
}

bool write(message_builder& to) {
    auto* const root = to.make<order>();
    if (root == nullptr || !to.assign(root->customer, "Ada") || !to.resize(root->items, 2)) {
        return false;
    }
    std::span<item> const items = root->items.elements();
    items[0].count = 3;
    items[1].count = 4;
    root->best = &items[1];
    for (std::uint32_t i = 1; i <= 10; ++i) {
        if (!to.push_back(root->codes, i)) {
            return false;
        }
    }
    return to.assign(items[0].name, "tea") && to.assign(items[1].name, "milk");
}

constexpr char const* expected = "Ada tea*3 milk*4 = 55, best 4";

TEST(ShmMessage, IsReadByAnotherProcessWhereItLies) {
    segment const mine = small_segment(1000, 1);
    auto chunk = pool_manager{mine}.allocate(1000).value();
    message_builder building{chunk.bytes()};
    ASSERT_TRUE(write(building));
    ASSERT_TRUE(chunk.resize(building.used_bytes()));
    auto const sent = std::move(chunk).share().value();
    EXPECT_EQ(read(sent.bytes()), expected);
    segment const again = segment::attach_descriptor(mine.descriptor()).value();
    EXPECT_EQ(read(pool_manager{again}.hold(sent.reference())->bytes()), expected);
    EXPECT_EQ(ending(run_in_child(60,
                                  [&] {
                                      auto const own =
                                          segment::attach_descriptor(mine.descriptor());
                                      auto const got = pool_manager{*own}.hold(sent.reference());
                                      return got && read(got->bytes()) == expected ? 0 : 1;
                                  })),
              0);
}

TEST(ShmMessage, NoRoomIsSaidAtEverySize) {
    alignas(64) std::array<std::byte, 1000> memory{};
    message_builder whole{memory};
    ASSERT_TRUE(write(whole));
    for (std::size_t bytes = 0; bytes < whole.used_bytes(); ++bytes) {
        auto const exact = std::make_unique<std::byte[]>(bytes);  // ASan sees a write beyond
        message_builder small{{exact.get(), bytes}};
        ASSERT_FALSE(write(small)) << bytes;
        ASSERT_LE(small.used_bytes(), bytes);
    }
    message_builder none{{}};
    EXPECT_EQ(none.make<char>(), nullptr);
    EXPECT_TRUE(none.make_array<int>(1).empty());
    EXPECT_TRUE(whole.make_array<std::uint64_t>(~std::size_t{0} / 8 + 2).empty());
}

TEST(ShmMessage, AssignmentWithoutRoomLeavesWhatWas) {
    alignas(64) std::array<std::byte, 64> memory{};
    message_builder building{memory};
    auto* const text = building.make<shm_string>();
    ASSERT_TRUE(building.assign(*text, "short"));
    EXPECT_FALSE(building.assign(*text, std::string(100, 'x')));
    EXPECT_EQ(text->view(), "short");
    EXPECT_TRUE(building.assign(*text, ""));
    EXPECT_EQ(text->view(), "");
    EXPECT_EQ(message_view{memory}.get(*text), "");
}

TEST(ShmMessage, PushingBackMovesElementsThatPoint) {
    std::vector<std::uint64_t> memory(200);
    std::span<std::byte> const chunk = std::as_writable_bytes(std::span{memory});
    message_builder building{chunk};
    auto* const items = building.make<shm_vector<item>>();
    for (std::size_t i = 0; i < 9; ++i) {
        ASSERT_TRUE(building.push_back(*items));
        ASSERT_TRUE(building.assign(items->elements().back().name, std::to_string(i)));
    }
    auto const read = items->checked(chunk);
    ASSERT_TRUE(read);
    for (std::size_t i = 0; i < 9; ++i) {
        EXPECT_EQ((*read)[i].name.checked(chunk), std::to_string(i));
    }
}

TEST(ShmMessage, SpoiltMessagesLeadNowhere) {
    std::uint32_t const seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random{seed};
    alignas(64) std::array<std::byte, 1000> memory{};
    message_builder building{memory};
    ASSERT_TRUE(write(building));
    std::size_t const bytes = building.used_bytes();
    int refused = 0;
    for (std::uint64_t i = scaled(20'000); i > 0; --i) {
        auto spoilt = memory;
        for (std::uint64_t words = random() % 3 + 1; words > 0; --words) {
            std::uint64_t const values[] = {random(), random() % 2048, ~(random() % 2048),
                                            std::uint64_t{1} << random() % 64, ~std::uint64_t{0}};
            std::uint64_t const value = values[random() % std::size(values)];
            std::memcpy(&spoilt[static_cast<std::size_t>(random() % (bytes / 8) * 8)], &value,
                        sizeof value);
        }
        // In memory of its own length, so that ASan sees a read beyond.
        auto const length = static_cast<std::size_t>(random() % 4 == 0 ? random() % bytes : bytes);
        auto const copy = std::make_unique<std::byte[]>(length);
        std::memcpy(copy.get(), spoilt.data(), length);
        refused += read({copy.get(), length}).empty() ? 1 : 0;
    }
    EXPECT_GT(refused, 100);
    EXPECT_EQ(read({memory.data(), bytes}), expected);
}

TEST(ShmMessage, ARootThatDoesNotFitIsNull) {
    alignas(8) std::array<std::byte, 16> memory{};
    EXPECT_NE(message_view{memory}.root<std::uint64_t>(), nullptr);
    EXPECT_EQ(message_view{std::span{memory}.subspan(4)}.root<std::uint64_t>(), nullptr);
    EXPECT_EQ(message_view{std::span{memory}.first(7)}.root<std::uint64_t>(), nullptr);
    EXPECT_EQ(message_view{{}}.root<char>(), nullptr);
}

}  // namespace
