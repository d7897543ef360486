// control/report.hpp - where reports go, and what a misuse report says.
//
// Threads    any. Each report is one write, so that lines of several threads do not mix.
// Always     allocates nothing; a closed descriptor or an unwritable file loses the text, never
//            the program
#pragma once

#include <string_view>

#include "base/text.hpp"
#include "heap/host.hpp"

namespace tarn::impl::control {

/// Writes to report_file, else to report_fd.
void write_report(std::string_view text) noexcept;

/// Writes a line of its own on the report channel.
void report_line(std::string_view text) noexcept;

/// Writes a file given by option, `%p` replaced by the process id. False: it can't be opened.
bool write_file(std::string_view path, std::string_view text) noexcept;

/// The line for a misuse, newline included.
void describe_misuse(heap::misuse const& event, base::text_sink& to) noexcept;

/// Ends the process as the options say: by abort(), or with exit_code.
[[noreturn]] void end_after_report() noexcept;

/// Reports as the options say; may abort. `details`: lines to add to the report.
heap::misuse_verdict handle_misuse(heap::misuse const& event,
                                   std::string_view details = {}) noexcept;

}  // namespace tarn::impl::control
