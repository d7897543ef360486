// tarn/testing.hpp - tests of what a program allocates: make allocations fail, forbid them, count
// them.
//
// Threads    each scope is about the thread it lives in, and no other notices. It ends where it
//            began: in that thread, in any order with others there.
// Always     scopes see the tarn_ functions, pools and resources on malloc_resource() (pools: what
//            they take from it), and malloc, operator new and their kin where Tarn serves them:
//            under libtarn.so or with libtarn_override.a. sees_malloc() tells. They nest: the
//            latest decides first, all count what is done. What the scopes themselves do, reports
//            included, allocates nothing.
// Errors     std::invalid_argument for a plan that makes no sense
// Cost       none outside of scopes, not an instruction; inside, each operation some 50 ns
// Source     docs/design/testing.md
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <new>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>

#include <tarn/detail/watch_scope.hpp>
#include <tarn/tarn.h>

namespace tarn {

// --- counting ------------------------------------------------------------------------------------

/// What a thread has done; tarn_watch in tarn.h says what counts as what.
struct allocation_counts {
    std::uint64_t allocations = 0;
    std::uint64_t reallocations = 0;
    std::uint64_t frees = 0;
    std::uint64_t failures = 0;
    std::uint64_t requested_bytes = 0;
    std::uint64_t allocated_bytes = 0;  // whole blocks
    std::uint64_t freed_bytes = 0;
    std::int64_t peak_live_bytes = 0;

    /// Below 0: blocks from before were freed.
    [[nodiscard]] std::int64_t live_blocks() const noexcept {
        return static_cast<std::int64_t>(allocations - frees);
    }

    [[nodiscard]] std::int64_t live_bytes() const noexcept {
        return static_cast<std::int64_t>(allocated_bytes - freed_bytes);
    }

    [[nodiscard]] static allocation_counts of(tarn_watch const& watch) noexcept {
        return {watch.allocations, watch.reallocations,   watch.frees,
                watch.failures,    watch.requested_bytes, watch.allocated_bytes,
                watch.freed_bytes, watch.peak_live_bytes};
    }
};

/// Counts while it lives.
class allocation_counter {
public:
    allocation_counter() = default;

    [[nodiscard]] allocation_counts counts() const noexcept {
        return allocation_counts::of(scope_.watch());
    }

    /// Counts from zero again.
    void reset() noexcept { scope_.reset(); }

private:
    detail::watch_scope scope_;
};

/// What function() did.
template <std::invocable Function>
[[nodiscard]] allocation_counts count_allocations(Function&& function) {
    allocation_counter const counter;
    std::invoke(std::forward<Function>(function));
    return counter.counts();
}

/// Whether scopes see malloc, and not only what is Tarn's by name.
[[nodiscard]] inline bool sees_malloc() {
    // Through pointers: compilers remove a pair that does nothing.
    void* (*const volatile allocate)(std::size_t) = &std::malloc;
    void (*const volatile release)(void*) = &std::free;
    allocation_counter const counter;
    release(allocate(1));
    return counter.counts().allocations != 0;
}

/// Over this scope no scope outside of it sees or decides anything: for what a test itself has to
/// allocate, such as messages.
class unwatched_scope {
public:
    unwatched_scope() = default;

private:
    detail::watch_scope scope_{TARN_WATCH_ALONE};
};

// --- rules ---------------------------------------------------------------------------------------

/// What a scope does where its rule is broken.
enum class on_breach : unsigned char {
    abort,  // reports and ends the process, unless option on_misuse says otherwise
    log,    // writes the report, and goes on
    count   // goes on
};

enum class freeing : unsigned char { allowed, forbidden };

struct no_alloc_options {
    char const* name = "";  // for reports; must outlive the scope
    on_breach action = on_breach::abort;
    freeing frees = freeing::allowed;
};

/// Over this scope its thread allocates nothing, nor resizes: what it does all the same is done,
/// and each time a breach, reported as in
///     tarn: no_alloc_scope 'mixer': malloc of 64 bytes; caller 0x55d0c0ffee42
class no_alloc_scope {
public:
    using options = no_alloc_options;

    no_alloc_scope() : no_alloc_scope{options{}} {}

    explicit no_alloc_scope(options const& wanted)
        : wanted_{wanted}, scope_{0, &no_alloc_scope::judge, this} {}

    [[nodiscard]] std::uint64_t breaches() const noexcept { return breaches_; }

    /// None: there was no breach.
    [[nodiscard]] std::optional<tarn_operation> const& first_breach() const noexcept {
        return first_;
    }

private:
    static int judge(tarn_operation const* asked, void* self) noexcept {
        auto& mine = *static_cast<no_alloc_scope*>(self);
        if (asked->kind == TARN_FREE && mine.wanted_.frees == freeing::allowed) {
            return 0;
        }
        if (mine.breaches_ == 0) {
            mine.first_ = *asked;
        }
        ++mine.breaches_;
        if (mine.wanted_.action != on_breach::count) {
            auto const text = detail::describe("no_alloc_scope", mine.wanted_.name, *asked);
            (mine.wanted_.action == on_breach::abort ? tarn_report_misuse
                                                     : tarn_report_line)(text.data());
        }
        return 0;
    }

