// tarn/shm/message.hpp - message_builder, message_view, shm_vector, shm_string: a message of
// several parts in one chunk.
//
//     struct order {
//         std::uint64_t number;
//         tarn::shm::shm_string customer;
//         tarn::shm::shm_vector<item> items;
//     };
//
//     tarn::shm::message_builder building{chunk.bytes()};
//     order* const made = building.make<order>();                       // the first: the root
//     if (made != nullptr && building.assign(made->customer, "Ada")) { ... }
//
//     tarn::shm::message_view const message{held.bytes()};              // in the receiver
//     if (order const* const got = message.root<order>()) {
//         if (auto const customer = message.get(got->customer)) { use(*customer); }
//     }
//
// Role       Parts are taken from the chunk one behind the other, and point to each other by
//            distances (self_ptr.hpp): so a message is read where it lies, in every process.
// Threads    one builder, one thread; readers: any
// Always     The builder writes only into its chunk. The view follows nothing that does not lie in
//            the chunk as a whole and aligned, whatever is written there; each size and pointer is
//            read once. What elements hold is for the reader to check, and may change under his
//            hands while a broken or hostile process still writes: copy what is decided upon.
//            Parts are never freed on their own: what is assigned anew leaves its old place
//            unused.
// Errors     null or false: no room left; of a view: nullopt or null
// Cost       an addition for each part; a view's get(): a few comparisons
// Source     docs/shm.md, "Messages"
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tarn/shm/loan.hpp>
#include <tarn/shm/self_ptr.hpp>

namespace tarn::shm {

class message_builder;

/// A sequence in the chunk that it lies in itself. A message_builder gives it its elements.
template <class T>
class shm_vector {
    static_assert(std::is_trivially_destructible_v<T>);

public:
    using value_type = T;

    shm_vector() noexcept = default;

    /// Those of a process that trusts what is there: its own, before the message is shared.
    [[nodiscard]] std::span<T> elements() noexcept {
        return {first_.get(), static_cast<std::size_t>(size_)};
    }

    /// All of them, if they lie in `chunk` as a whole.
    [[nodiscard]] std::optional<std::span<T const>> checked(
        std::span<std::byte const> chunk) const noexcept {
        std::uint64_t const size = detail::read_once(size_);
        if (size == 0) {
            return std::span<T const>{};
        }
        T const* const first = first_.checked(chunk, size);
        if (first == nullptr) {
            return std::nullopt;
        }
        return std::span<T const>{first, static_cast<std::size_t>(size)};
    }

private:
    friend class message_builder;

    self_ptr<T> first_;
    alignas(8) std::uint64_t size_ = 0;
    alignas(8) std::uint64_t capacity_ = 0;
};

/// Text, in the same way; without a 0 at its end.
class shm_string {
public:
    shm_string() noexcept = default;

    /// As shm_vector::elements().
    [[nodiscard]] std::string_view view() noexcept {
        std::span<char> const text = text_.elements();
        return {text.data(), text.size()};
    }

    [[nodiscard]] std::optional<std::string_view> checked(
        std::span<std::byte const> chunk) const noexcept {
        std::optional<std::span<char const>> const text = text_.checked(chunk);
        if (!text) {
            return std::nullopt;
        }
        return std::string_view{text->data(), text->size()};
    }

private:
    friend class message_builder;

    shm_vector<char> text_;
};

class message_builder {
public:
    /// In a loan's bytes(), which it does not keep.
    explicit message_builder(std::span<std::byte> chunk) noexcept : chunk_{chunk} {}

    /// Null: no room.
    template <shareable T, class... Arguments>
    [[nodiscard]] T* make(Arguments&&... arguments) noexcept(
        std::is_nothrow_constructible_v<T, Arguments...>) {
        void* const place = take(sizeof(T), alignof(T));
        return place == nullptr ? nullptr
                                : std::construct_at(static_cast<T*>(place),
                                                    std::forward<Arguments>(arguments)...);
    }

    /// `count` of them, made by default; empty: no room.
    template <shareable T>
    [[nodiscard]] std::span<T> make_array(std::size_t count) noexcept(
        std::is_nothrow_default_constructible_v<T>) {
        T* const first = count == 0 ? nullptr : room<T>(count);
        if (first == nullptr) {
            return {};
        }
        std::uninitialized_value_construct_n(first, count);
        return {first, count};
    }

