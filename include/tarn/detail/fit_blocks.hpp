// tarn/detail/fit_blocks.hpp - fit_blocks: one span cut into blocks with boundary tags.
//
// Layout     Sizes and places are counted in units: the alignment of the heap. What the user gets
//            of block i begins at base + i * unit; its tag is the 8 bytes before that. A hole holds
//            links in its first 16 bytes and its place and size in its last 8, so that the block
//            behind it finds it. The tag at the end of the span is that of a live block of 0 units.
// Tag        bits 0-31 units, 32 live, 33 the block before is live; live: 34-45 slack, that is
//            bytes not asked for, 46-63 seal; hole: 34-63 seal, over the links, too
// Always     read() gives what write() left, or says that it was changed since: the seal hangs on
//            the place and on a number that no other heap of the process has, so neither remains
//            of other heaps nor copied bytes pass. It stops accidents, not attackers.
// Cost       O(1)
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace tarn::detail {

/// Where a block is, or how long: in units.
using fit_units = std::uint32_t;

inline constexpr fit_units fit_nowhere = UINT32_MAX;

/// Links of a hole into the tree of holes.
struct fit_links {
    fit_units left = fit_nowhere;
    fit_units right = fit_nowhere;
    fit_units above = fit_nowhere;
    fit_units largest = 0;  // of the holes from this one downwards
};

struct fit_block {
    fit_units at = fit_nowhere;
    fit_units units = 0;
    bool is_live = false;
    bool is_live_before = true;
    std::uint32_t slack_bytes = 0;  // of a live block
    fit_links links{};              // of a hole

    [[nodiscard]] fit_units end() const noexcept { return at + units; }
};

class fit_blocks {
public:
    static constexpr std::size_t tag_bytes = sizeof(std::uint64_t);
    static constexpr std::size_t least_bytes = 2 * tag_bytes + sizeof(fit_links);
    static constexpr std::size_t unit_bytes_max = 4096;

    /// `unit_bytes`: a power of two from 16 on. Nothing is written yet.
    fit_blocks(std::span<std::byte> memory, std::size_t unit_bytes) noexcept
        : unit_shift_{static_cast<unsigned>(std::countr_zero(unit_bytes))},
          units_least_{static_cast<fit_units>((least_bytes + unit_bytes - 1) / unit_bytes)} {
        void* first = memory.data() + std::min(tag_bytes, memory.size());
        std::size_t room = memory.size() - std::min(tag_bytes, memory.size());
        if (std::align(unit_bytes, 1, first, room) != nullptr) {
            base_ = static_cast<std::byte*>(first);
            end_ =
                static_cast<fit_units>(std::min<std::size_t>(room / unit_bytes, fit_nowhere - 1));
        }
    }

    /// Units of all blocks together: where the last tag is.
    [[nodiscard]] fit_units end() const noexcept { return end_; }

    [[nodiscard]] std::size_t unit_bytes() const noexcept { return std::size_t{1} << unit_shift_; }

    [[nodiscard]] unsigned unit_shift() const noexcept { return unit_shift_; }

    [[nodiscard]] fit_units units_least() const noexcept { return units_least_; }

    /// Whether there can be a block at all. Without it, nothing may be written.
    [[nodiscard]] bool has_room() const noexcept { return end_ >= units_least(); }

    [[nodiscard]] std::size_t bytes(fit_units units) const noexcept {
        return std::size_t{units} << unit_shift_;
    }

    [[nodiscard]] std::byte* start(fit_units at) const noexcept { return base_ + bytes(at); }

    /// Where the unit that holds `ptr` begins, counted from the first, if it is one of ours.
    [[nodiscard]] bool locate(void const* ptr, fit_units& at, std::size_t& offset) const noexcept {
        auto const address = reinterpret_cast<std::uintptr_t>(ptr);
        auto const base = reinterpret_cast<std::uintptr_t>(base_);
        if (address < base || (address - base) >> unit_shift_ >= end_) {
            return false;
        }
        at = static_cast<fit_units>((address - base) >> unit_shift_);
        offset = (address - base) & (unit_bytes() - 1);
        return true;
    }

    /// From now on, seals are made with `salt`: what was written before is no block any more.
    void salt(std::uint64_t salt) noexcept { salt_ = salt; }

    /// The block at `at`; false where there is none, or where its tag or its links were
    /// overwritten.
    [[nodiscard]] bool read(fit_units at, fit_block& block) const noexcept {
        if (at > end_) {
            return false;
        }
        auto const word = load<std::uint64_t>(tag_of(at));
        block.at = at;
        block.units = static_cast<fit_units>(word);
        block.is_live = (word & live_bit) != 0;
        block.is_live_before = (word & live_before_bit) != 0;
        block.slack_bytes = static_cast<std::uint32_t>(word >> slack_shift) & slack_mask;
        if (at == end_) {
            return block.is_live && block.units == 0 && word == live_word(block);
        }
        if (block.units > end_ - at || block.units < units_least()) {
            return false;
        }
        if (block.is_live) {
            return word == live_word(block);
        }
        std::byte const* const links = start(at);
        block.links.left = load<fit_units>(links);
        block.links.right = load<fit_units>(links + sizeof(fit_units));
        block.links.above = load<fit_units>(links + 2 * sizeof(fit_units));
        block.links.largest = load<fit_units>(links + 3 * sizeof(fit_units));
        return word == hole_word(block);
    }

    /// Writes the tag, and the links of a hole.
    void write(fit_block const& block) noexcept {
        if (block.is_live) {
            store(tag_of(block.at), live_word(block));
        } else {
            store(tag_of(block.at), hole_word(block));
            std::byte* const links = start(block.at);
            store(links, block.links.left);
            store(links + sizeof(fit_units), block.links.right);
            store(links + 2 * sizeof(fit_units), block.links.above);
            store(links + 3 * sizeof(fit_units), block.links.largest);
        }
    }

    /// Writes a hole's last bytes, which say where it begins.
    void write_foot(fit_block const& hole) noexcept {
        store(tag_of(hole.end()) - tag_bytes, foot_word(hole));
    }

    /// Whether the last bytes of `hole` are as written.
    [[nodiscard]] bool has_foot(fit_block const& hole) const noexcept {
        return load<std::uint64_t>(tag_of(hole.end()) - tag_bytes) == foot_word(hole);
    }

    /// The hole before `at`; false where something was overwritten.
    [[nodiscard]] bool read_before(fit_units at, fit_block& hole) const noexcept {
        if (at == 0) {
            return false;  // nothing is before the first block
        }
        auto const foot = load<std::uint64_t>(tag_of(at) - tag_bytes) ^ salt_;
        return read(static_cast<fit_units>(foot >> 32U), hole) && !hole.is_live &&
               hole.end() == at && has_foot(hole);
    }

    /// No block begins at `at` any more.
    void wipe(fit_units at) noexcept { store(tag_of(at), std::uint64_t{0}); }

private:
    static constexpr std::uint64_t live_bit = std::uint64_t{1} << 32U;
    static constexpr std::uint64_t live_before_bit = std::uint64_t{1} << 33U;
    static constexpr unsigned slack_shift = 34;
    static constexpr unsigned live_seal_shift = 46;
    static constexpr unsigned hole_seal_shift = 34;
    static constexpr std::uint32_t slack_mask = (1U << (live_seal_shift - slack_shift)) - 1;
    static_assert(slack_mask >= unit_bytes_max - 1);  // a block has less slack than a unit,
    static_assert(slack_mask >= 2 * least_bytes);     // or than two of the least blocks

    template <class T>
    [[nodiscard]] static T load(std::byte const* place) noexcept {
        T value;
        std::memcpy(&value, place, sizeof value);
        return value;
    }

    template <class T>
    static void store(std::byte* place, T value) noexcept {
        std::memcpy(place, &value, sizeof value);
    }

    [[nodiscard]] std::byte* tag_of(fit_units at) const noexcept { return start(at) - tag_bytes; }

    /// Of a sum of products with odd numbers: a change of one word always changes the sum, and most
    /// likely the upper bits, which are kept. No product waits for another.
    [[nodiscard]] std::uint64_t seal(fit_block const& block, std::uint64_t word) const noexcept {
        std::uint64_t sum = (word ^ salt_) * 0x9e37'79b9'7f4a'7c15;
        sum += block.at * 0xd6e8'feb8'6659'fd93;
        if (!block.is_live) {
            // Four words: two of 64 bits would be read where four of 32 bits were just written,
            // for which processors wait.
            sum += block.links.left * 0xbf58'476d'1ce4'e5b9;
            sum += block.links.right * 0x94d0'49bb'1331'11eb;
            sum += block.links.above * 0xff51'afd7'ed55'8ccd;
            sum += block.links.largest * 0xc4ce'b9fe'1a85'ec53;
        }
        return sum;
    }

    [[nodiscard]] std::uint64_t plain_word(fit_block const& block) const noexcept {
        return block.units | (block.is_live ? live_bit : 0) |
               (block.is_live_before ? live_before_bit : 0);
    }

    [[nodiscard]] std::uint64_t live_word(fit_block const& block) const noexcept {
        std::uint64_t const word = plain_word(block) | std::uint64_t{block.slack_bytes}
                                                           << slack_shift;
        return word | seal(block, word) >> live_seal_shift << live_seal_shift;
    }

    [[nodiscard]] std::uint64_t hole_word(fit_block const& hole) const noexcept {
        std::uint64_t const word = plain_word(hole);
        return word | seal(hole, word) >> hole_seal_shift << hole_seal_shift;
    }

    [[nodiscard]] std::uint64_t foot_word(fit_block const& hole) const noexcept {
        return (std::uint64_t{hole.at} << 32U | hole.units) ^ salt_;
    }

    std::byte* base_ = nullptr;
    unsigned unit_shift_;
    fit_units units_least_;
    fit_units end_ = 0;
    std::uint64_t salt_ = 0;
};

}  // namespace tarn::detail
