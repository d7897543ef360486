// debug/report.hpp - a finding as text and as JSON.
//
//     tarn: heap-buffer-overflow: wrote 3 bytes past the end of 24-byte block 0x7f2000001000
//       found by free in thread 4711 (worker) of process 4700
//       block: 24 bytes at 0x7f2000001000 to 0x7f2000001018, of malloc, live
//       ...
//
// The first line without its address is the finding's signature: equal between runs, to search for
// and to group by. So is the name of each member of the JSON object.
//
// Threads    as lookup::describe()
// Always     no fault and no loop without end, whatever the finding holds: facts that make no sense
//            are written as they are, and that they make none. Nothing that a finding points to is
//            read, but the stack and the name of the operation.
// Cost       some 10 ms, since stacks are looked up; a first one 100 ms
// Errors     where `to` is too small, stacks lose their outermost frames, then the text its end,
//            which it says; an object becomes one that says what and where, then nothing
#pragma once

#include <cstddef>

#include "base/text.hpp"
#include "debug/finding.hpp"
#include "debug/lookup.hpp"

namespace tarn::impl::debug {

/// What a sink should have room for: nothing is lost then but from very long stacks.
inline constexpr std::size_t report_bytes = std::size_t{64} * 1024;

/// The first line, without "tarn: ", address and line end.
void describe_signature(finding const& found, base::text_sink& to) noexcept;

/// Lines, the last one ended. False: the end is missing.
bool describe_finding(finding const& found, lookup const& by, base::text_sink& to) noexcept;

/// One line, ended: an object. False: it holds less, or nothing was written.
bool describe_finding_json(finding const& found, lookup const& by, base::text_sink& to) noexcept;

}  // namespace tarn::impl::debug
