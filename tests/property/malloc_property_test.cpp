// malloc_property_test - what holds for every block: size × alignment × every allocating × every
// freeing function.
//
// Always     a block is aligned, as large as asked for, apart from every other live block, and
// keeps
//            its content until it is freed, through realloc too
// Seeds      printed by the tests that draw; TARN_TEST_SEED=N repeats one
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tarn/tarn.h"

#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/shadow_map.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

enum class takes_alignment : bool { no, yes };

struct allocating_function {
    char const* name;
    void* (*call)(std::size_t bytes, std::size_t alignment);
    takes_alignment alignment;
};

void* reallocate_from(std::size_t before, std::size_t after) {
    void* const block = tarn_malloc(before);
    return block == nullptr ? nullptr : tarn_realloc(block, after);
}

constexpr allocating_function allocating_functions[] = {
    {"malloc", [](std::size_t bytes, std::size_t) { return tarn_malloc(bytes); },
     takes_alignment::no},
    {"calloc_one", [](std::size_t bytes, std::size_t) { return tarn_calloc(1, bytes); },
     takes_alignment::no},
    {"calloc_many", [](std::size_t bytes, std::size_t) { return tarn_calloc(bytes, 1); },
     takes_alignment::no},
    {"realloc_null", [](std::size_t bytes, std::size_t) { return tarn_realloc(nullptr, bytes); },
     takes_alignment::no},
    {"reallocarray_null",
     [](std::size_t bytes, std::size_t) { return tarn_reallocarray(nullptr, bytes, 1); },
     takes_alignment::no},
    // realloc(p, 0) is a free: these two ask for at least one byte.
    {"realloc_grown",
     [](std::size_t bytes, std::size_t) {
         return reallocate_from(bytes / 2, bytes == 0 ? 1 : bytes);
     },
     takes_alignment::no},
    {"realloc_shrunk",
     [](std::size_t bytes, std::size_t) {
         return reallocate_from(bytes * 2 + 1, bytes == 0 ? 1 : bytes);
     },
     takes_alignment::no},
    {"aligned_alloc",
     [](std::size_t bytes, std::size_t alignment) { return tarn_aligned_alloc(alignment, bytes); },
     takes_alignment::yes},
    {"posix_memalign",
     [](std::size_t bytes, std::size_t alignment) {
         void* block = nullptr;
         return tarn_posix_memalign(&block, alignment, bytes) == 0 ? block : nullptr;
     },
     takes_alignment::yes},
};

constexpr char const* aligned_alloc_name = "aligned_alloc";

struct freeing_function {
    char const* name;
    void (*call)(void* block, std::size_t bytes, std::size_t alignment);
    bool (*serves)(allocating_function const& from);  // C23 allows sized frees for some alone
};

bool serves_all(allocating_function const& /*from*/) { return true; }

constexpr freeing_function freeing_functions[] = {
    {"free", [](void* block, std::size_t, std::size_t) { tarn_free(block); }, serves_all},
    {"free_sized",
     [](void* block, std::size_t bytes, std::size_t) { tarn_free_sized(block, bytes); },
     [](allocating_function const& from) { return from.alignment == takes_alignment::no; }},
    {"free_aligned_sized",
     [](void* block, std::size_t bytes, std::size_t alignment) {
         tarn_free_aligned_sized(block, alignment, bytes);
     },
     [](allocating_function const& from) {
         return std::string_view{from.name} == aligned_alloc_name;
     }},
    {"realloc_to_0",
     [](void* block, std::size_t, std::size_t) { EXPECT_EQ(tarn_realloc(block, 0), nullptr); },
     serves_all},
    {"reallocarray_to_0",
     [](void* block, std::size_t, std::size_t) {
         EXPECT_EQ(tarn_reallocarray(block, 8, 0), nullptr);
     },
     serves_all},
};

