#include "debug/leak_groups.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include "platform/fake/fake_os.hpp"
#include "platform/os.hpp"
#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;
using heap::family;
using platform::fake_os;
using space::stack_id;

leaked_block block_of(std::uint32_t stack, std::size_t bytes, family by = family::malloc) {
    return {.allocated = stack_id{stack}, .bytes = bytes, .by = by, .owner = heap_number::program};
}

TEST(leak_groups, nothing_of_nothing) {
    leak_groups<platform::os> groups;
    EXPECT_TRUE(groups.sorted().empty());
    EXPECT_EQ(groups.uncounted().blocks, 0U);
}

TEST(leak_groups, by_stack_family_heap_and_reach_most_bytes_first) {
    leak_groups<platform::os> groups;
    groups.add(block_of(1, 16));
    groups.add(block_of(2, 100));
    groups.add(block_of(1, 32));
    groups.add(block_of(1, 0));
    groups.add(block_of(1, 20, family::new_array));
    leaked_block of_mp = block_of(1, 20);
    of_mp.owner = heap_number::mp;
    groups.add(of_mp);
    leaked_block lost = block_of(1, 20);
    lost.reach = reachability::lost;
    groups.add(lost);
    std::span<leak_group const> const found = groups.sorted();
    ASSERT_EQ(found.size(), 5U);
    EXPECT_EQ(found[0].allocated, stack_id{2});
    EXPECT_EQ(found[1].allocated, stack_id{1});
    EXPECT_EQ(found[1].blocks, 3U);
    EXPECT_EQ(found[1].bytes, 48U);
    EXPECT_EQ(found[1].smallest_bytes, 0U);
    EXPECT_EQ(found[1].largest_bytes, 32U);
    EXPECT_EQ(found[2].reach, reachability::lost);
    EXPECT_EQ(found[3].owner, heap_number::mp);
    EXPECT_EQ(found[4].by, family::new_array);
}

TEST(leak_groups, millions_of_blocks_are_counted_once_each) {
    constexpr std::uint64_t seed = 11;
    SCOPED_TRACE(seed);
    tarn::test::random_stream random{seed};
    std::uint64_t const blocks = tarn::test::scaled(2'000'000);
    std::map<std::uint32_t, std::uint64_t> expected;
    std::uint64_t bytes = 0;
    leak_groups<platform::os> groups;
    for (std::uint64_t i = 0; i < blocks; ++i) {
        auto const stack = static_cast<std::uint32_t>(1 + random.below(1 + random.below(20'000)));
        std::size_t const each = random.below(1000);
        ++expected[stack];
        bytes += each;
        groups.add(block_of(stack, each));
    }
    std::span<leak_group const> const found = groups.sorted();
    EXPECT_EQ(found.size(), expected.size());
    EXPECT_EQ(groups.uncounted().blocks, 0U);
    EXPECT_TRUE(std::is_sorted(found.begin(), found.end(),
                               [](auto const& a, auto const& b) { return a.bytes > b.bytes; }));
    for (leak_group const& each : found) {
        EXPECT_EQ(each.blocks, expected[static_cast<std::uint32_t>(each.allocated)]);
        bytes -= each.bytes;
    }
    EXPECT_EQ(bytes, 0U);
}

TEST(leak_groups, without_memory_blocks_are_counted_in_known_groups_or_none) {
    constexpr std::uint32_t stacks = 5000;
    std::size_t const before = fake_os::count().reserved_bytes;
    for (std::uint64_t calls = 0; calls < 10; ++calls) {
        fake_os::reset();
        fake_os::control().fail_after = calls;
        leak_groups<fake_os> groups;
        for (std::uint32_t round = 0; round < 2; ++round) {
            for (std::uint32_t stack = 1; stack <= stacks; ++stack) {
                groups.add(block_of(stack, 8));
            }
        }
        std::uint64_t blocks = groups.uncounted().blocks;
        EXPECT_EQ(groups.uncounted().bytes, 8 * blocks);
        for (leak_group const& each : groups.sorted()) {
            EXPECT_EQ(each.blocks, 2U);
            blocks += each.blocks;
        }
        EXPECT_EQ(blocks, 2 * stacks) << calls;
        EXPECT_EQ(groups.uncounted().blocks != 0, calls < 8) << calls;
    }
    EXPECT_EQ(fake_os::count().reserved_bytes, before);
    fake_os::reset();
}

}  // namespace
