#include "platform/symbols_text.hpp"

#include <cstdint>
#include <string_view>

namespace tarn::impl::platform {

namespace {

void write_name(std::string_view name, base::text_sink& to) noexcept {
    for (char const character : name) {
        auto const code = static_cast<unsigned char>(character);
        to << (code < ' ' || code == 0x7f ? '?' : character);
    }
}

void write_place(code_place const& place, base::text_sink& to) noexcept {
    if (place.module().empty()) {
        return;
    }
    to << " in ";
    write_name(place.module(), to);
    to << "+0x";
    to.hexadecimal(place.offset);
    if (!place.build_id().empty()) {
        to << " (build id " << place.build_id() << ')';
    }
}

void write_address(void const* address, base::text_sink& to) noexcept {
    to << "0x";
    to.hexadecimal(reinterpret_cast<std::uintptr_t>(address), 16);
}

}  // namespace

void describe_frame(source_frame const& frame, base::text_sink& to) noexcept {
    if (frame.function.empty() && frame.file.empty()) {
        write_address(frame.return_address, to);
        write_place(*frame.place, to);
        return;
    }
    write_name(frame.function.empty() ? "??" : frame.function, to);
    if (frame.file.empty()) {
        write_place(*frame.place, to);
    } else {
        to << " at ";
        write_name(frame.file, to);
        if (frame.line != 0) {
            to << ':' << std::uint32_t{frame.line};
        }
    }
    if (frame.is_inlined) {
        to << " (inlined)";
    }
}

void describe_stack(std::span<void const* const> return_addresses, base::text_sink& to,
                    std::size_t indentation) noexcept {
    std::uint32_t number = 0;
    auto write = [&](source_frame const& frame) noexcept {
        to.padded("", indentation);
        to << '#' << number++ << ' ';
        describe_frame(frame, to);
        to << '\n';
    };
    describe_calls(return_addresses, frame_visitor{write});
}

void describe_place(void const* address, base::text_sink& to) noexcept {
    write_address(address, to);
    write_place(place_of(address), to);
}

}  // namespace tarn::impl::platform
