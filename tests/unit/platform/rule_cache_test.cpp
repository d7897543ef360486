#include "platform/linux/rule_cache.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "support/build.hpp"

namespace {

using namespace tarn::impl::platform;

constexpr std::uintptr_t code = 0x7f12'3456'7000;

frame_rule step(cfa_base base, std::intptr_t cfa, std::intptr_t ra,
                std::optional<std::intptr_t> fp) {
    frame_rule rule;
    rule.kind = rule_kind::step;
    rule.base = base;
    rule.cfa_offset = cfa;
    rule.ra_offset = ra;
    rule.is_fp_saved = fp.has_value();
    rule.fp_offset = fp.value_or(0);
    return rule;
}

void expect_round_trip(frame_rule const& rule) {
    auto const packed = pack(rule);
    ASSERT_TRUE(packed) << rule.cfa_offset << ' ' << rule.fp_offset;
    frame_rule const back = unpack(*packed);
    EXPECT_EQ(back.kind, rule.kind);
    EXPECT_EQ(back.base, rule.base);
    EXPECT_EQ(back.cfa_offset, rule.cfa_offset);
    EXPECT_EQ(back.is_ra_saved, rule.is_ra_saved);
    EXPECT_EQ(back.is_fp_saved, rule.is_fp_saved);
    if (rule.is_ra_saved && rule.kind == rule_kind::step) {
        EXPECT_EQ(back.ra_offset, rule.ra_offset);
    }
    if (rule.is_fp_saved) {
        EXPECT_EQ(back.fp_offset, rule.fp_offset);
    }
}

TEST(rule_cache, packs_the_usual_rules) {
    for (cfa_base const base : {cfa_base::sp, cfa_base::fp}) {
        for (std::intptr_t cfa = 16; cfa < 16 * 1024; cfa += 16) {
#if defined(__x86_64__)
            expect_round_trip(step(base, cfa + 8, -8, std::nullopt));
            expect_round_trip(step(base, cfa, -8, -16));
            expect_round_trip(step(base, cfa, -8, -56));
#else
            expect_round_trip(step(base, cfa, 8 - cfa, -cfa));      // at the frame's start
            expect_round_trip(step(base, cfa, -8, -16));            // at its end
            expect_round_trip(step(base, cfa, -16, std::nullopt));  // fp unchanged
#endif
        }
    }
    frame_rule rule;
    rule.kind = rule_kind::end;
    expect_round_trip(rule);
    rule.kind = rule_kind::signal;
    expect_round_trip(rule);
}

TEST(rule_cache, refuses_what_it_has_no_bits_for) {
    EXPECT_FALSE(pack({}));  // none
    EXPECT_FALSE(pack(step(cfa_base::sp, 1 << 20, -8, std::nullopt)));
    EXPECT_FALSE(pack(step(cfa_base::sp, -16, -8, std::nullopt)));
    EXPECT_FALSE(pack(step(cfa_base::sp, 20, -8, std::nullopt)));
    EXPECT_FALSE(pack(step(cfa_base::sp, 1024, -512, -520)));
    EXPECT_FALSE(pack(step(cfa_base::sp, 1024, -8, 16)));
    frame_rule rule = step(cfa_base::sp, 16, -8, std::nullopt);
    std::byte const expression{};
    rule.cfa_expression = {&expression, 1};
    EXPECT_FALSE(pack(rule));
#if defined(__x86_64__)
    EXPECT_FALSE(pack(step(cfa_base::sp, 16, -16, std::nullopt)));
    rule = step(cfa_base::sp, 16, -8, std::nullopt);
    rule.is_ra_saved = false;
    EXPECT_FALSE(pack(rule));
#else
    rule = step(cfa_base::sp, 0, 0, std::nullopt);
    rule.is_ra_saved = false;
    expect_round_trip(rule);  // a leaf
#endif
}

packed_rule some_rule(std::size_t n) {
    return *pack(
        step(cfa_base::sp, static_cast<std::intptr_t>(n % 100 * 16 + 16), -8, std::nullopt));
}

TEST(rule_cache, holds_what_it_was_given_and_nothing_else) {
    auto const cache = std::make_unique<rule_cache>();
    EXPECT_FALSE(cache->find(0));
    EXPECT_FALSE(cache->find(code));
    // Few enough for all to have a place, with gaps.
    constexpr std::uintptr_t step_bytes = 12;
    for (std::size_t n = 0; n < 500; ++n) {
        cache->keep(code + n * step_bytes, some_rule(n), static_cast<object_slot>(n % 255));
    }
    for (std::size_t n = 0; n < 500; ++n) {
        auto const kept = cache->find(code + n * step_bytes);
        ASSERT_TRUE(kept);
        ASSERT_EQ(kept->rule.bits, some_rule(n).bits);
        ASSERT_EQ(kept->object, static_cast<object_slot>(n % 255));
        for (std::uintptr_t const other : {4U, 8U}) {
            ASSERT_FALSE(cache->find(code + n * step_bytes + other));
        }
        for (unsigned bit = 2; bit < 64; ++bit) {  // whatever bit differs
            std::uintptr_t const other = (code + n * step_bytes) ^ std::uintptr_t{1} << bit;
            if (other < code || other >= code + 500 * step_bytes) {
                ASSERT_FALSE(cache->find(other)) << bit;
            }
        }
    }
}

TEST(rule_cache, takes_neighbours_apart) {
    auto const cache = std::make_unique<rule_cache>();
#if defined(__x86_64__)
    constexpr std::uintptr_t next = 1;
#else
    constexpr std::uintptr_t next = 4;
#endif
    // Addresses that share a place, again and again, push each other aside.
    constexpr std::uintptr_t apart = std::uintptr_t{1} << 20;
    for (std::uintptr_t n = 0; n < 50; ++n) {
        cache->keep(code + n * apart, some_rule(n), object_slot::permanent);
        EXPECT_TRUE(cache->find(code + n * apart));
        EXPECT_FALSE(cache->find(code + n * apart + next));
        EXPECT_EQ(cache->find(code + n * apart - apart).has_value(), n != 0);
    }
    EXPECT_FALSE(cache->find(code));
    cache->keep(~std::uintptr_t{0}, some_rule(1), object_slot::permanent);  // no code is there
    EXPECT_FALSE(cache->find(~std::uintptr_t{0}));
}

TEST(rule_cache, never_mixes_entries_of_threads) {
    auto const cache = std::make_unique<rule_cache>();
    std::atomic<int> wrong{0};
    std::vector<std::thread> workers;
    for (int worker = 0; worker < 3; ++worker) {
        workers.emplace_back([&] {
            for (std::size_t round = 0; round < tarn::test::scaled(20'000); ++round) {
                std::size_t const n = round % 7;
                std::uintptr_t const pc = code + n * (std::uintptr_t{1} << 20);
                auto const kept = cache->find(pc);
                if (kept && (kept->rule.bits != some_rule(n).bits ||
                             kept->object != static_cast<object_slot>(n))) {
                    wrong.fetch_add(1);
                }
                cache->keep(pc, some_rule(n), static_cast<object_slot>(n));
            }
        });
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
