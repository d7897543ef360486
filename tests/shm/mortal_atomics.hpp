// shm/mortal_atomics.hpp - explored atomics of threads that die between two of their operations, as
// clients do that are killed.
//
// Role       dying_scenario says how many operations each of its threads may do; from then on, what
//            the thread does has no effect on any atomic, and is no step.
// Always     Code that runs on them ends where its loads give 0 and its compare-exchanges succeed.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"

namespace tarn::test {

inline constexpr unsigned lives_on = UINT32_MAX;

class dying_scenario : public scenario {
public:
    dying_scenario() noexcept { current = this; }

    ~dying_scenario() override { current = nullptr; }

    /// Counts an operation of the thread that runs. False: it is dead.
    static bool may_go_on() noexcept {
        unsigned const thread = explored_thread();
        if (current == nullptr || thread >= explored_threads_most ||
            current->left_[thread] == lives_on) {
            return true;
        }
        if (current->left_[thread] == 0) {
            return false;
        }
        --current->left_[thread];
        return true;
    }

protected:
    void dies_after(unsigned thread, unsigned operations) noexcept { left_[thread] = operations; }

    [[nodiscard]] bool is_dead(unsigned thread) const noexcept { return left_[thread] == 0; }

    /// The thread that runs.
    [[nodiscard]] bool is_dead() const noexcept { return is_dead(explored_thread()); }

private:
    static inline dying_scenario* current = nullptr;

    std::array<unsigned, explored_threads_most> left_{lives_on, lives_on, lives_on,
                                                      lives_on, lives_on, lives_on};
};

/// `Below`: explored_atomics, or a mutant of them.
template <class Below = explored_atomics>
struct mortal_atomics {
    template <class T>
    class atomic : public Below::template atomic<T> {
        using base = typename Below::template atomic<T>;

    public:
        using base::base;

        [[nodiscard]] T load(std::memory_order order) const noexcept {
            return dying_scenario::may_go_on() ? base::load(order) : T{};
        }

        void store(T value, std::memory_order order) noexcept {
            if (dying_scenario::may_go_on()) {
                base::store(value, order);
            }
        }

        T exchange(T value, std::memory_order order) noexcept {
            return dying_scenario::may_go_on() ? base::exchange(value, order) : T{};
        }

        T fetch_add(T value, std::memory_order order) noexcept {
            return dying_scenario::may_go_on() ? base::fetch_add(value, order) : T{};
        }

        T fetch_or(T value, std::memory_order order) noexcept {
            return dying_scenario::may_go_on() ? base::fetch_or(value, order) : T{};
        }

        T fetch_and(T value, std::memory_order order) noexcept {
            return dying_scenario::may_go_on() ? base::fetch_and(value, order) : T{};
        }

        bool compare_exchange_strong(T& seen, T wanted, std::memory_order success,
                                     std::memory_order failure) noexcept {
            return !dying_scenario::may_go_on() ||
                   base::compare_exchange_strong(seen, wanted, success, failure);
        }

        bool compare_exchange_weak(T& seen, T wanted, std::memory_order success,
                                   std::memory_order failure) noexcept {
            return compare_exchange_strong(seen, wanted, success, failure);
        }
    };
};

}  // namespace tarn::test
