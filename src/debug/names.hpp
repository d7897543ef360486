// debug/names.hpp - words for what findings and blocks hold; stable, users search for them.
//
// Threads    stateless
// Always     any value has a word, also one that is none of its type: a report may be of a record
//            that was overwritten
// Tests      unit/debug/report_test.cpp
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/text.hpp"
#include "debug/finding.hpp"
#include "debug/json_writer.hpp"
#include "debug/lookup.hpp"

namespace tarn::impl::debug {

/// As the first words of a report: "heap-buffer-overflow".
[[nodiscard]] std::string_view name_of(fault what) noexcept;

/// What gave a block out: "malloc", "operator new", "operator new[]", "mp_alloc".
[[nodiscard]] std::string_view name_of(heap::family by, heap_number owner) noexcept;

/// One word: "live", "taken", "freed", "unused".
[[nodiscard]] std::string_view name_of(block_state state) noexcept;

[[nodiscard]] std::string_view name_of(heap_number owner) noexcept;

[[nodiscard]] std::string_view name_of(access_kind access) noexcept;

/// "1 byte", "24 bytes".
void write_bytes(std::uint64_t bytes, base::text_sink& to) noexcept;

/// Characters that would end a line or steer a terminal become '?'.
void write_plain(std::string_view text, base::text_sink& to) noexcept;

/// "thread 4711 (worker)", without the name if it has none by now.
void write_thread(std::uint32_t thread, lookup const& by, base::text_sink& to) noexcept;

/// {"id":4711,"name":"worker"}; null of no thread.
void write_thread(std::uint32_t thread, lookup const& by, json_writer& to) noexcept;

}  // namespace tarn::impl::debug
