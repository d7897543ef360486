// espresso [VARIABLES [CUBES [ROUNDS]]] - minimises two-level logic.
//
// Each round makes a random function of VARIABLES inputs, the union of up to CUBES cubes, and
// rewrites it with fewer: expand, irredundant, reduce, over and over. A cube is a block of 8 or 16
// bytes, a cover an array of them; complements and tautologies take covers apart variable by
// variable, so that thousands of short-lived small covers come and go, last in, first out.
//
// Source     R. Brayton, G. Hachtel, C. McMullen, A. Sangiovanni-Vincentelli, "Logic Minimization
//            Algorithms for VLSI Synthesis", 1984. As a benchmark of allocators: espresso in
//            D. Detlefs, A. Dosser, B. Zorn, "Memory Allocation Costs in Large C and C++ Programs",
//            1994; written anew, for one output and no don't-cares
#include <algorithm>
#include <bit>
#include <memory>
#include <utility>

#include "support.hpp"

namespace {

using namespace bench;

// Recursion takes one variable away per level, so this bounds its depth.
constexpr std::size_t variables_max = 64;
constexpr std::size_t variables_per_word = 32;
constexpr std::uint64_t lower_bits = 0x5555'5555'5555'5555;
constexpr std::uint64_t literals_min = 3;
constexpr std::uint64_t literals_most = 8;

/// Two bits per variable: whether the cube has points where it is 0, and where it is 1. So 3 means
/// that the cube does not care, and 0 that it is empty.
using cube = std::unique_ptr<std::uint64_t[]>;
using cover = std::vector<cube>;

enum class value : std::uint64_t { zero = 1, one = 2, any = 3 };

/// The inputs of a function, and what depends on their number.
class space {
public:
    explicit space(std::size_t variables) noexcept : variables_{variables} {}

    [[nodiscard]] std::size_t variables() const noexcept { return variables_; }

    [[nodiscard]] std::size_t words() const noexcept {
        return (variables_ - 1) / variables_per_word + 1;
    }

    /// The bits of a word that stand for variables.
    [[nodiscard]] std::uint64_t used(std::size_t word) const noexcept {
        std::size_t const left = variables_ - word * variables_per_word;
        return left >= variables_per_word ? ~std::uint64_t{0} : (std::uint64_t{1} << 2 * left) - 1;
    }

    [[nodiscard]] cube universe() const {
        cube result = std::make_unique<std::uint64_t[]>(words());
        for (std::size_t word = 0; word < words(); ++word) {
            result[word] = used(word);
        }
        return result;
    }

    [[nodiscard]] cube copy(cube const& from) const {
        cube result = std::make_unique<std::uint64_t[]>(words());
        std::copy_n(from.get(), words(), result.get());
        return result;
    }

    [[nodiscard]] cover copy(cover const& from) const {
        cover result;
        result.reserve(from.size());
        for (cube const& each : from) {
            result.push_back(copy(each));
        }
        return result;
    }

    /// Whether `outer` has all points of `inner`.
    [[nodiscard]] bool contains(cube const& outer, cube const& inner) const noexcept {
        for (std::size_t word = 0; word < words(); ++word) {
            if ((inner[word] & ~outer[word]) != 0) {
                return false;
            }
        }
        return true;
    }

    [[nodiscard]] bool intersects(cube const& a, cube const& b) const noexcept {
        for (std::size_t word = 0; word < words(); ++word) {
            std::uint64_t const both = a[word] & b[word];
            if (((both | both >> 1) & lower_bits) != (used(word) & lower_bits)) {
                return false;
            }
        }
        return true;
    }

    [[nodiscard]] bool is_universe(cube const& each) const noexcept {
        for (std::size_t word = 0; word < words(); ++word) {
            if (each[word] != used(word)) {
                return false;
            }
        }
        return true;
    }

    /// Grows with the points of the cube: twice the variables less its literals.
    [[nodiscard]] int weight(cube const& each) const noexcept {
        int sum = 0;
        for (std::size_t word = 0; word < words(); ++word) {
            sum += std::popcount(each[word]);
        }
        return sum;
    }

private:
    std::size_t variables_;
};

value get(cube const& from, std::size_t variable) noexcept {
    return static_cast<value>(
        from[variable / variables_per_word] >> 2 * (variable % variables_per_word) & 3);
}

void set(cube& into, std::size_t variable, value chosen) noexcept {
    std::size_t const shift = 2 * (variable % variables_per_word);
    std::uint64_t& word = into[variable / variables_per_word];
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDelete): no cube is of 0 words
    word = (word & ~(std::uint64_t{3} << shift)) | static_cast<std::uint64_t>(chosen) << shift;
}

