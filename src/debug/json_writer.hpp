// debug/json_writer.hpp - json_writer: JSON into a text_sink, commas and escapes included.
//
// Threads    belongs to one thread
// Always     one line, valid UTF-8, whatever bytes texts hold: what is no UTF-8 becomes U+FFFD.
//            Brackets are the caller's to pair; so is a key before each member.
// Cost       O(characters)
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/text.hpp"

namespace tarn::impl::debug {

class json_writer {
public:
    explicit json_writer(base::text_sink& to) noexcept : to_{to} {}

    /// '{' or '['.
    void open(char bracket) noexcept {
        separate();
        to_ << bracket;
        needs_comma_ = false;
    }

    void close(char bracket) noexcept {
        to_ << bracket;
        needs_comma_ = true;
    }

    void key(std::string_view name) noexcept {
        text(name);
        to_ << ':';
        needs_comma_ = false;
    }

    void text(std::string_view value) noexcept;

    void number(std::uint64_t value) noexcept { plain(value); }

    void signed_number(std::int64_t value) noexcept { plain(value); }

    void boolean(bool value) noexcept { plain(std::string_view{value ? "true" : "false"}); }

    void null() noexcept { plain(std::string_view{"null"}); }

    /// "0x1234": a number could lose its last bits in a reader.
    void address(std::uint64_t value) noexcept {
        separate();
        to_ << "\"0x";
        to_.hexadecimal(value);
        to_ << '"';
    }

    /// Null for an empty text.
    void text_or_null(std::string_view value) noexcept { value.empty() ? null() : text(value); }

    struct place {
        std::size_t size;
        bool needs_comma;
    };

    [[nodiscard]] place here() const noexcept { return {to_.view().size(), needs_comma_}; }

    /// As if nothing had been written since `to` was here().
    void return_to(place to) noexcept {
        to_.cut(to.size);
        needs_comma_ = to.needs_comma;
    }

    [[nodiscard]] base::text_sink& sink() const noexcept { return to_; }

private:
    void separate() noexcept {
        if (needs_comma_) {
            to_ << ',';
        }
        needs_comma_ = true;
    }

    template <class T>
    void plain(T value) noexcept {
        separate();
        to_ << value;
    }

    base::text_sink& to_;
    bool needs_comma_ = false;
};

}  // namespace tarn::impl::debug
