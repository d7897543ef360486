// doctor/link_map.hpp - the loader's own list of what it has loaded, read out of a process.
//
// Threads    pure but for the reader given
// Always     whatever the memory holds: reads are bounded, a list that makes no sense ends early
// Source     link.h of glibc: DT_DEBUG leads to r_debug, that to a list of link_map
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tarn::doctor {

/// Fills `to` with the process's memory at `address`; false when that can't be read.
using memory_reader = std::function<bool(std::uint64_t address, std::span<std::byte> to)>;

/// Addresses of the dynamic sections of all that is loaded: the program, what was preloaded, what
/// is needed, what was opened later. `headers`, `count`: AT_PHDR and AT_PHNUM of the process.
/// Empty when the list can't be read.
std::vector<std::uint64_t> read_link_map(memory_reader const& read, std::uint64_t headers,
                                         std::uint64_t count);

}  // namespace tarn::doctor
