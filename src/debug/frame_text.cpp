#include "debug/frame_text.hpp"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/bits.hpp"
#include "platform/symbols_text.hpp"

namespace tarn::impl::debug {

namespace {

using platform::source_frame;

void write_object(source_frame const& frame, json_writer& to) noexcept {
    bool const has_module = frame.place != nullptr && !frame.place->module().empty();
    to.open('{');
    to.key("address");
    to.address(base::address_of(frame.return_address));
    to.key("module");
    to.text_or_null(has_module ? frame.place->module() : std::string_view{});
    to.key("offset");
    has_module ? to.address(frame.place->offset) : to.null();
    to.key("build_id");
    to.text_or_null(has_module ? frame.place->build_id() : std::string_view{});
    to.key("function");
    to.text_or_null(frame.function);
    to.key("file");
    to.text_or_null(frame.file);
    to.key("line");
    frame.line != 0 ? to.number(frame.line) : to.null();
    to.key("inlined");
    to.boolean(frame.is_inlined);
    to.close('}');
}

bool is_of_standard_library(std::string_view function) noexcept {
    return function.starts_with("std::") || function.starts_with("__gnu_cxx::") ||
           function.starts_with("operator new");
}

/// Calls `write(frame)` for the frame to name, and `undo()` before it for a better one.
template <class Write, class Undo>
void choose_site(std::span<void const* const> stack, lookup const& by, Write write,
                 Undo undo) noexcept {
    enum class choice : std::uint8_t { none, fallback, made } made = choice::none;
    auto visit = [&](source_frame const& frame) noexcept {
        bool const is_better = !is_of_standard_library(frame.function);
        if (made == choice::made || (made == choice::fallback && !is_better)) {
            return;
        }
        if (made == choice::fallback) {
            undo();
        }
        write(frame);
        made = is_better ? choice::made : choice::fallback;
    };
    // Beyond so many the program's own code won't come.
    constexpr std::size_t frames_read = 16;
    by.describe(stack.first(std::min(stack.size(), frames_read)), platform::frame_visitor{visit});
}

}  // namespace

void write_frames(std::span<void const* const> stack, lookup const& by, std::size_t room_bytes,
                  base::text_sink& to) noexcept {
    if (to.truncated() || stack.empty()) {
        return;
    }
    std::size_t const end = to.view().size() + room_bytes;
    std::uint64_t number = 0;
    std::uint64_t left_out = 0;
    auto visit = [&](source_frame const& frame) noexcept {
        std::size_t const before = to.view().size();
        if (left_out == 0) {
            to << "    #" << number++ << ' ';
            platform::describe_frame(frame, to);
            to << '\n';
        }
        if (left_out != 0 || to.truncated() || to.view().size() > end) {
            to.cut(before);
            ++left_out;
        }
    };
    by.describe(stack, platform::frame_visitor{visit});
    if (left_out != 0) {
        to << "    (" << left_out << " more left out for lack of room)\n";
    }
}

std::size_t write_frames(std::span<void const* const> stack, lookup const& by,
                         std::size_t room_bytes, json_writer& to) noexcept {
    to.open('[');
    std::size_t left_out = 0;
    if (!to.sink().truncated() && !stack.empty()) {
        std::size_t const end = to.sink().view().size() + room_bytes;
        auto visit = [&](source_frame const& frame) noexcept {
            json_writer::place const before = to.here();
            if (left_out == 0) {
                write_object(frame, to);
            }
            if (left_out != 0 || to.sink().truncated() || to.sink().view().size() > end) {
                to.return_to(before);
                ++left_out;
            }
        };
        by.describe(stack, platform::frame_visitor{visit});
    }
    to.close(']');
    return left_out;
}

bool write_site(std::span<void const* const> stack, lookup const& by, std::size_t room_bytes,
                base::text_sink& to) noexcept {
    if (to.truncated() || stack.empty()) {
        return false;
    }
    std::size_t const start = to.view().size();
    choose_site(
        stack, by,
        [&to](source_frame const& frame) noexcept { platform::describe_frame(frame, to); },
        [&to, start]() noexcept { to.cut(start); });
    if (to.truncated() || to.view().size() - start > room_bytes) {
        to.cut(start);
    }
    return to.view().size() != start;
}

void write_site(std::span<void const* const> stack, lookup const& by, std::size_t room_bytes,
                json_writer& to) noexcept {
    json_writer::place const start = to.here();
    if (!to.sink().truncated() && !stack.empty()) {
        choose_site(
            stack, by, [&to](source_frame const& frame) noexcept { write_object(frame, to); },
            [&to, start]() noexcept { to.return_to(start); });
        if (to.sink().truncated() || to.sink().view().size() - start.size > room_bytes) {
            to.return_to(start);
        }
    }
    if (to.sink().view().size() == start.size) {
        to.null();
    }
}

}  // namespace tarn::impl::debug
