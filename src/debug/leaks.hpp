// debug/leaks.hpp - report_leaks(): groups of unfreed blocks as text or JSON lines.
//
//     tarn: memory-leak: 3 blocks of 72 bytes in all, never freed
//       allocated by malloc, 16 to 32 bytes each, at:
//         #0 make_name(int) at /src/app/name.cpp:42
//     ...
//     tarn: leaks: 5 blocks of 90 bytes in all from 2 places; 7 blocks of 700 bytes suppressed
//       suppressed by leak:libfoo (line 3): 7 blocks of 700 bytes
//
// Threads    as lookup::describe(); rules and groups are the caller's alone meanwhile
// Always     each report is one call of `write`; nothing at all is written where nothing leaked.
//            The last line counts all that was left out.
// Cost       where there are rules: some 20 us for each address of all groups' stacks. A group that
//            is shown: some ms.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/text.hpp"
#include "debug/leak_groups.hpp"
#include "debug/lookup.hpp"
#include "debug/suppressions.hpp"

namespace tarn::impl::debug {

enum class report_style : std::uint8_t { text, json };

struct leak_report {
    report_style style = report_style::text;
    std::size_t groups_max = 1000;  // shown, those with most bytes; the rest is counted
    void (*write)(std::string_view text) noexcept = nullptr;
};

/// What leaked, suppressed groups apart.
struct leak_totals {
    std::uint64_t groups = 0;
    std::uint64_t blocks = 0;
    std::uint64_t bytes = 0;
    std::uint64_t suppressed_blocks = 0;
    std::uint64_t suppressed_bytes = 0;
};

/// @param groups     sorted; those that rules hold for become is_suppressed
/// @param uncounted  blocks beside the groups; they count as leaks
/// @param buffer     of report_bytes (debug/report.hpp); is cleared
leak_totals report_leaks(std::span<leak_group> groups, leak_group const& uncounted,
                         suppressions& rules, lookup const& by, leak_report const& how,
                         base::text_sink& buffer) noexcept;

}  // namespace tarn::impl::debug
