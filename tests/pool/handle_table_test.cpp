// handle_table_test - handles of elements that are gone say so, whatever lies there now.
#include "tarn/handle_table.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "pool/counting_resource.hpp"
#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using tarn::element_handle;
using tarn::handle_table;
using tarn::object_pool;
using tarn::test::counting_resource;
using tarn::test::random_stream;

static_assert(std::is_trivially_copyable_v<element_handle<int>>);
static_assert(sizeof(element_handle<int>) == sizeof(std::uint64_t));

TEST(handle_table, gives_null_for_what_is_gone) {
    object_pool<std::string> pool;
    handle_table<std::string> table{pool};
    auto const first = table.new_element("first");
    EXPECT_EQ(*table.get(first), "first");
    std::string const* const place = table.get(first);
    EXPECT_TRUE(table.delete_element(first));
    EXPECT_EQ(table.get(first), nullptr);
    EXPECT_FALSE(table.delete_element(first));
    auto const second = table.new_element("second");
    EXPECT_EQ(table.get(second), place);  // the same memory, and another element
    EXPECT_EQ(table.get(first), nullptr);
    EXPECT_NE(first, second);
    EXPECT_EQ(table.size(), 1U);
    EXPECT_EQ(pool.size(), 1U);
}

TEST(handle_table, knows_nothing_of_other_words) {
    object_pool<int> pool;
    handle_table<int> table{pool};
    EXPECT_EQ(table.get({}), nullptr);
    EXPECT_FALSE(element_handle<int>{});
    auto const made = table.new_element(7);
    EXPECT_TRUE(made);
    EXPECT_EQ(table.get({}), nullptr);
    EXPECT_EQ(*table.get(element_handle<int>::of_value(made.value())), 7);
    for (std::uint64_t const wrong : {made.value() + 1, made.value() + (std::uint64_t{1} << 32),
                                      made.value() ^ (std::uint64_t{1} << 63), UINT64_MAX}) {
        EXPECT_EQ(table.get(element_handle<int>::of_value(wrong)), nullptr);
        EXPECT_FALSE(table.delete_element(element_handle<int>::of_value(wrong)));
    }
}

TEST(handle_table, deletes_what_is_left_and_survives_what_throws) {
    struct loud {
        explicit loud(bool fails) {
            if (fails) {
                throw std::runtime_error{"as asked"};
            }
            ++count();
        }

        loud(loud const&) = delete;
        loud& operator=(loud const&) = delete;

        ~loud() { --count(); }

        static int& count() {
            static int live = 0;
            return live;
        }
    };

    object_pool<loud> pool;
    {
        handle_table<loud> table{pool};
        EXPECT_THROW(static_cast<void>(table.new_element(true)), std::runtime_error);
        EXPECT_EQ(table.size(), 0U);
        static_cast<void>(table.new_element(false));
        EXPECT_EQ(loud::count(), 1);
    }
    EXPECT_EQ(loud::count(), 0);
    for (std::size_t nth = 1;; ++nth) {
        counting_resource upstream;
        upstream.fail_at(nth);
        {
            handle_table<loud> table{pool, &upstream};
            for (int i = 0; i < 20; ++i) {
                try {
                    static_cast<void>(table.new_element(false));
                } catch (std::bad_alloc const&) {
                    EXPECT_EQ(table.size(), pool.size());
                }
            }
        }
        EXPECT_EQ(loud::count(), 0);
        EXPECT_EQ(upstream.live(), 0U);
        if (!upstream.has_failed()) {
            break;
        }
    }
}

TEST(handle_table, agrees_with_a_map) {
    random_stream random{5};
    object_pool<std::uint64_t> pool;
    handle_table<std::uint64_t> table{pool};
    std::map<std::uint64_t, std::uint64_t> live;  // handle, element
    std::vector<element_handle<std::uint64_t>> all;
    for (std::uint64_t i = 0; i < tarn::test::scaled(40'000); ++i) {
        if (all.empty() || !random.one_in(3)) {
            all.push_back(table.new_element(i));
            ASSERT_TRUE(live.emplace(all.back().value(), i).second);
        }
        auto const any = all[random.below(all.size())];
        auto const found = live.find(any.value());
        std::uint64_t const* const element = table.get(any);
        ASSERT_EQ(element != nullptr, found != live.end());
        ASSERT_TRUE(element == nullptr || *element == found->second);
        if (random.one_in(2)) {
            ASSERT_EQ(table.delete_element(any), found != live.end());
            live.erase(any.value());
        }
        ASSERT_EQ(table.size(), live.size());
    }
}

TEST(handle_table, lets_one_of_many_threads_delete) {
    object_pool<int, tarn::locked> pool;
    handle_table<int, tarn::locked> table{pool};
    std::vector<element_handle<int>> handles;
    handles.reserve(500);
    for (int i = 0; i < 500; ++i) {
        handles.push_back(table.new_element(i));
    }
    std::atomic<int> deleted{0};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (auto const each : handles) {
                deleted += table.delete_element(each) ? 1 : 0;
                static_cast<void>(table.new_element(1));
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(deleted, 500);
    EXPECT_EQ(table.size(), 2000U);
}

}  // namespace
