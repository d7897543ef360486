#include "heap/free_block.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace {

using namespace tarn::impl::heap;

/// Links are sealed in this scope, with keys of its own. Whoever allocates in it must not use the
/// heap's blocks.
class sealed_links {
public:
    explicit sealed_links(std::uint64_t seed) {
        hardening.set_keys(seed * 0x9e37'79b9'7f4a'7c15, seed ^ 0xa5a5'1234'5678'9abc, ~seed,
                           seed << 7 | 3);
        hardening.on.set(true);
    }

    sealed_links(sealed_links const&) = delete;
    sealed_links& operator=(sealed_links const&) = delete;

    ~sealed_links() { hardening.on.set(false); }
};

struct alignas(16) memory {
    std::array<std::uint64_t, 2> words{};
};

block* as_block(memory& of) { return reinterpret_cast<block*>(&of); }

TEST(free_block, plain_links_are_addresses) {
    std::array<memory, 2> at;
    write_link(&at[0], as_block(at[1]));
    EXPECT_EQ(as_block(at[0])->next, as_block(at[1]));
    EXPECT_EQ(read_link(as_block(at[0])), as_block(at[1]));
    EXPECT_TRUE(is_whole(as_block(at[0])));
}

TEST(free_block, sealed_links_are_read_again_and_do_not_look_like_addresses) {
    std::array<memory, 2> at;
    bool found = true;
    bool hidden = true;
    for (std::uint64_t seed = 1; seed < 50; ++seed) {
        sealed_links const scope{seed};
        write_link(&at[0], as_block(at[1]));
        found = found && read_link(as_block(at[0])) == as_block(at[1]) && is_whole(as_block(at[0]));
        hidden = hidden && at[0].words[0] != reinterpret_cast<std::uintptr_t>(&at[1]);
        write_link(&at[0], nullptr);
        found = found && read_link(as_block(at[0])) == nullptr && is_whole(as_block(at[0]));
        hidden = hidden && at[0].words[0] != 0;
    }
    EXPECT_TRUE(found);
    EXPECT_TRUE(hidden);
}

TEST(free_block, every_changed_bit_is_seen) {
    memory at;
    int missed = 0;
    {
        sealed_links const scope{7};
        for (unsigned bit = 0; bit < 128; ++bit) {
            std::uint64_t const flip = std::uint64_t{1} << (bit % 64);
            write_link(&at, nullptr);
            at.words[bit / 64] ^= flip;
            missed += is_whole(as_block(at)) ? 1 : 0;
            seal_alone(&at, mix(&at));
            at.words[bit / 64] ^= flip;
            missed += is_sealed_alone(as_block(at), mix(&at)) ? 1 : 0;
        }
    }
    EXPECT_EQ(missed, 0);
}

TEST(free_block, what_is_copied_from_another_block_is_seen) {
    std::array<memory, 2> at;
    bool link_is_whole = true;
    bool is_alone = true;
    {
        sealed_links const scope{9};
        write_link(&at[0], nullptr);
        at[1] = at[0];
        link_is_whole = is_whole(as_block(at[1])) && read_link(as_block(at[1])) == nullptr;
        seal_alone(&at[0], mix(&at[0]));
        at[1] = at[0];
        is_alone = is_sealed_alone(as_block(at[1]), mix(&at[1]));
    }
    EXPECT_FALSE(link_is_whole);
    EXPECT_FALSE(is_alone);
}

TEST(canary, has_no_zero_byte_and_differs_from_block_to_block) {
    std::array<memory, 64> at;
    int zeros = 0;
    int same = 0;
    {
        sealed_links const scope{11};
        for (std::size_t i = 0; i < at.size(); ++i) {
            std::uint64_t const canary = canary_of(&at[i]);
            for (unsigned byte = 0; byte < 8; ++byte) {
                zeros += (canary >> (8 * byte) & 0xff) == 0 ? 1 : 0;
            }
            same += i != 0 && canary == canary_of(&at[i - 1]) ? 1 : 0;
        }
    }
    EXPECT_EQ(zeros, 0);
    EXPECT_EQ(same, 0);
}

}  // namespace
