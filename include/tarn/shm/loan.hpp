// tarn/shm/loan.hpp - loan, held: a chunk to write, alone; a chunk to read, with others.
//
// Role       A loan is what pool_manager::allocate() gives: nobody else knows the chunk. share()
//            ends it and makes a held of it, whose reference() other processes may be told. They
//            pool_manager::hold() it, and have one, too. The chunk goes back when the last of all
//            is gone. loan_of<T> and held_of<T> are the same with an object of type T.
// Threads    one at a time for each object; any number of them
// Always     Nobody writes what others read: after share() there is only the view. What a held
//            shows may still change under the reader's hands when another process is broken or
//            hostile: so read each value once, check it, then use it (message.hpp helps). Must end
//            before the segment does.
// Death      what this process has of it goes back
// Fork       the child's copies do nothing
// Errors     a moved-from object is empty, and only to be assigned to or destroyed
// Cost       loan: pool_manager.hpp. Copying a held and its end: an atomic operation or two on a
//            word of this process; the last also one on the chunk's
// Source     docs/shm.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include <tarn/shm.h>
#include <tarn/shm/error.hpp>

namespace tarn::shm {

/// Names a chunk of a segment, for all processes, as long as somebody holds it. One 64-bit word:
/// send value() by any way there is.
class reference {
public:
    constexpr reference() noexcept = default;

    constexpr explicit reference(std::uint64_t value) noexcept : value_{value} {}

    [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }

    [[nodiscard]] constexpr explicit operator bool() const noexcept { return value_ != 0; }

    /// segment::id() of its segment.
    [[nodiscard]] std::uint32_t segment() const noexcept {
        return tarn_shm_reference_segment(value_);
    }

    [[nodiscard]] std::uint32_t pool() const noexcept { return tarn_shm_reference_pool(value_); }

    /// Of the chunk in its pool.
    [[nodiscard]] std::uint32_t number() const noexcept {
        return tarn_shm_reference_number(value_);
    }

    friend constexpr bool operator==(reference, reference) noexcept = default;

private:
    alignas(8) std::uint64_t value_ = 0;
};

static_assert(std::is_trivially_copyable_v<reference> && sizeof(reference) == 8);

/// What may be made in a chunk: no end of it ever needs to be run, since a process that dies runs
/// none, and no table of functions, which lies elsewhere in each process. Pointers are up to its
/// author: relative_ptr and self_ptr are for that.
template <class T>
concept shareable =
    std::is_object_v<T> && std::is_trivially_destructible_v<T> && !std::is_polymorphic_v<T> &&
    !std::is_const_v<T>;

class pool_manager;

namespace detail {

/// The user's header lies right before the payload, but for what alignment puts between.
template <class T>
T* user_header_of(tarn_shm_chunk const& chunk) noexcept {
    auto const at = reinterpret_cast<std::uintptr_t>(chunk.user_header);
    bool const fits = at != 0 && at % alignof(T) == 0 &&
                      reinterpret_cast<std::uintptr_t>(chunk.payload) - at >= sizeof(T);
    return fits ? static_cast<T*>(chunk.user_header) : nullptr;
}

/// Of what is no T, as far as can be seen.
inline error no_such_object() noexcept {
    return {errc::invalid, "the payload is too small for the type, or not aligned to it"};
}

}  // namespace detail

/// Shared, for reading.
class held {
public:
    held() noexcept = default;

    /// Once more. Empty when `other` is, or in a forked child.
    held(held const& other) noexcept {
        if (other.client_ != nullptr &&
            tarn_shm_hold(other.client_, other.chunk_.reference, &chunk_) == TARN_SHM_OK) {
            client_ = other.client_;
        }
    }

    held(held&& other) noexcept
        : client_{std::exchange(other.client_, nullptr)}, chunk_{other.chunk_} {}

    held& operator=(held other) noexcept {
        std::swap(client_, other.client_);
        std::swap(chunk_, other.chunk_);
        return *this;
    }

    ~held() { release(); }

    /// Ends it now.
    void release() noexcept {
        if (client_ != nullptr) {
            static_cast<void>(tarn_shm_release(std::exchange(client_, nullptr), chunk_.reference));
        }
    }

