#include "debug/leaks.hpp"

#include <algorithm>
#include <array>

#include "debug/frame_text.hpp"
#include "debug/json_writer.hpp"
#include "debug/names.hpp"

namespace tarn::impl::debug {

namespace {

// Looked up together: each look-up starts a process.
constexpr std::size_t batch_frames = 1024;
constexpr std::size_t batch_groups = 128;

// What a report takes at most beside its stack.
constexpr std::size_t beside_stack_bytes = 2 * std::size_t{1024};

constexpr std::size_t rule_name_bytes_max = 200;

std::string_view name_of(reachability reach) noexcept {
    switch (reach) {
        case reachability::unknown:
            return "unknown";
        case reachability::lost:
            return "lost";
        case reachability::indirect:
            return "indirect";
        case reachability::possible:
            return "possible";
        case reachability::reachable:
            return "reachable";
    }
    return "unknown";
}

std::string_view verdict_of(reachability reach) noexcept {
    switch (reach) {
        case reachability::unknown:
            return "never freed";
        case reachability::lost:
            return "lost";
        case reachability::indirect:
            return "lost with others";
        case reachability::possible:
            return "possibly lost";
        case reachability::reachable:
            return "still reachable";
    }
    return "never freed";
}

/// "3 blocks of 72 bytes".
void write_amount(std::uint64_t blocks, std::uint64_t bytes, base::text_sink& to) noexcept {
    to << blocks << std::string_view{blocks == 1 ? " block of " : " blocks of "};
    write_bytes(bytes, to);
}

// --- suppressions --------------------------------------------------------------------------------

/// Groups whose stacks are looked up together.
class batch {
public:
    batch(suppressions& rules, lookup const& by) noexcept : rules_{rules}, by_{by} {}

    void add(leak_group& group) noexcept {
        std::span<void const* const> stack = by_.frames(group.allocated);
        stack = stack.first(std::min(stack.size(), batch_frames));
        if (group_count_ == batch_groups || frame_count_ + stack.size() > batch_frames) {
            judge();
        }
        std::copy(stack.begin(), stack.end(), frames_.data() + frame_count_);
        frame_count_ += stack.size();
        groups_[group_count_] = &group;
        ends_[group_count_++] = frame_count_;
    }

