// heap/guarded_page.hpp - what a thread's page has in mode hardened beside its blocks: their
// states, and an inaccessible OS page at its end.
//
// Threads    whoever has just made the page, or is about to release it
// Errors     where the system refuses to make memory inaccessible, or where each such page takes
//            two mappings of a process that has many already, the page has none and serves all the
//            same
// Cost       two system calls per page
// Source     docs/design/hardened.md
// Tests      unit/heap/guarded_page_test.cpp
#pragma once

#include <cstddef>

#include "heap/page.hpp"

namespace tarn::impl::heap {

/// Slices of a page of this class, its guard included, where so many are wanted.
[[nodiscard]] std::size_t guarded_slices(unsigned size_class, std::size_t wanted) noexcept;

/// Gives a page that was just made states and a guard. False: out of memory, and the page is
/// released.
[[nodiscard]] bool add_states(page& fresh) noexcept;

/// Takes both away. The page has no live blocks.
void remove_states(page& empty) noexcept;

/// Makes one OS page inaccessible, if the system has one to spare. False: it has not.
[[nodiscard]] bool guard_os_page(std::byte* at) noexcept;

/// Ends that.
void unguard_os_page(std::byte* at) noexcept;

/// How many there are.
[[nodiscard]] std::size_t guarded_os_pages() noexcept;

}  // namespace tarn::impl::heap
