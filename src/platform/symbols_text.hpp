// platform/symbols_text.hpp - describe_stack(): a stack as lines of text, for reports.
//
//     #0 function(args) at /path/file.h:45 (inlined)
//     #1 function2 at /path/file.cpp:123
//     #2 function3 in /usr/lib/libfoo.so+0x1234 (build id 0123abcd)
//     #3 0x000055d0c0ffee12 in /usr/lib/libfoo.so+0x1234 (build id 0123abcd)
//     #4 0x000055d0c0ffee12
//
// Line 2: debug information is missing, not the symbol; line 3: both are; line 4: no file is known.
// `tarn symbolize` finds lines 2 and 3 and makes them like the first two. The offset is that of the
// return address. An inlined function's caller is the next line.
//
// Threads    as describe_calls()
// Always     one line per source frame; characters that would end a line or steer a terminal become
//            '?'. A file without build id has no parentheses.
#pragma once

#include <cstddef>
#include <span>

#include "base/text.hpp"
#include "platform/symbols.hpp"

namespace tarn::impl::platform {

/// @param indentation  spaces before each line
void describe_stack(std::span<void const* const> return_addresses, base::text_sink& to,
                    std::size_t indentation) noexcept;

/// A line without number and end.
void describe_frame(source_frame const& frame, base::text_sink& to) noexcept;

/// As line 3, without number and end, from the place alone: nothing is looked up.
void describe_place(void const* address, base::text_sink& to) noexcept;

}  // namespace tarn::impl::platform
