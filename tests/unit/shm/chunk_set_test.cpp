#include "shm/chunk_set.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "shm/layout.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::impl::shm;

using chunks = chunk_set<atomics>;

constexpr client_number first{0};
constexpr client_number second{1};
constexpr client_number last{clients_most - 1};

/// Its words, all hinted.
class chunk_words {
public:
    explicit chunk_words(std::uint32_t count)
        : truths_(count), hints_(chunks::hint_words::words_for(count)), count_{count} {
        chunks::hint_words hints{hints_.data(), count};
        for (std::uint32_t i = 0; i < count; ++i) {
            hints.set(i);
        }
    }

    chunks view() { return {truths_.data(), hints_.data(), count_}; }

    std::vector<chunks::hint_words::word>& hints() { return hints_; }

private:
    std::vector<chunks::truth> truths_;
    std::vector<chunks::hint_words::word> hints_;
    std::uint32_t count_;
};

class chunk_set_of : public testing::TestWithParam<std::uint32_t> {};

TEST_P(chunk_set_of, gives_each_chunk_once) {
    chunk_words words{GetParam()};
    chunks set = words.view();
    std::set<std::uint32_t> seen;
    for (std::uint32_t i = 0; i < GetParam(); ++i) {
        claimed_chunk const claimed = set.allocate(first, i * 7 % GetParam());
        ASSERT_LT(claimed.number, GetParam());
        ASSERT_TRUE(seen.insert(claimed.number).second);
        ASSERT_EQ(claimed.now, generation{1});
    }
    EXPECT_EQ(set.allocate(second, 0).number, claimed_chunk::none);
    for (std::uint32_t const number : seen) {
        ASSERT_EQ(set.release(first, number), let_go::free);
        ASSERT_EQ(set.release(first, number), let_go::was_not_held);
    }
    for (std::uint32_t i = 0; i < GetParam(); ++i) {
        ASSERT_EQ(set.allocate(second, 0).now, generation{2});
    }
}

TEST_P(chunk_set_of, gives_many_at_once) {
    chunk_words words{GetParam()};
    chunks set = words.view();
    std::uint32_t got = 0;
    for (;;) {
        std::uint64_t taken = 0;
        std::uint32_t const from = set.take(last, 0, 5, taken);
        if (taken == 0) {
            break;
        }
        ASSERT_LE(std::popcount(taken), 5);
        for (; taken != 0; taken &= taken - 1) {
            auto const number = from + static_cast<std::uint32_t>(std::countr_zero(taken));
            ASSERT_LT(number, GetParam());
            ASSERT_EQ(holders_of(set.word_of(number)), bit_of(last));
            ++got;
        }
    }
    EXPECT_EQ(got, GetParam());
    EXPECT_EQ(set.recover(last), GetParam());
    for (std::uint32_t i = 0; i < GetParam(); ++i) {
        ASSERT_EQ(holders_of(set.word_of(i)), 0U);
        ASSERT_TRUE(set.has_hint(i));
    }
}

INSTANTIATE_TEST_SUITE_P(counts, chunk_set_of, testing::Values(1U, 63U, 64U, 65U, 1000U));

TEST(chunk_set_test, a_chunk_lives_until_its_last_holder_goes) {
    chunk_words words{1};
    chunks set = words.view();
    claimed_chunk const claimed = set.allocate(first, 0);
    ASSERT_EQ(claimed.number, 0U);
    EXPECT_TRUE(set.hold(second, 0, claimed.now));
    EXPECT_EQ(set.release(first, 0), let_go::held);
    EXPECT_EQ(set.allocate(first, 0).number, claimed_chunk::none);
    EXPECT_TRUE(set.hold(last, 0, claimed.now));
    EXPECT_EQ(set.release(second, 0), let_go::held);
    EXPECT_EQ(set.release(last, 0), let_go::free);
    EXPECT_EQ(set.allocate(first, 0).number, 0U);
}

