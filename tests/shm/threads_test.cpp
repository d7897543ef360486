// threads_test - threads of one client, which share its bit in each chunk's word; and threads that
// stand for clients of one pool, some of which die.
//
// Replay     TARN_SEED=n gives every thread the same operations again
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "shm/chunk_set.hpp"
#include "shm/test_segment.hpp"
#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace {

using tarn::test::attach_segment;
using tarn::test::create_segment;
using tarn::test::pool_of;
using tarn::test::random_stream;
using tarn::test::scaled;
using tarn::test::shm_client;
using tarn::test::what_is_wrong;

constexpr unsigned threads = 4;
constexpr std::uint64_t payload_bytes = 100;

std::uint64_t seed_of_this_run() {
    char const* const given = tarn::test::environment("TARN_SEED");
    return given == nullptr ? std::random_device{}() : std::strtoull(given, nullptr, 0);
}

/// References that one thread tells the others: of chunks that it holds, or held.
struct notice_board {
    std::array<std::atomic<std::uint64_t>, 16> references{};
    std::atomic<std::uint64_t> wrong{0};
    std::atomic<std::uint64_t> held{0};
    std::atomic<std::uint64_t> stale{0};
};

void write(tarn_shm_chunk const& chunk) {
    tarn::test::fill(chunk.payload, payload_bytes, chunk.reference);
}

bool is_intact(tarn_shm_chunk const& chunk) {
    return tarn::test::first_wrong(chunk.payload, payload_bytes, chunk.reference) ==
           tarn::test::intact;
}

class working_thread {
public:
    working_thread(tarn_shm* client, notice_board& all, std::uint64_t seed)
        : client_{client}, all_{&all}, random_{seed} {}

    void run(std::uint64_t steps) {
        for (std::uint64_t i = 0; i < steps; ++i) {
            step();
        }
        while (!held_.empty()) {
            let_go();
        }
    }

private:
    void expect(bool is_right) {
        if (!is_right) {
            all_->wrong.fetch_add(1, std::memory_order_relaxed);
        }
    }

    void tell(tarn_shm_chunk const& chunk) {
        // release: pairs with the acquire of who holds it; publishes the contents.
        all_->references[random_.below(all_->references.size())].store(chunk.reference,
                                                                       std::memory_order_release);
    }

    void step() {
        tarn_shm_chunk chunk{};
        switch (random_.below(5)) {
            case 0:
                if (tarn_shm_allocate(client_, payload_bytes, 0, nullptr, &chunk) == TARN_SHM_OK) {
                    write(chunk);
                    tell(chunk);
                    held_.push_back(chunk);
                }
                break;
            case 1:
            case 2: {
                std::uint64_t const reference =
                    all_->references[random_.below(all_->references.size())].load(
                        std::memory_order_acquire);
                if (reference == 0) {
                    break;
                }
                int const error = tarn_shm_hold(client_, reference, &chunk);
                if (error == TARN_SHM_OK) {
                    expect(is_intact(chunk));
                    all_->held.fetch_add(1, std::memory_order_relaxed);
                    held_.push_back(chunk);
                } else {
                    expect(error == TARN_SHM_STALE);
                    all_->stale.fetch_add(1, std::memory_order_relaxed);
                }
                break;
            }
            case 3:
                use_magazine();
                break;
            default:
                let_go();
                break;
        }
        while (held_.size() > 6) {
            let_go();
        }
    }

    void use_magazine() {
        std::array<tarn_shm_chunk, 4> chunks{};
        std::array<std::uint64_t, 4> references{};
        std::uint32_t got = tarn_shm_take(client_, 0, 4, chunks.data());
        for (std::uint32_t i = 0; i < got; ++i) {
            references[i] = chunks[i].reference;
            write(chunks[i]);
        }
        for (std::uint32_t i = 0; i < got; ++i) {
            expect(is_intact(chunks[i]));
        }
        if (got != 0 && random_.one_in(2)) {
            --got;
            expect(tarn_shm_share(client_, references[got], payload_bytes) == TARN_SHM_OK);
            tell(chunks[got]);
            held_.push_back(chunks[got]);
        }
        tarn_shm_give(client_, references.data(), got);
    }

    void let_go() {
        if (held_.empty()) {
            return;
        }
        std::size_t const at = random_.below(held_.size());
        expect(is_intact(held_[at]));
        expect(tarn_shm_release(client_, held_[at].reference) == TARN_SHM_OK);
        held_[at] = held_.back();
        held_.pop_back();
    }

    tarn_shm* client_;
    notice_board* all_;
    random_stream random_;
    std::vector<tarn_shm_chunk> held_;
};

