#include "heap/remote_word.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "support/build.hpp"
#include "support/fatal_text.hpp"

namespace {

using namespace tarn::impl;
using heap::block;
using heap::hold;
using heap::remote_state;
using heap::remote_word;

struct alignas(16) cell {
    block link;
    std::uint64_t stamp;
};

void push(remote_word& to, block& freed) {
    remote_state seen = to.load();
    while (!to.try_push(seen, &freed)) {  // may fail for no reason on some processors
    }
}

TEST(remote_word, starts_held_and_empty) {
    remote_word const word;
    EXPECT_EQ(word.load().how(), hold::held);
    EXPECT_EQ(word.load().list(), nullptr);
    EXPECT_EQ(word.load().count(), 0U);
}

TEST(remote_word, packs_state_address_and_count_apart) {
    for (hold const how : {hold::held, hold::adrift, hold::binned}) {
        for (std::uint64_t const address :
             {std::uint64_t{0}, std::uint64_t{16}, std::uint64_t{0x0000'7fff'ffff'fff0},
              std::uint64_t{0x0000'ffff'ffff'fff0}}) {
            for (std::uint64_t const count : {0U, 1U, 4096U, 0xffffU}) {
                auto* const list = reinterpret_cast<block*>(base::pointer_to(address));
                remote_state const state = remote_state::of(how, list, count);
                EXPECT_EQ(state.how(), how);
                EXPECT_EQ(state.list(), list);
                EXPECT_EQ(state.count(), count);
            }
        }
    }
}

TEST(remote_word, collects_blocks_and_gives_all_at_once) {
    remote_word word;
    std::array<cell, 3> cells{};
    for (cell& each : cells) {
        push(word, each.link);
    }
    EXPECT_EQ(word.load().count(), 3U);
    remote_state const taken = word.take();
    EXPECT_EQ(taken.how(), hold::held);
    EXPECT_EQ(taken.count(), 3U);
    block const* at = taken.list();
    for (std::size_t i = cells.size(); i-- > 0;) {
        EXPECT_EQ(at, &cells[i].link);
        at = at->next;
    }
    EXPECT_EQ(at, nullptr);
    EXPECT_EQ(word.load().bits, 0U);
}

TEST(remote_word, push_onto_a_word_that_changed_fails_and_shows_the_change) {
    remote_word word;
    std::array<cell, 2> cells{};
    remote_state seen = word.load();
    push(word, cells[0].link);
    EXPECT_FALSE(word.try_push(seen, &cells[1].link));
    EXPECT_EQ(seen.bits, word.load().bits);
    EXPECT_EQ(word.load().list(), &cells[0].link);
}

TEST(remote_word, goes_adrift_only_while_its_list_is_empty) {
    remote_word word;
    cell freed{};
    push(word, freed.link);
    EXPECT_FALSE(word.set_adrift());
    EXPECT_EQ(word.load().how(), hold::held);
    EXPECT_EQ(word.load().list(), &freed.link);
    static_cast<void>(word.take());
    EXPECT_TRUE(word.set_adrift());
    EXPECT_EQ(word.load().how(), hold::adrift);
    EXPECT_FALSE(word.set_adrift());
}

TEST(remote_word, is_claimed_once) {
    remote_word word;
    EXPECT_FALSE(word.try_claim());  // held
    ASSERT_TRUE(word.set_adrift());
    EXPECT_TRUE(word.try_claim());
    EXPECT_EQ(word.load().how(), hold::held);
    EXPECT_FALSE(word.try_claim());
    word.reset(hold::binned);
    EXPECT_FALSE(word.try_claim());
    EXPECT_EQ(word.load().how(), hold::binned);
}

TEST(remote_word, keeps_its_list_into_and_out_of_a_bin) {
    remote_word word;
    std::array<cell, 2> cells{};
    push(word, cells[0].link);
    word.set_binned();
    EXPECT_EQ(word.load().how(), hold::binned);
    EXPECT_EQ(word.load().count(), 1U);
    push(word, cells[1].link);
    EXPECT_EQ(word.load().how(), hold::binned);
    remote_state const taken = word.take();
    EXPECT_EQ(taken.how(), hold::binned);
    EXPECT_EQ(taken.count(), 2U);
    EXPECT_EQ(taken.list(), &cells[1].link);
    EXPECT_EQ(word.load().bits, remote_state::of(hold::held).bits);
}

TEST(remote_word, tells_the_first_free_of_a_large_block_from_later_ones) {
    remote_word word;
    EXPECT_EQ(word.mark_freed().how(), hold::held);
    EXPECT_EQ(word.mark_freed().how(), hold::adrift);
    EXPECT_EQ(word.mark_freed().how(), hold::adrift);
    word.reset(hold::held);
    EXPECT_EQ(word.mark_freed().how(), hold::held);
}

// Every block arrives exactly once, with what its freer wrote.
TEST(remote_word, passes_blocks_from_many_threads_to_the_owner) {
    constexpr std::size_t freers = 3;
    std::size_t const each_frees = tarn::test::scaled(20'000);
    remote_word word;
    std::vector<cell> cells(freers * each_frees);
    std::atomic<std::size_t> running{freers};
    std::vector<std::thread> threads;
    for (std::size_t freer = 0; freer < freers; ++freer) {
        threads.emplace_back([&, freer] {
            for (std::size_t i = 0; i < each_frees; ++i) {
                cell& mine = cells[freer * each_frees + i];
                mine.stamp = freer * each_frees + i + 1;
                push(word, mine.link);
            }
            running.fetch_sub(1);
        });
    }
    std::size_t arrived = 0;
    std::size_t wrong = 0;
    for (bool last = false; !last;) {
        last = running.load() == 0;  // read before the list is taken
        remote_state const taken = word.take();
        std::size_t length = 0;
        for (block* at = taken.list(); at != nullptr; ++length) {
            auto* const got = reinterpret_cast<cell*>(at);
            at = at->next;
            wrong += got->stamp == static_cast<std::size_t>(got - cells.data()) + 1 ? 0 : 1;
            got->stamp = 0;  // arrives again: wrong
        }
        wrong += length == taken.count() ? 0 : 1;
        arrived += length;
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(arrived, cells.size());
    EXPECT_EQ(wrong, 0U);
}

// Threads that find the word adrift race for it; whoever wins writes, then lets it drift again.
TEST(remote_word, has_one_owner_at_a_time) {
    constexpr int contenders = 4;
    std::uint64_t const rounds = tarn::test::scaled(20'000);
    remote_word word;
    ASSERT_TRUE(word.set_adrift());
    std::uint64_t owned = 0;  // not atomic: TSan sees two owners, or a hand-over without order
    std::atomic<std::uint64_t> claims{0};
    std::vector<std::thread> threads;
    threads.reserve(contenders);
    for (int contender = 0; contender < contenders; ++contender) {
        threads.emplace_back([&] {
            for (std::uint64_t round = 0; round < rounds; ++round) {
                if (word.try_claim()) {
                    ++owned;
                    claims.fetch_add(1);
                    if (!word.set_adrift()) {
                        ADD_FAILURE();
                    }
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(owned, claims.load());
    EXPECT_GT(owned, 0U);
}

#if TARN_CHECK_LEVEL >= 1

TEST(remote_word_death, push_onto_an_adrift_word_is_our_bug) {
    tarn::test::show_fatal_text();
    remote_word word;
    cell freed{};
    ASSERT_TRUE(word.set_adrift());
    remote_state seen = word.load();
    EXPECT_DEATH(static_cast<void>(word.try_push(seen, &freed.link)), "adrift");
}

#endif

}  // namespace