TEST(chunk_set_test, a_stale_reference_holds_nothing) {
    chunk_words words{1};
    chunks set = words.view();
    generation const old = set.allocate(first, 0).now;
    ASSERT_EQ(set.release(first, 0), let_go::free);
    EXPECT_FALSE(set.hold(second, 0, old));  // nobody has it
    EXPECT_EQ(holders_of(set.word_of(0)), 0U);
    ASSERT_EQ(set.allocate(first, 0).number, 0U);
    EXPECT_FALSE(set.hold(second, 0, old));  // somebody has another one
    EXPECT_EQ(holders_of(set.word_of(0)), bit_of(first));
    EXPECT_FALSE(set.hold(first, 0, old));  // the client itself has it
    EXPECT_EQ(holders_of(set.word_of(0)), bit_of(first));
}

TEST(chunk_set_test, generations_go_round) {
    chunk_words words{1};
    chunks set = words.view();
    for (std::uint32_t i = 1; i <= 0x10001; ++i) {
        claimed_chunk const claimed = set.allocate(first, 0);
        ASSERT_EQ(claimed.number, 0U);
        ASSERT_EQ(claimed.now, static_cast<generation>(i & 0xffff));
        ASSERT_EQ(set.release(first, 0), let_go::free);
    }
}

TEST(chunk_set_test, recovery_mends_what_a_death_left_between_two_steps) {
    chunk_words words{130};
    chunks set = words.view();
    ASSERT_EQ(set.allocate(second, 0).number, 0U);
    for (auto& word : words.hints()) {
        word.store(0, std::memory_order_relaxed);
    }
    EXPECT_EQ(set.allocate(first, 0).number, claimed_chunk::none);
    EXPECT_EQ(set.recover(first), 0U);
    EXPECT_FALSE(set.has_hint(0));
    for (std::uint32_t i = 1; i < 130; ++i) {
        ASSERT_TRUE(set.has_hint(i));
    }
    EXPECT_EQ(set.recover(second), 1U);
    EXPECT_TRUE(set.has_hint(0));
}

TEST(chunk_set_test, hints_beyond_the_end_lead_nowhere) {
    chunk_words words{3};
    chunks set = words.view();
    words.hints()[0].store(~std::uint64_t{0}, std::memory_order_relaxed);
    for (int i = 0; i < 3; ++i) {
        ASSERT_LT(set.allocate(first, 0).number, 3U);
    }
    EXPECT_EQ(set.allocate(first, 0).number, claimed_chunk::none);
}

TEST(chunk_set_test, wrong_hints_of_held_chunks_go) {
    chunk_words words{64};
    chunks set = words.view();
    for (int i = 0; i < 64; ++i) {
        ASSERT_NE(set.allocate(first, 0).number, claimed_chunk::none);
    }
    EXPECT_EQ(set.allocate(second, 0).number, claimed_chunk::none);
    EXPECT_EQ(words.hints()[0].load(std::memory_order_relaxed), 0U);
    ASSERT_EQ(set.release(first, 17), let_go::free);
    EXPECT_EQ(set.allocate(second, 0).number, 17U);
}

/// Clients as threads over the same words. A chunk's payload is plain memory: ThreadSanitizer sees
/// whether one holder's use happens before the next one's.
TEST(chunk_set_test, threads_as_clients_never_share_what_is_one_s_own) {
    constexpr std::uint32_t count = 3;
    constexpr unsigned clients = 4;
    chunk_words words{count};
    std::array<std::uint64_t, count> payload{};
    std::atomic<unsigned> failures{0};
    std::vector<std::thread> threads;
    std::uint64_t const rounds = tarn::test::scaled(50'000);
    for (unsigned client = 0; client < clients; ++client) {
        threads.emplace_back([&, client] {
            auto const me = static_cast<client_number>(client);
            chunks set = words.view();
            for (std::uint64_t i = 0; i < rounds; ++i) {
                claimed_chunk const claimed = set.allocate(me, 0);
                if (claimed.number == claimed_chunk::none) {
                    std::this_thread::yield();
                    continue;
                }
                payload[claimed.number] = i * clients + client;
                bool const is_mine = payload[claimed.number] == i * clients + client;
                failures += is_mine ? 0 : 1;
                failures += set.release(me, claimed.number) == let_go::free ? 0 : 1;
            }
        });
    }
    for (std::thread& each : threads) {
        each.join();
    }
    EXPECT_EQ(failures, 0U);
    chunks set = words.view();
    for (std::uint32_t i = 0; i < count; ++i) {
        EXPECT_EQ(holders_of(set.word_of(i)), 0U);
        EXPECT_TRUE(set.has_hint(i));
    }
}

}  // namespace