    options wanted_;
    std::uint64_t breaches_ = 0;
    std::optional<tarn_operation> first_;
    detail::watch_scope scope_;  // last: it begins when the others are there
};

/// What a scope should count at its end; what is left out may be any number.
struct expected_counts {
    std::optional<std::uint64_t> allocations{};
    std::optional<std::uint64_t> reallocations{};
    std::optional<std::uint64_t> frees{};
    std::optional<std::int64_t> live_blocks{};
    std::optional<std::int64_t> live_bytes{};
};

struct expectation_options {
    char const* name = "";  // for reports; must outlive the scope
    on_breach action = on_breach::abort;
};

/// Counts while it lives, and at its end reports each count that is not as expected:
///     tarn: expected_allocations 'parse': 3 allocations, not 2
class expected_allocations {
public:
    using options = expectation_options;

    explicit expected_allocations(expected_counts const& wanted)
        : expected_allocations{wanted, {}} {}

    expected_allocations(expected_counts const& wanted, options const& how)
        : wanted_{wanted}, how_{how} {}

    expected_allocations(expected_allocations const&) = delete;
    expected_allocations& operator=(expected_allocations const&) = delete;

    ~expected_allocations() {
        if (how_.action != on_breach::count) {
            compare([this](char const* what, auto counted, auto wanted) {
                detail::misuse_text const text = describe(what, counted, wanted);
                (how_.action == on_breach::abort ? tarn_report_misuse
                                                 : tarn_report_line)(text.data());
            });
        }
    }

    [[nodiscard]] allocation_counts counts() const noexcept { return counter_.counts(); }

    /// Whether all counts are as expected now.
    [[nodiscard]] bool are_met() const noexcept {
        bool met = true;
        compare([&met](char const*, auto, auto) { met = false; });
        return met;
    }

private:
    /// Calls differs(name, counted, wanted) for each count that is not as expected.
    template <class Differs>
    void compare(Differs differs) const noexcept {
        allocation_counts const now = counter_.counts();
        auto const look = [&differs](char const* what, auto counted, auto const& wanted) {
            if (wanted && *wanted != counted) {
                differs(what, counted, *wanted);
            }
        };
        look("allocations", now.allocations, wanted_.allocations);
        look("reallocations", now.reallocations, wanted_.reallocations);
        look("frees", now.frees, wanted_.frees);
        look("live blocks", now.live_blocks(), wanted_.live_blocks);
        look("live bytes", now.live_bytes(), wanted_.live_bytes);
    }

    template <class Number>
    [[nodiscard]] detail::misuse_text describe(char const* what, Number counted,
                                               Number wanted) const noexcept {
        detail::misuse_text text{};
        bool const has_name = how_.name != nullptr && how_.name[0] != '\0';
        std::snprintf(text.data(), text.size(), "expected_allocations%s%.100s%s: %lld %s, not %lld",
                      has_name ? " '" : "", has_name ? how_.name : "", has_name ? "'" : "",
                      static_cast<long long>(counted), what, static_cast<long long>(wanted));
        return text;
    }

    expected_counts wanted_;
    options how_;
    allocation_counter counter_;
};

// --- failures ------------------------------------------------------------------------------------

/// Which of a thread's allocations and reallocations fail; n counts them from 1.
class fail_plan {
public:
    [[nodiscard]] static fail_plan nth(std::uint64_t n) { return {"nth", n, 0}; }

    /// The n-th, the 2n-th and so on.
    [[nodiscard]] static fail_plan every(std::uint64_t n) { return {"every", n, n}; }

    /// The n-th and all after it: memory is out, and stays out.
    [[nodiscard]] static fail_plan from(std::uint64_t n) { return {"from", n, 1}; }

    [[nodiscard]] static fail_plan always() { return from(1); }

    /// Each with this probability, by a seed of its own: see seed().
    [[nodiscard]] static fail_plan randomly(double probability) {
        std::random_device source;
        return randomly(probability, std::uint64_t{source()} << 32 | source());
    }

    /// The same seed fails the same allocations.
    [[nodiscard]] static fail_plan randomly(double probability, std::uint64_t seed) {
        if (!(probability >= 0 && probability <= 1)) {  // nor no number
            throw std::invalid_argument{"tarn::fail_plan::randomly: probability not from 0 to 1"};
        }
        fail_plan plan{"randomly", 1, 1};
        plan.is_random_ = true;
        plan.seed_ = seed;
        plan.threshold_ = static_cast<std::uint64_t>(std::ldexp(probability, draw_bits));
        return plan;
    }

    /// The same for requests of more bytes than these alone: others neither count nor fail.
    [[nodiscard]] fail_plan above(std::size_t bytes) const noexcept {
        fail_plan plan = *this;
        plan.above_bytes_ = bytes;
        return plan;
    }

    /// What replays randomly(); 0 for the other plans.
    [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }

    [[nodiscard]] bool counts(std::size_t bytes) const noexcept {
        return above_bytes_ == 0 || bytes > above_bytes_;
    }

