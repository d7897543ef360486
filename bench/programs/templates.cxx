// What a compiler has to read: the standard library, and templates that make many types.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

template <std::size_t N>
struct number {
    static constexpr std::size_t value = N;
    std::map<std::size_t, std::vector<std::pair<number<N / 2>*, std::optional<int>>>> table;

    auto twice() const { return std::make_tuple(N, number<N - N / 3 - 1>::value, table.size()); }
};

template <>
struct number<0> {
    static constexpr std::size_t value = 0;
};

template <std::size_t... I>
std::size_t sum(std::index_sequence<I...>) {
    std::variant<number<I>...> any;
    std::tuple<std::unique_ptr<number<I>>...> all;
    (void)all;
    return (number<I>::value + ... + any.index()) +
           (std::get<0>(number<I + 1>{}.twice()) + ... + 0);
}

std::size_t compile_me() {
    std::unordered_map<std::string, std::function<std::size_t(std::vector<std::string> const&)>> f;
    f["size"] = [](auto const& words) { return words.size(); };
    return sum(std::make_index_sequence<10>{}) + f.size();
}
