// base/text.hpp - text into a fixed buffer, without libc's formatting and without allocation.
//
// Threads    a text_buffer belongs to one thread
// Always     the buffer never overflows: what does not fit is dropped and truncated() says so
// Cost       O(characters)
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tarn::impl::base {

class text_sink {
public:
    text_sink(char* storage, std::size_t capacity) noexcept
        : storage_{storage}, capacity_{capacity} {}

    text_sink& operator<<(std::string_view text) noexcept;
    text_sink& operator<<(char character) noexcept;

    text_sink& operator<<(char const* text) noexcept { return *this << std::string_view{text}; }

    text_sink& operator<<(std::uint64_t number) noexcept;
    text_sink& operator<<(std::int64_t number) noexcept;
    text_sink& operator<<(void const* address) noexcept;  // 0x1234

    text_sink& operator<<(std::uint32_t number) noexcept {
        return *this << static_cast<std::uint64_t>(number);
    }

    text_sink& operator<<(int number) noexcept {
        return *this << static_cast<std::int64_t>(number);
    }

    /// Appends hexadecimal digits without a prefix, at least `width` of them.
    text_sink& hexadecimal(std::uint64_t number, std::size_t width = 1) noexcept;
    /// Appends `number` right-aligned in `width` columns.
    text_sink& padded(std::uint64_t number, std::size_t width) noexcept;
    /// Appends `text` left-aligned in `width` columns.
    text_sink& padded(std::string_view text, std::size_t width) noexcept;
    /// Appends bytes as "12.3 MiB", "4.0 KiB" or "17 B", right-aligned in `width` columns.
    text_sink& bytes(std::uint64_t count, std::size_t width = 0) noexcept;

    void clear() noexcept { cut(0); }

    /// Back to the first `size` characters, at most view().size(), as if no more had been appended.
    void cut(std::size_t size) noexcept {
        size_ = size;
        length_ = size;
    }

    [[nodiscard]] std::size_t room() const noexcept { return capacity_ - size_; }

    [[nodiscard]] std::string_view view() const noexcept { return {storage_, size_}; }

    /// Of all that was appended, what was dropped included.
    [[nodiscard]] std::size_t length() const noexcept { return length_; }

    [[nodiscard]] bool truncated() const noexcept { return length_ != size_; }

private:
    char* storage_;
    std::size_t capacity_;
    std::size_t size_ = 0;
    std::size_t length_ = 0;
};

namespace detail {

template <std::size_t Capacity>
struct text_storage {
    char characters[Capacity];  // left uninitialised
};

}  // namespace detail

/// A sink that owns its storage.
template <std::size_t Capacity>
class text_buffer : private detail::text_storage<Capacity>, public text_sink {
public:
    text_buffer() noexcept : text_sink{detail::text_storage<Capacity>::characters, Capacity} {}

    text_buffer(text_buffer const&) = delete;
    text_buffer& operator=(text_buffer const&) = delete;
};

}  // namespace tarn::impl::base