    void judge() noexcept {
        if (group_count_ == 0) {
            return;
        }
        std::size_t at = 0;
        rules_.begin(*groups_[0]);
        auto const finish = [&]() noexcept {
            groups_[at]->is_suppressed = rules_.finish(*groups_[at]) != nullptr;
            if (++at < group_count_) {
                rules_.begin(*groups_[at]);
            }
        };
        auto visit = [&](platform::source_frame const& frame) noexcept {
            while (at < group_count_ && frame.call >= ends_[at]) {
                finish();
            }
            if (at < group_count_) {
                rules_.match(frame);
            }
        };
        by_.describe({frames_.data(), frame_count_}, platform::frame_visitor{visit});
        while (at < group_count_) {
            finish();
        }
        group_count_ = 0;
        frame_count_ = 0;
    }

private:
    suppressions& rules_;
    lookup const& by_;
    std::array<void const*, batch_frames> frames_;
    std::array<leak_group*, batch_groups> groups_;
    std::array<std::size_t, batch_groups> ends_;  // in frames_
    std::size_t frame_count_ = 0;
    std::size_t group_count_ = 0;
};

void suppress(std::span<leak_group> groups, suppressions& rules, lookup const& by) noexcept {
    if (rules.rules().empty()) {
        return;
    }
    batch together{rules, by};
    for (leak_group& each : groups) {
        together.add(each);
    }
    together.judge();
}

// --- reports -------------------------------------------------------------------------------------

void write_signature(leak_group const& group, base::text_sink& to) noexcept {
    to << "memory-leak: ";
    write_amount(group.blocks, group.bytes, to);
    to << " in all, " << verdict_of(group.reach);
}

std::size_t room_for_stack(base::text_sink const& to) noexcept {
    return to.room() > beside_stack_bytes ? to.room() - beside_stack_bytes : 0;
}

void write_text(leak_group const& group, lookup const& by, base::text_sink& to) noexcept {
    to << "tarn: ";
    write_signature(group, to);
    to << "\n  allocated by " << debug::name_of(group.by, group.owner) << ", ";
    if (group.smallest_bytes != group.largest_bytes) {
        to << group.smallest_bytes << " to ";
    }
    write_bytes(group.largest_bytes, to);
    to << " each, at:\n";
    std::span<void const* const> const stack = by.frames(group.allocated);
    if (stack.empty()) {
        to << "    no stack was kept\n";
    }
    write_frames(stack, by, room_for_stack(to), to);
}

void write_json_head(std::string_view kind, lookup const& by, json_writer& to) noexcept {
    to.key("tool");
    to.text("tarn");
    to.key("kind");
    to.text(kind);
    to.key("process");
    to.number(by.process_id());
}

void write_json(leak_group const& group, lookup const& by, base::text_sink& sink) noexcept {
    base::text_buffer<160> signature;
    write_signature(group, signature);
    json_writer to{sink};
    to.open('{');
    write_json_head("memory-leak", by, to);
    to.key("signature");
    to.text(signature.view());
    to.key("blocks");
    to.number(group.blocks);
    to.key("bytes");
    to.number(group.bytes);
    to.key("smallest");
    to.number(group.smallest_bytes);
    to.key("largest");
    to.number(group.largest_bytes);
    to.key("family");
    to.text(debug::name_of(group.by, group.owner));
    to.key("heap");
    to.text(debug::name_of(group.owner));
    to.key("reachable");
    to.text(name_of(group.reach));
    to.key("stack");
    std::size_t const left_out =
        write_frames(by.frames(group.allocated), by, room_for_stack(sink), to);
    to.key("frames_left_out");
    to.number(left_out);
    to.close('}');
    sink << '\n';
}

/// All that the last report says.
struct summary {
    leak_totals totals;
    leak_group const& uncounted;
    leak_group not_shown;  // `blocks` and `bytes`
    std::uint64_t groups_not_shown = 0;
};

void write_text(summary const& of, suppressions const& rules, leak_report const& how,
                base::text_sink& to) noexcept {
    to << "tarn: leaks: ";
    write_amount(of.totals.blocks, of.totals.bytes, to);
    to << " in all from " << of.totals.groups
       << std::string_view{of.totals.groups == 1 ? " place" : " places"};
    if (of.totals.suppressed_blocks != 0) {
        to << "; ";
        write_amount(of.totals.suppressed_blocks, of.totals.suppressed_bytes, to);
        to << " suppressed";
    }
    to << '\n';
    if (of.groups_not_shown != 0) {
        to << "  not shown: ";
        write_amount(of.not_shown.blocks, of.not_shown.bytes, to);
        to << " from " << of.groups_not_shown << " of these places\n";
    }
    if (of.uncounted.blocks != 0) {
        to << "  of unknown places, since there was no memory to group them: ";
        write_amount(of.uncounted.blocks, of.uncounted.bytes, to);
        to << '\n';
    }
    for (suppression const& rule : rules.rules()) {
        if (rule.blocks == 0) {
            continue;
        }
        if (to.room() < beside_stack_bytes && !to.view().empty()) {
            how.write(to.view());
            to.clear();
        }
        to << "  suppressed by ";
        write_plain({rule.name.data(), std::min(rule.name.size(), rule_name_bytes_max)}, to);
        to << " (line " << rule.line << "): ";
        write_amount(rule.blocks, rule.bytes, to);
        to << '\n';
    }
}

void write_json(summary const& of, suppressions const& rules, lookup const& by,
                base::text_sink& sink) noexcept {
    json_writer to{sink};
    to.open('{');
    write_json_head("leak-summary", by, to);
    auto const member = [&to](std::string_view name, std::uint64_t value) {
        to.key(name);
        to.number(value);
    };
    member("blocks", of.totals.blocks);
    member("bytes", of.totals.bytes);
    member("places", of.totals.groups);
    member("suppressed_blocks", of.totals.suppressed_blocks);
    member("suppressed_bytes", of.totals.suppressed_bytes);
    member("places_not_shown", of.groups_not_shown);
    member("blocks_not_shown", of.not_shown.blocks);
    member("bytes_not_shown", of.not_shown.bytes);
    member("ungrouped_blocks", of.uncounted.blocks);
    member("ungrouped_bytes", of.uncounted.bytes);
    to.key("suppressions");
    to.open('[');
    std::uint64_t left_out = 0;
    for (suppression const& rule : rules.rules()) {
        if (rule.blocks == 0) {
            continue;
        }
        if (sink.room() < beside_stack_bytes) {
            ++left_out;
            continue;
        }
        to.open('{');
        to.key("rule");
        to.text({rule.name.data(), std::min(rule.name.size(), rule_name_bytes_max)});
        member("line", rule.line);
        member("blocks", rule.blocks);
        member("bytes", rule.bytes);
        to.close('}');
    }
    to.close(']');
    member("suppressions_left_out", left_out);
    to.close('}');
    sink << '\n';
}

}  // namespace

leak_totals report_leaks(std::span<leak_group> groups, leak_group const& uncounted,
                         suppressions& rules, lookup const& by, leak_report const& how,
                         base::text_sink& buffer) noexcept {
    suppress(groups, rules, by);
    summary last{.totals = {.blocks = uncounted.blocks, .bytes = uncounted.bytes},
                 .uncounted = uncounted,
                 .not_shown = {}};
    for (leak_group const& each : groups) {
        if (each.is_suppressed) {
            last.totals.suppressed_blocks += each.blocks;
            last.totals.suppressed_bytes += each.bytes;
            continue;
        }
        ++last.totals.groups;
        last.totals.blocks += each.blocks;
        last.totals.bytes += each.bytes;
        if (last.totals.groups > how.groups_max) {
            ++last.groups_not_shown;
            last.not_shown.blocks += each.blocks;
            last.not_shown.bytes += each.bytes;
            continue;
        }
        buffer.clear();
        how.style == report_style::text ? write_text(each, by, buffer)
                                        : write_json(each, by, buffer);
        how.write(buffer.view());
    }
    if (last.totals.blocks != 0 || last.totals.suppressed_blocks != 0) {
        buffer.clear();
        how.style == report_style::text ? write_text(last, rules, how, buffer)
                                        : write_json(last, rules, by, buffer);
        how.write(buffer.view());
    }
    return last.totals;
}

}  // namespace tarn::impl::debug
