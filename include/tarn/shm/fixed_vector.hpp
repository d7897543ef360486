// tarn/shm/fixed_vector.hpp - fixed_vector<T, Capacity>: as std::vector, with its elements inside.
//
//     struct track { tarn::shm::fixed_vector<point, 100> points; };      // in a chunk, or anywhere
//
// Role       A sequence that may lie in memory that processes share: it has no pointers, and never
//            allocates.
// Threads    as std::vector
// Always     Its size is a 64-bit word in front of the elements, in 32-bit processes, too. It is
//            trivially copyable when T is. Whatever another process wrote into it, size() is at
//            most Capacity, and nothing here reaches beyond; the elements are as they were written.
//            Elements stay where they are unless something is put before them or erased.
// Errors     std::length_error: no room for so many; std::out_of_range from at(). The forms try_x()
//            say so by false or null, and change nothing. If an element's constructor throws in an
//            insertion or assignment, elements that were added may stay at the end
// Cost       that of std::vector without growth; an insertion in the middle: a push, a rotation
// Source     docs/shm.md; P0843 (std::inplace_vector)
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace tarn::shm {

namespace detail {

/// Elements and their number; copying is what the compiler makes of it.
template <class T, std::size_t Capacity, bool IsTrivial = std::is_trivially_copyable_v<T>>
class fixed_storage {
protected:
    [[nodiscard]] T* start() noexcept { return reinterpret_cast<T*>(bytes_); }

    [[nodiscard]] T const* start() const noexcept { return reinterpret_cast<T const*>(bytes_); }

    alignas(8) std::uint64_t size_ = 0;
    // Not zeroed: what is not an element is nothing.
    alignas(T) alignas(8) std::byte bytes_[Capacity * sizeof(T)];
};

template <class T, std::size_t Capacity>
class fixed_storage<T, Capacity, false> {
public:
    fixed_storage() noexcept = default;

    fixed_storage(fixed_storage const& other) {
        std::uninitialized_copy_n(other.start(), other.count(), start());
        size_ = other.count();
    }

    fixed_storage(fixed_storage&& other) noexcept(std::is_nothrow_move_constructible_v<T>) {
        std::uninitialized_move_n(other.start(), other.count(), start());
        size_ = other.count();
    }

    fixed_storage& operator=(fixed_storage const& other) {
        if (this != &other) {
            std::size_t const both = std::min(count(), other.count());
            std::copy_n(other.start(), both, start());
            settle(both);
            std::uninitialized_copy_n(other.start() + both, other.count() - both, start() + both);
            size_ = other.count();
        }
        return *this;
    }

    fixed_storage& operator=(fixed_storage&& other) noexcept(
        std::is_nothrow_move_constructible_v<T>&& std::is_nothrow_move_assignable_v<T>) {
        if (this != &other) {
            std::size_t const both = std::min(count(), other.count());
            std::move(other.start(), other.start() + both, start());
            settle(both);
            std::uninitialized_move_n(other.start() + both, other.count() - both, start() + both);
            size_ = other.count();
        }
        return *this;
    }

    ~fixed_storage() { settle(0); }

protected:
    [[nodiscard]] T* start() noexcept { return reinterpret_cast<T*>(bytes_); }

    [[nodiscard]] T const* start() const noexcept { return reinterpret_cast<T const*>(bytes_); }

    alignas(8) std::uint64_t size_ = 0;
    alignas(T) alignas(8) std::byte bytes_[Capacity * sizeof(T)];

private:
    [[nodiscard]] std::size_t count() const noexcept {
        return static_cast<std::size_t>(std::min<std::uint64_t>(size_, Capacity));
    }

    void settle(std::size_t left) noexcept {
        std::size_t const before = count();
        if (left < before) {
            std::destroy_n(start() + left, before - left);
            size_ = left;
        }
    }
};

}  // namespace detail

template <class T, std::size_t Capacity>
class fixed_vector : private detail::fixed_storage<T, Capacity> {
    static_assert(std::is_object_v<T> && !std::is_const_v<T> && Capacity > 0);
    using base = detail::fixed_storage<T, Capacity>;

public:
    using value_type = T;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using reference = T&;
    using const_reference = T const&;
    using pointer = T*;
    using const_pointer = T const*;
    using iterator = T*;
    using const_iterator = T const*;
    using reverse_iterator = std::reverse_iterator<iterator>;
    using const_reverse_iterator = std::reverse_iterator<const_iterator>;

    fixed_vector() noexcept = default;

    explicit fixed_vector(size_type count) { resize(count); }

    fixed_vector(size_type count, T const& value) { assign(count, value); }

    template <std::input_iterator Iterator>
    fixed_vector(Iterator first, Iterator last) {
        append(first, last);
    }

    fixed_vector(std::initializer_list<T> values) { append(values.begin(), values.end()); }

    fixed_vector& operator=(std::initializer_list<T> values) {
        assign(values);
        return *this;
    }

    void assign(size_type count, T const& value) {
        check(count);
        // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): it may be one of these
        T const copy = value;
        clear();
        resize(count, copy);
    }

    /// Not from this vector.
    template <std::input_iterator Iterator>
    void assign(Iterator first, Iterator last) {
        check_range(first, last, 0);
        clear();
        append(first, last);
    }

    void assign(std::initializer_list<T> values) { assign(values.begin(), values.end()); }

    [[nodiscard]] bool try_assign(size_type count, T const& value) {
        return count <= Capacity && (assign(count, value), true);
    }

    // Sizes

    [[nodiscard]] size_type size() const noexcept {
        return static_cast<size_type>(std::min<std::uint64_t>(this->size_, Capacity));
    }

    [[nodiscard]] bool empty() const noexcept { return this->size_ == 0; }

    [[nodiscard]] bool full() const noexcept { return size() == Capacity; }

    [[nodiscard]] static constexpr size_type capacity() noexcept { return Capacity; }

    [[nodiscard]] static constexpr size_type max_size() noexcept { return Capacity; }

    /// Only checks that there is room.
    static void reserve(size_type count) { check(count); }

    static void shrink_to_fit() noexcept {}

    void clear() noexcept { cut(0); }

    void resize(size_type count) {
        check(count);
        cut(count);
        while (size() < count) {
            add();
        }
    }

    void resize(size_type count, T const& value) {
        check(count);
        cut(count);
        while (size() < count) {
            add(value);
        }
    }

    [[nodiscard]] bool try_resize(size_type count) {
        return count <= Capacity && (resize(count), true);
    }

    [[nodiscard]] bool try_resize(size_type count, T const& value) {
        return count <= Capacity && (resize(count, value), true);
    }

    // Elements

    [[nodiscard]] T* data() noexcept { return this->start(); }

    [[nodiscard]] T const* data() const noexcept { return this->start(); }

    [[nodiscard]] T& operator[](size_type at) noexcept { return data()[at]; }

    [[nodiscard]] T const& operator[](size_type at) const noexcept { return data()[at]; }

    [[nodiscard]] T& at(size_type at) {
        check_index(at);
        return data()[at];
    }

    [[nodiscard]] T const& at(size_type at) const {
        check_index(at);
        return data()[at];
    }

    [[nodiscard]] T& front() noexcept { return data()[0]; }

    [[nodiscard]] T const& front() const noexcept { return data()[0]; }

    [[nodiscard]] T& back() noexcept { return data()[size() - 1]; }

    [[nodiscard]] T const& back() const noexcept { return data()[size() - 1]; }

    [[nodiscard]] iterator begin() noexcept { return data(); }

    [[nodiscard]] const_iterator begin() const noexcept { return data(); }

    [[nodiscard]] const_iterator cbegin() const noexcept { return data(); }

    [[nodiscard]] iterator end() noexcept { return data() + size(); }

    [[nodiscard]] const_iterator end() const noexcept { return data() + size(); }

    [[nodiscard]] const_iterator cend() const noexcept { return end(); }

    [[nodiscard]] reverse_iterator rbegin() noexcept { return reverse_iterator{end()}; }

    [[nodiscard]] const_reverse_iterator rbegin() const noexcept {
        return const_reverse_iterator{end()};
    }

    [[nodiscard]] const_reverse_iterator crbegin() const noexcept { return rbegin(); }

    [[nodiscard]] reverse_iterator rend() noexcept { return reverse_iterator{begin()}; }

    [[nodiscard]] const_reverse_iterator rend() const noexcept {
        return const_reverse_iterator{begin()};
    }

    [[nodiscard]] const_reverse_iterator crend() const noexcept { return rend(); }

    // At the end

    template <class... Arguments>
    T& emplace_back(Arguments&&... arguments) {
        check(size() + 1);
        return add(std::forward<Arguments>(arguments)...);
    }

    void push_back(T const& value) { emplace_back(value); }

    void push_back(T&& value) { emplace_back(std::move(value)); }

    /// Null: it is full.
    template <class... Arguments>
    [[nodiscard]] T* try_emplace_back(Arguments&&... arguments) {
        return full() ? nullptr : std::addressof(add(std::forward<Arguments>(arguments)...));
    }

    [[nodiscard]] bool try_push_back(T const& value) { return try_emplace_back(value) != nullptr; }

    [[nodiscard]] bool try_push_back(T&& value) {
        return try_emplace_back(std::move(value)) != nullptr;
    }

    /// Not empty.
    void pop_back() noexcept { cut(size() - 1); }

    // Anywhere

    template <class... Arguments>
    iterator emplace(const_iterator where, Arguments&&... arguments) {
        size_type const at = index(where);
        emplace_back(std::forward<Arguments>(arguments)...);
        return turn(at, size() - 1);
    }

    iterator insert(const_iterator where, T const& value) { return emplace(where, value); }

    iterator insert(const_iterator where, T&& value) { return emplace(where, std::move(value)); }

    iterator insert(const_iterator where, size_type count, T const& value) {
        size_type const at = index(where);
        size_type const before = size();
        check_more(count);
        for (size_type i = 0; i < count; ++i) {
            add(value);
        }
        return turn(at, before);
    }

    /// Not from this vector.
    template <std::input_iterator Iterator>
    iterator insert(const_iterator where, Iterator first, Iterator last) {
        size_type const at = index(where);
        size_type const before = size();
        append(first, last);
        return turn(at, before);
    }

    iterator insert(const_iterator where, std::initializer_list<T> values) {
        return insert(where, values.begin(), values.end());
    }

    /// Null: it is full.
    template <class... Arguments>
    [[nodiscard]] T* try_emplace(const_iterator where, Arguments&&... arguments) {
        return full() ? nullptr : emplace(where, std::forward<Arguments>(arguments)...);
    }

    [[nodiscard]] T* try_insert(const_iterator where, T const& value) {
        return try_emplace(where, value);
    }

    [[nodiscard]] T* try_insert(const_iterator where, T&& value) {
        return try_emplace(where, std::move(value));
    }

    iterator erase(const_iterator where) { return erase(where, where + 1); }

    iterator erase(const_iterator first, const_iterator last) {
        auto* const to = begin() + index(first);
        if (first != last) {
            auto* const end_left = std::move(begin() + index(last), end(), to);
            cut(static_cast<size_type>(end_left - begin()));
        }
        return to;
    }

    // NOLINTNEXTLINE(bugprone-exception-escape): append() finds that there is room
    void swap(fixed_vector& other) noexcept(
        std::is_nothrow_move_constructible_v<T>&& std::is_nothrow_swappable_v<T>) {
        fixed_vector& less = size() <= other.size() ? *this : other;
        fixed_vector& more = size() <= other.size() ? other : *this;
        size_type const both = less.size();
        std::swap_ranges(less.begin(), less.end(), more.begin());
        less.append(std::make_move_iterator(more.begin() + both),
                    std::make_move_iterator(more.end()));
        more.cut(both);
    }

    // NOLINTNEXTLINE(bugprone-exception-escape): as above
    friend void swap(fixed_vector& left, fixed_vector& right) noexcept(noexcept(left.swap(right))) {
        left.swap(right);
    }

    [[nodiscard]] friend bool operator==(fixed_vector const& left, fixed_vector const& right) {
        return std::equal(left.begin(), left.end(), right.begin(), right.end());
    }

    [[nodiscard]] friend auto operator<=>(
        fixed_vector const& left, fixed_vector const& right) requires std::three_way_comparable<T> {
        return std::lexicographical_compare_three_way(left.begin(), left.end(), right.begin(),
                                                      right.end());
    }

private:
    static void check(size_type count) {
        if (count > Capacity) {
            throw std::length_error{"tarn::shm::fixed_vector: more than its capacity"};
        }
    }

    void check_more(size_type count) const {
        if (count > Capacity - size()) {
            check(Capacity + 1);
        }
    }

    void check_index(size_type at) const {
        if (at >= size()) {
            throw std::out_of_range{"tarn::shm::fixed_vector::at"};
        }
    }

    /// Where the number can be known before.
    template <class Iterator>
    static void check_range(Iterator first, Iterator last, size_type beside) {
        if constexpr (std::forward_iterator<Iterator>) {
            auto const count = static_cast<std::uint64_t>(std::distance(first, last));
            check(count > Capacity - beside ? Capacity + 1 : 0);
        }
    }

    /// There is room.
    template <class... Arguments>
    T& add(Arguments&&... arguments) {
        size_type const at = size();
        T* const made = std::construct_at(data() + at, std::forward<Arguments>(arguments)...);
        this->size_ = at + 1;
        return *made;
    }

    template <class Iterator>
    void append(Iterator first, Iterator last) {
        size_type const before = size();
        check_range(first, last, before);
        for (; first != last; ++first) {
            if (full()) {
                cut(before);
                check(Capacity + 1);
            }
            add(*first);
        }
    }

    void cut(size_type count) noexcept {
        size_type const before = size();
        if (count < before) {
            std::destroy_n(data() + count, before - count);
            this->size_ = count;
        }
    }

    [[nodiscard]] size_type index(const_iterator where) const noexcept {
        return static_cast<size_type>(where - begin());
    }

    /// What lies from `added` on comes before what lies from `at` on.
    iterator turn(size_type at, size_type added) {
        std::rotate(begin() + at, begin() + added, end());
        return begin() + at;
    }
};

/// The number of elements that were equal to it, or for which `is_one` was true.
template <class T, std::size_t Capacity, class Predicate>
std::size_t erase_if(fixed_vector<T, Capacity>& from, Predicate is_one) {
    auto const end_left = std::remove_if(from.begin(), from.end(), is_one);
    auto const erased = static_cast<std::size_t>(from.end() - end_left);
    from.erase(end_left, from.end());
    return erased;
}

template <class T, std::size_t Capacity, class Value>
std::size_t erase(fixed_vector<T, Capacity>& from, Value const& value) {
    return erase_if(from, [&](T const& each) { return each == value; });
}

static_assert(std::is_trivially_copyable_v<fixed_vector<int, 3>>);
static_assert(sizeof(fixed_vector<std::uint32_t, 3>) == 24);
static_assert(alignof(fixed_vector<char, 1>) == 8);

}  // namespace tarn::shm
