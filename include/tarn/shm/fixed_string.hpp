// tarn/shm/fixed_string.hpp - fixed_string<Capacity>: as std::string, with its characters inside.
//
//     struct person { tarn::shm::fixed_string<63> name; };               // in a chunk, or anywhere
//
// Role       Text that may lie in memory that processes share: it has no pointers, and never
//            allocates. All that only reads is done by view(), a std::string_view, which it
//            converts to.
// Threads    as std::string
// Always     Trivially copyable; its size is a 64-bit word in front of the characters, in 32-bit
//            processes, too. Whatever another process wrote into it, size() is at most Capacity,
//            and nothing here reaches beyond. c_str() ends with 0, as this process wrote it.
// Errors     std::length_error: no room for so many; std::out_of_range: a position behind the end.
//            The forms try_x() say no room by false, and change nothing
// Cost       that of std::string without growth
// Source     docs/shm.md
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace tarn::shm {

template <std::size_t Capacity>
class fixed_string {
    static_assert(Capacity > 0);

public:
    using value_type = char;
    using traits_type = std::char_traits<char>;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using reference = char&;
    using const_reference = char const&;
    using pointer = char*;
    using const_pointer = char const*;
    using iterator = char*;
    using const_iterator = char const*;
    using reverse_iterator = std::reverse_iterator<iterator>;
    using const_reverse_iterator = std::reverse_iterator<const_iterator>;

    static constexpr size_type npos = std::string_view::npos;

    fixed_string() noexcept { text_[0] = '\0'; }

    fixed_string(std::string_view text) : fixed_string{} { assign(text); }

    fixed_string(char const* text) : fixed_string{std::string_view{text}} {}

    fixed_string(std::string const& text) : fixed_string{std::string_view{text}} {}

    fixed_string(size_type count, char character) : fixed_string{} { assign(count, character); }

    template <std::input_iterator Iterator>
    fixed_string(Iterator first, Iterator last) : fixed_string{} {
        append(first, last);
    }

    fixed_string& operator=(std::string_view text) {
        assign(text);
        return *this;
    }

    fixed_string& operator=(char const* text) {
        assign(std::string_view{text});
        return *this;
    }

    fixed_string& operator=(std::string const& text) {
        assign(std::string_view{text});
        return *this;
    }

    // Assignment; the text may be part of this one

    fixed_string& assign(std::string_view text) {
        check(text.size());
        return put(0, text);
    }

    fixed_string& assign(size_type count, char character) {
        check(count);
        traits_type::assign(text_, count, character);
        return end_at(count);
    }

    [[nodiscard]] bool try_assign(std::string_view text) noexcept {
        if (text.size() > Capacity) {
            return false;
        }
        put(0, text);
        return true;
    }

    // Reading

    [[nodiscard]] std::string_view view() const noexcept { return {text_, size()}; }

    operator std::string_view() const noexcept { return view(); }

    [[nodiscard]] char const* c_str() const noexcept { return text_; }

    [[nodiscard]] char* data() noexcept { return text_; }

    [[nodiscard]] char const* data() const noexcept { return text_; }

    [[nodiscard]] size_type size() const noexcept {
        return static_cast<size_type>(std::min<std::uint64_t>(size_, Capacity));
    }

    [[nodiscard]] size_type length() const noexcept { return size(); }

    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

    [[nodiscard]] bool full() const noexcept { return size() == Capacity; }

    [[nodiscard]] static constexpr size_type capacity() noexcept { return Capacity; }

    [[nodiscard]] static constexpr size_type max_size() noexcept { return Capacity; }

    [[nodiscard]] char& operator[](size_type at) noexcept { return text_[at]; }

    [[nodiscard]] char const& operator[](size_type at) const noexcept { return text_[at]; }

    [[nodiscard]] char& at(size_type at) {
        check_index(at);
        return text_[at];
    }

    [[nodiscard]] char const& at(size_type at) const {
        check_index(at);
        return text_[at];
    }

    [[nodiscard]] char& front() noexcept { return text_[0]; }

    [[nodiscard]] char const& front() const noexcept { return text_[0]; }

    [[nodiscard]] char& back() noexcept { return text_[size() - 1]; }

    [[nodiscard]] char const& back() const noexcept { return text_[size() - 1]; }

    [[nodiscard]] iterator begin() noexcept { return text_; }

    [[nodiscard]] const_iterator begin() const noexcept { return text_; }

    [[nodiscard]] const_iterator cbegin() const noexcept { return text_; }

    [[nodiscard]] iterator end() noexcept { return text_ + size(); }

    [[nodiscard]] const_iterator end() const noexcept { return text_ + size(); }

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

    // Changing

    static void reserve(size_type count) { check(count); }

    static void shrink_to_fit() noexcept {}

    void clear() noexcept { end_at(0); }

    void resize(size_type count, char character = '\0') {
        check(count);
        fill_to(count, character);
    }

    [[nodiscard]] bool try_resize(size_type count, char character = '\0') noexcept {
        if (count > Capacity) {
            return false;
        }
        fill_to(count, character);
        return true;
    }

    void push_back(char character) {
        check_more(1);
        fill_to(size() + 1, character);
    }

    [[nodiscard]] bool try_push_back(char character) noexcept {
        return try_resize(size() + 1, character);
    }

    /// Not empty.
    void pop_back() noexcept { end_at(size() - 1); }

    fixed_string& append(std::string_view text) {
        check_more(text.size());
        return put(size(), text);
    }

    fixed_string& append(size_type count, char character) {
        check_more(count);
        resize(size() + count, character);
        return *this;
    }

    template <std::input_iterator Iterator>
    fixed_string& append(Iterator first, Iterator last) {
        size_type const before = size();
        for (; first != last; ++first) {
            if (full()) {
                end_at(before);
                check(Capacity + 1);
            }
            push_back(*first);
        }
        return *this;
    }

    [[nodiscard]] bool try_append(std::string_view text) noexcept {
        if (text.size() > Capacity - size()) {
            return false;
        }
        put(size(), text);
        return true;
    }

    fixed_string& operator+=(std::string_view text) { return append(text); }

    fixed_string& operator+=(char character) {
        push_back(character);
        return *this;
    }

    fixed_string& insert(size_type at, std::string_view text) { return replace(at, 0, text); }

    fixed_string& insert(size_type at, size_type count, char character) {
        check_position(at);
        size_type const before = size();
        append(count, character);
        std::rotate(text_ + at, text_ + before, text_ + size());
        return *this;
    }

    iterator insert(const_iterator where, char character) {
        size_type const at = index(where);
        insert(at, 1, character);
        return text_ + at;
    }

    [[nodiscard]] bool try_insert(size_type at, std::string_view text) {
        return text.size() <= Capacity - size() && (insert(at, text), true);
    }

    fixed_string& erase(size_type at = 0, size_type count = npos) {
        check_position(at);
        size_type const before = size();
        size_type const gone = std::min(count, before - at);
        traits_type::move(text_ + at, text_ + at + gone, before - at - gone);
        return end_at(before - gone);
    }

    iterator erase(const_iterator where) { return erase(where, where + 1); }

    iterator erase(const_iterator first, const_iterator last) {
        size_type const at = index(first);
        erase(at, static_cast<size_type>(last - first));
        return text_ + at;
    }

    /// The text may be part of this one.
    fixed_string& replace(size_type at, size_type count, std::string_view text) {
        check_position(at);
        size_type const before = size();
        size_type const gone = std::min(count, before - at);
        check_more(text.size() > gone ? text.size() - gone : 0);
        fixed_string const rest{view().substr(at + gone)};
        traits_type::move(text_ + at, text.data(), text.size());
        traits_type::copy(text_ + at + text.size(), rest.text_, rest.size());
        return end_at(before - gone + text.size());
    }

    [[nodiscard]] fixed_string substr(size_type at = 0, size_type count = npos) const {
        check_position(at);
        return fixed_string{view().substr(at, count)};
    }

    size_type copy(char* to, size_type count, size_type at = 0) const {
        check_position(at);
        return view().copy(to, count, at);
    }

    void swap(fixed_string& other) noexcept { std::swap(*this, other); }

    // Searching, as in std::string_view

    [[nodiscard]] int compare(std::string_view text) const noexcept { return view().compare(text); }

    [[nodiscard]] bool starts_with(std::string_view text) const noexcept {
        return view().starts_with(text);
    }

    [[nodiscard]] bool starts_with(char character) const noexcept {
        return view().starts_with(character);
    }

    [[nodiscard]] bool ends_with(std::string_view text) const noexcept {
        return view().ends_with(text);
    }

    [[nodiscard]] bool ends_with(char character) const noexcept {
        return view().ends_with(character);
    }

    [[nodiscard]] bool contains(std::string_view text) const noexcept { return find(text) != npos; }

    [[nodiscard]] bool contains(char character) const noexcept { return find(character) != npos; }

    [[nodiscard]] size_type find(std::string_view text, size_type from = 0) const noexcept {
        return view().find(text, from);
    }

    [[nodiscard]] size_type find(char character, size_type from = 0) const noexcept {
        return view().find(character, from);
    }

    [[nodiscard]] size_type rfind(std::string_view text, size_type from = npos) const noexcept {
        return view().rfind(text, from);
    }

    [[nodiscard]] size_type rfind(char character, size_type from = npos) const noexcept {
        return view().rfind(character, from);
    }

    [[nodiscard]] size_type find_first_of(std::string_view any, size_type from = 0) const noexcept {
        return view().find_first_of(any, from);
    }

    [[nodiscard]] size_type find_last_of(std::string_view any,
                                         size_type from = npos) const noexcept {
        return view().find_last_of(any, from);
    }

    [[nodiscard]] size_type find_first_not_of(std::string_view any,
                                              size_type from = 0) const noexcept {
        return view().find_first_not_of(any, from);
    }

    [[nodiscard]] size_type find_last_not_of(std::string_view any,
                                             size_type from = npos) const noexcept {
        return view().find_last_not_of(any, from);
    }

    template <class Text>
        requires std::is_convertible_v<Text const&, std::string_view>

    [[nodiscard]] friend bool operator==(fixed_string const& left, Text const& right) noexcept {
        return left.view() == static_cast<std::string_view>(right);
    }

    template <class Text>
        requires std::is_convertible_v<Text const&, std::string_view>

    [[nodiscard]] friend auto operator<=>(fixed_string const& left, Text const& right) noexcept {
        return left.view() <=> static_cast<std::string_view>(right);
    }

private:
    static void check(size_type count) {
        if (count > Capacity) {
            throw std::length_error{"tarn::shm::fixed_string: more than its capacity"};
        }
    }

    void check_more(size_type count) const {
        if (count > Capacity - size()) {
            check(Capacity + 1);
        }
    }

    void check_index(size_type at) const {
        if (at >= size()) {
            throw std::out_of_range{"tarn::shm::fixed_string::at"};
        }
    }

    void check_position(size_type at) const {
        if (at > size()) {
            throw std::out_of_range{"tarn::shm::fixed_string: a position behind the end"};
        }
    }

    [[nodiscard]] size_type index(const_iterator where) const noexcept {
        return static_cast<size_type>(where - text_);
    }

    /// From `at` on, to its end; there is room.
    fixed_string& put(size_type at, std::string_view text) noexcept {
        traits_type::move(text_ + at, text.data(), text.size());
        return end_at(at + text.size());
    }

    /// There is room.
    void fill_to(size_type count, char character) noexcept {
        size_type const before = size();
        if (count > before) {
            traits_type::assign(text_ + before, count - before, character);
        }
        end_at(count);
    }

    fixed_string& end_at(size_type size) noexcept {
        size_ = size;
        text_[size] = '\0';
        return *this;
    }

    alignas(8) std::uint64_t size_ = 0;
    char text_[Capacity + 1];
};

static_assert(std::is_trivially_copyable_v<fixed_string<15>>);
static_assert(sizeof(fixed_string<15>) == 24 && alignof(fixed_string<15>) == 8);

}  // namespace tarn::shm

template <std::size_t Capacity>
struct std::hash<tarn::shm::fixed_string<Capacity>> {
    std::size_t operator()(tarn::shm::fixed_string<Capacity> const& text) const noexcept {
        return std::hash<std::string_view>{}(text.view());
    }
};
