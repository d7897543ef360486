// shm/geometry.hpp - from a configuration to a header, and whether a header is one.
//
// Threads    any; no state
// Always     a header that is_sound() leads nowhere but into its own file
#pragma once

#include <cstdint>

#include "shm/failure.hpp"
#include "shm/layout.hpp"

namespace tarn::impl::shm {

/// CRC-32C (Castagnoli), of all before the checksum itself.
[[nodiscard]] std::uint32_t checksum_of(header const& made) noexcept;

/// Sets all that follows from the configuration: pools in rising order, and where everything lies.
[[nodiscard]] int plan(tarn_shm_config const& config, std::size_t page_bytes, header& planned,
                       failure_note& note) noexcept;

/// Whether it is this version's, unspoilt, of this start of the machine, and of a file so long.
/// `what` names the segment in the error's text.
[[nodiscard]] int check(header const& read, std::uint64_t file_bytes, std::size_t page_bytes,
                        char const* what, failure_note& note) noexcept;

}  // namespace tarn::impl::shm
