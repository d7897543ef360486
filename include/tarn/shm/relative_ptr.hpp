// tarn/shm/relative_ptr.hpp - relative_ptr<T>: a pointer into any segment, for all processes.
//
// Role       For what links chunks of one segment or of several, and for pointers that are to be
//            atomic. Inside one chunk self_ptr.hpp is cheaper to follow.
// Threads    as a pointer; std::atomic<relative_ptr<T>> is lock-free
// Always     One 64-bit word: the segment's id in the upper 16 bits, the distance from its start in
//            the lower 48; null is 0. So copying is copying a word, and 32- and 64-bit processes
//            agree. get() leads into the segment with room for a T, aligned to it, or it is null,
//            whatever the word is. Not that a T is there.
// Errors     null: also for what lies in no segment, or in one that is not here. operator*, -> and
// []
//            demand that get() is not null
// Cost       get(): a call, a load and a few comparisons. From a pointer: a subtraction where the
//            segment is said, else a search among this process's attachments, under a lock
// Source     docs/shm.md, "Pointers"
#pragma once

#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <span>
#include <type_traits>

#include <tarn/shm.h>
#include <tarn/shm/pool_registry.hpp>
#include <tarn/shm/segment.hpp>

namespace tarn::shm {

template <class T>
class relative_ptr {
    static_assert(std::is_object_v<T> || std::is_void_v<T>);

    /// What else may point to the same object without moving: more const, or any as void.
    template <class Other>
    static constexpr bool is_same_address =
        std::is_convertible_v<Other*, T*> &&
        (std::is_void_v<T> || std::is_same_v<std::remove_cv_t<Other>, std::remove_cv_t<T>>);

public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    using difference_type = std::ptrdiff_t;

    constexpr relative_ptr() noexcept = default;

    constexpr relative_ptr(std::nullptr_t) noexcept {}

    /// Null: it is in no segment that this process has.
    explicit relative_ptr(T* pointer) noexcept : word_{tarn_shm_relative(pointer)} {}

