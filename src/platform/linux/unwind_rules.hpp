// platform/linux/unwind_rules.hpp - how a frame leads to its caller's: read from an object's
// .eh_frame, the tables that compilers write for exceptions.
//
// Threads    any: pure functions of mapped, constant memory
// Always     reads only inside of the object; whatever it can't express is `none`
// Cost       find_rule(): a binary search and one function's instructions, some 70 ns
// Source     Linux Standard Base, "Exception Frames"; DWARF 5, section 6.4. Only the columns that
//            a walk needs are followed: the CFA, the return address, the frame pointer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace tarn::impl::platform {

/// What a walk knows about a frame. `sp` and `fp` are those in the frame, `lr` a return address
/// that is still in a register (only where a signal stopped; 0: none).
struct frame_registers {
    std::uintptr_t pc = 0;
    std::uintptr_t sp = 0;
    std::uintptr_t fp = 0;
    std::uintptr_t lr = 0;
};

enum class rule_kind : std::uint8_t {
    none,    // nothing is known, or it can't be said here
    end,     // the outermost frame
    signal,  // the frame through which a handler returns: the registers lie in its ucontext_t
    step,
};

enum class cfa_base : std::uint8_t { sp, fp };

/// `none` leaves the rest at its default. A step: the CFA (the caller's sp) is a base plus
/// cfa_offset, the return address and the caller's fp are saved at offsets from it.
struct frame_rule {
    rule_kind kind = rule_kind::none;
    cfa_base base = cfa_base::sp;
    bool is_ra_saved = true;   // else it is in lr
    bool is_fp_saved = false;  // else it is unchanged
    std::intptr_t cfa_offset = 0;
    std::intptr_t ra_offset = 0;
    std::intptr_t fp_offset = 0;
    // Not empty: the CFA, or the place of the saved fp, is what this DWARF expression says.
    std::span<std::byte const> cfa_expression;
    std::span<std::byte const> fp_expression;

    [[nodiscard]] bool has_expression() const noexcept {
        return !cfa_expression.empty() || !fp_expression.empty();
    }
};

/// An object's tables: its .eh_frame_hdr, and the addresses it occupies.
struct unwind_tables {
    std::uintptr_t header = 0;
    std::uintptr_t start = 0;
    std::uintptr_t end = 0;
};

/// The rule for the instruction that contains the address `pc`: for a return address, the byte
/// before it.
frame_rule find_rule(unwind_tables const& tables, std::uintptr_t pc) noexcept;

/// Reads a word of the stack; false: it may not be read.
using stack_reader = bool (*)(void* window, std::uintptr_t at, std::uintptr_t& value);

/// The value of a DWARF expression over sp, fp and pc; nothing when it uses anything else.
/// `initial` is what lies on its stack at first: the CFA for the place of a register.
std::optional<std::uintptr_t> evaluate(std::span<std::byte const> expression,
                                       frame_registers const& registers,
                                       std::optional<std::uintptr_t> initial, stack_reader read,
                                       void* window) noexcept;

}  // namespace tarn::impl::platform