    /// Ends the object, and leaves the chunk held: pool_manager::adopt() goes on with it.
    [[nodiscard]] tarn::shm::reference disown() noexcept {
        client_ = nullptr;
        return tarn::shm::reference{chunk_.reference};
    }

    [[nodiscard]] bool has_value() const noexcept { return client_ != nullptr; }

    [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }

    /// What others may be told.
    [[nodiscard]] tarn::shm::reference reference() const noexcept {
        return tarn::shm::reference{chunk_.reference};
    }

    [[nodiscard]] std::span<std::byte const> bytes() const noexcept {
        return {static_cast<std::byte const*>(chunk_.payload),
                static_cast<std::size_t>(chunk_.payload_bytes)};
    }

    /// Its beginning as a T, which somebody has written there; null: it is too small, or not
    /// aligned.
    template <shareable T>
    [[nodiscard]] T const* as() const noexcept {
        bool const fits = chunk_.payload_bytes >= sizeof(T) &&
                          reinterpret_cast<std::uintptr_t>(chunk_.payload) % alignof(T) == 0;
        return fits ? static_cast<T const*>(chunk_.payload) : nullptr;
    }

    /// A T; null: the pool has none, or less room for it.
    template <shareable T>
    [[nodiscard]] T const* user_header() const noexcept {
        return detail::user_header_of<T>(chunk_);
    }

    /// Its number among what its first client shared, from 1 on; as that one says. They rise; one
    /// is left out where a loan was taken while its pool was empty, and then dropped or resized.
    [[nodiscard]] std::uint64_t sequence() const noexcept { return chunk_.sequence; }

    /// The number of that client.
    [[nodiscard]] std::uint32_t origin() const noexcept { return chunk_.origin; }

private:
    friend class pool_manager;
    friend class loan;
    friend class magazine_loan;

    held(tarn_shm* client, tarn_shm_chunk const& chunk) noexcept : client_{client}, chunk_{chunk} {}

    tarn_shm* client_ = nullptr;
    tarn_shm_chunk chunk_{};
};

/// Alone, for writing; its contents are what was there before.
class loan {
public:
    loan() noexcept = default;
    loan(loan const&) = delete;
    loan& operator=(loan const&) = delete;

    loan(loan&& other) noexcept
        : client_{std::exchange(other.client_, nullptr)},
          is_counted_{other.is_counted_},
          is_told_{other.is_told_},
          chunk_{other.chunk_} {}

    loan& operator=(loan&& other) noexcept {
        if (this != &other) {
            release();
            client_ = std::exchange(other.client_, nullptr);
            is_counted_ = other.is_counted_;
            is_told_ = other.is_told_;
            chunk_ = other.chunk_;
        }
        return *this;
    }

    ~loan() { release(); }

    /// Gives it back now.
    void release() noexcept {
        if (client_ == nullptr) {
            return;
        }
        tarn_shm* const client = std::exchange(client_, nullptr);
        if (is_counted_) {
            static_cast<void>(tarn_shm_release(client, chunk_.reference));
        } else {
            tarn_shm_give(client, &chunk_.reference, 1);
        }
    }

    [[nodiscard]] bool has_value() const noexcept { return client_ != nullptr; }

    [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }

    /// As many as asked for.
    [[nodiscard]] std::span<std::byte> bytes() const noexcept {
        return {static_cast<std::byte*>(chunk_.payload),
                static_cast<std::size_t>(chunk_.payload_bytes)};
    }

    /// Bytes that there is room for.
    [[nodiscard]] std::size_t capacity() const noexcept {
        return static_cast<std::size_t>(chunk_.chunk_bytes);
    }

    /// What bytes() are from now on, and share() tells others. False: more than capacity().
    [[nodiscard]] bool resize(std::size_t bytes) noexcept {
        if (bytes > chunk_.chunk_bytes) {
            return false;
        }
        chunk_.payload_bytes = bytes;
        is_told_ = false;
        return true;
    }

    /// Null: the pool has none, or less room for it.
    template <shareable T>
    [[nodiscard]] T* user_header() const noexcept {
        return detail::user_header_of<T>(chunk_);
    }

