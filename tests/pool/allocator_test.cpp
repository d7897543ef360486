// allocator_test - standard containers with our allocators: equality, propagation, errors.
#include "tarn/allocator.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tarn/pool_resource.hpp"

#include "pool/counting_resource.hpp"

namespace {

using tarn::allocator;
using tarn::pool_resource;
using tarn::resource_allocator;

template <class T>
using pooled = resource_allocator<T, pool_resource>;

template <template <class> class Allocator>
void expect_containers(Allocator<int> from) {
    using string = std::basic_string<char, std::char_traits<char>, Allocator<char>>;
    std::vector<int, Allocator<int>> vector{from};
    std::deque<int, Allocator<int>> deque{from};
    std::list<int, Allocator<int>> list{from};
    std::set<int, std::less<>, Allocator<int>> set{from};
    std::map<int, int, std::less<>, Allocator<std::pair<int const, int>>> map{from};
    std::unordered_map<int, int, std::hash<int>, std::equal_to<>,
                       Allocator<std::pair<int const, int>>>
        hashed{from};
    string text{"a text that does not fit into the string object itself", from};
    for (int i = 0; i < 1000; ++i) {
        vector.push_back(i);
        deque.push_front(i);
        list.push_back(i);
        set.insert(i);
        map[i] = i;
        hashed[i] = i;
        text += 'x';
    }
    EXPECT_EQ(vector.back(), 999);
    EXPECT_EQ(deque.back(), 0);
    EXPECT_EQ(list.size(), 1000U);
    EXPECT_EQ(set.size(), 1000U);
    EXPECT_EQ(map[500], 500);
    EXPECT_EQ(hashed[500], 500);
    EXPECT_EQ(text.back(), 'x');
    auto const shared = std::allocate_shared<int>(from, 7);
    EXPECT_EQ(*shared, 7);
}

TEST(allocator, serves_standard_containers) { expect_containers(allocator<int>{}); }

TEST(allocator, has_no_state) {
    static_assert(std::is_empty_v<allocator<int>>);
    static_assert(std::allocator_traits<allocator<int>>::is_always_equal::value);
    EXPECT_EQ(allocator<int>{}, allocator<char>{});
    EXPECT_THROW(static_cast<void>(allocator<int>{}.allocate(SIZE_MAX / 2)),
                 std::bad_array_new_length);
}

TEST(resource_allocator, serves_standard_containers) {
    pool_resource resource;
    expect_containers<pooled>(pooled<int>{&resource});
}

TEST(resource_allocator, goes_with_what_is_moved_and_swapped_and_not_with_copies) {
    pool_resource first;
    pool_resource second;
    using vector = std::vector<int, pooled<int>>;
    EXPECT_NE(pooled<int>{&first}, pooled<char>{&second});
    EXPECT_EQ(pooled<int>{&first}, pooled<char>{&first});
    vector a{{1, 2, 3}, &first};
    vector b{{4, 5}, &second};
    int const* const data = a.data();
    swap(a, b);
    EXPECT_EQ(b.data(), data);
    EXPECT_EQ(b.get_allocator().resource(), &first);
    a = std::move(b);
    EXPECT_EQ(a.data(), data);
    EXPECT_EQ(a.get_allocator().resource(), &first);
    vector c{&second};
    c = a;
    EXPECT_EQ(c.get_allocator().resource(), &second);
    vector const d{a};
    EXPECT_EQ(d.get_allocator().resource(), &first);
    EXPECT_EQ(c, d);
}

}  // namespace
