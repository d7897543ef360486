// debug/finding_facts.hpp - what follows from a finding's facts, for both forms of its report.
//
// Threads    stateless
// Always     facts may be any: unsigned arithmetic does not overflow
// Tests      unit/debug/report_test.cpp
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bits.hpp"
#include "base/text.hpp"
#include "debug/finding.hpp"

namespace tarn::impl::debug {

/// What all but stacks takes at most; they share the rest.
inline constexpr std::size_t beside_stacks_bytes = 12 * std::size_t{1024};

/// Of the line that says from where a neighbour is.
inline constexpr std::size_t site_bytes_max = 2 * std::size_t{1024};

[[nodiscard]] inline bool is_freed(block_facts const& block) noexcept {
    return block.state == block_state::freed || block.state == block_state::unused;
}

[[nodiscard]] inline std::uint64_t extent_of(finding const& found) noexcept {
    return static_cast<std::uint64_t>(found.damage_last) -
           static_cast<std::uint64_t>(found.damage_first) + 1;
}

[[nodiscard]] inline bool has_damage(finding const& found) noexcept {
    return found.what == fault::overflow || found.what == fault::underflow ||
           found.what == fault::use_after_free;
}

[[nodiscard]] inline bool is_sensible_damage(finding const& found) noexcept {
    return found.damaged_bytes != 0 && found.damage_last >= found.damage_first &&
           found.damaged_bytes <= extent_of(found);
}

[[nodiscard]] inline bool is_contiguous(finding const& found) noexcept {
    return is_sensible_damage(found) && found.damaged_bytes == extent_of(found);
}

[[nodiscard]] inline std::string_view operation_of(finding const& found) noexcept {
    return found.operation == nullptr || *found.operation == '\0'
               ? std::string_view{"an unknown operation"}
               : std::string_view{found.operation};
}

[[nodiscard]] inline bool is_sensible_block(block_facts const& block) noexcept {
    std::uint64_t const start = base::address_of(block.user);
    return block.bytes <= PTRDIFF_MAX && start + block.bytes >= start &&
           (block.alignment & (block.alignment - 1)) == 0;
}

/// Of one of the three stacks: what is left for it if so many are still to come.
[[nodiscard]] inline std::size_t share_of_room(base::text_sink const& to,
                                               std::size_t stacks_to_come) noexcept {
    std::size_t const room = to.room();
    return room > beside_stacks_bytes ? (room - beside_stacks_bytes) / stacks_to_come : 0;
}

[[nodiscard]] inline std::size_t dumped_bytes(finding const& found) noexcept {
    return std::min(found.dump.bytes, found.dump.found.size());
}

/// Whether what the operation said of the block is part of the fault.
[[nodiscard]] inline bool has_claims(finding const& found) noexcept {
    return found.what == fault::mismatched_free || found.what == fault::wrong_size ||
           found.what == fault::wrong_alignment;
}

}  // namespace tarn::impl::debug
