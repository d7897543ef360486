// cfrac [NUMBER] - factors a composite number by continued fractions.
//
// Arithmetic on naturals of any size, each an immutable value in a block of its own: nearly every
// operation takes one or two blocks of 12 to 40 bytes, and most die at once. Beside them live
// the relations found so far and the bit rows of the elimination. NUMBER has at most 60 digits; the
// default is the product of two primes of 15 digits.
//
// Source     M. Morrison, J. Brillhart, "A Method of Factoring and the Factorization of F7", 1975.
//            As a benchmark of allocators: cfrac in D. Detlefs, A. Dosser, B. Zorn, "Memory
//            Allocation Costs in Large C and C++ Programs", 1994; written anew, no large primes
#include <algorithm>
#include <compare>
#include <memory>
#include <utility>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::string_view usual_number = "119987854485494795442701627189";
constexpr std::size_t decimals_max = 60;
constexpr unsigned digit_bits = 32;
constexpr std::size_t primes_per_digit = 36;
constexpr std::size_t early_primes = 20;
constexpr std::uint64_t early_product = 1 << 14;  // of these primes, least in a value worth more
constexpr std::size_t spare_relations = 32;       // half of all dependencies give a factor

using digit = std::uint32_t;
__extension__ using wide = unsigned __int128;

/// Owns a block: [0] how many digits, then the digits in base 2^32, least first, the last not 0.
class natural {
public:
    explicit natural(std::uint64_t value) : natural{blank(2)} {
        digits()[0] = static_cast<digit>(value);
        digits()[1] = static_cast<digit>(value >> digit_bits);
        trim();
    }

    natural(natural const& other) : natural{blank(other.size())} {
        std::copy_n(other.words_.get(), 1 + size(), words_.get());
    }

    natural(natural&& other) noexcept = default;
    natural& operator=(natural const& other) = delete;
    natural& operator=(natural&& other) noexcept = default;
    ~natural() = default;

    /// All digits 0: to be filled in and trimmed before anybody else sees it.
    static natural blank(std::size_t count) {
        natural result;
        result.words_ = std::make_unique<digit[]>(1 + count);
        result.words_[0] = static_cast<digit>(count);
        return result;
    }

    void trim() noexcept {
        while (size() != 0 && digits()[size() - 1] == 0) {
            --words_[0];
        }
    }

    [[nodiscard]] digit* digits() noexcept { return words_.get() + 1; }

    [[nodiscard]] std::size_t size() const noexcept { return words_[0]; }

    /// Digit `index`, 0 beyond the end.
    digit operator[](std::size_t index) const noexcept {
        return index < size() ? words_[1 + index] : 0;
    }

    /// Digits `index` and the one below.
    [[nodiscard]] std::uint64_t two_digits(std::size_t index) const noexcept {
        return std::uint64_t{(*this)[index]} << digit_bits | (*this)[index - 1];
    }

private:
    natural() noexcept = default;

    std::unique_ptr<digit[]> words_;  // null only after a move
};

std::strong_ordering operator<=>(natural const& a, natural const& b) noexcept {
    for (std::size_t index = std::max(a.size(), b.size()); index-- != 0;) {
        if (a[index] != b[index]) {
            return a[index] <=> b[index];
        }
    }
    return std::strong_ordering::equal;
}

bool operator==(natural const& a, natural const& b) noexcept { return std::is_eq(a <=> b); }

natural operator+(natural const& a, natural const& b) {
    natural sum = natural::blank(std::max(a.size(), b.size()) + 1);
    std::uint64_t carry = 0;
    for (std::size_t index = 0; index < sum.size(); ++index) {
        carry += std::uint64_t{a[index]} + b[index];
        sum.digits()[index] = static_cast<digit>(carry);
        carry >>= digit_bits;
    }
    sum.trim();
    return sum;
}

/// a >= b.
natural operator-(natural const& a, natural const& b) {
    natural difference = natural::blank(a.size());
    std::uint64_t borrow = 0;
    for (std::size_t index = 0; index < a.size(); ++index) {
        std::uint64_t const part = std::uint64_t{a[index]} - b[index] - borrow;
        difference.digits()[index] = static_cast<digit>(part);
        borrow = part >> (2 * digit_bits - 1);
    }
    difference.trim();
    return difference;
}

natural operator*(natural const& a, natural const& b) {
    natural product = natural::blank(a.size() + b.size());
    for (std::size_t row = 0; row < a.size(); ++row) {
        std::uint64_t carry = 0;
        for (std::size_t column = 0; column <= b.size() && row + column < product.size();
             ++column) {
            digit& place = product.digits()[row + column];
            carry += std::uint64_t{a[row]} * b[column] + place;
            place = static_cast<digit>(carry);
            carry >>= digit_bits;
        }
    }
    product.trim();
    return product;
}

