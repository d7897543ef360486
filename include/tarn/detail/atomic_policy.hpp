// tarn/detail/atomic_policy.hpp - atomic_policy: what lock-free code takes its atomics from.
//
// Role       Code that is templated over a policy runs on std::atomic in programs, and in tests on
//            atomics that stop at every operation, so that all interleavings can be visited.
// Always     Policy::atomic<T> has the members of std::atomic<T> that are used, with explicit
//            orders. Fences are not part of it: ThreadSanitizer does not know them.
// Cost       std_atomics: none
#pragma once

#include <atomic>

namespace tarn::detail {

struct std_atomics {
    template <class T>
    using atomic = std::atomic<T>;
};

template <class Policy>
concept atomic_policy = requires(typename Policy::template atomic<unsigned> word, unsigned seen) {
    seen = word.load(std::memory_order_acquire);
    word.store(seen, std::memory_order_release);
    seen = word.exchange(seen, std::memory_order_acq_rel);
    seen = word.fetch_add(seen, std::memory_order_relaxed);
    word.compare_exchange_weak(seen, seen, std::memory_order_release, std::memory_order_relaxed);
    word.compare_exchange_strong(seen, seen, std::memory_order_release, std::memory_order_relaxed);
};

static_assert(atomic_policy<std_atomics>);

}  // namespace tarn::detail
