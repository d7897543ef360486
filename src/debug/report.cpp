#include "debug/report.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/bits.hpp"
#include "debug/finding_facts.hpp"
#include "debug/frame_text.hpp"
#include "debug/names.hpp"

namespace tarn::impl::debug {

namespace {

constexpr std::size_t row_bytes = 16;

constexpr std::string_view cut_note = "tarn: the report ends here for lack of room\n";

/// Where an offset from a block's start lies.
struct position {
    enum class part : std::uint8_t { before, within, behind } in;
    std::uint64_t distance;  // from the start, or behind it from the end
};

// Offsets and sizes may be any: unsigned arithmetic does not overflow.

position position_of(std::int64_t offset, std::uint64_t bytes) noexcept {
    auto const distance = static_cast<std::uint64_t>(offset);
    if (offset < 0) {
        return {.in = position::part::before, .distance = 0 - distance};
    }
    return distance < bytes ? position{.in = position::part::within, .distance = distance}
                            : position{.in = position::part::behind, .distance = distance - bytes};
}

position position_of(void const* ptr, block_facts const& block) noexcept {
    std::uint64_t const offset = base::address_of(ptr) - base::address_of(block.user);
    return position_of(static_cast<std::int64_t>(offset), block.bytes);
}

std::string_view words_of(position const& where) noexcept {
    switch (where.in) {
        case position::part::before:
            return " before the start of ";
        case position::part::within:
            return " into ";
        case position::part::behind:
            break;
    }
    return " past the end of ";
}

/// "24-byte block", "freed 24-byte block".
void write_noun(block_facts const& block, bool freed, base::text_sink& to) noexcept {
    if (block.user == nullptr) {
        to << "an unknown block";
        return;
    }
    to << std::string_view{freed ? "freed " : ""} << std::uint64_t{block.bytes} << "-byte block";
}

/// "8 bytes into 24-byte block".
void write_position(position const& where, block_facts const& block, bool freed,
                    base::text_sink& to) noexcept {
    write_bytes(where.distance, to);
    to << words_of(where);
    write_noun(block, freed, to);
}

void write_damage(finding const& found, base::text_sink& to) noexcept {
    bool const is_exact = is_contiguous(found) && !found.may_be_more;
    to << "wrote " << std::string_view{is_exact ? "" : "at least "};
    write_bytes(found.damaged_bytes, to);
    bool const freed = found.what == fault::use_after_free;
    position const where = position_of(found.damage_first, found.block.bytes);
    if (where.in == position::part::behind && where.distance == 0) {
        to << words_of(where);
        write_noun(found.block, freed, to);
    } else {
        to << ", ";
        write_position(where, found.block, freed, to);
    }
}

void write_alignment(std::size_t alignment, base::text_sink& to) noexcept {
    if (alignment == 0) {
        to << "default alignment";
    } else {
        to << "alignment " << std::uint64_t{alignment};
    }
}

/// After the signature.
void write_last_address(finding const& found, base::text_sink& to) noexcept {
    switch (found.what) {
        case fault::mismatched_free:
        case fault::wrong_size:
        case fault::wrong_alignment:
        case fault::foreign_free:
        case fault::lost_record:
            to << ": ";
            break;
        default:
            to << std::string_view{found.block.user == nullptr ? ": " : " "};
            break;
    }
    to << (found.block.user == nullptr ? found.ptr : found.block.user);
}

std::string_view long_name_of(block_state state) noexcept {
    switch (state) {
        case block_state::unused:
            return "freed, its memory given back";
        case block_state::live:
            return "live";
        case block_state::taken:
            return "in the hands of another operation";
        case block_state::freed:
            return "freed, in quarantine";
    }
    return "in an unknown state";
}

/// "24 bytes at 0x1000 to 0x1018, of malloc, live".
void write_block(block_facts const& block, base::text_sink& to) noexcept {
    write_bytes(block.bytes, to);
    to << " at " << static_cast<void const*>(block.user) << " to 0x";
    to.hexadecimal(base::address_of(block.user) + block.bytes);
    to << ", of " << name_of(block.by, block.owner);
    if (block.alignment != 0) {
        to << " aligned to " << std::uint64_t{block.alignment};
    }
    to << ", " << long_name_of(block.state);
    if (!is_sensible_block(block)) {
        to << " (which makes no sense)";
    }
}

void write_place_of_ptr(finding const& found, base::text_sink& to) noexcept {
    to << "  address: " << found.ptr;
    if (found.block.user != nullptr) {
        position const where = position_of(found.ptr, found.block);
        to << ", ";
        write_bytes(where.distance, to);
        to << words_of(where) << "the block";
        if (found.what == fault::interior_free && where.in != position::part::within) {
            to << std::string_view{where.in == position::part::before ? ", in the guard before it"
                                                                      : ", in the guard behind it"};
        }
    }
    to << '\n';
}

void write_damage_lines(finding const& found, base::text_sink& to) noexcept {
    std::uint64_t const user = base::address_of(found.block.user);
    auto const at = [user](std::ptrdiff_t offset) {
        return user + static_cast<std::uint64_t>(offset);
    };
    to << "  damage: from byte " << std::int64_t{found.damage_first} << " to byte "
       << std::int64_t{found.damage_last} << " counted from the block's start, 0x";
    to.hexadecimal(at(found.damage_first));
    to << " to 0x";
    to.hexadecimal(at(found.damage_last));
    if (!is_sensible_damage(found)) {
        to << "; " << std::uint64_t{found.damaged_bytes} << " differ (which makes no sense)\n";
    } else if (is_contiguous(found)) {
        to << std::string_view{found.may_be_more ? "; more is not checked\n" : "\n"};
    } else {
        to << "; of these " << extent_of(found) << ' ' << std::uint64_t{found.damaged_bytes}
           << " differ\n";
    }
}

void write_claims(finding const& found, base::text_sink& to) noexcept {
    to << "  freed as: " << name_of(found.freed_as.by, heap_number::none);
    if (found.freed_as.bytes != 0) {
        to << ", ";
        write_bytes(found.freed_as.bytes, to);
    }
    if (found.freed_as.alignment != 0) {
        to << ", ";
        write_alignment(found.freed_as.alignment, to);
    }
    to << '\n';
}

void write_event(std::string_view what, std::uint32_t thread, space::stack_id stack,
                 lookup const& by, std::size_t stacks_to_come, base::text_sink& to) noexcept {
    to << "  " << what << " in ";
    write_thread(thread, by, to);
    to << ":\n";
    std::span<void const* const> const frames = by.frames(stack);
    if (stack == space::stack_id::none) {
        to << "    no stack was kept\n";
    } else if (frames.empty()) {
        to << "    stack " << static_cast<std::uint32_t>(stack)
           << " does not exist (which makes no sense)\n";
    } else {
        write_frames(frames, by, share_of_room(to, stacks_to_come), to);
    }
}

void write_dump_row(finding const& found, std::size_t first, base::text_sink& to) noexcept {
    std::size_t const end = std::min(first + row_bytes, dumped_bytes(found));
    std::uint64_t const offset = static_cast<std::uint64_t>(found.dump.from) + first;
    base::text_buffer<64> head;
    head << "    0x";
    head.hexadecimal(base::address_of(found.block.user) + offset);
    head << "  " << std::string_view{static_cast<std::int64_t>(offset) < 0 ? "" : "+"}
         << static_cast<std::int64_t>(offset);
    constexpr std::size_t head_width = 28;
    to.padded(head.view(), head_width);
    bool differs = false;
    for (std::size_t i = first; i < first + row_bytes; ++i) {
        to << ' ';
        if (i < end) {
            to.hexadecimal(static_cast<std::uint8_t>(found.dump.found[i]), 2);
            differs = differs || found.dump.found[i] != found.dump.expected[i];
        } else {
            to << "  ";
        }
    }
    to << "  ";
    for (std::size_t i = first; i < end; ++i) {
        auto const code = static_cast<unsigned char>(found.dump.found[i]);
        to << (code >= ' ' && code < 0x7f ? static_cast<char>(code) : '.');
    }
    to << '\n';
    if (!differs) {
        return;
    }
    to.padded("      should be", head_width);
    std::size_t spaces = 0;
    for (std::size_t i = first; i < end; ++i) {
        if (found.dump.found[i] == found.dump.expected[i]) {
            spaces += 3;
        } else {
            to.padded("", spaces + 1)
                .hexadecimal(static_cast<std::uint8_t>(found.dump.expected[i]), 2);
            spaces = 0;
        }
    }
    to << '\n';
}

void write_dump(finding const& found, base::text_sink& to) noexcept {
    std::size_t const bytes = dumped_bytes(found);
    if (bytes == 0) {
        return;
    }
    to << "  memory there, when this was found:\n";
    for (std::size_t first = 0; first < bytes; first += row_bytes) {
        write_dump_row(found, first, to);
    }
    if (found.dump.bytes > bytes) {
        to << "    (a copy of " << std::uint64_t{found.dump.bytes}
           << " bytes, which makes no sense)\n";
    }
}

void write_neighbour(std::string_view name, block_facts const& block, lookup const& by,
                     base::text_sink& to) noexcept {
    if (block.user == nullptr) {
        return;
    }
    to << "  " << name << ": ";
    write_block(block, to);
    std::size_t const before = to.view().size();
    to << ", from ";
    if (!write_site(by.frames(block.allocated), by, site_bytes_max, to) && !to.truncated()) {
        to.cut(before);
    }
    to << '\n';
}

void write_body(finding const& found, lookup const& by, base::text_sink& to) noexcept {
    to << "  found by ";
    write_plain(operation_of(found), to);
    to << " in ";
    write_thread(found.thread, by, to);
    to << " of process " << by.process_id() << '\n';
    bool const has_block = found.block.user != nullptr;
    if (has_block) {
        to << "  block: ";
        write_block(found.block, to);
        to << '\n';
        if (found.block.owner == heap_number::sampled) {
            to << "  found by chance: this block was one of few with a guard page "
                  "(sampled_guards)\n";
        }
    }
    if (has_damage(found)) {
        write_damage_lines(found, to);
    } else if (!has_block || found.ptr != found.block.user) {
        write_place_of_ptr(found, to);
    }
    if (has_claims(found)) {
        write_claims(found, to);
    }
    to << "  now in ";
    write_thread(found.thread, by, to);
    to << ":\n";
    if (found.stack.empty()) {
        to << "    no stack was kept\n";
    }
    write_frames(found.stack, by, share_of_room(to, 3), to);
    if (has_block) {
        write_event("allocated", found.block.allocated_thread, found.block.allocated, by, 2, to);
        if (is_freed(found.block) || found.block.released != space::stack_id::none) {
            write_event("freed", found.block.released_thread, found.block.released, by, 1, to);
        }
    }
    write_dump(found, to);
    write_neighbour("block before", found.before, by, to);
    write_neighbour("block after", found.after, by, to);
}

}  // namespace

void describe_signature(finding const& found, base::text_sink& to) noexcept {
    to << name_of(found.what) << ": ";
    block_facts const& block = found.block;
    switch (found.what) {
        case fault::overflow:
        case fault::underflow:
        case fault::use_after_free:
            write_damage(found, to);
            return;
        case fault::double_free:
            write_plain(operation_of(found), to);
            to << " of already freed ";
            write_noun(block, false, to);
            return;
        case fault::interior_free:
            write_plain(operation_of(found), to);
            to << " of a pointer ";
            write_position(position_of(found.ptr, block), block, is_freed(block), to);
            return;
        case fault::foreign_free:
            write_plain(operation_of(found), to);
            to << " of a pointer into no block";
            return;
        case fault::mismatched_free:
            write_noun(block, false, to);
            to << " of " << name_of(block.by, block.owner)
               << std::string_view{operation_of(found) == "realloc" ? " resized" : " freed"}
               << " with ";
            write_plain(operation_of(found), to);
            return;
        case fault::wrong_size:
            write_noun(block, false, to);
            to << " freed as ";
            write_bytes(found.freed_as.bytes, to);
            return;
        case fault::wrong_alignment:
            write_noun(block, false, to);
            to << " of ";
            write_alignment(block.alignment, to);
            to << " freed with ";
            write_alignment(found.freed_as.alignment, to);
            return;
        case fault::bad_access:
            to << name_of(found.access);
            if (block.user == nullptr) {
                to << " outside of all blocks";
                return;
            }
            to << ", ";
            write_position(position_of(found.ptr, block), block, is_freed(block), to);
            return;
        case fault::lost_record:
            write_plain(operation_of(found), to);
            to << " of ";
            if (block.user == nullptr) {
                to << "a block";
            } else {
                write_noun(block, false, to);
            }
            to << " whose own data are overwritten";
            return;
    }
    to << "number " << static_cast<std::uint32_t>(found.what) << ", found by ";
    write_plain(operation_of(found), to);
}

bool describe_finding(finding const& found, lookup const& by, base::text_sink& to) noexcept {
    std::size_t const start = to.view().size();
    if (to.truncated()) {
        return false;
    }
    to << "tarn: ";
    describe_signature(found, to);
    write_last_address(found, to);
    to << '\n';
    write_body(found, by, to);
    if (!to.truncated()) {
        return true;
    }
    std::string_view kept = to.view();
    std::size_t const room = kept.size() + to.room();
    if (room >= start + cut_note.size()) {
        kept.remove_suffix(kept.size() - std::min(kept.size(), room - cut_note.size()));
        std::size_t const line_end = kept.rfind('\n');
        to.cut(line_end == std::string_view::npos || line_end < start ? start : line_end + 1);
        to << cut_note;
    }
    return false;
}

}  // namespace tarn::impl::debug