    /// `to`, which must lie in the chunk, has these elements from now on. False: no room, and it is
    /// as it was.
    template <shareable T>
    [[nodiscard]] bool assign(shm_vector<T>& to, std::span<T const> values) noexcept(
        std::is_nothrow_copy_constructible_v<T>) {
        if (values.empty()) {
            to.size_ = 0;
            return true;
        }
        T* const first = room<T>(values.size());
        if (first == nullptr) {
            return false;
        }
        std::uninitialized_copy_n(values.data(), values.size(), first);
        set(to, first, values.size(), values.size());
        return true;
    }

    [[nodiscard]] bool assign(shm_string& to, std::string_view text) noexcept {
        return assign(to.text_, std::span<char const>{text.data(), text.size()});
    }

    /// `count` elements made by default; then elements() are to be filled in. False: no room.
    template <shareable T>
    [[nodiscard]] bool resize(shm_vector<T>& to, std::size_t count) noexcept(
        std::is_nothrow_default_constructible_v<T>) {
        if (count == 0) {
            to.size_ = 0;
            return true;
        }
        std::span<T> const made = make_array<T>(count);
        if (made.empty()) {
            return false;
        }
        set(to, made.data(), count, count);
        return true;
    }

    /// One more at the end; takes twice the room where there is none. False: no room in the chunk.
    template <shareable T, class... Arguments>
    [[nodiscard]] bool push_back(shm_vector<T>& to, Arguments&&... arguments) {
        std::uint64_t const size = to.size_;
        if (size == to.capacity_) {
            std::size_t const more = std::max<std::size_t>(static_cast<std::size_t>(size) * 2, 4);
            T* const first = room<T>(more);
            if (first == nullptr) {
                return false;
            }
            std::uninitialized_copy_n(to.first_.get(), static_cast<std::size_t>(size), first);
            set(to, first, static_cast<std::size_t>(size), more);
        }
        std::construct_at(to.first_.get() + size, std::forward<Arguments>(arguments)...);
        to.size_ = size + 1;
        return true;
    }

    /// Bytes so far: what the loan can be resized to before it is shared.
    [[nodiscard]] std::size_t used_bytes() const noexcept { return used_; }

    [[nodiscard]] std::size_t left_bytes() const noexcept { return chunk_.size() - used_; }

private:
    template <class T>
    [[nodiscard]] T* room(std::size_t count) noexcept {
        return count > chunk_.size() / sizeof(T)
                   ? nullptr
                   : static_cast<T*>(take(count * sizeof(T), alignof(T)));
    }

    [[nodiscard]] void* take(std::size_t bytes, std::size_t alignment) noexcept {
        void* at = chunk_.data() + used_;
        std::size_t left = left_bytes();
        if (std::align(alignment, bytes, at, left) == nullptr) {
            return nullptr;
        }
        used_ = chunk_.size() - left + bytes;
        return at;
    }

    template <class T>
    static void set(shm_vector<T>& to, T* first, std::size_t size, std::size_t capacity) noexcept {
        to.first_ = first;
        to.size_ = size;
        to.capacity_ = capacity;
    }

    std::span<std::byte> chunk_;
    std::size_t used_ = 0;
};

/// A message as another process may have spoilt it.
class message_view {
public:
    /// In a held's bytes(), which must stay.
    explicit message_view(std::span<std::byte const> chunk) noexcept : chunk_{chunk} {}

    /// What was made first. Null: there is no room for a T, or it is not aligned.
    template <shareable T>
    [[nodiscard]] T const* root() const noexcept {
        bool const fits = chunk_.size() >= sizeof(T) &&
                          reinterpret_cast<std::uintptr_t>(chunk_.data()) % alignof(T) == 0;
        return fits ? reinterpret_cast<T const*>(chunk_.data()) : nullptr;
    }

    template <class T>
    [[nodiscard]] std::optional<std::span<T const>> get(shm_vector<T> const& of) const noexcept {
        return of.checked(chunk_);
    }

    [[nodiscard]] std::optional<std::string_view> get(shm_string const& of) const noexcept {
        return of.checked(chunk_);
    }

    /// Null: it is null, or leads out of the message.
    template <class T>
    [[nodiscard]] T const* get(self_ptr<T> const& of) const noexcept {
        return of.checked(chunk_);
    }

private:
    std::span<std::byte const> chunk_;
};

static_assert(sizeof(shm_vector<int>) == 24 && alignof(shm_vector<int>) == 8);
static_assert(sizeof(shm_string) == 24);

}  // namespace tarn::shm
