// object_pool_test - object_pool<T, lock_free>: by one thread as the other pools, by several, and
// when threads and pools end in any order.
#include "tarn/object_pool.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "pool/counting_resource.hpp"
#include "support/build.hpp"

namespace {

using tarn::test::counting_resource;

template <class T>
using pool_of = tarn::object_pool<T, tarn::lock_free>;

struct counted {
    explicit counted(int number, bool fails = false) : value{number} {
        if (fails) {
            throw std::runtime_error{"as asked"};
        }
        live.fetch_add(1, std::memory_order_relaxed);
    }

    counted(counted const&) = delete;
    counted& operator=(counted const&) = delete;

    ~counted() { live.fetch_sub(1, std::memory_order_relaxed); }

    static inline std::atomic<int> live = 0;
    int value;
    std::array<std::byte, 40> rest;  // not written: an old key may show through
};

TEST(lock_free_pool, makes_and_destroys) {
    counting_resource upstream;
    {
        pool_of<counted> pool{{.upstream = &upstream}};
        std::vector<counted*> made;
        made.reserve(3000);
        for (int i = 0; i < 3000; ++i) {
            made.push_back(pool.new_element(i));
        }
        EXPECT_EQ(std::set(made.begin(), made.end()).size(), 3000U);
        for (std::size_t i = 0; i < 3000; ++i) {
            EXPECT_EQ(made[i]->value, static_cast<int>(i));
            EXPECT_TRUE(pool.owns(made[i]));
        }
        for (std::size_t i = 0; i < 3000; i += 2) {
            pool.delete_element(made[i]);
            EXPECT_FALSE(pool.owns(made[i]));
        }
        pool.delete_element(nullptr);
        EXPECT_EQ(pool.size(), 1500U);
        EXPECT_EQ(counted::live, 1500);
        int sum = 0;
        pool.for_each([&sum](counted& each) { sum += each.value; });
        EXPECT_EQ(sum, 1500 * 1500);
        EXPECT_EQ(pool.trim(), 0U);
        EXPECT_GE(upstream.live_bytes(), pool.held_bytes());
    }
    EXPECT_EQ(counted::live, 0);
    EXPECT_EQ(upstream.live(), 0U);
    EXPECT_EQ(upstream.wrong(), 0U);
}

TEST(lock_free_pool, uses_again_what_came_back) {
    pool_of<counted> pool;
    std::vector<counted*> made(5000);
    std::size_t held = 0;
    for (int round = 0; round < 5; ++round) {
        for (counted*& each : made) {
            each = pool.new_element(round);
        }
        EXPECT_EQ(std::set(made.begin(), made.end()).size(), made.size());
        EXPECT_EQ(pool.size(), made.size());
        held = round == 0 ? pool.held_bytes() : held;
        for (counted* const each : made) {
            pool.delete_element(each);
        }
        EXPECT_EQ(pool.size(), 0U);
    }
    EXPECT_EQ(pool.held_bytes(), held);
}

TEST(lock_free_pool, clears_and_begins_again) {
    counting_resource upstream;
    pool_of<counted> pool{{.upstream = &upstream}};
    std::size_t const core = upstream.live();
    for (int round = 0; round < 3; ++round) {
        std::vector<counted*> made(1000);
        for (counted*& each : made) {
            each = pool.new_element(1);
        }
        for (std::size_t i = 0; i < 500; ++i) {
            pool.delete_element(made[i]);
        }
        EXPECT_EQ(counted::live, 500);
        pool.clear();
        EXPECT_EQ(counted::live, 0);
        EXPECT_EQ(pool.size(), 0U);
        // With pools=plain the table of blocks stays.
        EXPECT_EQ(upstream.live(), core + (tarn_pools_are_plain() != 0 ? 1U : 0U));
        EXPECT_FALSE(pool.owns(made[700]));
    }
}

TEST(lock_free_pool, keeps_to_its_bound_exactly) {
    for (std::size_t const most : {1UL, 7UL, 64UL, 1000UL}) {
        pool_of<counted> pool{{.elements_most = most}};
        EXPECT_THROW(static_cast<void>(pool.new_element(1, true)), std::runtime_error);
        for (int round = 0; round < 3; ++round) {
            std::vector<counted*> made;
            for (std::size_t i = 0; i < most; ++i) {
                made.push_back(pool.new_element(1));
            }
            EXPECT_THROW(static_cast<void>(pool.new_element(2)), std::bad_alloc);
            EXPECT_EQ(pool.size(), most);
            // Deleted elsewhere: in everybody's reach all the same.
            std::thread{[&] {
                for (counted* const each : made) {
                    pool.delete_element(each);
                }
            }}.join();
            EXPECT_EQ(pool.size(), 0U);
        }
    }
}

TEST(lock_free_pool, may_miss_a_large_bound_by_what_other_threads_keep) {
    constexpr std::size_t most = 70'000;
    pool_of<int> pool{{.elements_most = most}};
    std::latch has_used{1};
    std::latch may_end{1};
    std::thread other{[&] {
        pool.delete_element(pool.new_element());
        has_used.count_down();
        may_end.wait();
    }};
    has_used.wait();
    std::size_t made = 0;
    try {
        for (; made <= most; ++made) {
            static_cast<void>(pool.new_element());
        }
    } catch (std::bad_alloc const&) {
    }
    EXPECT_GE(made, most - 64);
    may_end.count_down();
    other.join();
    for (; made < most; ++made) {  // it has left them
        static_cast<void>(pool.new_element());
    }
    EXPECT_EQ(pool.size(), most);
    EXPECT_THROW(static_cast<void>(pool.new_element()), std::bad_alloc);
}

TEST(lock_free_pool, aligns_as_the_type_asks) {
    struct alignas(256) wide {
        char bytes[300];
    };

    struct alignas(32768) page {
        char bytes[32768];
    };

    pool_of<wide> wides;
    pool_of<page> pages;
    pool_of<char> chars;
    std::set<char*> small;
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(wides.new_element()) % 256, 0U);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pages.new_element()) % 32768, 0U);
        small.insert(chars.new_element('x'));
    }
    EXPECT_EQ(small.size(), 100U);
    EXPECT_EQ(pages.size(), 100U);
}

