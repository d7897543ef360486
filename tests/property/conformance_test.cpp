// conformance_test - the prefixed functions behave as glibc 2.36's do: errno, zero sizes, overflow,
// alignment errors. tests/conformance demands the same of the standard names, and of glibc itself.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <set>

#include "tarn/tarn.h"

#include "support/sizes.hpp"

namespace tarn::test {
namespace {

constexpr std::size_t size_max = std::numeric_limits<std::size_t>::max();
constexpr std::size_t too_large = std::size_t{std::numeric_limits<std::ptrdiff_t>::max()} + 1;
constexpr int marker = 4711;  // no errno has this value

/// Calls allocate(), which must fail with null and ENOMEM.
template <class Allocate>
void expect_no_memory(Allocate allocate) {
    errno = marker;
    EXPECT_EQ(allocate(), nullptr);
    EXPECT_EQ(errno, ENOMEM);
}

TEST(conformance, free_keeps_errno) {
    for (std::size_t const bytes : {std::size_t{1}, 4 * kib, 100 * kib, mib, 40 * mib}) {
        void* const block = tarn_malloc(bytes);
        ASSERT_NE(block, nullptr);
        errno = marker;
        tarn_free(block);
        EXPECT_EQ(errno, marker) << bytes;
    }
    errno = marker;
    tarn_free(nullptr);
    tarn_free_sized(nullptr, 0);
    tarn_free_aligned_sized(nullptr, 64, 0);
    EXPECT_EQ(errno, marker);
}

TEST(conformance, malloc_of_zero_gives_unique_blocks) {
    std::set<void*> blocks;
    for (int i = 0; i < 100; ++i) {
        for (void* const block : {tarn_malloc(0), tarn_calloc(0, 8), tarn_calloc(8, 0),
                                  tarn_calloc(0, size_max), tarn_realloc(nullptr, 0),
                                  tarn_reallocarray(nullptr, 0, 3), tarn_aligned_alloc(64, 0)}) {
            EXPECT_NE(block, nullptr);
            EXPECT_TRUE(blocks.insert(block).second);
        }
    }
    for (void* const block : blocks) {
        tarn_free(block);
    }
}

TEST(conformance, more_than_ptrdiff_max_is_no_memory) {
    for (std::size_t const bytes : {too_large, too_large + 1, size_max - 4096, size_max}) {
        expect_no_memory([=] { return tarn_malloc(bytes); });
        expect_no_memory([=] { return tarn_calloc(1, bytes); });
        expect_no_memory([=] { return tarn_calloc(bytes, 1); });
        expect_no_memory([=] { return tarn_realloc(nullptr, bytes); });
        expect_no_memory([=] { return tarn_reallocarray(nullptr, bytes, 1); });
        for (std::size_t const alignment : {std::size_t{1}, quantum, 4 * kib, gib}) {
            expect_no_memory([=] { return tarn_aligned_alloc(alignment, bytes); });
        }
        void* out = &out;
        errno = marker;
        EXPECT_EQ(tarn_posix_memalign(&out, 64, bytes), ENOMEM);
        EXPECT_EQ(out, &out);
        EXPECT_EQ(errno, marker);
    }
}

TEST(conformance, what_no_machine_has_is_no_memory) {
    // Up to PTRDIFF_MAX the request is legal, but beyond any address space.
    std::size_t const bytes = std::numeric_limits<std::ptrdiff_t>::max();
    expect_no_memory([=] { return tarn_malloc(bytes); });
    expect_no_memory([=] { return tarn_calloc(1, bytes); });
    expect_no_memory([=] { return tarn_malloc(bytes - 64 * kib); });
    expect_no_memory([=] { return tarn_aligned_alloc(4096, bytes); });
    expect_no_memory([=] { return tarn_malloc(std::size_t{1} << 55); });
}

TEST(conformance, overflowing_products_are_no_memory) {
    struct product {
        std::size_t count;
        std::size_t bytes;
    };

    std::size_t const root = std::size_t{1} << 32;
    for (auto const overflowing :
         {product{root, root}, product{root + 1, root}, product{size_max, 2}, product{2, size_max},
          product{size_max, size_max}, product{size_max / 3 + 1, 3}, product{root, root / 2}}) {
        std::size_t const count = overflowing.count;
        std::size_t const bytes = overflowing.bytes;
        expect_no_memory([=] { return tarn_calloc(count, bytes); });
        expect_no_memory([=] { return tarn_reallocarray(nullptr, count, bytes); });
        auto* const block = static_cast<char*>(tarn_malloc(10));
        ASSERT_NE(block, nullptr);
        block[9] = 'x';
        expect_no_memory([=] { return tarn_reallocarray(block, count, bytes); });
        EXPECT_EQ(block[9], 'x');
        tarn_free(block);
    }
}

TEST(conformance, a_failed_realloc_leaves_the_block) {
    for (std::size_t const bytes : {std::size_t{100}, 10 * kib, 2 * mib}) {
        auto* const block = static_cast<char*>(tarn_malloc(bytes));
        ASSERT_NE(block, nullptr);
        block[0] = 'a';
        block[bytes - 1] = 'z';
        expect_no_memory([=] { return tarn_realloc(block, too_large); });
        expect_no_memory([=] { return tarn_realloc(block, too_large - 1); });
        EXPECT_EQ(block[0], 'a');
        EXPECT_EQ(block[bytes - 1], 'z');
        tarn_free(block);
    }
}

TEST(conformance, realloc_to_zero_frees) {
    void* const first = tarn_malloc(200);
    ASSERT_NE(first, nullptr);
    tarn_stats before{};
    before.size = sizeof before;
    ASSERT_EQ(tarn_stats_get(&before), 0);
    EXPECT_EQ(tarn_realloc(first, 0), nullptr);
    tarn_stats after{};
    after.size = sizeof after;
    ASSERT_EQ(tarn_stats_get(&after), 0);
    EXPECT_EQ(after.live_blocks + 1, before.live_blocks);
}

TEST(conformance, posix_memalign_says_what_is_wrong) {
    for (std::size_t const alignment :
         {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{4}, std::size_t{7},
          std::size_t{12}, std::size_t{24}, std::size_t{48}, std::size_t{4095}, size_max}) {
        void* out = &out;
        errno = marker;
        EXPECT_EQ(tarn_posix_memalign(&out, alignment, 8), EINVAL) << alignment;
        EXPECT_EQ(out, &out);
        EXPECT_EQ(errno, marker);
    }
    for (std::size_t alignment = sizeof(void*); alignment <= mib; alignment *= 2) {
        void* out = nullptr;
        errno = marker;
        EXPECT_EQ(tarn_posix_memalign(&out, alignment, 0), 0);
        EXPECT_NE(out, nullptr);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(out) % alignment, 0U);
        EXPECT_EQ(errno, marker);
        tarn_free(out);
    }
}

TEST(conformance, aligned_alloc_rounds_the_alignment_up) {
    struct rounding {
        std::size_t asked;
        std::size_t given;
    };

    for (auto const [asked, given] :
         {rounding{0, 16}, rounding{1, 16}, rounding{3, 16}, rounding{17, 32}, rounding{24, 32},
          rounding{33, 64}, rounding{100, 128}, rounding{4097, 8192}, rounding{70'000, 131'072}}) {
        void* const block = tarn_aligned_alloc(asked, 100);
        ASSERT_NE(block, nullptr) << asked;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % given, 0U) << asked;
        tarn_free(block);
    }
    errno = marker;
    EXPECT_EQ(tarn_aligned_alloc(size_max / 2 + 2, 1), nullptr);  // no power of two is above
    EXPECT_EQ(errno, EINVAL);
}

TEST(conformance, aligned_alloc_takes_any_size) {
    // C11 wanted a multiple of the alignment; C17 and glibc do not.
    for (std::size_t const bytes : {1U, 15U, 100U, 5000U}) {
        void* const block = tarn_aligned_alloc(4096, bytes);
        ASSERT_NE(block, nullptr);
        EXPECT_GE(tarn_malloc_usable_size(block), bytes);
        tarn_free(block);
    }
}

TEST(conformance, success_keeps_errno) {
    errno = marker;
    void* block = tarn_malloc(100);
    block = tarn_realloc(block, 300 * kib);
    tarn_free(block);
    block = tarn_calloc(3, mib);
    tarn_free(block);
    EXPECT_EQ(errno, marker);
}

TEST(conformance, usable_size_of_null_is_zero) { EXPECT_EQ(tarn_malloc_usable_size(nullptr), 0U); }

TEST(conformance, version_is_that_of_the_header) {
    std::string const version = std::to_string(TARN_VERSION_MAJOR) + "." +
                                std::to_string(TARN_VERSION_MINOR) + "." +
                                std::to_string(TARN_VERSION_PATCH);
    EXPECT_EQ(tarn_version(), version);
}

}  // namespace
}  // namespace tarn::test
