// object_pool_test - objects made and destroyed in place, by one thread and by several.
#include "tarn/object_pool.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "pool/counting_resource.hpp"
#include "pool/early_elements.hpp"
#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using tarn::object_pool;
using tarn::test::counting_resource;

/// Counts how many of it live, and throws on demand.
struct counted {
    explicit counted(int number, bool fails = false) : value{number} {
        if (fails) {
            throw std::runtime_error{"as asked"};
        }
        ++live;
    }

    counted(counted const&) = delete;
    counted& operator=(counted const&) = delete;

    ~counted() { --live; }

    static inline std::atomic<int> live = 0;
    int value;
    std::string text = std::string(100, 'x');
};

struct alignas(256) wide {
    char bytes[300];
};

TEST(object_pool, makes_and_destroys) {
    counting_resource upstream;
    {
        object_pool<counted> pool{{.upstream = &upstream}};
        std::vector<counted*> made;
        for (int i = 0; i < 1000; ++i) {
            made.push_back(pool.new_element(i));
        }
        EXPECT_EQ(counted::live, 1000);
        for (int i = 0; i < 1000; ++i) {
            EXPECT_EQ(made[static_cast<std::size_t>(i)]->value, i);
        }
        for (std::size_t i = 0; i < 1000; i += 2) {
            pool.delete_element(made[i]);
        }
        pool.delete_element(nullptr);
        EXPECT_EQ(counted::live, 500);
        EXPECT_EQ(pool.size(), 500U);
        int sum = 0;
        pool.for_each([&sum](counted& each) { sum += each.value; });
        EXPECT_EQ(sum, 500 * 500);
    }
    EXPECT_EQ(counted::live, 0);
    EXPECT_EQ(upstream.live(), 0U);
    EXPECT_EQ(upstream.wrong(), 0U);
}

TEST(object_pool, gives_the_slot_back_where_a_constructor_throws) {
    object_pool<counted> pool{{.elements_most = 1}};
    EXPECT_THROW(static_cast<void>(pool.new_element(1, true)), std::runtime_error);
    EXPECT_EQ(pool.size(), 0U);
    counted* const one = pool.new_element(1);
    EXPECT_THROW(static_cast<void>(pool.new_element(2)), std::bad_alloc);
    pool.delete_element(one);
}

TEST(object_pool, aligns_as_the_type_asks) {
    object_pool<wide> pool;
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pool.new_element()) % 256, 0U);
        wide* const other = tarn::new_element<wide>();
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(other) % 256, 0U);
        tarn::delete_element(other);
    }
}

TEST(object_pool, passes_arguments_on) {
    object_pool<std::pair<std::unique_ptr<int>, std::string>> pool;
    auto* const made = pool.new_element(std::make_unique<int>(7), std::string{"seven"});
    EXPECT_EQ(*made->first, 7);
    EXPECT_EQ(made->second, "seven");
}

TEST(object_pool, may_move_while_unique_pointers_hold_elements) {
    object_pool<counted> pool;
    auto held = pool.make_unique(5);
    object_pool<counted> moved{std::move(pool)};
    EXPECT_EQ(moved.size(), 1U);
    held.reset();
    EXPECT_EQ(moved.size(), 0U);
    EXPECT_EQ(counted::live, 0);
}

TEST(object_pool, may_be_shared_between_its_users) {
    auto pool = std::make_shared<object_pool<counted, tarn::locked>>();
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([pool] {
            for (std::uint64_t j = 0; j < tarn::test::scaled(2000); ++j) {
                auto const mine = pool->new_element(1);
                pool->delete_element(mine);
            }
        });
    }
    std::weak_ptr const left = pool;
    pool.reset();
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_TRUE(left.expired());
}

