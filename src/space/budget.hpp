// space/budget.hpp - budget: how much memory may be held, and when somebody wants to know.
//
// Threads    any, no locks
// Always     charged() is what was charged and not refunded. try_charge() never takes it above the
//            hard limit; charge() may, for memory that is there already.
// Cost       one compare-exchange per charge; only memory new from the system is charged, so that
//            neither blocks nor reused runs pay
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "base/attributes.hpp"

namespace tarn::impl::space {

/// What a request may take of the hard limit. The last part of it is for code that handles a
/// failed allocation: it could not unwind without memory.
enum class allowance : std::uint8_t { ordinary, reserve };

class budget {
public:
    static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

    constexpr budget() noexcept = default;

    /// `reserve` bytes of `hard` are for allowance::reserve. Below what is charged: nothing more
    /// can be charged until enough is refunded. 0, here as in the object's first state: no limit.
    void set_hard_limit(std::size_t hard, std::size_t reserve) noexcept {
        reserve_.store(reserve, std::memory_order_relaxed);
        hard_.store(hard, std::memory_order_relaxed);
    }

    [[nodiscard]] std::size_t hard_limit() const noexcept {
        return hard_.load(std::memory_order_relaxed);
    }

    [[nodiscard]] bool try_charge(std::size_t bytes, allowance use = allowance::ordinary) noexcept {
        std::size_t const limit = limit_for(use);
        // relaxed: the number orders nothing but itself.
        std::size_t before = charged_.load(std::memory_order_relaxed);
        do {
            if (bytes > limit || before > limit - bytes) [[unlikely]] {
                refusals_.fetch_add(1, std::memory_order_relaxed);
                return false;
            }
        } while (
            !charged_.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
        return true;
    }

    void charge(std::size_t bytes) noexcept {
        charged_.fetch_add(bytes, std::memory_order_relaxed);
    }

    void refund(std::size_t bytes) noexcept {
        std::size_t const now = charged_.fetch_sub(bytes, std::memory_order_relaxed) - bytes;
        // relaxed, and not exact among threads: whoever watches looks for itself.
        std::size_t const step = step_.load(std::memory_order_relaxed);
        if (watched_.load(std::memory_order_relaxed) > now + 2 * step && step != 0) {
            watched_.store(now + step, std::memory_order_relaxed);
        }
    }

    [[nodiscard]] std::size_t charged() const noexcept {
        return charged_.load(std::memory_order_relaxed);
    }

    /// Whether so much more would be refused.
    [[nodiscard]] bool would_refuse(std::size_t bytes) const noexcept {
        std::size_t const limit = limit_for(allowance::ordinary);
        return bytes > limit || charged() > limit - bytes;
    }

    /// How often a limit was met.
    [[nodiscard]] std::uint64_t refusals() const noexcept {
        return refusals_.load(std::memory_order_relaxed);
    }

    /// Somebody wants to know when more than `above` is charged (0: nobody does), or, once some was
    /// refunded, `step` more than is charged then.
    void watch(std::size_t above, std::size_t step) noexcept {
        step_.store(step, std::memory_order_relaxed);
        watched_.store(above, std::memory_order_relaxed);
    }

    [[nodiscard]] bool is_above_watched() const noexcept {
        std::size_t const watched = watched_.load(std::memory_order_relaxed);
        return watched != 0 && charged() > watched;
    }

private:
    [[nodiscard]] std::size_t limit_for(allowance use) const noexcept {
        std::size_t const hard = hard_limit();
        if (hard == 0) [[likely]] {
            return unlimited;
        }
        std::size_t const kept =
            use == allowance::reserve ? 0 : reserve_.load(std::memory_order_relaxed);
        return hard > kept ? hard - kept : 0;
    }

    std::atomic<std::size_t> charged_{0};
    std::atomic<std::size_t> hard_{0};
    std::atomic<std::size_t> reserve_{0};
    std::atomic<std::size_t> watched_{0};
    std::atomic<std::size_t> step_{0};
    std::atomic<std::uint64_t> refusals_{0};
};

}  // namespace tarn::impl::space