    /// Null: it is not in that one.
    relative_ptr(segment const& in, T* pointer) noexcept {
        auto const offset = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer) -
                                                       reinterpret_cast<std::uintptr_t>(in.base()));
        if (pointer != nullptr && offset < in.mapped_bytes()) {
            word_ = (std::uint64_t{in.id()} << pool_registry::offset_bits) | offset;
        }
    }

    template <class Other>
        requires is_same_address<Other>

    constexpr relative_ptr(relative_ptr<Other> other) noexcept : word_{other.word()} {}

    /// Of what word() gave, or another process: it may be anything.
    [[nodiscard]] static constexpr relative_ptr of_word(std::uint64_t word) noexcept {
        relative_ptr made;
        made.word_ = word;
        return made;
    }

    [[nodiscard]] constexpr std::uint64_t word() const noexcept { return word_; }

    /// segment::id() of its segment; 0 of null.
    [[nodiscard]] constexpr std::uint32_t id() const noexcept {
        return static_cast<std::uint32_t>(word_ >> pool_registry::offset_bits);
    }

    [[nodiscard]] constexpr std::uint64_t offset() const noexcept { return word_ & offset_mask; }

    /// Where this process has it; null: it leads nowhere.
    [[nodiscard]] T* get() const noexcept {
        return static_cast<T*>(tarn_shm_absolute(word_, size(), alignment()));
    }

    /// `count` of them from there on; empty: not all lie in the segment.
    [[nodiscard]] auto get_span(std::uint64_t count) const noexcept requires(!std::is_void_v<T>) {
        using span = std::span<T>;
        if (count == 0 || count > offset_mask / size()) {
            return span{};
        }
        auto* const first = static_cast<T*>(tarn_shm_absolute(word_, count * size(), alignment()));
        return first == nullptr ? span{} : span{first, static_cast<std::size_t>(count)};
    }

    [[nodiscard]] std::add_lvalue_reference_t<T> operator*() const noexcept
        requires(!std::is_void_v<T>) {
        return *get();
    }

    [[nodiscard]] T* operator->() const noexcept { return get(); }

    [[nodiscard]] std::add_lvalue_reference_t<T> operator[](std::ptrdiff_t at) const noexcept
        requires(!std::is_void_v<T>) {
        return *(*this + at);
    }

    /// Whether it is not null; where it leads is for get() to find out.
    [[nodiscard]] constexpr explicit operator bool() const noexcept { return word_ != 0; }

    /// Null stays null. Beyond the segment's ends it leads nowhere.
    constexpr relative_ptr& operator+=(std::ptrdiff_t count) noexcept requires(!std::is_void_v<T>) {
        if (word_ != 0) {
            std::uint64_t const moved =
                word_ + static_cast<std::uint64_t>(static_cast<std::int64_t>(count)) * size();
            word_ = (word_ & ~offset_mask) | (moved & offset_mask);
        }
        return *this;
    }

    constexpr relative_ptr& operator-=(std::ptrdiff_t count) noexcept requires(!std::is_void_v<T>) {
        return *this += -count;
    }

    constexpr relative_ptr& operator++() noexcept { return *this += 1; }

    constexpr relative_ptr& operator--() noexcept { return *this += -1; }

    constexpr relative_ptr operator++(int) noexcept {
        relative_ptr const before = *this;
        ++*this;
        return before;
    }

    constexpr relative_ptr operator--(int) noexcept {
        relative_ptr const before = *this;
        --*this;
        return before;
    }

    [[nodiscard]] friend constexpr relative_ptr operator+(relative_ptr from,
                                                          std::ptrdiff_t count) noexcept {
        return from += count;
    }

    [[nodiscard]] friend constexpr relative_ptr operator+(std::ptrdiff_t count,
                                                          relative_ptr from) noexcept {
        return from += count;
    }

    [[nodiscard]] friend constexpr relative_ptr operator-(relative_ptr from,
                                                          std::ptrdiff_t count) noexcept {
        return from -= count;
    }

    /// Of two in one segment.
    [[nodiscard]] friend constexpr std::ptrdiff_t operator-(relative_ptr left,
                                                            relative_ptr right) noexcept {
        auto const bytes =
            static_cast<std::int64_t>(left.offset()) - static_cast<std::int64_t>(right.offset());
        return static_cast<std::ptrdiff_t>(bytes / static_cast<std::int64_t>(size()));
    }

    [[nodiscard]] friend constexpr bool operator==(relative_ptr, relative_ptr) noexcept = default;

    /// By segment, then by place.
    [[nodiscard]] friend constexpr std::strong_ordering operator<=>(relative_ptr left,
                                                                    relative_ptr right) noexcept {
        return left.word_ <=> right.word_;
    }

    [[nodiscard]] friend constexpr bool operator==(relative_ptr left, std::nullptr_t) noexcept {
        return left.word_ == 0;
    }

private:
    static constexpr std::uint64_t offset_mask =
        (std::uint64_t{1} << pool_registry::offset_bits) - 1;

    // Functions, since a T may be made of pointers to itself.
    static constexpr std::uint64_t size() noexcept {
        if constexpr (std::is_void_v<T>) {
            return 1;
        } else {
            return sizeof(T);
        }
    }

    static constexpr std::uint64_t alignment() noexcept {
        if constexpr (std::is_void_v<T>) {
            return 1;
        } else {
            return alignof(T);
        }
    }

    alignas(8) std::uint64_t word_ = 0;
};

static_assert(sizeof(relative_ptr<int>) == 8 && alignof(relative_ptr<int>) == 8);
static_assert(std::is_trivially_copyable_v<relative_ptr<int>>);
static_assert(std::atomic<relative_ptr<int>>::is_always_lock_free);

}  // namespace tarn::shm

template <class T>
struct std::hash<tarn::shm::relative_ptr<T>> {
    std::size_t operator()(tarn::shm::relative_ptr<T> of) const noexcept {
        return std::hash<std::uint64_t>{}(of.word());
    }
};
