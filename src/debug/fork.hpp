// debug/fork.hpp - checked heaps over a fork: their locks are held, so that the child finds none
// taken and nothing half linked.
//
// Threads    the forking one. hold_for_fork() comes before other locks, the release after them.
#pragma once

#include <cstdint>

namespace tarn::impl::debug {

enum class fork_side : std::uint8_t { parent, child };

void hold_for_fork() noexcept;
void release_after_fork(fork_side side) noexcept;

}  // namespace tarn::impl::debug
