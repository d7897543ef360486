// platform/linux/unwind_bytes.hpp - what the readers of unwind tables share: bytes in DWARF's
// encodings, and its numbers for registers.
//
// Threads    a reader is its thread's own
// Always     reads nothing outside of its range
// Tests      unit/platform/unwind_rules_test.cpp
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/bits.hpp"

namespace tarn::impl::platform {

#if defined(__x86_64__)
inline constexpr std::uint64_t fp_column = 6;
inline constexpr std::uint64_t sp_column = 7;
inline constexpr std::uint64_t ra_column = 16;
#elif defined(__aarch64__)
inline constexpr std::uint64_t fp_column = 29;
inline constexpr std::uint64_t sp_column = 31;
inline constexpr std::uint64_t ra_column = 30;
#else
#error "name the DWARF columns of this architecture"
#endif

/// Reads a range of bytes from its start. Past its end everything is 0, and has_failed() is true.
class byte_reader {
public:
    byte_reader(std::uintptr_t start, std::uintptr_t end) noexcept
        : at_{start}, end_{start <= end ? end : start}, has_failed_{start > end} {}

    [[nodiscard]] std::uintptr_t at() const noexcept { return at_; }

    [[nodiscard]] bool has_failed() const noexcept { return has_failed_; }

    [[nodiscard]] bool is_done() const noexcept { return at_ >= end_; }

    void skip(std::uint64_t bytes) noexcept {
        if (bytes > end_ - at_) {
            fail();
        } else {
            at_ += bytes;
        }
    }

    template <class T>
    T get() noexcept {
        T value{};
        if (end_ - at_ < sizeof(T)) {
            fail();
        } else {
            std::memcpy(&value, base::pointer_to(at_), sizeof(T));
            at_ += sizeof(T);
        }
        return value;
    }

    std::uint64_t unsigned_leb() noexcept { return leb(extension::zeros); }

    std::int64_t signed_leb() noexcept { return static_cast<std::int64_t>(leb(extension::sign)); }

    /// A pointer in one of the encodings DW_EH_PE_*; `data` is what its relative ones start from.
    std::uintptr_t encoded(std::uint8_t encoding, std::uintptr_t data) noexcept {
        std::uintptr_t const place = at_;
        std::uintptr_t value = 0;
        switch (encoding & 0x0f) {
            case 0x00:
                value = get<std::uintptr_t>();
                break;
            case 0x01:
                value = unsigned_leb();
                break;
            case 0x02:
                value = get<std::uint16_t>();
                break;
            case 0x03:
                value = get<std::uint32_t>();
                break;
            case 0x04:
            case 0x0c:
                value = get<std::uint64_t>();
                break;
            case 0x09:
                value = static_cast<std::uintptr_t>(signed_leb());
                break;
            case 0x0a:
                value = static_cast<std::uintptr_t>(std::int64_t{get<std::int16_t>()});
                break;
            case 0x0b:
                value = static_cast<std::uintptr_t>(std::int64_t{get<std::int32_t>()});
                break;
            default:
                fail();
                break;
        }
        switch (encoding & 0x70) {
            case 0x00:
                return value;
            case 0x10:
                return value + place;
            case 0x30:
                return value + data;
            default:
                fail();
                return 0;
        }
    }

    /// The next `bytes`, as a range of its own.
    byte_reader part(std::uint64_t bytes) noexcept {
        std::uintptr_t const start = at_;
        skip(bytes);
        return {start, at_};
    }

    [[nodiscard]] std::span<std::byte const> rest() const noexcept {
        return {base::pointer_to(at_), end_ - at_};
    }

private:
    enum class extension : std::uint8_t { zeros, sign };

    void fail() noexcept {
        has_failed_ = true;
        at_ = end_;
    }

    std::uint64_t leb(extension how) noexcept {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            auto const byte = get<std::uint8_t>();
            value |= std::uint64_t{byte & 0x7fU} << shift;
            if ((byte & 0x80) == 0) {
                bool const is_negative = how == extension::sign && (byte & 0x40) != 0;
                return is_negative && shift < 57 ? value | ~std::uint64_t{0} << (shift + 7) : value;
            }
        }
        fail();
        return 0;
    }

    std::uintptr_t at_;
    std::uintptr_t end_;
    bool has_failed_;
};

}  // namespace tarn::impl::platform