TEST(lock_free_pool, survives_memory_that_runs_out_anywhere) {
    bool has_passed = false;
    for (std::size_t nth = 1; !has_passed; ++nth) {
        ASSERT_LT(nth, 100U);
        counting_resource upstream;
        upstream.fail_at(nth);
        try {
            pool_of<counted> pool{{.upstream = &upstream}};
            std::vector<counted*> made;
            for (int i = 0; i < 4000; ++i) {
                try {
                    made.push_back(pool.new_element(i));
                } catch (std::bad_alloc const&) {
                    made.push_back(pool.new_element(i));  // fails once
                }
            }
            EXPECT_EQ(pool.size(), 4000U);
            for (counted* const each : made) {
                pool.delete_element(each);
            }
            EXPECT_EQ(pool.size(), 0U);
            has_passed = !upstream.has_failed();
        } catch (std::bad_alloc const&) {
            EXPECT_EQ(nth, 1U);  // the pool's own state
        }
        EXPECT_EQ(upstream.live(), 0U);
        EXPECT_EQ(upstream.wrong(), 0U);
        EXPECT_EQ(counted::live, 0);
    }
}

TEST(lock_free_pool, names_misuse_before_a_destructor_runs) {
    for (std::size_t const most : {tarn::detail::block_store::unbounded, 1000UL}) {
        pool_of<counted> pool{{.elements_most = most, .name = "users"}};
        pool_of<counted> other{{.elements_most = most}};
        EXPECT_FALSE(pool.owns(nullptr));
        counted* const mine = pool.new_element(1);
        counted* const made = other.new_element(1);
        EXPECT_THROW(pool.delete_element_checked(made), std::invalid_argument);
        EXPECT_EQ(counted::live, 2);
        EXPECT_DEATH(pool.delete_element(made),
                     "object_pool 'users': delete_element of 0x.*: not a block of this pool");
        EXPECT_DEATH(pool.delete_element(mine + 100), "not a block of this pool");  // not made yet
        auto* const inside = reinterpret_cast<counted*>(reinterpret_cast<std::byte*>(mine) + 8);
        EXPECT_DEATH(pool.delete_element(inside), "not the start of a block");
        other.delete_element(made);
        EXPECT_DEATH(other.delete_element(made), "returned before");
        std::thread{[&] {  // which has no magazine
            EXPECT_THROW(other.delete_element_checked(made), std::invalid_argument);
        }}
            .join();
        counted* const again = other.new_element(3);
        EXPECT_EQ(again, made);
        EXPECT_TRUE(other.owns(again));
        other.delete_element(again);
        pool.delete_element(mine);
    }
}

TEST(lock_free_pool, sees_a_second_return_of_any_free_block) {
    pool_of<std::uint16_t> pool;
    std::vector<std::uint16_t*> made;
    made.reserve(500);
    for (int i = 0; i < 500; ++i) {
        made.push_back(pool.new_element());
    }
    for (std::uint16_t* const each : made) {
        pool.delete_element(each);
    }
    for (std::uint16_t* const each : made) {
        EXPECT_THROW(pool.delete_element_checked(each), std::invalid_argument);
    }
}

