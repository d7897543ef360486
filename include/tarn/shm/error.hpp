// tarn/shm/error.hpp - error, result<T>: a value, or why there is none.
//
// Threads    any; no state
// Always     Nothing here throws but value() of a result without one, which throws an exception
//            that holds the error. operator*, operator-> and error() of the wrong state are the
//            caller's mistake, as with std::expected (which C++20 does not have).
// Cost       a result is a value beside a flag; an error's text is written where one occurs
// Source     docs/shm.md, "Errors"
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include <tarn/shm.h>

namespace tarn::shm {

/// What went wrong: tarn_shm_error as a type, without success.
enum class errc : int {
    invalid = TARN_SHM_INVALID,
    not_found = TARN_SHM_NOT_FOUND,
    exists = TARN_SHM_EXISTS,
    full = TARN_SHM_FULL,
    no_memory = TARN_SHM_NO_MEMORY,
    denied = TARN_SHM_DENIED,
    incompatible = TARN_SHM_INCOMPATIBLE,
    damaged = TARN_SHM_DAMAGED,
    too_many = TARN_SHM_TOO_MANY,
    in_use = TARN_SHM_IN_USE,
    exhausted = TARN_SHM_EXHAUSTED,
    too_large = TARN_SHM_TOO_LARGE,
    stale = TARN_SHM_STALE,
    not_held = TARN_SHM_NOT_HELD,
    read_only = TARN_SHM_READ_ONLY,
    forked = TARN_SHM_FORKED,
    system = TARN_SHM_SYSTEM
};

/// errc as a category of std::error_code.
[[nodiscard]] inline std::error_category const& category() noexcept {
    class shm_category final : public std::error_category {
    public:
        [[nodiscard]] char const* name() const noexcept override { return "tarn::shm"; }

        [[nodiscard]] std::string message(int code) const override {
            return tarn_shm_error_text(code);
        }
    };

    static shm_category const only;
    return only;
}

[[nodiscard]] inline std::error_code make_error_code(errc code) noexcept {
    return {static_cast<int>(code), category()};
}

}  // namespace tarn::shm

template <>
struct std::is_error_code_enum<tarn::shm::errc> : std::true_type {};

namespace tarn::shm {

struct error {
    errc code = errc::invalid;
    int system = 0;  // errno, or 0

    // Not zeroed: most errors have no text of their own, and cost no more than a code then.
    error() noexcept { text_[0] = '\0'; }

    explicit error(errc why) noexcept : code{why} { text_[0] = '\0'; }

    /// `text` is cut where it is too long.
    error(errc why, std::string_view text) noexcept : code{why} {
        text_[text.copy(text_.data(), text_.size() - 1)] = '\0';
    }

    explicit error(tarn_shm_failure const& from) noexcept
        : error{static_cast<errc>(from.code), from.text} {
        system = from.system;
    }

    error(error const& other) noexcept : code{other.code}, system{other.system} {
        text_[std::string_view{other.text_.data()}.copy(text_.data(), text_.size() - 1)] = '\0';
    }

    error& operator=(error const& other) noexcept {
        if (this != &other) {
            code = other.code;
            system = other.system;
            text_[std::string_view{other.text_.data()}.copy(text_.data(), text_.size() - 1)] = '\0';
        }
        return *this;
    }

    ~error() = default;

    /// What, where and why, in one line, as long as the error lives.
    [[nodiscard]] char const* text() const noexcept {
        return text_[0] != '\0' ? text_.data() : tarn_shm_error_text(static_cast<int>(code));
    }

private:
    std::array<char, sizeof(tarn_shm_failure::text)> text_;
};

/// What value() throws.
class exception : public std::system_error {
public:
    explicit exception(error const& of)
        : std::system_error{make_error_code(of.code), of.text()}, why_{of} {}

