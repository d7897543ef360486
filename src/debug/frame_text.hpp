// debug/frame_text.hpp - call stacks in reports: as lines of text and as JSON, in bounded room.
//
// Threads    as lookup::describe()
// Always     what does not fit is left out from the outermost frame on, and that is said. A sink
//            that is truncated already stays as it is.
// Tests      unit/debug/report_test.cpp
#pragma once

#include <cstddef>
#include <span>

#include "base/text.hpp"
#include "debug/json_writer.hpp"
#include "debug/lookup.hpp"

namespace tarn::impl::debug {

/// What a note on frames left out takes at most, beside a stack's room.
inline constexpr std::size_t left_out_bytes_max = 96;

/// Lines as platform/symbols_text.hpp describes them, indented by four; `room_bytes` of them.
void write_frames(std::span<void const* const> stack, lookup const& by, std::size_t room_bytes,
                  base::text_sink& to) noexcept;

/// An array of objects. Returns how many frames were left out, for a member beside it.
std::size_t write_frames(std::span<void const* const> stack, lookup const& by,
                         std::size_t room_bytes, json_writer& to) noexcept;

/// The frame that says best where a stack is from: the innermost one outside of the standard
/// library. Nothing if the stack is empty or the frame does not fit. Returns whether it wrote.
bool write_site(std::span<void const* const> stack, lookup const& by, std::size_t room_bytes,
                base::text_sink& to) noexcept;

/// The same as an object, or null.
void write_site(std::span<void const* const> stack, lookup const& by, std::size_t room_bytes,
                json_writer& to) noexcept;

}  // namespace tarn::impl::debug
