// tarn/shm/self_ptr.hpp - self_ptr<T>: a pointer as the distance from itself.
//
// Role       For what links objects inside one chunk: it needs no table to be followed, and no id.
//            From one segment into another it must not point: relative_ptr.hpp is for that.
// Threads    as a pointer; it can't be atomic
// Always     A 64-bit distance; 1 is null, since nothing lies one byte behind a pointer's start. A
//            copy points to the same object, and so holds another distance: not to be copied as
//            bytes, unless together with what it points to. All that is of its chunk alone means
//            the same in every process.
// Errors     What another process wrote may be anything: checked() asks whether it leads into the
//            chunk before it is followed; get() does not
// Cost       get(): an addition and a comparison
// Source     docs/shm.md, "Pointers"; offset_ptr of Boost.Interprocess, whose null is 1, too
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace tarn::shm {

namespace detail {

/// Read once: another process may write it meanwhile, and what was checked is what must be used.
template <class T>
[[nodiscard]] inline T read_once(T const& from) noexcept {
    return *static_cast<T const volatile*>(&from);
}

}  // namespace detail

template <class T>
class self_ptr {
    static_assert(std::is_object_v<T>);

public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using difference_type = std::ptrdiff_t;

    self_ptr() noexcept = default;

    self_ptr(std::nullptr_t) noexcept {}

    explicit self_ptr(T* pointer) noexcept { set(pointer); }

    self_ptr(self_ptr const& other) noexcept { set(other.get()); }

    self_ptr& operator=(self_ptr const& other) noexcept {
        set(other.get());
        return *this;
    }

    self_ptr& operator=(T* pointer) noexcept {
        set(pointer);
        return *this;
    }

    self_ptr& operator=(std::nullptr_t) noexcept {
        distance_ = null;
        return *this;
    }

    ~self_ptr() = default;

    /// Of one that this process wrote, or checked.
    [[nodiscard]] T* get() const noexcept {
        return distance_ == null ? nullptr : reinterpret_cast<T*>(address(distance_));
    }

    /// `count` objects, if they lie in `chunk` as a whole and are aligned; else null.
    [[nodiscard]] T* checked(std::span<std::byte const> chunk,
                             std::uint64_t count = 1) const noexcept {
        std::int64_t const distance = detail::read_once(distance_);
        // In 64 bits also where pointers have 32: no part of the distance is cut off.
        auto const start =
            static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(chunk.data()));
        std::uint64_t const at =
            reinterpret_cast<std::uintptr_t>(this) + static_cast<std::uint64_t>(distance);
        std::uint64_t const offset = at - start;
        bool const is_inside = distance != null && offset <= chunk.size() &&
                               count <= (chunk.size() - offset) / sizeof(T) && at % alignof(T) == 0;
        return is_inside ? reinterpret_cast<T*>(static_cast<std::uintptr_t>(at)) : nullptr;
    }

    [[nodiscard]] T& operator*() const noexcept { return *get(); }

    [[nodiscard]] T* operator->() const noexcept { return get(); }

    [[nodiscard]] T& operator[](std::ptrdiff_t at) const noexcept { return get()[at]; }

    [[nodiscard]] explicit operator bool() const noexcept { return distance_ != null; }

    self_ptr& operator+=(std::ptrdiff_t count) noexcept {
        set(get() + count);
        return *this;
    }

    self_ptr& operator-=(std::ptrdiff_t count) noexcept {
        set(get() - count);
        return *this;
    }

    self_ptr& operator++() noexcept { return *this += 1; }

    self_ptr& operator--() noexcept { return *this -= 1; }

    [[nodiscard]] friend T* operator+(self_ptr const& from, std::ptrdiff_t count) noexcept {
        return from.get() + count;
    }

    [[nodiscard]] friend T* operator-(self_ptr const& from, std::ptrdiff_t count) noexcept {
        return from.get() - count;
    }

    [[nodiscard]] friend std::ptrdiff_t operator-(self_ptr const& left,
                                                  self_ptr const& right) noexcept {
        return left.get() - right.get();
    }

    /// Whether both point to one object.
    [[nodiscard]] friend bool operator==(self_ptr const& left, self_ptr const& right) noexcept {
        return left.get() == right.get();
    }

    [[nodiscard]] friend bool operator==(self_ptr const& left, T const* right) noexcept {
        return left.get() == right;
    }

    [[nodiscard]] friend bool operator==(self_ptr const& left, std::nullptr_t) noexcept {
        return left.distance_ == null;
    }

    [[nodiscard]] friend std::strong_ordering operator<=>(self_ptr const& left,
                                                          self_ptr const& right) noexcept {
        return std::compare_three_way{}(left.get(), right.get());
    }

private:
    static constexpr std::int64_t null = 1;

    [[nodiscard]] std::uintptr_t address(std::int64_t distance) const noexcept {
        return reinterpret_cast<std::uintptr_t>(this) + static_cast<std::uintptr_t>(distance);
    }

    void set(T* pointer) noexcept {
        if (pointer == nullptr) {
            distance_ = null;
            return;
        }
        // Of the full width, so that it means the same where pointers are wider.
        distance_ = static_cast<std::int64_t>(
            static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer)) -
            static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(this)));
    }

    alignas(8) std::int64_t distance_ = null;
};

static_assert(sizeof(self_ptr<int>) == 8 && alignof(self_ptr<int>) == 8);
static_assert(!std::is_trivially_copyable_v<self_ptr<int>>);
static_assert(std::is_trivially_destructible_v<self_ptr<int>>);

}  // namespace tarn::shm
