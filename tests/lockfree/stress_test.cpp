// stress_test - random use of a lock-free pool by several threads, for ThreadSanitizer and for
// chance. TARN_SEED=n in the environment gives every thread the same operations again.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "tarn/object_pool.hpp"

#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using tarn::test::random_stream;

std::uint64_t seed_of_this_run() {
    char const* const given = tarn::test::environment("TARN_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

/// Has a pattern while it lives, and none when it is handed out again.
struct stamped {
    explicit stamped(std::uint64_t of) : stamp{of}, copy{of} {}

    ~stamped() { copy = stamp + 1; }

    [[nodiscard]] bool is_whole() const { return stamp == copy; }

    std::uint64_t stamp;
    std::uint64_t copy;
    std::array<std::uint64_t, 3> rest;
};

using pool = tarn::object_pool<stamped, tarn::lock_free>;

constexpr std::size_t threads = 4;
constexpr std::size_t mailboxes = 64;

struct shared_state {
    std::optional<pool> elements;
    std::array<std::atomic<stamped*>, mailboxes> mail{};
    std::atomic<std::uint64_t> wrong{0};
};

/// Makes, deletes, and exchanges with whoever left something in a mailbox.
void use(shared_state& with, std::uint64_t seed, std::uint64_t operations) {
    random_stream random{seed};
    std::vector<stamped*> mine;
    std::uint64_t wrong = 0;
    auto const drop = [&](stamped* gone) {
        wrong += gone->is_whole() ? 0U : 1U;
        with.elements->delete_element(gone);
    };
    for (std::uint64_t i = 0; i < operations; ++i) {
        std::uint64_t const what = random.below(8);
        if (what < 3 || mine.empty()) {
            try {
                mine.push_back(with.elements->new_element(random.next()));
            } catch (std::bad_alloc const&) {
                wrong += with.elements->size() == 0 ? 1U : 0U;
            }
        } else if (what < 6) {
            std::swap(mine[random.below(mine.size())], mine.back());
            drop(mine.back());
            mine.pop_back();
        } else {
            auto& box = with.mail[random.below(mailboxes)];
            stamped* const other = box.exchange(mine.back(), std::memory_order_acq_rel);
            mine.pop_back();
            if (other != nullptr) {
                mine.push_back(other);
                wrong += other->is_whole() ? 0U : 1U;
            }
        }
        if (random.one_in(2000)) {
            for (stamped* const each : mine) {
                drop(each);
            }
            mine.clear();
        }
    }
    for (stamped* const each : mine) {
        drop(each);
    }
    with.wrong.fetch_add(wrong);
}

void stress(std::size_t elements_most) {
    std::uint64_t const seed = seed_of_this_run();
    SCOPED_TRACE(testing::Message() << "TARN_SEED=" << seed);
    random_stream seeds{seed};
    std::uint64_t const operations = tarn::test::scaled(600'000);
    for (int generation = 0; generation < 4; ++generation) {
        shared_state state;
        state.elements.emplace(pool::options{.elements_most = elements_most});
        for (int round = 0; round < 3; ++round) {  // threads end, and others take over
            std::vector<std::thread> running;
            for (std::size_t i = 0; i < threads; ++i) {
                running.emplace_back(use, std::ref(state), seeds.next(), operations / 6);
            }
            for (std::thread& thread : running) {
                thread.join();
            }
        }
        std::size_t left = 0;
        for (auto& box : state.mail) {
            stamped* const each = box.load();
            left += each != nullptr ? 1 : 0;
            EXPECT_TRUE(each == nullptr || each->is_whole());
        }
        EXPECT_EQ(state.elements->size(), left);
        std::size_t visited = 0;
        state.elements->for_each([&](stamped& each) {
            EXPECT_TRUE(each.is_whole());
            ++visited;
        });
        EXPECT_EQ(visited, left);
        EXPECT_EQ(state.wrong, 0U);
    }
}

TEST(lock_free_stress, pool_with_magazines) { stress(tarn::detail::block_store::unbounded); }

TEST(lock_free_stress, pool_with_a_bound) { stress(300); }

}  // namespace
