#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/bits.hpp"
#include "debug/finding_facts.hpp"
#include "debug/frame_text.hpp"
#include "debug/json_writer.hpp"
#include "debug/names.hpp"
#include "debug/report.hpp"

namespace tarn::impl::debug {

namespace {

void write_event(std::string_view name, std::uint32_t thread, std::span<void const* const> frames,
                 lookup const& by, std::size_t stacks_to_come, json_writer& to) noexcept {
    to.key(name);
    to.open('{');
    to.key("thread");
    write_thread(thread, by, to);
    to.key("stack");
    std::size_t const left_out =
        write_frames(frames, by, share_of_room(to.sink(), stacks_to_come), to);
    to.key("frames_left_out");
    to.number(left_out);
    to.close('}');
}

/// Members of a block's object.
void write_block(block_facts const& block, json_writer& to) noexcept {
    to.key("address");
    to.address(base::address_of(block.user));
    to.key("bytes");
    to.number(block.bytes);
    to.key("family");
    to.text(name_of(block.by, block.owner));
    to.key("heap");
    to.text(name_of(block.owner));
    to.key("alignment");
    to.number(block.alignment);
    to.key("state");
    to.text(name_of(block.state));
    to.key("makes_sense");
    to.boolean(is_sensible_block(block));
}

void write_own_block(finding const& found, lookup const& by, json_writer& to) noexcept {
    to.key("block");
    if (found.block.user == nullptr) {
        to.null();
        return;
    }
    to.open('{');
    write_block(found.block, to);
    write_event("allocated", found.block.allocated_thread, by.frames(found.block.allocated), by, 2,
                to);
    if (is_freed(found.block) || found.block.released != space::stack_id::none) {
        write_event("freed", found.block.released_thread, by.frames(found.block.released), by, 1,
                    to);
    } else {
        to.key("freed");
        to.null();
    }
    to.close('}');
}

void write_neighbour(std::string_view name, block_facts const& block, lookup const& by,
                     json_writer& to) noexcept {
    to.key(name);
    if (block.user == nullptr) {
        to.null();
        return;
    }
    to.open('{');
    write_block(block, to);
    to.key("site");
    write_site(by.frames(block.allocated), by, site_bytes_max, to);
    to.close('}');
}

void write_damage(finding const& found, json_writer& to) noexcept {
    to.key("damage");
    if (!has_damage(found)) {
        to.null();
        return;
    }
    to.open('{');
    to.key("first");
    to.signed_number(found.damage_first);
    to.key("last");
    to.signed_number(found.damage_last);
    to.key("bytes");
    to.number(found.damaged_bytes);
    to.key("contiguous");
    to.boolean(is_contiguous(found));
    to.key("may_be_more");
    to.boolean(found.may_be_more);
    to.key("makes_sense");
    to.boolean(is_sensible_damage(found));
    to.close('}');
}

void write_hexadecimal(std::span<std::byte const> bytes, json_writer& to) noexcept {
    std::array<char, 2 * sizeof(finding::dump::found)> room;
    base::text_sink digits{room.data(), room.size()};
    for (std::byte const each : bytes) {
        digits.hexadecimal(static_cast<std::uint8_t>(each), 2);
    }
    to.text(digits.view());
}

void write_dump(finding const& found, json_writer& to) noexcept {
    to.key("memory");
    std::size_t const bytes = dumped_bytes(found);
    if (bytes == 0) {
        to.null();
        return;
    }
    to.open('{');
    to.key("from");
    to.signed_number(found.dump.from);
    to.key("found");
    write_hexadecimal(std::span{found.dump.found}.first(bytes), to);
    to.key("expected");
    write_hexadecimal(std::span{found.dump.expected}.first(bytes), to);
    to.close('}');
}

void write_claims(finding const& found, json_writer& to) noexcept {
    to.key("freed_as");
    if (!has_claims(found)) {
        to.null();
        return;
    }
    to.open('{');
    to.key("family");
    to.text(name_of(found.freed_as.by, heap_number::none));
    to.key("bytes");
    to.number(found.freed_as.bytes);
    to.key("alignment");
    to.number(found.freed_as.alignment);
    to.close('}');
}

void write_head(finding const& found, json_writer& to) noexcept {
    base::text_buffer<512> signature;
    describe_signature(found, signature);
    to.key("tool");
    to.text("tarn");
    to.key("kind");
    to.text(name_of(found.what));
    to.key("signature");
    to.text(signature.view());
    to.key("address");
    to.address(base::address_of(found.ptr));
}

void write_object(finding const& found, lookup const& by, json_writer& to) noexcept {
    to.open('{');
    write_head(found, to);
    to.key("process");
    to.number(by.process_id());
    to.key("operation");
    to.text(operation_of(found));
    to.key("access");
    found.what == fault::bad_access ? to.text(name_of(found.access)) : to.null();
    write_event("now", found.thread, found.stack, by, 3, to);
    write_damage(found, to);
    write_claims(found, to);
    write_own_block(found, by, to);
    write_dump(found, to);
    write_neighbour("before", found.before, by, to);
    write_neighbour("after", found.after, by, to);
    to.key("truncated");
    to.boolean(false);
    to.close('}');
}

}  // namespace

bool describe_finding_json(finding const& found, lookup const& by, base::text_sink& to) noexcept {
    std::size_t const start = to.view().size();
    if (to.truncated()) {
        return false;
    }
    {
        json_writer whole{to};
        write_object(found, by, whole);
        to << '\n';
    }
    if (!to.truncated()) {
        return true;
    }
    to.cut(start);
    json_writer least{to};
    least.open('{');
    write_head(found, least);
    least.key("truncated");
    least.boolean(true);
    least.close('}');
    to << '\n';
    if (to.truncated()) {
        to.cut(start);
    }
    return false;
}

}  // namespace tarn::impl::debug
