// control/limits.hpp - limits on the memory held for blocks, and who is told when it is scarce.
//
// Threads    any
// Always     first what is free goes back to the system, then listeners are called: outside of
//            every lock of ours, in the thread whose allocation led there, one thread at a time. A
//            listener may allocate and free; what it does never calls listeners again. A group's
//            limit (cgroup) is looked at once 16 MiB are held, and from then on as often as usage
//            could have got near it.
// Cost       without a limit: one comparison per slow path that took pages. Above one: a walk over
//            the pages nobody holds for each 64th of the limit that is added.
// Errors     see each function
#pragma once

#include <cstddef>
#include <cstdint>

#include "tarn/tarn.h"

namespace tarn::impl::control {

/// At the start, from the options.
void start_limits() noexcept;

/// 0 or EINVAL: the soft limit lies above the hard one.
int set_limits(tarn_limits const& wanted) noexcept;

[[nodiscard]] tarn_limits current_limits() noexcept;

/// 0; EINVAL: no listener, or kinds that do not exist; ENOMEM: all places are taken; EAGAIN:
/// TARN_PRESSURE_SYSTEM is asked for, and nothing tells of it (the other kinds are listened to).
int add_listener(unsigned kinds, tarn_pressure_listener listener, void* context) noexcept;

/// 0, or ENOENT. When it returns no call runs or will come; inside a call: none will come.
int remove_listener(tarn_pressure_listener listener, void* context) noexcept;

/// The heap has grown past what was watched for. At the end of an allocation.
void note_growth() noexcept;

/// An allocation is about to fail. True: somebody was told, and may have freed.
bool note_refusal(std::size_t bytes) noexcept;

/// The last thread of the program has left: nothing of ours may keep the process.
void leave_pressure() noexcept;

/// In the child of a fork.
void forget_pressure() noexcept;

}  // namespace tarn::impl::control
