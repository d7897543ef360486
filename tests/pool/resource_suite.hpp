// pool/resource_suite.hpp - what every std::pmr::memory_resource of ours must do.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <forward_list>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "support/pattern.hpp"
#include "support/random.hpp"

namespace tarn::test {

/// Blocks of many sizes and alignments live side by side, keep what is written, and come back in
/// any order. `most`: bytes of the largest request that the resource can meet a few times over.
inline void expect_blocks(std::pmr::memory_resource& resource, std::size_t most,
                          std::size_t alignment_most = 4096) {
    struct block {
        void* start;
        std::size_t bytes;
        std::size_t alignment;
        std::uint64_t pattern;
    };

    std::vector<block> live;
    random_stream random{most};
    std::size_t held = 0;
    auto const drop = [&](std::size_t index) {
        block const gone = live[index];
        ASSERT_EQ(first_wrong(gone.start, gone.bytes, gone.pattern), intact);
        resource.deallocate(gone.start, gone.bytes, gone.alignment);
        held -= gone.bytes;
        live[index] = live.back();
        live.pop_back();
    };
    for (int i = 0; i < 3000; ++i) {
        while (!live.empty() && (held > 2 * most || random.one_in(3))) {
            drop(random.below(live.size()));
        }
        block made{.start = nullptr,
                   .bytes = random.size_up_to(most),
                   .alignment = std::size_t{1} << random.below(
                                    static_cast<std::uint64_t>(std::bit_width(alignment_most))),
                   .pattern = random.next()};
        made.start = resource.allocate(made.bytes, made.alignment);
        ASSERT_NE(made.start, nullptr);
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(made.start) % made.alignment, 0U);
        fill(made.start, made.bytes, made.pattern);
        held += made.bytes;
        live.push_back(made);
    }
    while (!live.empty()) {
        drop(live.size() - 1);
    }
}

/// What is at the edge of the interface.
inline void expect_edges(std::pmr::memory_resource& resource) {
    void* const none = resource.allocate(0, 1);  // a block of its own, or null
    resource.deallocate(none, 0, 1);
    // Containers of the field return null. By way of a pointer: the library says of deallocate()
    // that its argument is not null, which the sanitizer would hold against us.
    auto const deallocate = &std::pmr::memory_resource::deallocate;
    (resource.*deallocate)(nullptr, 0, 1);
    EXPECT_THROW(static_cast<void>(resource.allocate(SIZE_MAX / 2)), std::bad_alloc);
    EXPECT_THROW(static_cast<void>(resource.allocate(SIZE_MAX - 8)), std::bad_alloc);
    std::size_t const volatile three = 3;  // of a constant, Clang would warn
    EXPECT_THROW(static_cast<void>(resource.allocate(16, three)), std::invalid_argument);
    EXPECT_TRUE(resource.is_equal(resource));
    EXPECT_FALSE(resource.is_equal(*std::pmr::null_memory_resource()));
}

/// Standard containers on it hold what they were given.
inline void expect_containers(std::pmr::memory_resource& resource) {
    random_stream random{1};
    std::vector<int> wanted;
    std::pmr::vector<int> vector{&resource};
    std::pmr::deque<int> deque{&resource};
    std::pmr::list<int> list{&resource};
    std::pmr::forward_list<int> forward{&resource};
    std::pmr::multiset<int> ordered{&resource};
    std::pmr::map<int, std::pmr::string> strings{&resource};
    std::pmr::unordered_multiset<int> hashed{&resource};
    for (int i = 0; i < 500; ++i) {
        auto const value = static_cast<int>(random.below(100'000));
        wanted.push_back(value);
        vector.push_back(value);
        deque.push_back(value);
        list.push_back(value);
        forward.push_front(value);
        ordered.insert(value);
        hashed.insert(value);
        strings[i] = std::string(static_cast<std::size_t>(value % 60), 'x');
    }
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), vector.begin(), vector.end()));
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), deque.begin(), deque.end()));
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), list.begin(), list.end()));
    EXPECT_TRUE(std::equal(wanted.rbegin(), wanted.rend(), forward.begin(), forward.end()));
    for (int i = 0; i < 500; ++i) {
        EXPECT_EQ(strings[i].size(),
                  static_cast<std::size_t>(wanted[static_cast<std::size_t>(i)] % 60));
    }
    std::sort(wanted.begin(), wanted.end());
    EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), ordered.begin(), ordered.end()));
    EXPECT_EQ(hashed.size(), wanted.size());

    // Moved between equal resources, copied between others.
    std::pmr::vector<int> const moved{std::move(vector), &resource};
    std::pmr::vector<int> const copied{moved, std::pmr::new_delete_resource()};
    EXPECT_EQ(moved, copied);
    auto const shared = std::allocate_shared<std::pmr::string>(
        std::pmr::polymorphic_allocator<std::byte>{&resource}, 100, 'y');
    EXPECT_EQ(shared->size(), 100U);
}

}  // namespace tarn::test
