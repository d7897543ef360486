// control/owners.hpp - owners: pools, regions and heaps that say what they hold.
//
// Threads    any. An owner's figures are written by one thread at a time, and read by all.
// Always     an owner is in the list from enter_owner() to leave_owner(), wherever its record lies;
//            the list is there before the first constructor of a program and after its last
//            destructor
// Fork       the lock is held over it: the child finds all owners
// Cost       enter, leave: a lock, held for a few instructions or while somebody lists owners;
//            figures: a load and a store each
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tarn/tarn.h"

namespace tarn::impl::control {

/// `kind` and `name`, either of which may be null, must stay.
void enter_owner(tarn_owner& owner, char const* kind, char const* name) noexcept;

void leave_owner(tarn_owner& owner) noexcept;

/// By one thread at a time.
void add_to_owner(tarn_owner& owner, std::int64_t held_bytes, std::int64_t live_bytes) noexcept;

/// Fills a row for each kind and name, those that hold most first. What finds no room is added to
/// the last row, as "others". Returns the number of rows filled. Cost: owners * rows, under the
/// lock.
std::size_t list_owners(std::span<tarn_owner_stats> rows) noexcept;

/// Over fork: prepare before, and release after, the locks of the heap.
void hold_owners_for_fork() noexcept;
void release_owners_after_fork() noexcept;

}  // namespace tarn::impl::control
