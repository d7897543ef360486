// tarn/shm/pool_registry.hpp - pool_registry: where this process has each segment, by its id.
//
// Role       Behind relative_ptr: an attachment enters itself, and its end takes it out. Segments
//            that are not attached can be mapped on demand, for reading.
// Threads    any, but for unmap_all(), which nobody may be using what it unmaps beside
// Always     A segment that is attached more than once stands for where it was attached first.
// Cost       base_of(), absolute(): a load and a few comparisons where it is mapped; relative(): a
//            search among this process's attachments
// Source     docs/shm.md, "Pointers"
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <tarn/shm.h>
#include <tarn/shm/error.hpp>

namespace tarn::shm {

class pool_registry {
public:
    /// Bits of a relative pointer that are the distance from the segment's start; above: its id.
    static constexpr unsigned offset_bits = 48;

    pool_registry() = delete;  // there is one, the process's

    /// Null: no segment of this id is here, and none could be mapped.
    [[nodiscard]] static std::byte* base_of(std::uint32_t id) noexcept {
        return static_cast<std::byte*>(
            tarn_shm_absolute(std::uint64_t{id & 0xffff} << offset_bits, 0, 1));
    }

    /// As 64 bits that mean the same in all processes; 0: null, or in no segment.
    [[nodiscard]] static std::uint64_t relative(void const* pointer) noexcept {
        return tarn_shm_relative(pointer);
    }

    /// And back; null for what is not `bytes` aligned to `alignment` inside of a segment.
    [[nodiscard]] static void* absolute(std::uint64_t word, std::uint64_t bytes,
                                        std::uint64_t alignment) noexcept {
        return tarn_shm_absolute(word, bytes, alignment);
    }

    /// From now on absolute() maps segments of this domain that are not attached; empty: the user's
    /// own.
    static result<void> map_on_demand(std::string const& domain = {}) noexcept {
        tarn_shm_failure failure;
        if (tarn_shm_map_on_demand(domain.empty() ? nullptr : domain.c_str(), &failure) !=
            TARN_SHM_OK) {
            return error{failure};
        }
        return {};
    }

    /// Those that were mapped on demand.
    static void unmap_all() noexcept { tarn_shm_unmap_all(); }
};

}  // namespace tarn::shm