TEST(object_pool, locked_passes_elements_between_threads) {
    object_pool<std::array<std::uint64_t, 5>, tarn::locked> pool;
    std::vector<std::thread> threads;
    std::array<std::vector<std::array<std::uint64_t, 5>*>, 4> made;
    for (std::size_t thread = 0; thread < made.size(); ++thread) {
        threads.emplace_back([&pool, &mine = made[thread], thread] {
            for (std::uint64_t i = 0; i < 3000; ++i) {
                mine.push_back(pool.new_element());
                mine.back()->fill(thread);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    threads.clear();
    EXPECT_EQ(pool.size(), 12'000U);
    for (std::size_t thread = 0; thread < made.size(); ++thread) {
        threads.emplace_back([&pool, &others = made[(thread + 1) % made.size()], thread] {
            for (auto* const each : others) {
                EXPECT_EQ(each->back(), (thread + 1) % 4);
                pool.delete_element(each);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(pool.size(), 0U);
}

TEST(object_pool, names_misuse_before_a_destructor_runs) {
    object_pool<counted> pool{{.name = "users"}};
    object_pool<counted> other;
    counted* const made = other.new_element(1);
    EXPECT_THROW(pool.delete_element_checked(made), std::invalid_argument);
    EXPECT_EQ(counted::live, 1);
    EXPECT_DEATH(pool.delete_element(made), "object_pool 'users': delete_element of 0x");
    other.delete_element(made);
    EXPECT_DEATH(other.delete_element(made), "object_pool: delete_element");
}

TEST(element_pools, serve_every_size) {
    struct small {
        char bytes[3];
    };

    struct large {
        char bytes[700];
    };

    std::size_t const before = tarn::detail::element_pools::all().size(sizeof(small));
    auto* const a = tarn::new_element<small>();
    auto* const b = tarn::new_element<large>();
    auto* const c = tarn::new_element<double>(2.5);
    EXPECT_EQ(tarn::detail::element_pools::all().size(sizeof(small)), before + 1 + 1);  // and c
    EXPECT_EQ(*c, 2.5);
    tarn::delete_element(a);
    tarn::delete_element(b);
    tarn::delete_element(c);
    tarn::delete_element<small>(nullptr);
    EXPECT_EQ(tarn::detail::element_pools::all().size(sizeof(small)), before);
    EXPECT_THROW(static_cast<void>(tarn::new_element<counted>(1, true)), std::runtime_error);
    auto* const last = tarn::new_element<counted>(3);
    tarn::delete_element(last);
    EXPECT_EQ(counted::live, 0);
    EXPECT_DEATH(tarn::delete_element(last), "delete_element: deletion of 0x");
}

TEST(element_pools, serve_arrays) {
    struct numbered {
        numbered() {
            if (made == 5) {
                throw std::runtime_error{"the sixth"};
            }
            ++made;
        }

        numbered(numbered const&) = delete;
        numbered& operator=(numbered const&) = delete;

        ~numbered() { --made; }

        static int& count() {
            static int number = 0;
            return number;
        }

        int& made = count();
    };

    auto const five = tarn::new_elements<numbered>(5);
    EXPECT_EQ(numbered::count(), 5);
    EXPECT_THROW(static_cast<void>(tarn::new_elements<numbered>(1)), std::runtime_error);
    tarn::delete_elements(five);
    EXPECT_EQ(numbered::count(), 0);
    EXPECT_THROW(static_cast<void>(tarn::new_elements<numbered>(7)), std::runtime_error);
    EXPECT_EQ(numbered::count(), 0);
    EXPECT_TRUE(tarn::new_elements<int>(0).empty());
    EXPECT_THROW(static_cast<void>(tarn::new_elements<int>(SIZE_MAX / 2)),
                 std::bad_array_new_length);
    EXPECT_THROW(static_cast<void>(tarn::new_elements<char>(SIZE_MAX / 4)), std::bad_alloc);
}

TEST(element_pools, were_there_before_this_file_and_stay_until_the_end) {
    EXPECT_EQ(tarn::test::of_another_file(), 77);
}

}  // namespace
