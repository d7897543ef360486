#include "base/intrusive_list.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <deque>
#include <random>
#include <vector>

#include "support/fatal_text.hpp"

namespace {

struct node {
    int number = 0;
    node* list_next = nullptr;
    node* list_prev = nullptr;
};

using list = tarn::impl::base::intrusive_list<node>;

/// Numbers front to back; checks the links backwards on the way.
std::vector<int> numbers(list const& in) {
    std::vector<int> seen;
    node const* last = nullptr;
    for (node const* at = in.front(); at != nullptr; at = at->list_next) {
        EXPECT_EQ(at->list_prev, last);
        seen.push_back(at->number);
        last = at;
    }
    EXPECT_EQ(in.back(), last);
    EXPECT_EQ(in.empty(), seen.empty());
    return seen;
}

TEST(intrusive_list, starts_empty) {
    constinit static list in;
    EXPECT_TRUE(in.empty());
    EXPECT_EQ(in.front(), nullptr);
    EXPECT_EQ(in.back(), nullptr);
}

TEST(intrusive_list, keeps_order) {
    std::array<node, 4> nodes{node{1}, node{2}, node{3}, node{4}};
    list in;
    in.push_back(nodes[1]);
    in.push_back(nodes[2]);
    in.push_front(nodes[0]);
    in.push_back(nodes[3]);
    EXPECT_EQ(numbers(in), (std::vector{1, 2, 3, 4}));
}

TEST(intrusive_list, removes_anywhere_and_unlinks) {
    for (std::size_t victim = 0; victim < 3; ++victim) {
        std::array<node, 3> nodes{node{0}, node{1}, node{2}};
        list in;
        for (node& each : nodes) {
            in.push_back(each);
        }
        in.remove(nodes[victim]);
        EXPECT_EQ(nodes[victim].list_next, nullptr);
        EXPECT_EQ(nodes[victim].list_prev, nullptr);
        EXPECT_EQ(numbers(in).size(), 2U);
        in.push_front(nodes[victim]);
        EXPECT_EQ(numbers(in).front(), static_cast<int>(victim));
    }
}

TEST(intrusive_list, removes_the_only_node) {
    node only{7};
    list in;
    in.push_front(only);
    in.remove(only);
    EXPECT_TRUE(numbers(in).empty());
    in.push_back(only);
    EXPECT_EQ(numbers(in), std::vector{7});
}

TEST(intrusive_list, behaves_like_a_deque) {
    std::mt19937 random{20240501};
    std::array<node, 32> nodes;
    list in;
    std::deque<int> model;
    for (int i = 0; i < 32; ++i) {
        nodes[static_cast<std::size_t>(i)].number = i;
    }
    for (int step = 0; step < 5000; ++step) {
        int const number = static_cast<int>(random() % 32);
        node& one = nodes[static_cast<std::size_t>(number)];
        auto const found = std::find(model.begin(), model.end(), number);
        if (found != model.end()) {
            in.remove(one);
            model.erase(found);
        } else if (random() % 2 == 0) {
            in.push_front(one);
            model.push_front(number);
        } else {
            in.push_back(one);
            model.push_back(number);
        }
        ASSERT_EQ(numbers(in), std::vector<int>(model.begin(), model.end())) << "step " << step;
    }
}

#if TARN_CHECK_LEVEL >= 1

TEST(intrusive_list_death, refuses_what_would_tear_a_list) {
    tarn::test::show_fatal_text();
    node one;
    node other;
    list in;
    in.push_back(one);
    in.push_back(other);
    EXPECT_DEATH(in.push_front(other), "check failed");
    node stranger;
    EXPECT_DEATH(in.remove(stranger), "check failed");
    list second;
    EXPECT_DEATH(second.remove(one), "check failed");
}

#endif

}  // namespace