/// What the cover says about the points in `within`, about which it no longer cares. Without cube
/// number `skipped`.
cover cofactor(space const& in, cover const& of, cube const& within,
               std::size_t skipped = ~std::size_t{0}) {
    cover result;
    result.reserve(of.size());
    for (std::size_t index = 0; index < of.size(); ++index) {
        if (index != skipped && in.intersects(of[index], within)) {
            cube& added = result.emplace_back(in.copy(of[index]));
            for (std::size_t word = 0; word < in.words(); ++word) {
                added[word] |= in.used(word) & ~within[word];
            }
        }
    }
    return result;
}

cover half(space const& in, cover const& of, std::size_t variable, value chosen) {
    cube within = in.universe();
    set(within, variable, chosen);
    return cofactor(in, of, within);
}

struct choice {
    std::size_t variable;
    bool is_binate;  // else no variable is there in both forms
};

/// The variable that is in most cubes, of those that are there in both forms, if any is.
choice choose(space const& in, cover const& of) noexcept {
    choice best{0, false};
    std::size_t most = 0;
    for (std::size_t variable = 0; variable < in.variables(); ++variable) {
        std::size_t zeros = 0;
        std::size_t ones = 0;
        for (cube const& each : of) {
            zeros += get(each, variable) == value::zero ? 1U : 0U;
            ones += get(each, variable) == value::one ? 1U : 0U;
        }
        bool const is_binate = zeros != 0 && ones != 0;
        if (is_binate > best.is_binate || (is_binate == best.is_binate && zeros + ones > most)) {
            best = {variable, is_binate};
            most = zeros + ones;
        }
    }
    return best;
}

bool has_universe(space const& in, cover const& of) noexcept {
    return std::any_of(of.begin(), of.end(),
                       [&](cube const& each) { return in.is_universe(each); });
}

/// Whether the cover has every point.
// NOLINTNEXTLINE(misc-no-recursion): at most variables_max deep, each call fixes a variable
bool is_tautology(space const& in, cover const& of) {
    if (has_universe(in, of)) {
        return true;
    }
    choice const split = choose(in, of);
    return split.is_binate && is_tautology(in, half(in, of, split.variable, value::zero)) &&
           is_tautology(in, half(in, of, split.variable, value::one));
}

/// A cover of the points that the cover does not have.
// NOLINTNEXTLINE(misc-no-recursion): at most variables_max deep, each call fixes a variable
cover complement(space const& in, cover const& of) {
    cover result;
    if (of.empty()) {
        result.push_back(in.universe());
        return result;
    }
    if (has_universe(in, of)) {
        return result;
    }
    std::size_t const variable = choose(in, of).variable;
    result = complement(in, half(in, of, variable, value::zero));
    cover other = complement(in, half(in, of, variable, value::one));
    // A cube that lies within one of the other half need not be there twice.
    std::size_t const first_half = result.size();
    for (std::size_t index = 0; index < first_half; ++index) {
        if (std::none_of(other.begin(), other.end(),
                         [&](cube const& each) { return in.contains(each, result[index]); })) {
            set(result[index], variable, value::zero);
        }
    }
    for (cube& each : other) {
        bool const is_within =
            std::any_of(result.begin(), result.begin() + static_cast<std::ptrdiff_t>(first_half),
                        [&](cube const& known) { return in.contains(known, each); });
        if (!is_within) {
            set(each, variable, value::one);
            result.push_back(std::move(each));
        }
    }
    return result;
}

