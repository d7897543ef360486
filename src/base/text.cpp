#include "base/text.hpp"

#include <array>
#include <cstring>

#include "base/units.hpp"

namespace tarn::impl::base {

namespace {

struct digits {
    std::array<char, 20> storage;  // 2^64 has 20 decimal digits
    std::size_t first = 20;

    explicit digits(std::uint64_t number, unsigned radix = 10) noexcept {
        do {
            auto const digit = static_cast<unsigned>(number % radix);
            storage[--first] = static_cast<char>(digit < 10 ? '0' + digit : 'a' + digit - 10);
            number /= radix;
        } while (number != 0);
    }

    [[nodiscard]] std::string_view view() const noexcept {
        return {storage.data() + first, storage.size() - first};
    }
};

}  // namespace

text_sink& text_sink::operator<<(std::string_view text) noexcept {
    std::size_t const room = capacity_ - size_;
    std::size_t const taken = text.size() < room ? text.size() : room;
    if (taken != 0) {
        std::memcpy(storage_ + size_, text.data(), taken);
    }
    size_ += taken;
    length_ += text.size();
    return *this;
}

text_sink& text_sink::operator<<(char character) noexcept {
    return *this << std::string_view{&character, 1};
}

text_sink& text_sink::operator<<(std::uint64_t number) noexcept {
    return *this << digits{number}.view();
}

text_sink& text_sink::operator<<(std::int64_t number) noexcept {
    if (number < 0) {
        *this << '-';
        return *this << (std::uint64_t{0} - static_cast<std::uint64_t>(number));
    }
    return *this << static_cast<std::uint64_t>(number);
}

text_sink& text_sink::operator<<(void const* address) noexcept {
    return *this << "0x" << digits{reinterpret_cast<std::uintptr_t>(address), 16}.view();
}

text_sink& text_sink::hexadecimal(std::uint64_t number, std::size_t width) noexcept {
    digits const text{number, 16};
    for (std::size_t used = text.view().size(); used < width; ++used) {
        *this << '0';
    }
    return *this << text.view();
}

text_sink& text_sink::padded(std::uint64_t number, std::size_t width) noexcept {
    digits const text{number};
    for (std::size_t used = text.view().size(); used < width; ++used) {
        *this << ' ';
    }
    return *this << text.view();
}

text_sink& text_sink::padded(std::string_view text, std::size_t width) noexcept {
    *this << text;
    for (std::size_t used = text.size(); used < width; ++used) {
        *this << ' ';
    }
    return *this;
}

text_sink& text_sink::bytes(std::uint64_t count, std::size_t width) noexcept {
    struct unit {
        std::uint64_t size;
        std::string_view name;
    };

    static constexpr std::array units{unit{GiB, " GiB"}, unit{MiB, " MiB"}, unit{KiB, " KiB"}};
    text_buffer<32> text;
    bool scaled = false;
    for (unit const& candidate : units) {
        if (!scaled && count >= candidate.size) {
            std::uint64_t const whole = count / candidate.size;
            std::uint64_t const tenths = count % candidate.size * 10 / candidate.size;
            text << whole << '.' << tenths << candidate.name;
            scaled = true;
        }
    }
    if (!scaled) {
        text << count << " B";
    }
    for (std::size_t used = text.view().size(); used < width; ++used) {
        *this << ' ';
    }
    return *this << text.view();
}

}  // namespace tarn::impl::base
