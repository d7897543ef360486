// told_chunks_test - threads of one client, and another client, at the same few chunks: who has one
// alone, who shares it, and who tries an old reference to it.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tarn/shm.h"

#include "support/build.hpp"

namespace {

struct detaching {
    void operator()(tarn_shm* client) const noexcept { tarn_shm_detach(client); }
};

using shm_client = std::unique_ptr<tarn_shm, detaching>;

shm_client segment_of(std::uint32_t chunks) {
    tarn_shm_pool const pool{.chunk_bytes = 64,
                             .count = chunks,
                             .count_most = 0,
                             .alignment = 0,
                             .user_header_bytes = 0};
    tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
    config.pools = &pool;
    config.pool_count = 1;
    tarn_shm_failure failure{};
    shm_client made{tarn_shm_create_anonymous(&config, nullptr, &failure)};
    EXPECT_NE(made, nullptr) << failure.text;
    return made;
}

shm_client attach_again(tarn_shm* to) {
    tarn_shm_failure failure{};
    shm_client made{tarn_shm_attach_descriptor(tarn_shm_descriptor(to), nullptr, &failure)};
    EXPECT_NE(made, nullptr) << failure.text;
    return made;
}

std::uint32_t free_chunks(tarn_shm* in) {
    tarn_shm_pool_info info{};
    EXPECT_EQ(tarn_shm_pool_info_get(in, 0, &info), TARN_SHM_OK);
    return info.free;
}

void expect_sound(tarn_shm* in) {
    std::string faults;
    auto const receive = [](void* to, char const* text) {
        static_cast<std::string*>(to)->append(text).append("\n");
    };
    EXPECT_EQ(tarn_shm_audit(in, receive, &faults), 0) << faults;
}

/// A reference to chunk 0, which everybody has released.
std::uint64_t old_reference(tarn_shm* client) {
    tarn_shm_chunk chunk{};
    EXPECT_EQ(tarn_shm_allocate(client, 1, 0, nullptr, &chunk), TARN_SHM_OK);
    EXPECT_EQ(tarn_shm_release(client, chunk.reference), TARN_SHM_OK);
    return chunk.reference;
}

/// Runs it until `work` is done, and beside it at least once.
template <class Work>
void with_thread_beside(std::function<void()> const& beside, Work work) {
    std::atomic<bool> is_over{false};
    std::atomic<bool> has_begun{false};
    std::thread other{[&] {
        while (!is_over.load(std::memory_order_relaxed)) {
            beside();
            has_begun.store(true, std::memory_order_relaxed);
        }
    }};
    while (!has_begun.load(std::memory_order_relaxed)) {
        std::this_thread::yield();
    }
    work();
    is_over.store(true, std::memory_order_relaxed);
    other.join();
}

/// A hold that is refused passes through the chunk's private count, and costs nobody a chunk.
TEST(shm_told_chunks, what_one_has_alone_goes_back_beside_old_references) {
    shm_client const client = segment_of(1);
    std::uint64_t const old = old_reference(client.get());
    // Fewer than there are generations: then the old reference would be right again.
    constexpr std::uint64_t rounds = tarn::test::is_slow ? 5'000 : 60'000;
    auto const beside = [&] {
        tarn_shm_chunk chunk{};
        EXPECT_EQ(tarn_shm_hold(client.get(), old, &chunk), TARN_SHM_STALE);
    };
    // The generation moves on: the old reference is refused from the first round on.
    old_reference(client.get());
    with_thread_beside(beside, [&] {
        std::uint64_t misses_in_a_row = 0;
        for (std::uint64_t i = 0; i < rounds && misses_in_a_row < 1'000'000;) {
            tarn_shm_chunk mine{};
            if (tarn_shm_take(client.get(), 0, 1, &mine) == 0) {
                ++misses_in_a_row;  // a refused hold is in the way, for a moment
                std::this_thread::yield();
                continue;
            }
            misses_in_a_row = 0;
            tarn_shm_give(client.get(), &mine.reference, 1);
            if (++i % 256 == 0) {
                std::this_thread::yield();
            }
        }
        EXPECT_LT(misses_in_a_row, 1'000'000U) << "the chunk never came back";
    });
    EXPECT_EQ(free_chunks(client.get()), 1U);
    expect_sound(client.get());
}

/// Two threads of one client, and one of another, write to what they have alone, share it, pass it
/// on, keep it for a while, and read what was passed on.
TEST(shm_told_chunks, what_is_held_stays_what_it_was) {
    shm_client const one = segment_of(3);
    shm_client const two = attach_again(one.get());
    std::atomic<std::uint64_t> passed_on{0};
    std::atomic<std::uint64_t> was_held{0};
    std::uint64_t const rounds = tarn::test::scaled(40'000);

    auto const read = [&](tarn_shm* client, std::uint64_t reference) {
        tarn_shm_chunk chunk{};
        if (reference == 0 || tarn_shm_hold(client, reference, &chunk) != TARN_SHM_OK) {
            return;
        }
        auto const* const words = static_cast<std::uint64_t const*>(chunk.payload);
        EXPECT_EQ(words[0], words[7]) << "written while it was held";
        was_held.fetch_add(1, std::memory_order_relaxed);
        EXPECT_EQ(tarn_shm_release(client, reference), TARN_SHM_OK);
    };
    auto const work = [&](tarn_shm* client, std::uint64_t stamp) {
        std::uint64_t kept = 0;
        auto const let_go_of_it = [&] {
            if (kept != 0) {
                EXPECT_EQ(tarn_shm_release(client, kept), TARN_SHM_OK);
                kept = 0;
            }
        };
        for (std::uint64_t i = 0; i < rounds; ++i) {
            if (i % 32 == 0) {
                std::this_thread::yield();
            }
            tarn_shm_chunk mine{};
            if (tarn_shm_take(client, 0, 1, &mine) == 0) {
                let_go_of_it();
                continue;
            }
            auto* const words = static_cast<std::uint64_t*>(mine.payload);
            words[0] = stamp + i;
            words[7] = stamp + i;
            if (i % 4 == 0) {
                EXPECT_EQ(words[0], stamp + i) << "another one has it, too";
                tarn_shm_give(client, &mine.reference, 1);
            } else {
                EXPECT_EQ(tarn_shm_share(client, mine.reference, 64), TARN_SHM_OK);
                let_go_of_it();
                kept = mine.reference;
                // acq_rel: who reads it sees what was written to it.
                read(client, passed_on.exchange(kept, std::memory_order_acq_rel));
            }
        }
        let_go_of_it();
    };
    std::vector<std::thread> threads;
    threads.emplace_back(work, one.get(), 1'000'000'000);
    threads.emplace_back(work, one.get(), 2'000'000'000);
    threads.emplace_back(work, two.get(), 3'000'000'000);
    for (std::thread& each : threads) {
        each.join();
    }
    EXPECT_GT(was_held.load(), 0U);
    EXPECT_EQ(free_chunks(one.get()), 3U);
    expect_sound(one.get());
}

}  // namespace