std::uint64_t printed_seed() {
    char const* const given = environment("TARN_TEST_SEED");
    std::uint64_t const seed = given == nullptr ? 20'240'229 : std::strtoull(given, nullptr, 0);
    std::printf("TARN_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
    return seed;
}

/// The alignment that an object of this size may need: the largest power of two that divides it.
std::size_t natural_alignment(std::size_t bytes) {
    if (in_debug_mode() || in_hardened_mode()) {
        return quantum;  // a guard lies before the block, or there must be slack behind it
    }
    std::size_t const divisor = bytes == 0 ? 1 : bytes & (~bytes + 1);
    return std::clamp(divisor, quantum, slice_bytes);
}

bool is_aligned(void const* block, std::size_t alignment) {
    return reinterpret_cast<std::uintptr_t>(block) % alignment == 0;
}

struct live_block {
    void* start;
    std::size_t asked;
    std::size_t usable;
    std::uint64_t seed;
};

/// Checks what must hold for a new block, and fills all that may be used of it.
live_block checked_and_filled(void* start, std::size_t bytes, std::size_t alignment,
                              shadow_map& shadow, std::uint64_t seed) {
    live_block block{start, bytes, tarn_malloc_usable_size(start), seed};
    EXPECT_NE(start, nullptr) << bytes;
    EXPECT_TRUE(is_aligned(start, alignment)) << start << " for " << bytes << ", " << alignment;
    EXPECT_GE(block.usable, bytes);
    EXPECT_TRUE(shadow.insert(start, block.usable)) << "overlap: " << start << ", " << bytes;
    fill(start, block.usable, seed);
    return block;
}

void expect_intact(live_block const& block) {
    EXPECT_EQ(first_wrong(block.start, block.usable, block.seed), intact)
        << "block " << block.start << " of " << block.asked << " bytes";
    EXPECT_EQ(tarn_malloc_usable_size(block.start), block.usable);
}

// --- every allocating × every freeing function ---

struct function_pair {
    allocating_function from;
    freeing_function to;

    friend std::ostream& operator<<(std::ostream& out, function_pair const& pair) {
        return out << pair.from.name << '_' << pair.to.name;  // CTest makes it the name of the test
    }
};

std::vector<function_pair> legal_pairs() {
    std::vector<function_pair> pairs;
    for (allocating_function const& from : allocating_functions) {
        for (freeing_function const& to : freeing_functions) {
            if (to.serves(from)) {
                pairs.push_back({from, to});
            }
        }
    }
    return pairs;
}

class every_pair : public testing::TestWithParam<function_pair> {};

/// Allocates all sizes, so that they are live together, and frees them in another order.
void allocate_and_free_all(function_pair const& functions, std::vector<std::size_t> const& sizes,
                           std::size_t alignment) {
    auto const& [from, to] = functions;
    random_stream random{alignment};
    shadow_map shadow;
    std::vector<live_block> blocks;
    for (std::size_t const bytes : sizes) {
        std::size_t const expected = from.alignment == takes_alignment::yes
                                         ? std::max(alignment, quantum)
                                         : natural_alignment(bytes);
        blocks.push_back(checked_and_filled(from.call(bytes, alignment), bytes, expected, shadow,
                                            random.next()));
        ASSERT_NE(blocks.back().start, nullptr);
    }
    while (!blocks.empty()) {
        std::swap(blocks[random.below(blocks.size())], blocks.back());
        live_block const block = blocks.back();
        blocks.pop_back();
        expect_intact(block);
        EXPECT_TRUE(shadow.erase(block.start));
        to.call(block.start, block.asked, alignment);
    }
}

TEST_P(every_pair, holds_for_every_size_and_alignment) {
    constexpr std::size_t alignment_max = 2 * mib;
    constexpr std::size_t step = is_slow ? 8 : 2;
    std::vector<std::size_t> const sizes = edge_sizes(300 * kib);
    if (GetParam().from.alignment == takes_alignment::no) {
        allocate_and_free_all(GetParam(), sizes, quantum);
        allocate_and_free_all(GetParam(), sizes, quantum);  // once more, from reused pages
        return;
    }
    for (std::size_t alignment = sizeof(void*); alignment <= alignment_max; alignment *= step) {
        allocate_and_free_all(GetParam(), sizes, alignment);
    }
}

INSTANTIATE_TEST_SUITE_P(functions, every_pair, testing::ValuesIn(legal_pairs()));

TEST(blocks, may_be_freed_by_another_thread) {
    for (function_pair const& functions : legal_pairs()) {
        random_stream random{1};
        shadow_map shadow;
        std::vector<live_block> blocks;
        for (std::size_t const bytes : edge_sizes(20 * kib)) {
            blocks.push_back(checked_and_filled(functions.from.call(bytes, 64), bytes, quantum,
                                                shadow, random.next()));
        }
        std::thread{[&] {
            for (live_block const& block : blocks) {
                expect_intact(block);
                functions.to.call(block.start, block.asked, 64);
            }
        }}.join();
    }
}

// --- large blocks ---

TEST(large_blocks, keep_their_content) {
    shadow_map shadow;
    std::vector<live_block> blocks;
    std::size_t const alignment = in_debug_mode() ? quantum : slice_bytes;
    for (std::size_t const bytes : {mib, 25 * mib, under_emulation ? 50 * mib : 300 * mib}) {
        for (std::size_t const near : {bytes - 1, bytes, bytes + 1}) {
            blocks.push_back(checked_and_filled(tarn_malloc(near), near, alignment, shadow, near));
            ASSERT_NE(blocks.back().start, nullptr);
        }
    }
    for (live_block const& block : blocks) {
        expect_intact(block);
        tarn_free(block.start);
    }
}

TEST(large_blocks, of_gigabytes_cost_only_what_is_touched) {
    std::size_t const bytes = under_emulation ? 150 * mib : gib + gib / 2;
    auto* const block = static_cast<unsigned char*>(tarn_malloc(bytes));
    ASSERT_NE(block, nullptr);
    EXPECT_GE(tarn_malloc_usable_size(block), bytes);
    block[0] = 1;
    block[bytes / 2] = 2;
    block[bytes - 1] = 3;
    EXPECT_EQ(block[0] + block[bytes / 2] + block[bytes - 1], 6);
    tarn_free(block);
}

TEST(large_blocks, lose_less_than_a_slice) {
    for (std::size_t const bytes : {small_max + 1, mib - 1, mib, mib + 1, 25 * mib + 12'345}) {
        void* const block = tarn_malloc(bytes);
        ASSERT_NE(block, nullptr);
        EXPECT_LT(tarn_malloc_usable_size(block) - bytes, slice_bytes) << bytes;
        tarn_free(block);
    }
}

// --- alignment ---

TEST(alignment, of_a_gigabyte_is_served) {
    for (std::size_t const alignment : {4 * mib, 64 * mib, under_emulation ? 128 * mib : gib}) {
        for (std::size_t const bytes : {std::size_t{1}, 100 * kib, 5 * mib}) {
            void* const block = tarn_aligned_alloc(alignment, bytes);
            ASSERT_NE(block, nullptr) << alignment << ", " << bytes;
            EXPECT_TRUE(is_aligned(block, alignment));
            fill(block, bytes, alignment);
            EXPECT_EQ(first_wrong(block, bytes, alignment), intact);
            tarn_free_aligned_sized(block, alignment, bytes);
        }
    }
}

TEST(alignment, beyond_the_address_space_is_refused) {
    constexpr std::size_t bits_min = under_emulation ? 49 : 31;  // 1 TiB is 2^40
    constexpr std::size_t bits_max = 63;
    for (std::size_t bits = bits_min; bits <= bits_max; ++bits) {
        std::size_t const alignment = std::size_t{1} << bits;
        errno = 0;
        void* const block = tarn_aligned_alloc(alignment, 1);
        if (block == nullptr) {
            EXPECT_EQ(errno, ENOMEM) << bits;
            continue;
        }
        EXPECT_TRUE(is_aligned(block, alignment)) << bits;
        *static_cast<char*>(block) = 1;
        tarn_free(block);
    }
}

TEST(alignment, loses_nothing_where_the_size_is_a_multiple) {
    constexpr std::size_t multiples = 16;
    for (std::size_t alignment = quantum; alignment <= slice_bytes; alignment *= 2) {
        for (std::size_t count = 1; count <= multiples && count * alignment <= small_max; ++count) {
            void* const block = tarn_aligned_alloc(alignment, count * alignment);
            ASSERT_NE(block, nullptr);
            EXPECT_EQ(tarn_malloc_usable_size(block), count * alignment) << alignment;
            tarn_free(block);
        }
    }
}

TEST(rounding, loses_at_most_an_eighth_above_128_bytes) {
    constexpr std::size_t step = is_slow ? 13 : 1;
    for (std::size_t bytes = 129; bytes <= small_max; bytes += step) {
        void* const block = tarn_malloc(bytes);
        ASSERT_NE(block, nullptr);
        ASSERT_LE((tarn_malloc_usable_size(block) - bytes) * 8, bytes) << bytes;
        tarn_free(block);
    }
}

// --- zeroed memory ---

TEST(calloc, is_zero_where_dirty_memory_is_reused) {
    constexpr std::size_t count = 3;
    for (std::size_t const bytes : edge_sizes(300 * kib)) {
        void* blocks[count];
        for (int round = 0; round < 2; ++round) {
            for (void*& block : blocks) {
                block = tarn_malloc(bytes);
                ASSERT_NE(block, nullptr);
                fill(block, tarn_malloc_usable_size(block), ~std::uint64_t{0});
            }
            for (void* const block : blocks) {
                tarn_free(block);
            }
            for (void*& block : blocks) {
                block = tarn_calloc(bytes, 1);
                ASSERT_NE(block, nullptr);
                EXPECT_EQ(first_nonzero(block, bytes), intact) << bytes;
            }
            for (void* const block : blocks) {
                tarn_free(block);
            }
        }
    }
}

TEST(calloc, is_zero_in_large_blocks_after_dirty_ones) {
    for (std::size_t const bytes : {mib, 3 * mib + 5, 25 * mib}) {
        for (int round = 0; round < 3; ++round) {
            void* const dirty = tarn_malloc(bytes);
            ASSERT_NE(dirty, nullptr);
            fill(dirty, bytes, 7);
            tarn_free(dirty);
            void* const zeroed = tarn_calloc(bytes / 5 + 1, 5);
            ASSERT_NE(zeroed, nullptr);
            EXPECT_EQ(first_nonzero(zeroed, bytes), intact) << bytes;
            tarn_free(zeroed);
        }
    }
}

TEST(calloc, is_zero_where_realloc_left_the_memory) {
    for (std::size_t const bytes : {100 * kib, 200 * kib, mib, 9 * mib}) {
        void* block = tarn_malloc(bytes);
        ASSERT_NE(block, nullptr);
        fill(block, bytes, 9);
        block = tarn_realloc(block, bytes / 3);  // the rest may go back to the system, or may not
        ASSERT_NE(block, nullptr);
        void* const zeroed = tarn_calloc(1, bytes / 2);
        ASSERT_NE(zeroed, nullptr);
        EXPECT_EQ(first_nonzero(zeroed, bytes / 2), intact) << bytes;
        tarn_free(zeroed);
        tarn_free(block);
    }
}

// --- realloc ---

TEST(realloc, keeps_the_content_from_any_size_to_any) {
    std::vector<std::size_t> sizes;
    std::vector<std::size_t> const edges = edge_sizes(300 * kib);
    for (std::size_t i = 1; i < edges.size(); i += is_slow ? 23 : 4) {
        sizes.push_back(edges[i]);
    }
    sizes.insert(sizes.end(), {mib, 5 * mib + 3});
    for (allocating_function const& from : allocating_functions) {
        for (std::size_t const before : sizes) {
            for (std::size_t const after : sizes) {
                void* const block = from.call(before, 4096);
                ASSERT_NE(block, nullptr);
                fill(block, before, before);
                void* const moved = tarn_realloc(block, after);
                ASSERT_NE(moved, nullptr);
                EXPECT_TRUE(is_aligned(moved, quantum));
                EXPECT_GE(tarn_malloc_usable_size(moved), after);
                EXPECT_EQ(first_wrong(moved, before, before, after), intact)
                    << from.name << ' ' << before << " -> " << after;
                fill(moved, after, after);
                EXPECT_EQ(first_wrong(moved, after, after), intact);
                tarn_free_sized(moved, after);
            }
        }
    }
}

TEST(realloc, grows_step_by_step_between_neighbours) {
    constexpr std::size_t block_max = 24 * mib;
    constexpr std::uint64_t seed_of_guard = 1;
    void* block = tarn_malloc(1);
    ASSERT_NE(block, nullptr);
    std::size_t bytes = 1;
    fill(block, bytes, 2);
    std::vector<void*> guards;
    while (bytes < block_max) {
        std::size_t const next = bytes + bytes / 3 + 1;
        guards.push_back(tarn_malloc(next / 4 + 1));
        ASSERT_NE(guards.back(), nullptr);
        fill(guards.back(), 1, seed_of_guard);
        block = tarn_realloc(block, next);
        ASSERT_NE(block, nullptr);
        ASSERT_EQ(first_wrong(block, bytes, 2, bytes), intact) << bytes << " -> " << next;
        bytes = next;
        fill(block, bytes, 2);
        ASSERT_EQ(first_wrong(guards.back(), 1, seed_of_guard), intact);
    }
    while (bytes > 1) {
        std::size_t const next = bytes - bytes / 4 - 1;
        block = tarn_realloc(block, next == 0 ? 1 : next);
        ASSERT_NE(block, nullptr);
        ASSERT_EQ(first_wrong(block, bytes, 2, next), intact) << bytes << " -> " << next;
        bytes = next == 0 ? 1 : next;
        fill(block, bytes, 2);
    }
    tarn_free(block);
    for (void* const guard : guards) {
        tarn_free(guard);
    }
}

TEST(realloc, moves_a_giant_and_keeps_what_was_touched) {
    std::size_t bytes = 100 * mib;
    void* block = tarn_malloc(bytes);
    ASSERT_NE(block, nullptr);
    fill(block, bytes, 5);
    for (std::size_t const next :
         {under_emulation ? 150 * mib : gib, 200 * mib, 300 * mib, 50 * mib, 700 * kib, 40 * mib}) {
        block = tarn_realloc(block, next);
        ASSERT_NE(block, nullptr);
        ASSERT_EQ(first_wrong(block, bytes, 5, next), intact) << bytes << " -> " << next;
        bytes = next;
        fill(block, bytes, 5);
    }
    tarn_free(block);
}

// Runs of 64 MiB and more are entered in the page map by units, smaller ones by slices.
TEST(realloc, changes_in_place_between_sizes_the_page_map_treats_apart) {
    for (std::size_t const step : {30 * mib, 63 * mib, 100 * mib}) {
        std::size_t bytes = step;
        void* block = tarn_malloc(bytes);
        ASSERT_NE(block, nullptr);
        fill(block, bytes, 6);
        for (std::size_t const next : {2 * step, 230 * mib, 190 * mib, 120 * mib, 20 * mib}) {
            block = tarn_realloc(block, next);
            ASSERT_NE(block, nullptr);
            ASSERT_EQ(first_wrong(block, bytes, 6, next), intact) << bytes << " -> " << next;
            bytes = next;
            fill(block, bytes, 6);
        }
        tarn_free(block);
        // Where it was, smaller blocks must be found again.
        std::vector<void*> smaller;
        for (int i = 0; i < 40; ++i) {
            smaller.push_back(tarn_malloc(5 * mib));
            ASSERT_NE(smaller.back(), nullptr);
            ASSERT_GE(tarn_malloc_usable_size(smaller.back()), 5 * mib);
        }
        for (void* const each : smaller) {
            tarn_free(each);
        }
    }
}

TEST(realloc, returns_memory_that_a_shrunk_block_gave_up) {
    constexpr std::size_t blocks = 64;
    void* kept[blocks];
    for (void*& block : kept) {
        block = tarn_malloc(64 * mib);
        ASSERT_NE(block, nullptr);
        fill(block, 64 * mib, 3);
        block = tarn_realloc(block, 2 * mib);
        ASSERT_NE(block, nullptr);
        EXPECT_LT(tarn_malloc_usable_size(block), 8 * mib);
        EXPECT_EQ(first_wrong(block, 64 * mib, 3, 2 * mib), intact);
    }
    for (void* const block : kept) {
        tarn_free(block);
    }
}

// --- random sequences against a model ---

TEST(random_sequence, agrees_with_the_model) {
    random_stream random{printed_seed()};
    constexpr std::size_t slots = 400;

    struct slot {
        live_block block{};
        std::size_t alignment = 0;
        std::size_t function = 0;
    };

    std::vector<slot> live(slots);
    shadow_map shadow;
    for (std::uint64_t step = 0; step < scaled(200'000); ++step) {
        slot& chosen = live[random.below(slots)];
        live_block& block = chosen.block;
        if (block.start == nullptr) {
            std::size_t const bytes = random.size_up_to(random.one_in(64) ? 2 * mib : 32 * kib);
            chosen.alignment = sizeof(void*) << random.below(random.one_in(16) ? 16 : 6);
            chosen.function = random.below(std::size(allocating_functions));
            allocating_function const& from = allocating_functions[chosen.function];
            bool const aligned = from.alignment == takes_alignment::yes;
            block = checked_and_filled(from.call(bytes, chosen.alignment), bytes,
                                       aligned ? std::max(chosen.alignment, quantum) : quantum,
                                       shadow, random.next());
            ASSERT_NE(block.start, nullptr);
            continue;
        }
        expect_intact(block);
        ASSERT_TRUE(shadow.erase(block.start));
        if (random.one_in(3)) {
            std::size_t const bytes = random.size_up_to(64 * kib);
            void* const moved = tarn_realloc(block.start, bytes);
            ASSERT_NE(moved, nullptr);
            ASSERT_EQ(first_wrong(moved, block.usable, block.seed, bytes), intact) << step;
            chosen.function = 0;
            block = checked_and_filled(moved, bytes, quantum, shadow, random.next());
            continue;
        }
        freeing_function const* to = nullptr;
        do {
            to = &freeing_functions[random.below(std::size(freeing_functions))];
        } while (!to->serves(allocating_functions[chosen.function]));
        to->call(block.start, block.asked, chosen.alignment);
        block = {};
        ASSERT_FALSE(HasFailure()) << "at step " << step;
    }
    for (slot const& chosen : live) {
        if (chosen.block.start != nullptr) {
            expect_intact(chosen.block);
        }
        tarn_free(chosen.block.start);
    }
}

}  // namespace
}  // namespace tarn::test
