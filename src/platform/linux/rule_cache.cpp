#include "platform/linux/rule_cache.hpp"

namespace tarn::impl::platform {

namespace {

/// `offset` in units of `unit`, where it is a multiple and has less than 2^bits of them.
std::optional<std::uint32_t> units(std::int64_t offset, std::int64_t unit, unsigned bits) noexcept {
    if (offset < 0 || offset % unit != 0 || offset / unit >= std::int64_t{1} << bits) {
        return std::nullopt;
    }
    return static_cast<std::uint32_t>(offset / unit);
}

#if defined(__x86_64__)

std::optional<packed_rule> pack_step(frame_rule const& rule) noexcept {
    auto const cfa = units(rule.cfa_offset, 8, 14);
    auto const fp = rule.is_fp_saved ? units(-rule.fp_offset, 8, 5) : 0U;
    if (!cfa || !fp || !rule.is_ra_saved || rule.ra_offset != -8 ||
        (rule.is_fp_saved && *fp == 0)) {
        return std::nullopt;
    }
    return packed_rule{detail::step_bit | static_cast<std::uint32_t>(rule.base) << 1 | *cfa << 2 |
                       *fp << 16};
}

#else

std::optional<packed_rule> pack_step(frame_rule const& rule) noexcept {
    auto const cfa = units(rule.cfa_offset, 16, 10);
    if (!cfa) {
        return std::nullopt;
    }
    for (std::uint32_t const anchor : {0U, 1U}) {
        auto const place = [&](bool is_saved, std::int64_t offset) noexcept {
            if (!is_saved) {
                return std::optional{detail::no_place};
            }
            auto const words = units(anchor == 0 ? offset + rule.cfa_offset : -offset, 8, 5);
            return words == detail::no_place ? std::nullopt : words;
        };
        auto const ra = place(rule.is_ra_saved, rule.ra_offset);
        auto const fp = place(rule.is_fp_saved, rule.fp_offset);
        if (ra && fp) {
            return packed_rule{detail::step_bit | static_cast<std::uint32_t>(rule.base) << 1 |
                               *cfa << 2 | anchor << 12 | *ra << 13 | *fp << 18};
        }
    }
    return std::nullopt;
}

#endif

}  // namespace

std::optional<packed_rule> pack(frame_rule const& rule) noexcept {
    switch (rule.kind) {
        case rule_kind::end:
            return packed_rule{0};
        case rule_kind::signal:
            return packed_rule{detail::second_bit};
        case rule_kind::step:
            return rule.has_expression() ? std::nullopt : pack_step(rule);
        case rule_kind::none:
            break;
    }
    return std::nullopt;
}

}  // namespace tarn::impl::platform
