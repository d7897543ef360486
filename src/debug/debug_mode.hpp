// debug/debug_mode.hpp - the checked heap that answers for malloc, free and their kin.
//
// Threads    any; checked_heap::configure() before the first operation
// Always     blocks that were allocated beneath it, or before, are the ordinary heap's and stay so
// Source     docs/design/debug.md
#pragma once

#include "heap/diversion.hpp"
#include "debug/checked_heap.hpp"

namespace tarn::impl::debug {

/// Blocks of the calling thread's own heap, the ordinary one.
[[nodiscard]] block_source heap_source() noexcept;

/// The program's, over heap_source().
TARN_HIDDEN extern constinit checked_heap program_heap;

/// What answers in its place, for heap_options::answers.
[[nodiscard]] heap::stand_in const& program_stand_in() noexcept;

}  // namespace tarn::impl::debug
