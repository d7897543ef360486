#include "heap/hardening.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bits.hpp"

namespace tarn::impl::heap {

namespace {

constexpr std::size_t note_bytes = sizeof(std::uint64_t);

std::uint64_t word_at(std::byte const* at) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    return word;
}

std::byte byte_at(std::uint64_t canary, std::size_t offset) noexcept {
    return static_cast<std::byte>(canary >> (8 * (offset % sizeof canary)));
}

/// Bytes requested, as the note says; above the block's: it was overwritten.
std::size_t read_note(std::byte const* start, std::size_t bytes) noexcept {
    std::uint64_t const slack = word_at(start + bytes - note_bytes) ^ canary_of(start);
    return slack > slack_in_state_max && slack <= bytes ? bytes - slack : bytes + 1;
}

}  // namespace

unsigned class_in_mode(std::size_t bytes, std::size_t alignment) noexcept {
    if (!hardening.on || alignment > sizing::quantum) [[likely]] {
        return sizing::class_of_aligned(bytes, alignment);
    }
    return class_in_mode(bytes);
}

void write_canary(block_extent const& of) noexcept {
    std::size_t const slack = of.bytes - of.requested;
    std::uint64_t const canary = canary_of(of.start);
    if (slack <= short_slack_max) {
        for (std::size_t at = of.requested; at < of.bytes; ++at) {
            of.start[at] = byte_at(canary, at);
        }
        return;
    }
    fill_long_slack(of.start + of.bytes, canary, slack);
}

std::size_t find_damage(block_extent const& of) noexcept {
    std::size_t const slack = of.bytes - of.requested;
    std::uint64_t const canary = canary_of(of.start);
    if (slack > short_slack_max && is_long_canary_whole(of.start + of.bytes, canary, slack))
        [[likely]] {
        return undamaged;
    }
    std::size_t const first_end =
        slack <= short_slack_max ? of.bytes : of.requested + canary_first_bytes;
    std::size_t const last_start = of.bytes - std::min(slack, canary_last_bytes);
    for (std::size_t at = of.requested; at < of.bytes; ++at) {
        bool const is_in_last_word = slack > short_slack_max && at >= of.bytes - note_bytes;
        std::uint64_t const expected = is_in_last_word ? last_canary(canary, slack) : canary;
        if ((at < first_end || at >= last_start) && of.start[at] != byte_at(expected, at)) {
            return at;
        }
    }
    return undamaged;
}

bool is_hardened(page const& home) noexcept {
    return hardening.on && !home.serves_user_heaps.load(std::memory_order_relaxed) &&
           home.kind.load(std::memory_order_relaxed) != page_kind::guarded;
}

block_facts look_at_block(page const& home, void const* ptr) noexcept {
    auto* const start = static_cast<std::byte*>(const_cast<void*>(ptr));
    block_extent extent{.start = start, .bytes = home.block_bytes.get(), .requested = 0};
    if (!home.has_states()) {
        extent.requested = std::min<std::size_t>(home.requested_bytes.get(), extent.bytes);
        return {.is_live = true, .extent = extent, .damage = find_damage(extent)};
    }
    std::uint8_t const state =
        home.states.get()[home.index_of(ptr)].load(std::memory_order_relaxed);
    if (state == state_free) {
        return {.is_live = false, .extent = extent, .damage = undamaged};
    }
    if (state != state_noted) {
        extent.requested = extent.bytes - (state - state_live);
        return {.is_live = true, .extent = extent, .damage = find_damage(extent)};
    }
    extent.requested = read_note(start, extent.bytes);
    if (extent.requested > extent.bytes) {
        extent.requested = 0;
        return {.is_live = true, .extent = extent, .damage = extent.bytes - note_bytes};
    }
    return {.is_live = true, .extent = extent, .damage = find_damage(extent)};
}

void note_request(page& home, void* ptr, std::size_t requested) noexcept {
    block_extent const extent{.start = static_cast<std::byte*>(ptr),
                              .bytes = home.block_bytes.get(),
                              .requested = requested};
    if (home.has_states()) {
        home.states.get()[home.index_of(ptr)].store(state_for(extent.bytes - requested),
                                                    std::memory_order_relaxed);
    }
    write_canary(extent);
}

}  // namespace tarn::impl::heap
