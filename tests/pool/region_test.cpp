// region_test - what a region gives: blocks, objects, strings; as a resource; under tools.
#include "tarn/region.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pool/region_support.hpp"
#include "pool/resource_suite.hpp"
#include "pool/scarce_resource.hpp"
#include "support/build.hpp"

namespace {

using tarn::region;
using tarn::test::aligned;
using tarn::test::KiB;
using tarn::test::opaque;
using tarn::test::scarce_resource;
using tarn::test::witness;

// Blocks

TEST(region, gives_blocks_that_are_aligned_and_apart) {
    region r;
    std::byte* last_end = nullptr;
    for (std::size_t alignment = 1; alignment <= 8 * KiB; alignment *= 2) {
        for (std::size_t const bytes : {1U, 7U, 16U, 100U, 3000U}) {
            auto* const block = static_cast<std::byte*>(r.allocate(bytes, alignment));
            ASSERT_TRUE(aligned(block, alignment));
            ASSERT_TRUE(block + bytes <= last_end || block >= last_end || last_end == nullptr);
            std::memset(block, 0xa5, bytes);
            last_end = block + bytes;
        }
    }
}

TEST(region, gives_a_block_of_no_bytes_an_address_of_its_own) {
    region r;
    void* const first = r.allocate(0);
    void* const second = r.allocate(0, 1);
    void* const third = r.allocate(1, 1);
    EXPECT_NE(first, nullptr);
    EXPECT_NE(first, second);
    EXPECT_NE(second, third);
}

TEST(region, refuses_alignments_that_are_no_powers_of_two) {
    region r;
    for (std::size_t const alignment : {0U, 3U, 12U, 17U, 48U}) {
        EXPECT_THROW(static_cast<void>(r.allocate(8, opaque(alignment))), std::invalid_argument);
        EXPECT_EQ(r.try_allocate(8, opaque(alignment)), nullptr);
        EXPECT_EQ(r.allocate_from_reserve(8, opaque(alignment)), nullptr);
    }
}

TEST(region, is_out_of_memory_for_sizes_that_overflow) {
    region r;
    for (std::size_t const alignment : {std::size_t{1}, std::size_t{16}, std::size_t{64}}) {
        for (std::size_t const bytes : {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2, SIZE_MAX / 8 + 1}) {
            EXPECT_THROW(static_cast<void>(r.allocate(opaque(bytes), alignment)), std::bad_alloc);
            EXPECT_EQ(r.try_allocate(opaque(bytes), alignment), nullptr);
        }
    }
    EXPECT_EQ(r.try_allocate(8, opaque(SIZE_MAX / 2 + 1)), nullptr);
    EXPECT_EQ(r.statistics().chunks, 1U);
}

TEST(region, doubles_its_chunks_up_to_the_largest) {
    scarce_resource upstream;
    region r{&upstream, {.initial_bytes = 1 * KiB, .chunk_bytes_max = 64 * KiB}};
    for (int i = 0; i < 10'000; ++i) {
        static_cast<void>(r.allocate(100));
    }
    EXPECT_LT(upstream.calls, 10U + 1'200'000U / (64 * KiB) + 10U);
    EXPECT_LT(upstream.live_bytes, 1'700'000U);  // watched memory has red zones
}

TEST(region, gives_a_large_request_a_chunk_of_its_own) {
    scarce_resource upstream;
    region r{&upstream, {.initial_bytes = 4 * KiB, .chunk_bytes_max = 64 * KiB}};
    auto* const before = static_cast<std::byte*>(r.allocate(16));
    void* const large = r.allocate(300 * KiB, 4096);
    auto* const after = static_cast<std::byte*>(r.allocate(16));
    EXPECT_TRUE(aligned(large, 4096));
    std::memset(large, 1, 300 * KiB);
    EXPECT_LT(after - before, 100);  // the chunk before it was not left
    EXPECT_EQ(r.statistics().chunks, 2U);
    EXPECT_GE(r.statistics().used_bytes, 300 * KiB);
    EXPECT_LT(upstream.live_bytes, 310 * KiB);
}

TEST(region, owns_its_blocks_alone) {
    region r{{.initial_bytes = 1 * KiB, .chunk_bytes_max = 8 * KiB, .reserve_bytes = 64}};
    region child = r.make_child();
    std::vector<std::byte const*> blocks;
    blocks.reserve(102);
    for (int i = 0; i < 100; ++i) {
        blocks.push_back(static_cast<std::byte*>(r.allocate(500)));
    }
    blocks.push_back(static_cast<std::byte*>(r.allocate(500 * KiB)) + 499 * KiB - 499);
    blocks.push_back(static_cast<std::byte*>(r.allocate_from_reserve(64)) - 436);
    for (std::byte const* block : blocks) {
        EXPECT_TRUE(r.owns(block + 499));
        EXPECT_FALSE(child.owns(block + 499));
    }
    int local = 0;
    EXPECT_FALSE(r.owns(&local));
    EXPECT_FALSE(r.owns(nullptr));
    EXPECT_FALSE(r.owns(child.allocate(1)));
    r.reset();
    EXPECT_FALSE(r.owns(blocks[0]));
}

// Objects

TEST(region, registers_nothing_for_objects_without_destructors) {
    region r;
    auto* const number = r.make<int>(7);
    auto* const pair = r.make<std::pair<int, char const*>>(1, "x");
    EXPECT_EQ(*number, 7);
    EXPECT_EQ(pair->first, 1);
    EXPECT_EQ(r.statistics().cleanups, 0U);
    if (!tarn::detail::memory_is_watched()) {
        EXPECT_LE(r.statistics().used_bytes, 24U);
    }
}

TEST(region, destroys_objects_the_last_made_first) {
    std::string log;
    {
        region r;
        static_cast<void>(r.make<witness>(log, "a"));
        static_cast<void>(r.make<witness>(log, "b"));
        r.on_release([&] { log += 'c'; });
        auto* const last = r.try_make<witness>(log, "d");
        ASSERT_NE(last, nullptr);
        EXPECT_EQ(r.statistics().cleanups, 4U);
        EXPECT_EQ(log, "");
    }
    EXPECT_EQ(log, "dcba");
}

TEST(region, makes_aggregates_and_overaligned_objects) {
    struct point {
        int x;
        int y;
    };

    struct alignas(256) wide {
        explicit wide(int its_value) : value{its_value} {}

        wide(wide const&) = delete;
        wide& operator=(wide const&) = delete;

        ~wide() { value = 0; }

        int value;
    };

    region r;
    EXPECT_EQ((r.make<point>(3, 4)->y), 4);
    for (int i = 0; i < 20; ++i) {
        wide const* const made = r.make<wide>(i);
        EXPECT_TRUE(aligned(made, 256));
        EXPECT_EQ(made->value, i);
    }
}

TEST(region, leaves_no_destructor_where_a_constructor_throws) {
    struct unlucky {
        explicit unlucky(std::string& to) : inner{to, "i"} { throw std::runtime_error{"no"}; }

        unlucky(unlucky const&) = delete;
        unlucky& operator=(unlucky const&) = delete;

        ~unlucky() { *inner.log += "wrong"; }

        witness inner;
    };

    std::string log;
    region r;
    EXPECT_THROW(static_cast<void>(r.make<unlucky>(log)), std::runtime_error);
    EXPECT_THROW(static_cast<void>(r.try_make<unlucky>(log)), std::runtime_error);
    EXPECT_EQ(r.statistics().cleanups, 0U);
    r.reset();
    EXPECT_EQ(log, "ii");
}

TEST(region, makes_arrays) {
    region r;
    std::span<int> const zeros = r.make_array<int>(1000);
    EXPECT_EQ(zeros.size(), 1000U);
    EXPECT_EQ(std::count(zeros.begin(), zeros.end(), 0), 1000);
    EXPECT_EQ(r.make_array_for_overwrite<double>(10).size(), 10U);
    std::span<std::string> const strings = r.make_array<std::string>(50);
    strings[49] = std::string(100, 'x');
    EXPECT_EQ(r.statistics().cleanups, 1U);
    EXPECT_TRUE(r.make_array<int>(0).empty());
    EXPECT_TRUE(r.make_array<std::string>(0).empty());
    EXPECT_EQ(r.statistics().cleanups, 1U);
}

TEST(region, refuses_arrays_whose_bytes_overflow) {
    region r;
    EXPECT_THROW(static_cast<void>(r.make_array<int>(opaque(SIZE_MAX))), std::bad_array_new_length);
    EXPECT_THROW(static_cast<void>(r.make_array<int>(opaque(SIZE_MAX / 4 + 2))),
                 std::bad_array_new_length);
    EXPECT_THROW(static_cast<void>(r.make_array<std::string>(opaque(SIZE_MAX / 16))),
                 std::bad_array_new_length);
    EXPECT_THROW(static_cast<void>(r.make_array_for_overwrite<char>(opaque(SIZE_MAX))),
                 std::bad_array_new_length);
}

struct counted {
    counted() {
        if (++live == fail_at) {
            --live;
            throw std::runtime_error{"no"};
        }
    }