struct short_division {
    natural quotient;
    digit remainder;
};

short_division divide(natural const& a, digit divisor) {
    natural quotient = natural::blank(a.size());
    std::uint64_t rest = 0;
    for (std::size_t index = a.size(); index-- != 0;) {
        rest = rest << digit_bits | a[index];
        quotient.digits()[index] = static_cast<digit>(rest / divisor);
        rest %= divisor;
    }
    quotient.trim();
    return {std::move(quotient), static_cast<digit>(rest)};
}

struct division {
    natural quotient;
    natural remainder;
};

/// Schoolbook division: a digit of the quotient is guessed from the first two of the divisor.
division divide(natural const& a, natural const& b) {
    if (b.size() == 1) {
        short_division result = divide(a, b[0]);
        return {std::move(result.quotient), natural{result.remainder}};
    }
    std::uint64_t const leading = b.two_digits(b.size() - 1);
    if (leading == 0) {
        fail("division by 0");
    }
    natural const radix{std::uint64_t{1} << digit_bits};
    natural quotient = natural::blank(a.size());
    natural rest{0};
    for (std::size_t index = a.size(); index-- != 0;) {
        rest = rest * radix + natural{a[index]};
        if (rest < b) {
            continue;
        }
        wide const top = wide{rest[b.size()]} << 2 * digit_bits | rest.two_digits(b.size() - 1);
        auto guess = static_cast<std::uint64_t>(top / leading);
        natural part = b * natural{guess};
        if (rest < part) {  // by one: what the guess leaves out makes a difference below 2
            part = part - b;
            --guess;
        }
        rest = rest - part;
        quotient.digits()[index] = static_cast<digit>(guess);
    }
    quotient.trim();
    return {std::move(quotient), std::move(rest)};
}

natural operator/(natural const& a, natural const& b) { return divide(a, b).quotient; }

natural operator%(natural const& a, natural const& b) { return divide(a, b).remainder; }

natural greatest_divisor(natural a, natural b) {
    while (b.size() != 0) {
        a = std::exchange(b, a % b);
    }
    return a;
}

/// The largest number whose square is at most `a`, which is not 0: Newton's method from above.
natural square_root(natural const& a) {
    natural root = a;
    for (;;) {
        natural next = divide(root + a / root, 2).quotient;
        if (next >= root) {
            return root;
        }
        root = std::move(next);
    }
}

std::uint64_t power(std::uint64_t base, std::uint64_t exponent, std::uint64_t modulus) noexcept {
    std::uint64_t result = 1;
    for (; exponent != 0; exponent /= 2) {
        result = exponent % 2 != 0 ? result * base % modulus : result;
        base = base * base % modulus;
    }
    return result;
}

/// 2 and the odd primes modulo which `number` is a square: only they divide what the search meets.
std::vector<digit> factor_base(natural const& number, std::size_t count) {
    std::vector<digit> primes{2};
    for (digit candidate = 3; primes.size() < count; candidate += 2) {
        digit divisor = 3;
        while (divisor * divisor <= candidate && candidate % divisor != 0) {
            divisor += 2;
        }
        if (divisor * divisor > candidate &&
            power(divide(number, candidate).remainder, (candidate - 1) / 2, candidate) <= 1) {
            primes.push_back(candidate);
        }
    }
    return primes;
}

/// The square of `root` is, modulo the number to factor, (-1)^exponents[0] times the product of
/// primes[i]^exponents[i + 1].
struct relation {
    natural root;
    std::vector<std::uint8_t> exponents;
};

using bit_row = std::vector<std::uint64_t>;

bool has(bit_row const& row, std::size_t bit) noexcept {
    return (row[bit / 64] >> bit % 64) % 2 != 0;
}

/// The relations so far; the equations modulo 2 are kept in echelon form.
class relation_set {
public:
    relation_set(natural number, std::vector<digit> const& primes)
        : number_{std::move(number)}, primes_{primes}, pivots_(primes.size() + 1) {
        relations_.reserve(primes.size() + spare_relations);
    }

    [[nodiscard]] bool is_full() const noexcept {
        return relations_.size() == relations_.capacity();
    }

    [[nodiscard]] std::size_t size() const noexcept { return relations_.size(); }