TEST(lock_free_pool, passes_elements_between_threads) {
    constexpr std::size_t threads = 4;
    std::size_t const each_makes = tarn::test::scaled(16'000);
    pool_of<std::array<std::uint64_t, 5>> pool;
    std::array<std::vector<std::array<std::uint64_t, 5>*>, threads> made;
    auto const run = [&](auto body) {
        std::vector<std::thread> running;
        for (std::size_t i = 0; i < threads; ++i) {
            running.emplace_back(body, i);
        }
        for (std::thread& thread : running) {
            thread.join();
        }
    };
    for (int round = 0; round < 3; ++round) {
        run([&](std::size_t me) {
            made[me].clear();
            for (std::size_t i = 0; i < each_makes; ++i) {
                made[me].push_back(pool.new_element());
                made[me].back()->fill(me);
            }
        });
        EXPECT_EQ(pool.size(), threads * each_makes);
        std::size_t visited = 0;
        pool.for_each([&](auto&) { ++visited; });
        EXPECT_EQ(visited, threads * each_makes);
        run([&](std::size_t me) {
            std::size_t const other = (me + 1) % threads;
            for (auto* const each : made[other]) {
                EXPECT_EQ(each->back(), other);
                pool.delete_element(each);
            }
        });
        EXPECT_EQ(pool.size(), 0U);
    }
}

TEST(lock_free_pool, takes_over_what_threads_left) {
    pool_of<counted> pool;
    std::size_t held = 0;
    for (int round = 0; round < 50; ++round) {
        std::thread{[&] {
            std::vector<counted*> made(40);
            for (counted*& each : made) {
                each = pool.new_element(round);
            }
            for (counted* const each : made) {
                pool.delete_element(each);
            }
        }}.join();
        held = round == 0 ? pool.held_bytes() : held;
        EXPECT_EQ(pool.size(), 0U);
    }
    std::vector<counted*> made(40);  // this thread had no magazine yet
    for (counted*& each : made) {
        each = pool.new_element(1);
    }
    EXPECT_EQ(pool.held_bytes(), held);
    for (counted* const each : made) {
        pool.delete_element(each);
    }
}

TEST(lock_free_pool, threads_and_pools_end_in_any_order) {
    for (bool const pool_first : {true, false}) {
        counting_resource upstream;
        std::optional<pool_of<counted>> pool{std::in_place,
                                             pool_of<counted>::options{.upstream = &upstream}};
        std::latch has_used{1};
        std::latch may_end{1};
        std::thread user{[&] {
            counted* const made = pool->new_element(1);
            pool->delete_element(made);
            has_used.count_down();
            may_end.wait();
        }};
        has_used.wait();
        if (pool_first) {
            pool.reset();
            EXPECT_EQ(upstream.live(), 0U);  // though the thread still has a magazine
        }
        may_end.count_down();
        user.join();
        pool.reset();
        EXPECT_EQ(upstream.live(), 0U);
    }
    // And both at once.
    std::uint64_t const rounds = tarn::test::scaled(400);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        std::optional<pool_of<counted>> pool{std::in_place};
        std::atomic<int> busy{2};
        std::array<std::thread, 2> users;
        for (std::thread& user : users) {
            user = std::thread{[&] {
                pool->delete_element(pool->new_element(1));
                busy.fetch_sub(1, std::memory_order_release);
            }};
        }
        while (busy.load(std::memory_order_acquire) != 0) {
            std::this_thread::yield();
        }
        pool.reset();
        for (std::thread& user : users) {
            user.join();
        }
    }
    EXPECT_EQ(counted::live, 0);
}

TEST(lock_free_pool, a_thread_may_use_many_pools_and_outlive_them) {
    for (int round = 0; round < 20; ++round) {
        std::vector<std::unique_ptr<pool_of<counted>>> pools;
        std::vector<counted*> made;
        for (int i = 0; i < 30; ++i) {
            pools.push_back(std::make_unique<pool_of<counted>>());
            made.push_back(pools.back()->new_element(i));
        }
        for (std::size_t i = 0; i < pools.size(); ++i) {
            EXPECT_EQ(made[i]->value, static_cast<int>(i));
            EXPECT_EQ(pools[i]->size(), 1U);
            EXPECT_FALSE(pools[i]->owns(made[(i + 1) % made.size()]));
            pools[i]->delete_element(made[i]);
            EXPECT_EQ(pools[i]->size(), 0U);
        }
    }
}

/// Ends after the magazines of its thread.
struct late_user {
    // NOLINTNEXTLINE(bugprone-exception-escape): the test ends then
    ~late_user() {
        if (pool != nullptr) {
            pool->delete_element(held);
            counted* const another = pool->new_element(9);
            EXPECT_EQ(another->value, 9);
            pool->delete_element(another);
        }
    }

    pool_of<counted>* pool = nullptr;
    counted* held = nullptr;
};

TEST(lock_free_pool, serves_destructors_at_the_end_of_a_thread) {
    pool_of<counted> pool;
    for (int round = 0; round < 3; ++round) {
        std::thread{[&pool] {
            static thread_local late_user last;
            last.pool = &pool;  // made before the thread's first use of a pool
            last.held = pool.new_element(1);
        }}.join();
        EXPECT_EQ(pool.size(), 0U);
    }
    EXPECT_EQ(counted::live, 0);
}

TEST(lock_free_pool, may_move_while_others_use_it_through_unique_pointers) {
    pool_of<counted> pool;
    auto held = pool.make_unique(5);
    pool_of<counted> moved{std::move(pool)};
    EXPECT_EQ(moved.size(), 1U);
    std::thread{[mine = std::move(held)]() mutable { mine.reset(); }}.join();
    EXPECT_EQ(moved.size(), 0U);
}

}  // namespace
