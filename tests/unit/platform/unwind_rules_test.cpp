// The tables of this very program, and what is left of them when they are spoilt.
#include "platform/linux/unwind_rules.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <vector>

#include "base/bits.hpp"
#include "platform/linux/code_objects.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::platform;

std::uintptr_t code_of(auto* function) { return reinterpret_cast<std::uintptr_t>(function); }

TEST(unwind_rules, are_found_for_code_of_each_object) {
    for (std::uintptr_t const pc : {code_of(&std::qsort), code_of(&code_of<void(void)>)}) {
        auto const object = find_object(pc);
        ASSERT_TRUE(object);
        EXPECT_GE(pc, object->tables.start);
        EXPECT_LT(pc, object->tables.end);
        frame_rule const rule = find_rule(object->tables, pc);
        ASSERT_EQ(rule.kind, rule_kind::step);  // at a function's first instruction
        EXPECT_EQ(rule.base, cfa_base::sp);
        EXPECT_FALSE(rule.is_fp_saved);
#if defined(__x86_64__)
        EXPECT_EQ(rule.cfa_offset, 8);
        EXPECT_EQ(rule.ra_offset, -8);
#else
        EXPECT_EQ(rule.cfa_offset, 0);
        EXPECT_FALSE(rule.is_ra_saved);
#endif
    }
    int local = 0;
    EXPECT_FALSE(find_object(base::address_of(&local)));
    EXPECT_FALSE(find_object(0));
    EXPECT_FALSE(find_object(~std::uintptr_t{0}));
}

TEST(unwind_rules, are_none_where_there_is_no_code) {
    auto const object = find_object(code_of(&std::qsort));
    ASSERT_TRUE(object);
    EXPECT_EQ(find_rule(object->tables, object->tables.start).kind, rule_kind::none);
    EXPECT_EQ(find_rule(object->tables, object->tables.end).kind, rule_kind::none);
    EXPECT_EQ(find_rule({}, object->tables.start).kind, rule_kind::none);
    unwind_tables none = object->tables;
    none.header = 0;  // an object without
    EXPECT_EQ(find_rule(none, code_of(&std::qsort)).kind, rule_kind::none);
}

// A copy of the tables, in memory whose ends a sanitizer guards: as they are, and with bytes
// changed. Whatever they say, nothing outside is read.
TEST(unwind_rules, reads_nothing_outside_of_spoilt_tables) {
    auto const object = find_object(code_of(&code_of<void(void)>));
    ASSERT_TRUE(object);
    // .eh_frame_hdr and .eh_frame are next to each other, some 100 KiB here.
    std::uintptr_t const from = object->tables.header;
    std::size_t const bytes =
        std::min<std::size_t>(object->tables.end - from, std::size_t{256} * 1024);
    std::vector<std::byte> const intact(base::pointer_to(from), base::pointer_to(from) + bytes);
    std::vector<std::byte> copy = intact;
    auto const shift = base::address_of(copy.data()) - from;
    unwind_tables const tables{.header = base::address_of(copy.data()),
                               .start = base::address_of(copy.data()),
                               .end = base::address_of(copy.data()) + bytes};
    std::uintptr_t const pc = code_of(&code_of<void(void)>);
    EXPECT_EQ(find_rule(tables, pc + shift).kind, find_rule(object->tables, pc).kind);
    std::uint64_t seed = 777;
    auto const next = [&seed] {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        return seed >> 20;
    };
    std::size_t steps = 0;
    for (std::size_t round = 0; round < 200; ++round) {
        std::size_t const reach = round % 2 == 0 ? 64 : bytes;  // the header is worth more
        for (int i = 0; i < (round % 2 == 0 ? 1 : 2000); ++i) {
            copy[next() % reach] = static_cast<std::byte>(next());
        }
        for (int i = 0; i < 50; ++i) {
            std::uintptr_t const at = pc + shift + next() % 20'000 - 10'000;
            steps += find_rule(tables, at).kind == rule_kind::step ? 1U : 0U;
        }
        if (round % 20 == 19) {
            std::memcpy(copy.data(), intact.data(), bytes);
        }
    }
    EXPECT_GT(steps, 0U);
}

std::optional<std::uintptr_t> value_of(std::initializer_list<int> bytes,
                                       std::optional<std::uintptr_t> initial = std::nullopt) {
    std::vector<std::byte> expression;
    for (int const each : bytes) {
        expression.push_back(static_cast<std::byte>(each));
    }
    auto const read = [](void* window, std::uintptr_t at, std::uintptr_t& value) {
        value = at + 1;
        return window == nullptr && at != 13;
    };
    frame_registers const registers{.pc = 0x100f, .sp = 0x2000, .fp = 0x3000, .lr = 0};
    return evaluate(expression, registers, initial, read, nullptr);
}

TEST(unwind_rules, evaluates_the_expressions_that_linkers_and_compilers_write) {
#if defined(__x86_64__)
    constexpr int fp = 0x76;
    constexpr int sp = 0x77;
    constexpr int pc = 0x80;
    constexpr int other = 0x70;
    // A stub of the procedure linkage table: sp + 8 + ((pc & 15) >= 11) * 8
    EXPECT_EQ(value_of({sp, 8, pc, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}), 0x2010U);
#else
    constexpr int fp = 0x70 + 29;
    constexpr int sp = 0x70 + 31;
    constexpr int other = 0x70;
#endif
    EXPECT_EQ(value_of({fp, 0x78, 0x06}), 0x2ff9U);  // *(fp - 8)
    EXPECT_EQ(value_of({sp, 0x80, 0x01}), 0x2080U);
    EXPECT_EQ(value_of({0x08, 200}), 200U);
    EXPECT_EQ(value_of({0x09, 0xff}), ~std::uintptr_t{0});
    EXPECT_EQ(value_of({0x38, 0x32, 0x1c}), 6U);
    EXPECT_EQ(value_of({0x23, 5}, 10), 15U);
    EXPECT_EQ(value_of({0x31, 0x32, 0x2a}), 0U);
    EXPECT_FALSE(value_of({}));
    EXPECT_FALSE(value_of({0x22}));              // nothing to add
    EXPECT_FALSE(value_of({0x3d, 0x06}));        // can't be read
    EXPECT_FALSE(value_of({other, 0}));          // a register that nobody knows
    EXPECT_FALSE(value_of({0x08}));              // cut off
    EXPECT_FALSE(value_of({0x31, 0x31, 0x1b}));  // a division
    EXPECT_FALSE(value_of({0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31}));  // too many
}

}  // namespace
