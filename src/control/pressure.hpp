// control/pressure.hpp - says when memory becomes scarce, in the cgroup or in the whole system.
//
// Threads    start, stop: any, also inside the call. Not in a slow path or in free: a start makes
//            threads, which allocates. dismiss: any, also at a thread's exit. forget: the child of
//            a fork, before it has threads.
// Always     Nothing runs unless asked for. Then there are two threads with all signals blocked.
//            "tarn-sensor" listens to the kernel and reads files, by the clock where the kernel
//            says nothing; from Linux 5.9 on it has a table of descriptors of its own, so that the
//            program sees none and can close none. "tarn-pressure" calls; it holds no heap: what
//            calls allocate is served under a lock. The process may end without a stop; where its
//            main thread has left, the last thread must call dismiss.
// Cost       reading some five small files every poll_ms; every 60 s while memory is plenty
//            and the kernel says what matters
// Errors     start says false where nothing tells of memory, or there are no threads to be had
// Source     kernel, Documentation: accounting/psi.rst, admin-guide/cgroup-v1/memory.rst (memory
//            thresholds, memory pressure), admin-guide/cgroup-v2.rst (memory.events)
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "control/cgroup.hpp"

namespace tarn::impl::control {

/// moderate: 85 % of the limit are in use, or for 15 % of the time some task waits for memory.
/// critical: 95 % of the limit, or the "high" limit; for 10 % of the time nobody gets on; or the
///           kernel has begun to kill.
enum class pressure_level : std::uint32_t { none, moderate, critical };

struct pressure_watch {
    /// Runs in a thread of its own, not inside the allocator: it may allocate and wait. Called when
    /// the level rises, and every `repeat_ms` while it lasts.
    void (*call)(pressure_level) noexcept = nullptr;
    std::uint32_t poll_ms = 2000;  // at most 60,000
    std::uint32_t repeat_ms = 10'000;
    std::string_view root{};  // for tests: see control/cgroup.hpp; at most path_text::bytes_max
};

/// True: the watch runs, and what the kernel says from now on is heard. One that ran already stays
/// as it is.
bool start_pressure_watch(pressure_watch const& wanted) noexcept;

/// When it returns, no call is running or will come; inside the call: none will come.
void stop_pressure_watch() noexcept;

/// As stop, without waiting.
void dismiss_pressure_watch() noexcept;

void forget_pressure_watch() noexcept;

/// What the kernel says by itself; the rest is polled.
struct pressure_events {
    bool runs = false;
    std::size_t usage_limit_bytes = no_limit;  // crossings of the levels below that limit
    bool stalls = false;
};

[[nodiscard]] pressure_events current_pressure_events() noexcept;

/// One look at the sources.
struct pressure_reading {
    std::uint64_t at_ms = 0;
    memory_limits limits;
    std::optional<memory_usage> usage;
    std::uint64_t exhaustions = 0;
    std::optional<memory_stall> stall;
};

inline constexpr std::uint64_t stall_window_ms = 1000;

/// The level `now`; waits and kills are those since `before`. Waits count from stall_window_ms on.
[[nodiscard]] pressure_level judge_pressure(pressure_reading const& before,
                                            pressure_reading const& now) noexcept;

}  // namespace tarn::impl::control
