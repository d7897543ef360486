// heap/orphans.hpp - the pages of threads that vanished in fork.
//
// Threads    the first thread of a forked child that reaches a slow path; others wait for it. So
//            every half-done change that is found was begun by a thread that no longer exists.
// Always     afterwards each page has a living owner, is adrift, or is in its bin. A block that a
//            vanished thread had in its hands inside the allocator is lost, at most one each.
// Cost       O(pages) + O(blocks of pages that were owned), once per forked child that allocates
#pragma once

#include "heap/page.hpp"

namespace tarn::impl::heap {

/// Rebuilds the free list and the counts of a page whose owner vanished at any instruction.
/// `list` is the allocation list the owner had from this page, or null.
void repair(page& orphan, block const* list) noexcept;

}  // namespace tarn::impl::heap