    /// Whether allocation number `n` fails.
    [[nodiscard]] bool fails(std::uint64_t n) const noexcept {
        if (is_random_) {
            return draw(n) < threshold_;
        }
        return period_ == 0 ? n == first_ : n >= first_ && (n - first_) % period_ == 0;
    }

private:
    static constexpr int draw_bits = 53;

    fail_plan(char const* name, std::uint64_t first, std::uint64_t period)
        : first_{first}, period_{period} {
        if (first == 0) {
            throw std::invalid_argument{std::string{"tarn::fail_plan::"} + name +
                                        ": counts from 1, not from 0"};
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014), its n-th number.
    [[nodiscard]] std::uint64_t draw(std::uint64_t n) const noexcept {
        std::uint64_t mixed = seed_ + n * 0x9e37'79b9'7f4a'7c15;
        mixed = (mixed ^ mixed >> 30) * 0xbf58'476d'1ce4'e5b9;
        mixed = (mixed ^ mixed >> 27) * 0x94d0'49bb'1331'11eb;
        return (mixed ^ mixed >> 31) >> (64 - draw_bits);
    }

    std::uint64_t first_;
    std::uint64_t period_;  // 0: it fails once
    std::uint64_t seed_ = 0;
    std::uint64_t threshold_ = 0;  // of a draw
    std::size_t above_bytes_ = 0;  // 0: all
    bool is_random_ = false;
};

/// Over this scope allocations of its thread fail as planned: null and ENOMEM, or std::bad_alloc
/// from operator new. A new_handler may ask again: that is the next allocation. So is what a throw
/// expression takes from malloc.
class fail_scope {
public:
    explicit fail_scope(fail_plan const& plan)
        : plan_{plan}, scope_{0, &fail_scope::decide, this} {}

    /// Allocations and reallocations that counted for the plan.
    [[nodiscard]] std::uint64_t seen() const noexcept { return seen_; }

    /// How many of them the plan let fail.
    [[nodiscard]] std::uint64_t failed() const noexcept { return failed_; }

    /// None: nothing has failed.
    [[nodiscard]] std::optional<tarn_operation> const& first_failure() const noexcept {
        return first_;
    }

    [[nodiscard]] allocation_counts counts() const noexcept {
        return allocation_counts::of(scope_.watch());
    }

private:
    static int decide(tarn_operation const* asked, void* self) noexcept {
        auto& mine = *static_cast<fail_scope*>(self);
        if (asked->kind == TARN_FREE || !mine.plan_.counts(asked->bytes) ||
            !mine.plan_.fails(++mine.seen_)) {
            return 0;
        }
        if (mine.failed_ == 0) {
            mine.first_ = *asked;
        }
        ++mine.failed_;
        return 1;
    }

    fail_plan plan_;
    std::uint64_t seen_ = 0;
    std::uint64_t failed_ = 0;
    std::optional<tarn_operation> first_;
    detail::watch_scope scope_;  // last: it begins when the others are there
};

enum class failing : unsigned char { once, from_then_on };

struct failure_options {
    failing how = failing::once;
    std::size_t above_bytes = 0;        // only requests of more fail; 0: all may
    std::uint64_t runs_most = 100'000;  // std::runtime_error after so many
};

/// A run of for_each_failure().
struct failure_run {
    std::uint64_t nth = 0;
    bool threw = false;                     // std::bad_alloc left the function
    std::optional<tarn_operation> failure;  // what failed first; none: the last run
    allocation_counts counts;
};

/// Calls function() with its first allocation failing, then with the second, the third and so on,
/// until it runs without a failure. After each run check(failure_run const&) says what must hold,
/// outside of the scope: for instance that counts.live_blocks() is 0. A std::bad_alloc that leaves
/// function() where an allocation was made to fail is as it should be; other exceptions pass on.
/// Returns the number of runs that had a failure.
///
/// Source: the loop that SQLite's tests use ("How SQLite Is Tested", section on out of memory).
template <std::invocable Function, std::invocable<failure_run const&> Check>
std::uint64_t for_each_failure(Function&& function, Check&& check,
                               failure_options const& options = {}) {
    for (std::uint64_t n = 1; n <= options.runs_most; ++n) {
        fail_plan const plan =
            options.how == failing::once ? fail_plan::nth(n) : fail_plan::from(n);
        failure_run run{.nth = n, .threw = false, .failure = {}, .counts = {}};
        {
            fail_scope const scope{plan.above(options.above_bytes)};
            try {
                std::invoke(function);
            } catch (std::bad_alloc const&) {
                if (scope.failed() == 0) {
                    throw;  // memory is out indeed
                }
                run.threw = true;
            }
            run.failure = scope.first_failure();
            run.counts = scope.counts();
        }
        std::invoke(check, std::as_const(run));
        if (!run.failure) {
            return n - 1;
        }
    }
    throw std::runtime_error{"tarn::for_each_failure: still failing after " +
                             std::to_string(options.runs_most) + " runs"};
}

template <std::invocable Function>
std::uint64_t for_each_failure(Function&& function, failure_options const& options = {}) {
    return for_each_failure(
        std::forward<Function>(function), [](failure_run const&) {}, options);
}

}  // namespace tarn