    /// A factor, or else 1 or the number itself: also when `next` depends on no others.
    natural add(relation next) {
        std::size_t const columns = pivots_.size();
        bit_row row((columns + relations_.capacity()) / 64 + 1);
        for (std::size_t column = 0; column < columns; ++column) {
            row[column / 64] |= std::uint64_t{next.exponents[column] % 2U} << column % 64;
        }
        std::size_t const self = columns + relations_.size();
        row[self / 64] |= std::uint64_t{1} << self % 64;
        relations_.push_back(std::move(next));
        for (std::size_t column = 0; column < columns; ++column) {
            if (!has(row, column)) {
                continue;
            }
            if (pivots_[column].empty()) {
                pivots_[column] = std::move(row);
                return natural{1};
            }
            for (std::size_t word = 0; word < row.size(); ++word) {
                row[word] ^= pivots_[column][word];
            }
        }
        return combine(row);
    }

private:
    /// The chosen relations multiplied: two squares that are equal modulo the number.
    [[nodiscard]] natural combine(bit_row const& row) const {
        natural left{1};
        std::vector<std::uint64_t> exponents(pivots_.size());
        for (std::size_t index = 0; index < relations_.size(); ++index) {
            if (has(row, pivots_.size() + index)) {
                left = left * relations_[index].root % number_;
                for (std::size_t member = 0; member < exponents.size(); ++member) {
                    exponents[member] += relations_[index].exponents[member];
                }
            }
        }
        natural right{1};
        for (std::size_t index = 0; index < primes_.size(); ++index) {
            for (std::uint64_t half = exponents[index + 1] / 2; half != 0; --half) {
                right = right * natural{primes_[index]} % number_;
            }
        }
        return greatest_divisor(left + number_ - right, number_);
    }

    natural number_;
    std::vector<digit> primes_;
    std::vector<relation> relations_;
    std::vector<bit_row> pivots_;  // by the first column set; empty: none yet
};

/// Whether the primes make up all of `rest`; counts them in `exponents`, from [1]. Gives up early
/// where the first primes leave more than `bound`.
bool divides_out(natural rest, std::vector<digit> const& primes, natural const& bound,
                 std::vector<std::uint8_t>& exponents) {
    std::fill(exponents.begin(), exponents.end(), std::uint8_t{0});
    for (std::size_t index = 0; index < primes.size(); ++index) {
        if (index == early_primes && rest > bound) {
            return false;
        }
        for (;;) {
            short_division result = divide(rest, primes[index]);
            if (result.remainder != 0) {
                break;
            }
            rest = std::move(result.quotient);
            ++exponents[index + 1];
        }
    }
    return rest == natural{1};
}

struct outcome {
    natural factor;  // 1: none found
    std::uint64_t terms;
    std::uint64_t relations;
};

/// Expands the root of the number into a continued fraction p/q: each p squared is, modulo the
/// number, a small value of either sign, and now and then the base divides that out.
outcome search(natural const& number) {
    natural const root = square_root(number);
    std::vector<digit> const primes = factor_base(number, number.size() * primes_per_digit);
    relation_set relations{number, primes};
    std::vector<std::uint8_t> exponents(primes.size() + 1);
    natural const one{1};
    natural const bound = root / natural{early_product};
    natural before{1};
    natural numerator = root % number;
    natural offset{0};
    natural value{1};
    natural partial = root;
    std::uint64_t terms = 0;
    do {
        ++terms;
        offset = partial * value - offset;
        value = (number - offset * offset) / value;
        if (value.size() == 0) {
            break;  // a square: its root has no expansion
        }
        if (divides_out(value, primes, bound, exponents)) {
            exponents[0] = terms % 2;
            natural factor = relations.add({numerator, exponents});
            if (factor > one && factor < number) {
                return {std::move(factor), terms, relations.size()};
            }
        }
        partial = (root + offset) / value;
        before = std::exchange(numerator, (partial * numerator + before) % number);
    } while (value != one && !relations.is_full());
    return {one, terms, relations.size()};
}

/// 0 where `text` is no number.
natural parse(std::string_view text) {
    if (text.size() > decimals_max ||
        text.find_first_not_of("0123456789") != std::string_view::npos) {
        return natural{0};
    }
    natural number{0};
    for (char const character : text) {
        number = number * natural{10} + natural{static_cast<std::uint64_t>(character - '0')};
    }
    return number;
}

}  // namespace

int main(int argc, char** argv) {
    std::string_view const text = argc == 2 ? argv[1] : usual_number;
    natural const one{1};
    natural const number = parse(text);
    if (argc > 2 || number <= one) {
        std::fprintf(stderr, "usage: cfrac [NUMBER]\n");
        return 2;
    }
    outcome const found = search(number);
    if (found.factor == one) {
        fail("no factor found: a prime, a square, or too small");
    }
    natural const other = number / found.factor;
    if (found.factor < one || other <= one || found.factor * other != number) {
        fail("not a factor");
    }
    natural const lesser = std::min(found.factor, other);
    return finish("cfrac", mix(mix(found.terms + mix(found.relations)) + lesser.two_digits(1)));
}
