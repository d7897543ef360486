// lockfree/weak_atomics.hpp - explored atomics without the orders that code asks for. What runs on
// them must fail, or its orders are for nothing.
#pragma once

#include <atomic>

#include "explorer/explored_atomics.hpp"

namespace tarn::test {

/// Loads and compare-exchanges acquire only if `Acquires`, and release only if `Releases`.
template <bool Acquires, bool Releases>
struct weak_atomics {
    template <class T>
    class atomic : public explored_atomic<T> {
        using base = explored_atomic<T>;

    public:
        using base::base;

        [[nodiscard]] T load(std::memory_order order) const noexcept {
            return base::load(weakened(order));
        }

        bool compare_exchange_strong(T& seen, T wanted, std::memory_order success,
                                     std::memory_order failure) noexcept {
            return base::compare_exchange_strong(seen, wanted, weakened(success),
                                                 weakened(failure));
        }

        bool compare_exchange_weak(T& seen, T wanted, std::memory_order success,
                                   std::memory_order failure) noexcept {
            return compare_exchange_strong(seen, wanted, success, failure);
        }

    private:
        static std::memory_order weakened(std::memory_order order) noexcept {
            bool const acquires = Acquires && (order == std::memory_order_acquire ||
                                               order == std::memory_order_acq_rel);
            bool const releases = Releases && (order == std::memory_order_release ||
                                               order == std::memory_order_acq_rel);
            return acquires   ? std::memory_order_acquire
                   : releases ? std::memory_order_release
                              : std::memory_order_relaxed;
        }
    };
};

}  // namespace tarn::test