    counted(counted const&) = delete;
    counted& operator=(counted const&) = delete;

    ~counted() { --live; }

    static inline int live = 0;
    static inline int fail_at = -1;
    alignas(64) int value = 0;
};

TEST(region, undoes_an_array_whose_constructor_throws) {
    region r;
    counted::fail_at = 5;
    EXPECT_THROW(static_cast<void>(r.make_array<counted>(10)), std::runtime_error);
    EXPECT_EQ(counted::live, 0);
    counted::fail_at = -1;
    EXPECT_TRUE(aligned(r.make_array<counted>(10).data(), 64));
    EXPECT_EQ(counted::live, 10);
    r.reset();
    EXPECT_EQ(counted::live, 0);
}

// Strings

TEST(region, makes_strings_that_end_in_a_zero) {
    region r;
    std::string_view const copied = r.copy("hello");
    EXPECT_EQ(copied, "hello");
    EXPECT_EQ(copied.data()[5], '\0');
    EXPECT_EQ(r.copy(""), "");
    EXPECT_EQ(r.copy({}).data()[0], '\0');
    std::string_view const joined = r.concat("GET ", std::string{"/index"}, copied);
    EXPECT_EQ(joined, "GET /indexhello");
    EXPECT_EQ(joined.data()[joined.size()], '\0');
    EXPECT_EQ(r.concat(), "");
    EXPECT_EQ(r.copy(std::string_view{"a\0b", 3}).size(), 3U);
}

TEST(region, formats_text_of_any_length) {
    region r;
    EXPECT_EQ(r.format("%d-%s", 42, "x"), "42-x");
    for (std::size_t const length : {0U, 254U, 255U, 256U, 257U, 100'000U}) {
        std::string const wanted(length, 'y');
        std::string_view const made = r.format("%s%s", wanted.c_str(), "z");
        EXPECT_EQ(made, wanted + 'z');
        EXPECT_EQ(made.data()[made.size()], '\0');
    }
}

// As a resource

TEST(region_resource, passes_the_suite) {
    region r;
    std::pmr::memory_resource& resource = *r.resource();
    tarn::test::expect_blocks(resource, 300 * KiB);
    tarn::test::expect_edges(resource);
    tarn::test::expect_containers(resource);
}

TEST(region_resource, gives_back_the_last_block_alone) {
    region r;
    std::pmr::memory_resource& resource = *r.resource();
    void* const first = resource.allocate(100);
    void* const second = resource.allocate(100);
    std::size_t const used = r.statistics().used_bytes;
    resource.deallocate(first, 100);
    EXPECT_EQ(r.statistics().used_bytes, used);
    resource.deallocate(second, 100);
    EXPECT_LT(r.statistics().used_bytes, used);
    EXPECT_EQ(r.statistics().peak_used_bytes, used);
    EXPECT_EQ(resource.allocate(100), second);
    region other;
    EXPECT_FALSE(resource.is_equal(*other.resource()));
}

// Tools that watch memory

TEST(region_death, touches_what_is_gone) {
    if (!tarn::test::under_asan) {
        GTEST_SKIP() << "needs AddressSanitizer";
    }
    region r;
    auto* const kept = static_cast<char volatile*>(r.allocate(24));
    tarn::region_mark const mark = r.mark();
    auto* const gone = static_cast<char volatile*>(r.allocate(24));
    auto* const large = static_cast<char volatile*>(r.allocate(300 * KiB));
    kept[23] = 1;
    gone[23] = 1;
    large[0] = 1;
    EXPECT_DEATH(kept[24] = 1, "use-after-poison");
    EXPECT_DEATH(gone[-1] = 1, "use-after-poison");
    r.rewind(mark);
    EXPECT_DEATH(gone[0] = 1, "use-after-poison");
    EXPECT_DEATH(large[0] = 1, "use-after-poison");
    r.reset();
    EXPECT_DEATH(kept[0] = 1, "use-after-poison");
}

}  // namespace