    [[nodiscard]] error const& why() const noexcept { return why_; }

private:
    error why_;
};

template <class T>
class [[nodiscard]] result {
    static_assert(std::is_object_v<T> && !std::is_same_v<std::remove_cv_t<T>, tarn::shm::error>);

public:
    using value_type = T;
    using error_type = tarn::shm::error;

    result(T value) noexcept(std::is_nothrow_move_constructible_v<T>) : has_value_{true} {
        std::construct_at(std::addressof(kept), std::move(value));
    }

    result(error_type const& why) noexcept : has_value_{false} {
        std::construct_at(std::addressof(why_not), why);
    }

    result(errc why) noexcept : has_value_{false} {
        std::construct_at(std::addressof(why_not), why);
    }

    result(result const& other) requires std::is_copy_constructible_v<T>
        : has_value_{other.has_value_} {
        if (has_value_) {
            std::construct_at(std::addressof(kept), other.kept);
        } else {
            std::construct_at(std::addressof(why_not), other.why_not);
        }
    }

    result(result&& other) noexcept(std::is_nothrow_move_constructible_v<T>)
        : has_value_{other.has_value_} {
        if (has_value_) {
            std::construct_at(std::addressof(kept), std::move(other.kept));
        } else {
            std::construct_at(std::addressof(why_not), other.why_not);
        }
    }

    result& operator=(result other) noexcept(std::is_nothrow_move_constructible_v<T>) {
        destroy();
        has_value_ = other.has_value_;
        if (has_value_) {
            std::construct_at(std::addressof(kept), std::move(other.kept));
        } else {
            std::construct_at(std::addressof(why_not), other.why_not);
        }
        return *this;
    }

    ~result() { destroy(); }

    [[nodiscard]] bool has_value() const noexcept { return has_value_; }

    [[nodiscard]] explicit operator bool() const noexcept { return has_value_; }

    [[nodiscard]] T& operator*() & noexcept { return kept; }

    [[nodiscard]] T const& operator*() const& noexcept { return kept; }

    [[nodiscard]] T&& operator*() && noexcept { return std::move(kept); }

    [[nodiscard]] T* operator->() noexcept { return std::addressof(kept); }

    [[nodiscard]] T const* operator->() const noexcept { return std::addressof(kept); }

    [[nodiscard]] T& value() & {
        demand();
        return kept;
    }

    [[nodiscard]] T const& value() const& {
        demand();
        return kept;
    }

    [[nodiscard]] T&& value() && {
        demand();
        return std::move(kept);
    }

    template <class Other>
    [[nodiscard]] T value_or(Other&& other) const& {
        return has_value_ ? kept : static_cast<T>(std::forward<Other>(other));
    }

    template <class Other>
    [[nodiscard]] T value_or(Other&& other) && {
        return has_value_ ? std::move(kept) : static_cast<T>(std::forward<Other>(other));
    }

    [[nodiscard]] error_type const& error() const noexcept { return why_not; }

private:
    void demand() const {
        if (!has_value_) {
            throw exception{why_not};
        }
    }

    void destroy() noexcept {
        if (has_value_) {
            std::destroy_at(std::addressof(kept));
        } else {
            std::destroy_at(std::addressof(why_not));
        }
    }

    union {
        T kept;
        error_type why_not;
    };

    bool has_value_;
};

/// Success, or why not.
template <>
class [[nodiscard]] result<void> {
public:
    using value_type = void;
    using error_type = tarn::shm::error;

    result() noexcept : has_value_{true} {}

    result(error_type const& why) noexcept : error_{why}, has_value_{false} {}

    result(errc why) noexcept : error_{why}, has_value_{false} {}

    [[nodiscard]] bool has_value() const noexcept { return has_value_; }

    [[nodiscard]] explicit operator bool() const noexcept { return has_value_; }

    void value() const {
        if (!has_value_) {
            throw exception{error_};
        }
    }

    [[nodiscard]] error_type const& error() const noexcept { return error_; }

private:
    error_type error_;
    bool has_value_;
};

}  // namespace tarn::shm
