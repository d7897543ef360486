// malloc/checks.hpp - mode debug as the options want it: its configuration, what becomes of what it
// finds, and when blocks are checked.
//
// Threads    any; configure_checks() once, before the first operation
// Always     without mode debug every function returns at once
// Source     docs/design/debug.md
#pragma once

#include <cstddef>

#include "heap/diversion.hpp"
#include "heap/host.hpp"

namespace tarn::impl::checks {

/// What is to answer for all threads; null: the options want another mode.
[[nodiscard]] heap::stand_in const* configure() noexcept;

/// When allocation works.
void start() noexcept;

/// Checks every block of the program. Returns how many are damaged.
std::size_t check_all(char const* operation, void const* caller) noexcept;

/// Reports blocks that are live. Returns how many no rule keeps quiet.
std::size_t report_leaks() noexcept;

/// Before the process ends: a last check, and unfreed blocks where they are asked for. True: it is
/// to end with exit_code.
[[nodiscard]] bool end() noexcept;

/// A misuse that the ordinary heap has found. False: not in this mode.
bool report(heap::misuse const& event, heap::misuse_verdict& verdict) noexcept;

}  // namespace tarn::impl::checks
