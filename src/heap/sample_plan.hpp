// heap/sample_plan.hpp - sample_plan: which blocks of a class, in one heap, are samples.
//
// Threads    the heap's owner
// Always     gaps between samples are geometric: every block is as likely to be one as any other,
//            whatever came before it. Nothing is counted on the fast path: a refill knows how many
//            blocks were handed out, those that were reused a little late. So a plan first comes
//            near to its sample; from then on nothing may be reused, and the list that malloc pops
//            ends in front of the sample. A plan that learns too late draws its sample from the
//            blocks that follow, and the one after that comes the sooner.
// Cost       a comparison at a refill
// Source     DESIGN: refills carry the sampling; the logarithm by squaring is Briggs' (1624)
// Tests      unit/heap/sampling_test.cpp
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace tarn::impl::heap {

/// Random numbers (S. Vigna's splitmix64, 2015).
class random_source {
public:
    constexpr random_source() noexcept = default;

    explicit constexpr random_source(std::uint64_t seed) noexcept : state_{seed} {}

    constexpr std::uint64_t next() noexcept {
        state_ += 0x9e37'79b9'7f4a'7c15;
        std::uint64_t mixed = state_;
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58'476d'1ce4'e5b9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d0'49bb'1331'11eb;
        return mixed ^ (mixed >> 31);
    }

    /// At least 1; geometric, mean + 1/2 on average for a mean that is not small.
    constexpr std::uint64_t gap(std::uint64_t mean) noexcept {
        // -ln(u) for u between 0 and 1, as 2^16ths of a power of two: whole ones by the leading
        // zeros, the rest by squaring what follows them.
        std::uint64_t const drawn = next() | 1;
        auto const zeros = static_cast<unsigned>(std::countl_zero(drawn));
        std::uint64_t mantissa = drawn << zeros;
        std::uint64_t fraction = 0;
        for (int bit = 0; bit < 16; ++bit) {
            __extension__ using wide = unsigned __int128;
            wide const square = static_cast<wide>(mantissa) * mantissa >> 63;
            bool const is_two = (square >> 64) != 0;
            mantissa = static_cast<std::uint64_t>(is_two ? square >> 1 : square);
            fraction = 2 * fraction + (is_two ? 1 : 0);
        }
        std::uint64_t const powers = (std::uint64_t{zeros + 1} << 16) - fraction;
        constexpr std::uint64_t ln2 = 45426;  // * 2^-16
        return ((powers * ln2 >> 16) * mean >> 16) + 1;
    }

private:
    std::uint64_t state_ = 0;
};

struct sample_rate {
    std::uint64_t mean;  // blocks between two samples: at least 1, at most 2^40
    std::uint64_t near;  // blocks before a sample from where each counts, at least 1: more are
                         // fairer, but cost more
};

/// `allocated` is always the number of blocks of the class handed out so far, samples too.
class sample_plan {
public:
    /// Whether nothing is to be done at a refill, in front of it.
    [[nodiscard]] constexpr bool is_far(std::uint64_t allocated) const noexcept {
        return allocated < near_from_;
    }

    /// How many blocks more may be allocated so that it is still far. A plan that is new begins
    /// with the next refill.
    [[nodiscard]] constexpr std::uint64_t far_for(std::uint64_t allocated) const noexcept {
        if (is_new()) {
            return ~std::uint64_t{0};
        }
        return is_far(allocated) ? near_from_ - 1 - allocated : 0;
    }

    /// Nothing may be reused: every block counts.
    [[nodiscard]] constexpr bool is_near() const noexcept { return due_at_ != 0; }

    /// Blocks that go back to their pages make what was near far again: it stays near.
    [[nodiscard]] constexpr bool allows_reuse(std::uint64_t allocated) const noexcept {
        return !is_near() && (is_far(allocated) || is_new());
    }

    /// Near, but not yet approached.
    [[nodiscard]] constexpr bool waits() const noexcept { return due_at_ == not_known; }

    /// The next block is the sample.
    [[nodiscard]] constexpr bool is_due(std::uint64_t allocated) const noexcept {
        return is_near() && allocated >= due_at_;
    }

    /// Blocks that go before the sample. Only while is_near().
    [[nodiscard]] constexpr std::uint64_t ahead(std::uint64_t allocated) const noexcept {
        return due_at_ - std::min(allocated, due_at_);
    }

    /// No sample has been planned yet.
    [[nodiscard]] constexpr bool is_new() const noexcept { return near_from_ == 0; }

    /// Plans that there is none.
    constexpr void never() noexcept { near_from_ = ~std::uint64_t{0}; }

    /// Plans the first one.
    constexpr void begin(std::uint64_t allocated, sample_rate rate,
                         random_source& numbers) noexcept {
        plan(allocated + numbers.gap(rate.mean) - 1, rate.near);
    }

    /// From here on nothing is reused. Once the list is empty, the plan can approach.
    constexpr void wait() noexcept { due_at_ = not_known; }

    /// From here on `allocated` is exact. There will be a block before the sample.
    constexpr void approach(std::uint64_t allocated, sample_rate rate,
                            random_source& numbers) noexcept {
        std::uint64_t const planned = near_from_ + rate.near;
        // The sum of two is as good as even for programs that go round in a few steps.
        std::uint64_t const drawn = numbers.next();
        std::uint64_t const somewhere =
            allocated + 1 + drawn % rate.near + (drawn >> 32) % rate.near;
        due_at_ = planned > allocated ? planned : somewhere;
    }

    /// The sample was made, and is counted, or could not be made.
    constexpr void done(std::uint64_t allocated, sample_rate rate,
                        random_source& numbers) noexcept {
        std::uint64_t const planned = near_from_ + rate.near + numbers.gap(rate.mean);
        // What went by unseen is made up for, but for what would take too many at once.
        plan(std::max(planned, allocated - std::min(allocated, 16 * rate.mean)), rate.near);
        due_at_ = 0;
    }

private:
    static constexpr std::uint64_t not_known = ~std::uint64_t{0};

    constexpr void plan(std::uint64_t position, std::uint64_t near) noexcept {
        near_from_ = std::max(position, near + 1) - near;
    }

    std::uint64_t near_from_ = 0;  // blocks that go before the plan's sample, but for the last few
    std::uint64_t due_at_ = 0;     // blocks that go before the sample; 0: it is not near
};

}  // namespace tarn::impl::heap