    /// Ends writing: what is held may be read by others, too, who are told its reference().
    [[nodiscard]] result<held> share() && noexcept {
        if (client_ == nullptr) {
            return errc::not_held;
        }
        if (is_told_) {
            return held{std::exchange(client_, nullptr), chunk_};
        }
        int const code = tarn_shm_share(client_, chunk_.reference, chunk_.payload_bytes);
        if (code == TARN_SHM_OK) {
            // As others see it: with its number.
            static_cast<void>(tarn_shm_describe(client_, chunk_.reference, &chunk_));
            return held{std::exchange(client_, nullptr), chunk_};
        }
        return static_cast<errc>(code);
    }

private:
    friend class pool_manager;

    enum class kind : std::uint8_t { exclusive, counted };

    loan(tarn_shm* client, tarn_shm_chunk const& chunk, kind of) noexcept
        : client_{client},
          is_counted_{of == kind::counted},
          is_told_{of == kind::counted},
          chunk_{chunk} {}

    tarn_shm* client_ = nullptr;
    bool is_counted_ = false;  // as tarn_shm_allocate() gives it, not as tarn_shm_take() does
    bool is_told_ = false;     // its size and number are written in the chunk
    tarn_shm_chunk chunk_{};
};

/// A held whose payload is a T: as far as size and alignment tell.
template <shareable T>
class held_of {
public:
    held_of() noexcept = default;

    /// errc::invalid: it is too small, or not aligned.
    [[nodiscard]] static result<held_of> of(held from) noexcept {
        T const* const object = from.as<T>();
        if (object == nullptr) {
            return detail::no_such_object();
        }
        return held_of{std::move(from), object};
    }

    [[nodiscard]] explicit operator bool() const noexcept { return held_.has_value(); }

    [[nodiscard]] T const& operator*() const noexcept { return *object_; }

    [[nodiscard]] T const* operator->() const noexcept { return object_; }

    [[nodiscard]] T const* get() const noexcept { return held_.has_value() ? object_ : nullptr; }

    [[nodiscard]] tarn::shm::reference reference() const noexcept { return held_.reference(); }

    [[nodiscard]] held const& chunk() const noexcept { return held_; }

private:
    template <shareable>
    friend class loan_of;

    held_of(held of, T const* object) noexcept : held_{std::move(of)}, object_{object} {}

    held held_;
    T const* object_ = nullptr;
};

/// A loan with a T at its beginning.
template <shareable T>
class loan_of {
public:
    loan_of() noexcept = default;

    /// Makes the T. errc::invalid: no room for it, or not aligned.
    template <class... Arguments>
    [[nodiscard]] static result<loan_of> make(loan in, Arguments&&... arguments) noexcept(
        std::is_nothrow_constructible_v<T, Arguments...>) {
        auto const at = reinterpret_cast<std::uintptr_t>(in.bytes().data());
        if (in.bytes().size() < sizeof(T) || at % alignof(T) != 0) {
            return detail::no_such_object();
        }
        T* const object = std::construct_at(reinterpret_cast<T*>(in.bytes().data()),
                                            std::forward<Arguments>(arguments)...);
        return loan_of{std::move(in), object};
    }

    [[nodiscard]] explicit operator bool() const noexcept { return loan_.has_value(); }

    [[nodiscard]] T& operator*() const noexcept { return *object_; }

    [[nodiscard]] T* operator->() const noexcept { return object_; }

    [[nodiscard]] T* get() const noexcept { return loan_.has_value() ? object_ : nullptr; }

    [[nodiscard]] loan const& chunk() const noexcept { return loan_; }

    [[nodiscard]] result<held_of<T>> share() && noexcept {
        T const* const object = object_;
        result<held> shared = std::move(loan_).share();
        if (!shared) {
            return shared.error();
        }
        return held_of<T>{*std::move(shared), object};
    }

private:
    loan_of(loan in, T* object) noexcept : loan_{std::move(in)}, object_{object} {}

    loan loan_;
    T* object_ = nullptr;
};

}  // namespace tarn::shm

template <>
struct std::hash<tarn::shm::reference> {
    std::size_t operator()(tarn::shm::reference of) const noexcept {
        return std::hash<std::uint64_t>{}(of.value());
    }
};
