// debug/lookup.hpp - lookup: what a report asks of the process, by function pointers.
//
// Threads    any; describe() as platform::describe_calls()
// Always     an unknown number or thread is no error: there is nothing to say of it
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "platform/symbols.hpp"
#include "space/stack_table.hpp"

namespace tarn::impl::debug {

struct lookup {
    /// Return addresses, innermost first; empty: there is no such stack.
    std::span<void const* const> (*frames)(space::stack_id stack) noexcept;
    /// As platform::describe_calls().
    void (*describe)(std::span<void const* const> calls, platform::frame_visitor visit) noexcept;
    /// The name of the thread that has this number now, written to `room`; empty: none has.
    std::string_view (*thread_name)(std::uint32_t thread, std::span<char> room) noexcept;
    std::uint32_t (*process_id)() noexcept;
};

/// This process, and the stacks of checked blocks.
[[nodiscard]] lookup const& process_lookup() noexcept;

}  // namespace tarn::impl::debug
