// debug/sampled_guards.hpp - samples of the ordinary heap between inaccessible pages, with stacks:
// a use after free or an overflow of one of them faults, or is found when it is freed.
//
// Threads    any. configure_sampled_guards() once, before the first operation. Callers hold no lock
// Always     nothing of this happens before the process has had its first few samples: a process
//            that never gets there has no handler of faults, and reserves nothing. Once the system
//            or the host refuses anything, no sample is guarded any more; those that live stay.
//            Whoever frees one by a wrong function, or tells a wrong size, is not told: an ordinary
//            heap does not care.
// Errors     findings go to the handler, as those of any checked heap
// Cost       a guarded sample: two system calls, two stack walks and the page fault of new memory,
//            some 6 us, one in a tick of the clock (4 ms mostly) at most. While it lives a slice of
//            address space, an OS page and 450 bytes of records; in quarantine the records alone.
// Source     docs/design/sampled-guards.md. Guard pages for a few blocks in production: GWP-ASan
//            (K. Serebryany et al., 2018; Chromium, Android).
// Tests      unit/debug/sampled_guards_test.cpp
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/attributes.hpp"
#include "heap/diversion.hpp"
#include "debug/checked_heap.hpp"

namespace tarn::impl::debug {

struct guard_sampling {
    bool is_on = false;
    std::size_t interval_bytes = 0;  // as heap_options::sample_interval_bytes
    finding_handler handler = nullptr;
    platform::walk_method walk = platform::walk_method::tables;
    std::size_t stack_frames = record_stack_table::frames_max;
};

/// So many samples of the process go by first: what programs make at their start stays to their
/// end, and would fill what may be guarded at once.
inline constexpr std::uint32_t samples_before_guards = 8;

/// Live at once, at most: with protection each takes two mappings.
inline constexpr std::uint64_t guarded_samples_max = 4096;
inline constexpr std::uint64_t protected_samples_max = 512;

/// Larger blocks are copied too slowly when they grow, and would fill the quarantine.
inline constexpr std::size_t guarded_bytes_max = 1 * MiB;

/// Freed samples stay inaccessible while these have address space, 1,024 of the smallest.
inline constexpr std::size_t sample_quarantine_bytes = 16 * MiB;

TARN_HIDDEN extern constinit checked_heap sampled_heap;

void configure_sampled_guards(guard_sampling const& wanted) noexcept;

/// For heap/host.hpp.
[[nodiscard]] void* allocate_guarded_sample(heap::operation const& asked) noexcept;
/// False: no block is known that ever was there, and nothing was reported.
[[nodiscard]] bool deallocate_guarded_sample(heap::operation const& asked) noexcept;
[[nodiscard]] heap::found_block find_guarded_sample(void const* ptr) noexcept;

}  // namespace tarn::impl::debug
