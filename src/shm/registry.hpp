// shm/registry.hpp - pool_registry of this process: where each segment lies here, by its id.
//
// Threads    find(): any thread, no lock. The rest: under one lock.
// Always     An entry is a base and a length, in memory that stays: a reader that comes too late
//            finds no base. A segment that is attached more than once lies where it was first.
// Fork       the child has no clients, and of their mappings only those that were made on demand
// Cost       find(): two loads and a comparison; 1 MiB of address space
#pragma once

#include <cstdint>

#include "shm/client.hpp"

namespace tarn::impl::shm {

/// While there is one, no other thread forks: a child would get open files of which its registry
/// knows nothing, and their locks with them. Not twice in a thread.
class fork_gate {
public:
    fork_gate() noexcept;
    ~fork_gate();
    fork_gate(fork_gate const&) = delete;
    fork_gate& operator=(fork_gate const&) = delete;
};

/// Null: not mapped, or beyond its end.
[[nodiscard]] std::byte* find_mapped(std::uint32_t id, std::uint64_t offset,
                                     std::uint64_t bytes) noexcept;

[[nodiscard]] bool is_mapped(std::uint32_t id) noexcept;

/// From which domain segments are mapped that are not attached.
[[nodiscard]] int demand_from(char const* domain_name, failure_note& note) noexcept;

/// As find_mapped(), of a segment of that domain, which is mapped for it.
[[nodiscard]] std::byte* map_and_find(std::uint32_t id, std::uint64_t offset,
                                      std::uint64_t bytes) noexcept;

void unmap_demanded() noexcept;

/// The id and distance of what lies in a segment that is mapped; 0: in none.
[[nodiscard]] std::uint64_t relative_of(void const* pointer) noexcept;

}  // namespace tarn::impl::shm
