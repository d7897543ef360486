#include <array>
#include <bit>

#include "base/bits.hpp"
#include "platform/linux/unwind_bytes.hpp"
#include "platform/linux/unwind_rules.hpp"

namespace tarn::impl::platform {

std::optional<std::uintptr_t> evaluate(std::span<std::byte const> expression,
                                       frame_registers const& registers,
                                       std::optional<std::uintptr_t> initial, stack_reader read,
                                       void* window) noexcept {
    constexpr std::size_t depth_max = 8;
    std::array<std::uintptr_t, depth_max> stack{};
    std::size_t depth = 0;
    bool is_sound = true;
    auto const push = [&](std::uintptr_t value) noexcept {
        if (depth < depth_max) {
            stack[depth++] = value;
        } else {
            is_sound = false;
        }
    };
    auto const pop = [&]() noexcept -> std::uintptr_t {
        if (depth == 0) {
            is_sound = false;
            return 0;
        }
        return stack[--depth];
    };
    if (initial) {
        push(*initial);
    }
    auto const start = base::address_of(expression.data());
    byte_reader in{start, start + expression.size()};
    while (!in.is_done() && is_sound) {
        auto const code = in.get<std::uint8_t>();
        if (code >= 0x30 && code <= 0x4f) {  // lit0 to lit31
            push(code - 0x30U);
        } else if (code >= 0x70 && code <= 0x8f) {  // breg0 to breg31
            auto const offset = static_cast<std::uintptr_t>(in.signed_leb());
            std::uint64_t const column = code - 0x70U;
            is_sound = column == sp_column || column == fp_column ||
                       (column == ra_column && ra_column == 16);
            push(offset + (column == sp_column   ? registers.sp
                           : column == fp_column ? registers.fp
                                                 : registers.pc));
        } else if (code == 0x06) {  // deref
            std::uintptr_t value = 0;
            is_sound = read(window, pop(), value) && is_sound;
            push(value);
        } else if (code == 0x08) {  // const1u
            push(in.get<std::uint8_t>());
        } else if (code == 0x09) {  // const1s
            push(static_cast<std::uintptr_t>(std::int64_t{in.get<std::int8_t>()}));
        } else if (code == 0x23) {  // plus_uconst
            push(pop() + in.unsigned_leb());
        } else {
            std::uintptr_t const right = pop();
            std::uintptr_t const left = pop();
            switch (code) {
                case 0x1a:
                    push(left & right);
                    break;
                case 0x1c:
                    push(left - right);
                    break;
                case 0x22:
                    push(left + right);
                    break;
                case 0x24:
                    push(right < 64 ? left << right : 0);
                    break;
                case 0x2a:  // ge, signed
                    push(std::bit_cast<std::intptr_t>(left) >= std::bit_cast<std::intptr_t>(right)
                             ? 1
                             : 0);
                    break;
                default:
                    is_sound = false;
                    break;
            }
        }
    }
    if (!is_sound || in.has_failed() || depth == 0) {
        return std::nullopt;
    }
    return stack[depth - 1];
}

}  // namespace tarn::impl::platform