TEST(shm_threads, threads_of_one_client_share_its_bit) {
    std::uint64_t const seed = seed_of_this_run();
    SCOPED_TRACE(testing::Message() << "TARN_SEED=" << seed);
    random_stream seeds{seed};
    tarn::test::test_domain const domain;
    ASSERT_EQ(create_segment(domain, {pool_of(128, 24)}), TARN_SHM_OK);
    shm_client const client = attach_segment(domain);
    ASSERT_NE(client, nullptr);
    notice_board all;
    {
        std::vector<std::jthread> running;
        for (unsigned i = 0; i < threads; ++i) {
            running.emplace_back([&all, &client, one = seeds.next()] {
                working_thread{client.get(), all, one}.run(scaled(100'000));
            });
        }
    }
    EXPECT_EQ(all.wrong.load(), 0U);
    EXPECT_GT(all.held.load(), 0U);
    EXPECT_GT(all.stale.load(), 0U);
    // The client still lives: what it lost would not come back by a recovery.
    EXPECT_EQ(what_is_wrong(client.get()), "");
}

using tarn::impl::shm::chunk_set;
using tarn::impl::shm::claimed_chunk;
using tarn::impl::shm::client_number;
using tarn::impl::shm::generation_of;
using tarn::impl::shm::holders_of;
using set = chunk_set<tarn::detail::std_atomics>;

/// The shared words of a pool, and what lies in its chunks.
struct plain_pool {
    static constexpr std::uint32_t count = 100;

    std::array<set::truth, count> truths{};
    std::array<set::hint_words::word, set::hint_words::words_for(count)> hints{};
    std::array<std::uint64_t, count> contents{};  // its holder's, who alone has the chunk
    std::atomic<std::uint64_t> wrong{0};

    set chunks() { return {truths.data(), hints.data(), count}; }
};

/// Allocates and releases; in the end some are left, as by one that dies.
void live_and_die(plain_pool& pool, client_number me, std::uint64_t seed, std::uint64_t steps) {
    random_stream random{seed};
    set chunks = pool.chunks();
    std::vector<std::uint32_t> held;
    for (std::uint64_t i = 0; i < steps; ++i) {
        if (random.one_in(2) && held.size() < 40) {
            claimed_chunk const got =
                chunks.allocate(me, static_cast<std::uint32_t>(random.below(plain_pool::count)));
            if (got.number != claimed_chunk::none) {
                pool.contents[got.number] = static_cast<std::uint64_t>(me);
                held.push_back(got.number);
            }
        } else if (random.one_in(8)) {
            // Of a chunk that may be anybody's, or nobody's.
            auto const number = static_cast<std::uint32_t>(random.below(plain_pool::count));
            std::uint64_t const word = chunks.word_of(number);
            bool const is_mine = (word & bit_of(me)) != 0;
            if (!is_mine && chunks.hold(me, number, generation_of(word))) {
                chunks.release(me, number);
            }
        } else if (!held.empty()) {
            std::size_t const at = random.below(held.size());
            if (pool.contents[held[at]] != static_cast<std::uint64_t>(me)) {
                pool.wrong.fetch_add(1, std::memory_order_relaxed);
            }
            chunks.release(me, held[at]);
            held[at] = held.back();
            held.pop_back();
        }
    }
}

TEST(shm_threads, chunks_of_the_dead_come_back_beside_the_living) {
    std::uint64_t const seed = seed_of_this_run();
    SCOPED_TRACE(testing::Message() << "TARN_SEED=" << seed);
    random_stream seeds{seed};
    plain_pool pool;
    pool.chunks().recover(client_number{0});  // gives each its hint
    {
        std::vector<std::jthread> running;
        for (unsigned i = 0; i < threads; ++i) {
            running.emplace_back([&pool, i, seed_here = seeds.next()] {
                random_stream lives{seed_here};
                // One life after the other under one number: whoever comes next recovers first.
                for (unsigned life = 0; life < 20; ++life) {
                    auto const me = client_number{i};
                    pool.chunks().recover(me);
                    live_and_die(pool, me, lives.next(), scaled(8'000) / 4);
                }
            });
        }
    }
    for (unsigned i = 0; i < threads; ++i) {
        pool.chunks().recover(client_number{i});
    }
    EXPECT_EQ(pool.wrong.load(), 0U);
    for (std::uint32_t number = 0; number < plain_pool::count; ++number) {
        EXPECT_EQ(holders_of(pool.chunks().word_of(number)), 0U) << number;
        EXPECT_TRUE(pool.chunks().has_hint(number)) << number;
    }
}

TEST(shm_threads, two_may_recover_the_same_dead_one) {
    std::uint64_t const seed = seed_of_this_run();
    SCOPED_TRACE(testing::Message() << "TARN_SEED=" << seed);
    random_stream seeds{seed};
    for (std::uint64_t round = 0; round < scaled(200); ++round) {
        plain_pool pool;
        pool.chunks().recover(client_number{0});
        live_and_die(pool, client_number{0}, seeds.next(), 100);
        {
            std::vector<std::jthread> running;
            for (unsigned i = 1; i < threads; ++i) {
                running.emplace_back([&pool, i, one = seeds.next()] {
                    pool.chunks().recover(client_number{0});
                    live_and_die(pool, client_number{i}, one, 100);
                    pool.chunks().recover(client_number{0});
                    pool.chunks().recover(client_number{i});
                });
            }
        }
        EXPECT_EQ(pool.wrong.load(), 0U);
        for (std::uint32_t number = 0; number < plain_pool::count; ++number) {
            EXPECT_EQ(holders_of(pool.chunks().word_of(number)), 0U) << number;
            EXPECT_TRUE(pool.chunks().has_hint(number)) << number;
        }
    }
}

}  // namespace
