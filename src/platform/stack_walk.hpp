// platform/stack_walk.hpp - the call stack of the calling thread, as return addresses.
//
// Threads    any thread, also in a signal handler: no lock, no allocation, no state of the
//            thread's that a signal could find half changed. errno stays as it was.
// Always     no fault, whatever lies on the stack: memory of a stack is read only where it is known
//            to be the thread's, or where the system was asked for each OS page (libgcc trusts).
//            A walk ends at the outermost frame, where `to` is full, or where a frame can't be
//            understood; what it returns until then are the frames that libgcc would have found.
// Cost       a frame whose rule is known: 5 ns (tables), 2 ns (frames), 100 ns (libgcc). The first
//            walk through a call: some 100 ns a frame. A thread's first walk, and its first
//            one that deep: a system call for each OS page of its stack. Stacks that are not the
//            thread's own (coroutines, handlers): a system call for each OS page and walk.
//            Memory: 128 KiB of zero pages, touched as rules are kept.
// Source     docs/design/stacks.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tarn::impl::platform {

/// What callers need not go beyond: room for most stacks, half a KiB of a thread's own.
inline constexpr std::size_t stack_frames_max = 64;

/// How far in a caller is searched for.
inline constexpr std::size_t stack_callers_max = 16;

/// How a caller's frame is found.
///   tables  by the call-frame information that compilers write for exceptions, interpreted once
///           for each return address and kept; by the frame pointer where there is none
///   frames  by the frame pointer alone: leaves out callers of code compiled without
///   libgcc  by _Unwind_Backtrace(); `tables` where the process does not have it
enum class walk_method : std::uint8_t { tables, frames, libgcc };

/// Writes the calling thread's return addresses into `to`, innermost first.
///
/// @param to      with room for stack_callers_max at least, where there is a caller
/// @param caller  where to begin: the first address written is this one. Null, or not found among
///                the innermost stack_callers_max: the address in the function that calls
///                walk_stack() is.
/// @return        how many
std::size_t walk_stack(std::span<void const*> to, walk_method by, void const* caller) noexcept;

/// The same of the place where a signal stopped the calling thread: that instruction's address,
/// then return addresses. `context` is what the handler got, a ucontext_t.
std::size_t walk_interrupted(std::span<void const*> to, walk_method by,
                             void const* context) noexcept;

/// Finds out what the first walk would otherwise have to.
void warm_up_stack_walk() noexcept;

}  // namespace tarn::impl::platform
