// platform/linux/rule_cache.hpp - rule_cache: rules of frames by code address, a word each.
//
// Threads    any, also in a signal handler; lock-free
// Always     a word says all: which address it is for (exactly, not by a hash), which object that
//            lies in, and the rule; so a race can lose an entry, but not mix two. Zero is empty: a
//            static cache costs no memory until it is used.
// Cost       find(): a multiplication, one cache line
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "platform/linux/unwind_rules.hpp"

namespace tarn::impl::platform {

/// What a rule is packed into, where it is of the forms that compilers use all the time: stack and
/// frame pointer plus a constant, saved registers near the frame's ends.
struct packed_rule {
    std::uint32_t bits = 0;
};

/// Bits of a packed rule: 1 whether it is a step, 1 the base of its CFA (else whether it is a
/// signal's frame or the end), then of a step
///   x86-64   14 CFA / 8, 5 fp below the CFA / 8 (0: unchanged)
///   aarch64  10 CFA / 16, 1 anchor, 5 ra / 8, 5 fp / 8 from there (31: in lr, unchanged); the
///            anchor is the base, counting up, or the CFA, counting down
#if defined(__x86_64__)
inline constexpr unsigned packed_rule_bits = 21;
#else
inline constexpr unsigned packed_rule_bits = 23;
#endif

/// Nothing where the rule does not fit.
std::optional<packed_rule> pack(frame_rule const& rule) noexcept;

namespace detail {

constexpr std::uint32_t field(std::uint32_t bits, unsigned from, unsigned count) noexcept {
    return bits >> from & ((std::uint32_t{1} << count) - 1);
}

inline constexpr std::uint32_t step_bit = 1;
inline constexpr std::uint32_t second_bit = 2;
inline constexpr std::uint32_t no_place = 31;

}  // namespace detail

/// Undoes pack().
inline frame_rule unpack(packed_rule packed) noexcept {
    using detail::field;
    frame_rule rule;
    std::uint32_t const bits = packed.bits;
    if ((bits & detail::step_bit) == 0) {
        rule.kind = (bits & detail::second_bit) != 0 ? rule_kind::signal : rule_kind::end;
        return rule;
    }
    rule.kind = rule_kind::step;
    rule.base = static_cast<cfa_base>(field(bits, 1, 1));
#if defined(__x86_64__)
    rule.cfa_offset = std::intptr_t{field(bits, 2, 14)} * 8;
    rule.ra_offset = -8;
    rule.fp_offset = -(std::intptr_t{field(bits, 16, 5)} * 8);
    rule.is_fp_saved = rule.fp_offset != 0;
#else
    rule.cfa_offset = std::intptr_t{field(bits, 2, 10)} * 16;
    bool const is_from_base = field(bits, 12, 1) == 0;
    std::uint32_t const ra = field(bits, 13, 5);
    std::uint32_t const fp = field(bits, 18, 5);
    auto const offset = [&](std::uint32_t words) noexcept {
        auto const bytes = std::intptr_t{words} * 8;
        return is_from_base ? bytes - rule.cfa_offset : -bytes;
    };
    rule.is_ra_saved = ra != detail::no_place;
    rule.is_fp_saved = fp != detail::no_place;
    rule.ra_offset = rule.is_ra_saved ? offset(ra) : 0;
    rule.fp_offset = rule.is_fp_saved ? offset(fp) : 0;
#endif
    return rule;
}

/// Which object an address lies in, as far as a cache must know: see code_objects.hpp.
enum class object_slot : std::uint8_t { permanent = 0, none = 255 };

class rule_cache {
public:
    struct hit {
        packed_rule rule;
        object_slot object;
    };

    /// What was kept for the instruction at `pc`.
    [[nodiscard]] std::optional<hit> find(std::uintptr_t pc) const noexcept {
        place const at = place_of(pc);
        // relaxed, here and in keep(): each word is complete in itself
        std::uint64_t word = words_[at.index].load(std::memory_order_relaxed);
        if (word >> value_bits != at.tag || word == 0) {
            word = words_[at.index ^ 1].load(std::memory_order_relaxed);
            if (word >> value_bits != at.tag || word == 0) {
                return std::nullopt;
            }
        }
        return hit{
            {static_cast<std::uint32_t>(word & ((std::uint64_t{1} << packed_rule_bits) - 1))},
            static_cast<object_slot>(word >> packed_rule_bits & 0xff)};
    }

    /// Keeps a rule; the older one of two that it shares a place with is dropped.
    void keep(std::uintptr_t pc, packed_rule rule, object_slot object) noexcept {
        if (pc >> address_bits != 0) {
            return;
        }
        place const at = place_of(pc);
        std::uint64_t const word =
            at.tag << value_bits |
            std::uint64_t{static_cast<std::uint8_t>(object)} << packed_rule_bits | rule.bits;
        std::uint64_t const before = words_[at.index].load(std::memory_order_relaxed);
        if (before >> value_bits != at.tag && before != 0) {
            words_[at.index ^ 1].store(before, std::memory_order_relaxed);
        }
        words_[at.index].store(word, std::memory_order_relaxed);
    }

private:
    struct place {
        std::size_t index;
        std::uint64_t tag;
    };

#if defined(__x86_64__)
    static constexpr unsigned address_bits = 47;
    static constexpr unsigned code_shift = 0;  // instructions start anywhere
#else
    static constexpr unsigned address_bits = 48;
    static constexpr unsigned code_shift = 2;
#endif
    static constexpr unsigned key_bits = address_bits - code_shift;
    static constexpr unsigned index_bits = 14;
    static constexpr unsigned value_bits = packed_rule_bits + 8;
    static_assert(key_bits - index_bits + 1 + value_bits <= 64);

    /// The low bits of an address are as good as any hash of it, two places for each allowing for
    /// chance; and a walk waits for this computation at each frame. The tag has the bit in which
    /// the two places differ: else two neighbours would be one.
    static place place_of(std::uintptr_t pc) noexcept {
        std::uint64_t const key = pc >> code_shift;
        return {.index = key & ((std::uint64_t{1} << index_bits) - 1),
                .tag = key >> index_bits << 1 | (key & 1)};
    }

    std::array<std::atomic<std::uint64_t>, std::size_t{1} << index_bits> words_{};
};

}  // namespace tarn::impl::platform
