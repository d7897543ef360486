// region_memory_test - where a region has its memory from, what it keeps, and when there is none.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tarn/region.hpp"

#include "pool/region_support.hpp"
#include "pool/scarce_resource.hpp"

namespace {

using tarn::region;
using tarn::test::aligned;
using tarn::test::KiB;
using tarn::test::MiB;
using tarn::test::scarce_resource;

// Kept memory

TEST(region, keeps_memory_after_reset_for_the_next_turn) {
    scarce_resource upstream;
    region r{&upstream};
    for (int turn = 0; turn < 20; ++turn) {
        for (int i = 0; i < 1000; ++i) {
            static_cast<void>(r.allocate(300));
        }
        r.reset();
    }
    EXPECT_LT(upstream.calls, 10U);
    EXPECT_GT(r.statistics().kept_bytes, 0U);
    r.trim();
    EXPECT_EQ(r.statistics().kept_bytes, 0U);
    EXPECT_EQ(upstream.live_blocks, 1U);
}

TEST(region, keeps_no_more_than_its_cap) {
    scarce_resource upstream;
    region r{&upstream, {.kept_bytes_max = 100 * KiB}};
    static_cast<void>(r.allocate(3 * MiB));
    for (int i = 0; i < 3000; ++i) {
        static_cast<void>(r.allocate(300));
    }
    r.reset();
    EXPECT_LE(r.statistics().kept_bytes, 100 * KiB);
    EXPECT_LE(upstream.live_bytes, 104 * KiB);
    region none{&upstream, {.kept_bytes_max = 0}};
    static_cast<void>(none.allocate(3 * MiB));
    none.reset();
    EXPECT_EQ(none.statistics().kept_bytes, 0U);
}

TEST(region, forgets_a_peak_turn_by_turn) {
    scarce_resource upstream;
    region r{&upstream, {.kept_bytes_max = 64 * MiB}};
    static_cast<void>(r.allocate(500 * KiB));
    for (int i = 0; i < 3000; ++i) {
        static_cast<void>(r.allocate(300));
    }
    std::size_t const peak = upstream.live_bytes;
    r.reset();
    EXPECT_EQ(upstream.live_bytes, peak);
    std::size_t high = peak;
    for (int turn = 0; turn < 60; ++turn) {
        static_cast<void>(r.allocate(300));
        r.reset();
        EXPECT_LE(upstream.live_bytes, high);
        high -= high / 8;
        high = high < 5 * KiB ? 5 * KiB : high;
    }
    EXPECT_LE(upstream.live_bytes, 5 * KiB);
}

TEST(region, keeps_what_many_children_at_once_have_needed) {
    scarce_resource upstream;
    region r{&upstream};
    for (int turn = 0; turn < 10; ++turn) {
        std::vector<region> children;
        for (int i = 0; i < 100; ++i) {
            children.push_back(r.make_child());
        }
    }
    EXPECT_LE(upstream.calls, 101U);
}

TEST(region, gives_everything_back) {
    scarce_resource upstream;
    {
        region r{&upstream};
        region child = r.make_child();
        static_cast<void>(child.allocate(5 * MiB));
        static_cast<void>(r.allocate(5 * MiB));
        static_cast<void>(r.allocate(20 * KiB));
        static_cast<void>(child.allocate(20 * KiB));
    }
    EXPECT_EQ(upstream.live_blocks, 0U);
    EXPECT_EQ(upstream.live_bytes, 0U);
}

// Buffers

TEST(region, takes_nothing_but_its_buffer) {
    alignas(16) std::array<std::byte, 16 * KiB> buffer{};
    region r{std::span{buffer}};
    std::size_t blocks = 0;
    while (void* const block = r.try_allocate(100)) {
        EXPECT_GE(block, static_cast<void*>(buffer.data()));
        EXPECT_LE(static_cast<std::byte*>(block) + 100, buffer.data() + buffer.size());
        ++blocks;
    }
    EXPECT_GT(blocks, 100U);
    EXPECT_THROW(static_cast<void>(r.allocate(100)), std::bad_alloc);
    EXPECT_THROW(static_cast<void>(r.make_child()), std::bad_alloc);
    r.reset();
    for (std::size_t i = 0; i < blocks; ++i) {
        static_cast<void>(r.allocate(100));
    }
    EXPECT_EQ(r.try_allocate(100), nullptr);
}

TEST(region, shares_its_buffer_with_children) {
    alignas(16) std::array<std::byte, 64 * KiB> buffer{};
    region r{std::span{buffer}, {.initial_bytes = 2 * KiB}};
    std::size_t fits = 0;
    for (int turn = 0; turn < 3; ++turn) {
        std::vector<region> children;
        try {
            for (;;) {
                children.push_back(r.make_child());
                static_cast<void>(children.back().allocate(3 * KiB));
            }
        } catch (std::bad_alloc const&) {
        }
        EXPECT_GT(children.size(), 8U);
        children.erase(children.begin() + 3);
        children.push_back(r.make_child());  // in the hole
        if (turn == 0) {
            fits = children.size();
        }
        EXPECT_EQ(children.size(), fits);
    }
    static_cast<void>(r.allocate(50 * KiB));  // all children have gone: no hole is left
    EXPECT_EQ(r.try_allocate(20 * KiB), nullptr);
    r.reset();
    region child = r.make_child();
    static_cast<void>(r.mark());
    static_cast<void>(child.allocate(30 * KiB));
    r.reset();
    static_cast<void>(r.allocate(50 * KiB));
}

TEST(region, keeps_what_an_older_child_took_after_a_mark) {
    alignas(16) std::array<std::byte, 64 * KiB> buffer{};
    region r{std::span{buffer}, {.initial_bytes = 1 * KiB}};
    region child = r.make_child();
    tarn::region_mark const mark = r.mark();
    static_cast<void>(r.allocate(5000));
    std::string_view const text = child.copy(std::string(4000, 'x'));
    r.rewind(mark);
    while (void* const block = r.try_allocate(64)) {
        std::memset(block, 'y', 64);
    }
    EXPECT_EQ(text, std::string(4000, 'x'));
    EXPECT_TRUE(child);
}

TEST(region, refuses_a_buffer_that_is_too_small) {
    std::array<std::byte, region::buffer_bytes_min + 1024> buffer{};
    for (std::size_t shift = 0; shift < 17; ++shift) {
        region r{std::span{buffer}.subspan(shift, region::buffer_bytes_min)};
        EXPECT_NE(r.try_allocate(64), nullptr);
    }
    EXPECT_THROW(region{std::span{buffer}.first(500)}, std::invalid_argument);
    EXPECT_THROW(region{std::span<std::byte>{}}, std::invalid_argument);
    EXPECT_THROW((region{std::span<std::byte>{}, tarn::malloc_resource()}), std::invalid_argument);
    EXPECT_THROW((region{std::span{buffer}, {.reserve_bytes = 4096}}), std::invalid_argument);
    EXPECT_THROW(region{static_cast<std::pmr::memory_resource*>(nullptr)}, std::invalid_argument);
    EXPECT_THROW((region{std::span{buffer}, nullptr}), std::invalid_argument);
}

TEST(region, goes_on_upstream_when_its_buffer_is_full) {
    scarce_resource upstream;
    alignas(16) std::array<std::byte, 4 * KiB> buffer{};
    {
        region r{std::span{buffer}, &upstream};
        static_cast<void>(r.allocate(1000));
        EXPECT_EQ(upstream.calls, 0U);
        region child = r.make_child({.initial_bytes = 1 * KiB});
        EXPECT_EQ(upstream.calls, 0U);
        for (int i = 0; i < 100; ++i) {
            static_cast<void>(r.allocate(1000));
            static_cast<void>(child.allocate(1000));
        }
        EXPECT_GT(upstream.live_bytes, 200'000U);
        r.reset();
        EXPECT_EQ(r.statistics().chunks, 1U);
    }
    EXPECT_EQ(upstream.live_blocks, 0U);
}

// Out of memory

TEST(region, has_a_reserve_for_error_text) {
    scarce_resource upstream;
    region r{&upstream, {.initial_bytes = 1 * KiB, .reserve_bytes = 64, .name = "r"}};
    EXPECT_EQ(r.error_text("%s", "while there is memory"), "while there is memory");
    upstream.fail_at = upstream.calls;
    while (r.try_allocate(8) != nullptr) {
    }
    while (r.try_allocate(1, 1) != nullptr) {
    }
    std::string_view const text = r.error_text("no memory for %d bytes", 8);
    EXPECT_EQ(text, "no memory for 8 bytes");
    EXPECT_EQ(text.data()[text.size()], '\0');
    EXPECT_TRUE(r.owns(text.data()));
    void* const block = r.allocate_from_reserve(8, 8);
    ASSERT_NE(block, nullptr);
    EXPECT_TRUE(aligned(block, 8));
    std::string_view const cut = r.error_text("%s", std::string(100, 'x').c_str());
    EXPECT_GT(cut.size(), 20U);
    EXPECT_LT(cut.size(), 64U);
    EXPECT_EQ(cut.data()[cut.size()], '\0');
    EXPECT_EQ(r.error_text("more"), "");
    EXPECT_EQ(r.allocate_from_reserve(1), nullptr);
    EXPECT_EQ(text, "no memory for 8 bytes");
    r.reset();
    EXPECT_NE(r.allocate_from_reserve(64), nullptr);
    EXPECT_EQ(r.allocate_from_reserve(1), nullptr);
    EXPECT_THROW(region{tarn::region_options{.reserve_bytes = SIZE_MAX}}, std::bad_alloc);
    EXPECT_THROW(region{tarn::region_options{.initial_bytes = SIZE_MAX}}, std::bad_alloc);
    EXPECT_THROW(static_cast<void>(r.make_child({.reserve_bytes = SIZE_MAX})), std::bad_alloc);
}

TEST(region, uses_smaller_and_kept_chunks_before_it_fails) {
    scarce_resource upstream;
    upstream.bytes_most = 64 * KiB;
    region r{&upstream};
    std::size_t blocks = 0;
    while (r.try_allocate(1000) != nullptr) {
        ++blocks;
    }
    EXPECT_GT(blocks, 55U);
    r.reset();
    EXPECT_GT(r.statistics().kept_bytes, 30 * KiB);
    EXPECT_NE(r.try_allocate(50 * KiB), nullptr);  // what is kept goes back first
}

/// Everything that asks for memory. What it makes is counted up in `made`, and down as it goes.
void scenario(scarce_resource& upstream, int& made) {
    region r{&upstream, {.initial_bytes = 1 * KiB, .chunk_bytes_max = 8 * KiB}};
    auto const open = [&made](region& in) {
        ++made;
        in.on_release([&made, filler = std::array<char, 300>{}] { made -= 1 + filler[0]; });
    };
    for (int i = 0; i < 20; ++i) {
        open(r);
        static_cast<void>(r.make_array<std::string>(20));
    }
    tarn::region_mark const mark = r.mark();
    region child = r.make_child();
    for (int i = 0; i < 20; ++i) {
        open(child);
        static_cast<void>(r.make<std::string>(200U, 'x'));
        static_cast<void>(child.copy(std::string(500, 'x')));
        static_cast<void>(child.format("%0500d", 1));
    }
    static_cast<void>(child.allocate(100 * KiB));
    r.rewind(mark);
    region other = r.make_child();
    open(other);
    {
        std::pmr::vector<int> numbers{other.resource()};
        numbers.resize(10'000);
    }
    static_cast<void>(r.allocate(100, 4096));
    r.reset();
    open(r);
}

TEST(region, survives_a_failure_of_any_allocation_upstream) {
    for (bool const recovers : {true, false}) {
        std::size_t failures = 0;
        for (bool failed = true; failed; ++failures) {
            scarce_resource upstream;
            upstream.fail_at = failures;
            upstream.fail_until = recovers ? failures + 1 : scarce_resource::never;
            failed = false;
            int made = 0;
            try {
                scenario(upstream, made);
            } catch (std::bad_alloc const&) {
                failed = true;
            }
            failed = failed || upstream.calls > failures;
            ASSERT_EQ(made, 0) << failures;
            ASSERT_EQ(upstream.live_blocks, 0U) << failures;
        }
        EXPECT_GT(failures, 10U);
    }
}

}  // namespace