/// Raises each cube to a prime: one that drops no further literal without meeting a point in `off`.
/// Cubes that a raised one contains are dropped.
void expand(space const& in, cover& of, cover const& off) {
    // Small ones first: they gain most, and large ones may contain them later on.
    std::sort(of.begin(), of.end(), [&](cube const& a, cube const& b) {
        int const difference = in.weight(a) - in.weight(b);
        return difference != 0 ? difference < 0
                               : std::lexicographical_compare(a.get(), a.get() + in.words(),
                                                              b.get(), b.get() + in.words());
    });
    for (std::size_t index = 0; index < of.size(); ++index) {
        cube raised = in.copy(of[index]);
        for (std::size_t variable = 0; variable < in.variables(); ++variable) {
            value const before = get(raised, variable);
            set(raised, variable, value::any);
            if (std::any_of(off.begin(), off.end(),
                            [&](cube const& each) { return in.intersects(each, raised); })) {
                set(raised, variable, before);
            }
        }
        auto const is_inside = [&](cube const& each) { return in.contains(raised, each); };
        auto const next = of.begin() + static_cast<std::ptrdiff_t>(index);
        auto const kept = std::remove_if(of.begin(), next, is_inside);
        index = static_cast<std::size_t>(kept - of.begin());
        auto const rest = std::remove_if(next, of.end(), is_inside);
        // The cube itself is gone as well: there is a place for what it became.
        of.erase(std::move(next, rest, kept), of.end());
        of.insert(of.begin() + static_cast<std::ptrdiff_t>(index), std::move(raised));
    }
}

/// Drops cubes whose points the others have.
void make_irredundant(space const& in, cover& of) {
    for (std::size_t index = of.size(); index-- != 0;) {
        if (is_tautology(in, cofactor(in, of, of[index], index))) {
            of.erase(of.begin() + static_cast<std::ptrdiff_t>(index));
        }
    }
}

/// Shrinks each cube to the smallest that has the points no other has: room to expand elsewhere.
/// There are such points, for the cover is irredundant and the others only lose some.
void reduce(space const& in, cover& of) {
    for (std::size_t index = of.size(); index-- != 0;) {
        cover const lonely = complement(in, cofactor(in, of, of[index], index));
        for (std::size_t word = 0; word < in.words(); ++word) {
            std::uint64_t together = 0;
            for (cube const& each : lonely) {
                together |= each[word];
            }
            of[index][word] &= together;
        }
    }
}

/// Number of cubes, then of literals.
std::pair<std::size_t, int> cost(space const& in, cover const& of) noexcept {
    int literals = 0;
    for (cube const& each : of) {
        literals += static_cast<int>(2 * in.variables()) - in.weight(each);
    }
    return {of.size(), literals};
}

cover minimise(space const& in, cover const& from) {
    cover const off = complement(in, from);
    cover best = in.copy(from);
    expand(in, best, off);
    make_irredundant(in, best);
    for (;;) {  // ends: the cost falls each time
        cover next = in.copy(best);
        reduce(in, next);
        expand(in, next, off);
        make_irredundant(in, next);
        if (cost(in, next) >= cost(in, best)) {
            return best;
        }
        best = std::move(next);
    }
}

/// Whether `outer` has all points of `inner`.
bool contains(space const& in, cover const& outer, cover const& inner) {
    return std::all_of(inner.begin(), inner.end(), [&](cube const& each) {
        return is_tautology(in, cofactor(in, outer, each));
    });
}

cover random_cover(space const& in, std::uint64_t cubes, random_stream& random) {
    cover result;
    result.reserve(cubes);
    for (; cubes != 0; --cubes) {
        cube& added = result.emplace_back(in.universe());
        for (std::uint64_t left = random.between(literals_min, literals_most); left != 0; --left) {
            std::size_t const variable = random.below(in.variables());
            set(added, variable, random.one_in(2) ? value::one : value::zero);
        }
    }
    return result;
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {16, 100, 32};
    parse_arguments(argc, argv, "espresso [VARIABLES [CUBES [ROUNDS]]]", numbers);
    auto const [variables, cubes, rounds] = numbers;
    if (variables > variables_max) {
        fail("at most 64 variables");
    }
    space const in{variables};
    random_stream random{1};
    std::uint64_t checksum = 0;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        cover const original = random_cover(in, random.between((cubes + 3) / 4, cubes), random);
        cover const minimal = minimise(in, original);
        if (!contains(in, minimal, original) || !contains(in, original, minimal)) {
            fail("not the same function");
        }
        for (cube const& each : minimal) {
            for (std::size_t word = 0; word < in.words(); ++word) {
                checksum = mix(checksum + each[word]);
            }
        }
    }
    return finish("espresso", checksum);
}
