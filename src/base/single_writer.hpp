// base/single_writer.hpp - single_writer<T>: a number that one thread changes and any may read.
//
// Threads    one writer at a time (its successor synchronises with it elsewhere); any reader
// Always     a reader sees a value that was there, with no order to anything else
// Cost       as a plain variable: where the compiler does not fuse an atomic load and store into
//            one instruction, x86-64 gets that instruction spelled out
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

#include "base/attributes.hpp"

namespace tarn::impl::base {

template <class T>
class single_writer {
public:
    constexpr single_writer() noexcept = default;

    explicit constexpr single_writer(T value) noexcept : value_{value} {}

    [[nodiscard]] TARN_HOT T get() const noexcept { return value_.load(std::memory_order_relaxed); }

    /// get() == value.
    [[nodiscard]] TARN_HOT bool equals(T value) const noexcept {
#if defined(__x86_64__) && !TARN_THREAD_SANITIZER
        static_assert(sizeof value_ == sizeof(std::uint64_t));
        bool is_equal = false;
        __asm__("cmpq %2, %1" : "=@cce"(is_equal) : "m"(value_), "r"(value) : "cc");
        return is_equal;
#else
        return get() == value;
#endif
    }

    TARN_HOT void set(T value) noexcept { value_.store(value, std::memory_order_relaxed); }

    TARN_HOT void add(T by) noexcept { set(static_cast<T>(get() + by)); }

    /// Subtracts 1 and tells whether the result is zero or less.
    [[nodiscard]] TARN_HOT bool decrement_to_zero() noexcept requires std::is_same_v<T, int> {
#if defined(__x86_64__) && !TARN_THREAD_SANITIZER
        static_assert(sizeof value_ == sizeof(int));
        bool is_done = false;
        // One writer: no lock prefix. An aligned int is read and written whole.
        __asm__("subl $1, %0" : "+m"(value_), "=@ccle"(is_done) : : "cc");
        return is_done;
#else
        add(-1);
        return get() <= 0;
#endif
    }

private:
    std::atomic<T> value_{};
};

}  // namespace tarn::impl::base
