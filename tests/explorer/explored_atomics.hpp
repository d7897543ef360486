// explorer/explored_atomics.hpp - explored_atomics: an atomic policy whose operations are steps of
// an explorer.
//
// Role       explored_atomics::atomic<T> for up to 8 bytes; explored_atomics::mutex;
//            explored_data<T>: plain data, whose accesses are no steps but must be ordered.
// Threads    those of a scenario; outside of a run, operations take effect at once
// Always     two objects at one address, one after the other, are two: the constructor starts anew
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "explorer/explorer.hpp"

namespace tarn::test {

/// How much of each thread's past is known.
using vector_clock = std::array<std::uint32_t, explored_threads_most>;

/// The bits behind an atomic.
class explored_word {
public:
    explicit explored_word(std::uint64_t bits) noexcept : bits_{bits} {}

    [[nodiscard]] std::uint64_t load(std::memory_order order) const;
    void store(std::uint64_t bits, std::memory_order order);
    bool compare_exchange(std::uint64_t& expected, std::uint64_t wanted, std::memory_order success,
                          std::memory_order failure);

    /// The bits before. `change` gives the new ones.
    template <class Change>
    std::uint64_t fetch(Change change, std::memory_order order, char const* what) {
        begin_fetch(what);
        std::uint64_t const before = bits_;
        end_fetch(change(before), order);
        return before;
    }

private:
    friend class explorer;

    void begin_fetch(char const* what);
    void end_fetch(std::uint64_t bits, std::memory_order order);

    std::uint64_t bits_;
    vector_clock released_{};  // what an acquire learns
};

template <class T>
class explored_atomic {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));

public:
    using value_type = T;

    explored_atomic() noexcept : explored_atomic{T{}} {}

    // NOLINTNEXTLINE(google-explicit-constructor): as std::atomic
    explored_atomic(T value) noexcept : word_{bits_of(value)} {}

    explored_atomic(explored_atomic const&) = delete;
    explored_atomic& operator=(explored_atomic const&) = delete;

    [[nodiscard]] T load(std::memory_order order) const noexcept {
        return value_of(word_.load(order));
    }

    void store(T value, std::memory_order order) noexcept { word_.store(bits_of(value), order); }

    T exchange(T value, std::memory_order order) noexcept {
        return value_of(word_.fetch([=](std::uint64_t) { return bits_of(value); }, order, "swap"));
    }

    T fetch_add(T value, std::memory_order order) noexcept {
        auto const change = [=](std::uint64_t bits) {
            return bits_of(static_cast<T>(value_of(bits) + value));
        };
        return value_of(word_.fetch(change, order, "add"));
    }

    T fetch_sub(T value, std::memory_order order) noexcept {
        auto const change = [=](std::uint64_t bits) {
            return bits_of(static_cast<T>(value_of(bits) - value));
        };
        return value_of(word_.fetch(change, order, "sub"));
    }

    T fetch_or(T value, std::memory_order order) noexcept {
        auto const change = [=](std::uint64_t bits) { return bits | bits_of(value); };
        return value_of(word_.fetch(change, order, "or"));
    }

    T fetch_and(T value, std::memory_order order) noexcept {
        auto const change = [=](std::uint64_t bits) { return bits & bits_of(value); };
        return value_of(word_.fetch(change, order, "and"));
    }

    bool compare_exchange_strong(T& expected, T wanted, std::memory_order success,
                                 std::memory_order failure) noexcept {
        std::uint64_t bits = bits_of(expected);
        bool const done = word_.compare_exchange(bits, bits_of(wanted), success, failure);
        expected = value_of(bits);
        return done;
    }

    bool compare_exchange_weak(T& expected, T wanted, std::memory_order success,
                               std::memory_order failure) noexcept {
        return compare_exchange_strong(expected, wanted, success, failure);
    }

private:
    static std::uint64_t bits_of(T value) noexcept {
        std::uint64_t bits = 0;
        std::memcpy(&bits, &value, sizeof(T));
        return bits;
    }

    static T value_of(std::uint64_t bits) noexcept {
        T value;
        std::memcpy(&value, &bits, sizeof(T));
        return value;
    }

    explored_word word_;
};

class explored_mutex {
public:
    void lock();
    void unlock();

private:
    friend class explorer;

    bool is_taken_ = false;
    vector_clock released_{};
};

struct explored_atomics {
    template <class T>
    using atomic = explored_atomic<T>;

    using mutex = explored_mutex;
};

/// Who touched a piece of plain data last.
class access_record {
public:
    void read(void const* place);
    void write(void const* place);

private:
    friend class explorer;

    unsigned writer_ = explored_threads_most;  // none
    std::uint32_t written_ = 0;                // at that time of the writer
    vector_clock read_{};
};

/// Plain data: a get() or set() that no happens-before orders with another thread's set() fails
/// the run.
template <class T>
class explored_data {
public:
    explored_data() = default;

    explicit explored_data(T value) : value_{value} {}

    [[nodiscard]] T get() const {
        record_.read(this);
        return value_;
    }

    void set(T value) {
        record_.write(this);
        value_ = value;
    }

private:
    T value_{};
    mutable access_record record_;
};

}  // namespace tarn::test
