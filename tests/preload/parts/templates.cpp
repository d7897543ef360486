// templates.cpp - keeps a C++ compiler busy: recursion, tuples, variants, compile-time sums, maps
// of many types. Also a program of its own, which prints the same on every allocator.
#include <array>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

template <int N>
struct tree {
    tree<N - 1> left;
    std::array<int, N> values{};

    constexpr int sum() const {
        return left.sum() + std::accumulate(values.begin(), values.end(), N);
    }
};

template <>
struct tree<0> {
    constexpr int sum() const { return 0; }
};

template <std::size_t... I>
auto squares(std::index_sequence<I...> /*unused*/) {
    return std::make_tuple(std::integral_constant<std::size_t, I * I>{}...);
}

template <int N>
using entry = std::variant<std::array<char, N>, std::tuple<int, std::array<long, N>>, std::string>;

template <int N>
std::size_t fill() {
    std::map<int, std::vector<entry<N>>> by_key;
    std::map<std::string, std::shared_ptr<entry<N>>> by_name;
    std::function<entry<N>(int)> const make = [](int i) {
        return entry<N>{std::string(i % 90, 'x')};
    };
    for (int i = 0; i < 5000; ++i) {
        by_key[i % 97].push_back(make(i));
        by_name["name" + std::to_string(i % 311)] = std::make_shared<entry<N>>(make(i));
    }
    return by_key.size() + by_name.size();
}

template <int... N>
std::size_t fill_all(std::integer_sequence<int, N...> /*unused*/) {
    return (fill<N + 1>() + ...);
}

int main() {
    constexpr tree<40> grown{};
    std::cout << grown.sum() << '\n';
    std::cout << std::apply([](auto... n) { return (n() + ...); },
                            squares(std::make_index_sequence<40>{}))
              << '\n';
    std::vector<std::size_t> results(4);
    std::vector<std::thread> threads;
    for (std::size_t& result : results) {
        threads.emplace_back(
            [&result] { result = fill_all(std::make_integer_sequence<int, 2>{}); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    std::cout << std::accumulate(results.begin(), results.end(), std::size_t{0}) << '\n';
}
