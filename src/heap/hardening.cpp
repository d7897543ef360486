#include "heap/hardening.hpp"

#include <algorithm>
#include <cstring>

#include "base/bits.hpp"
#include "base/check.hpp"

namespace tarn::impl::heap {

namespace {

constexpr std::size_t note_bytes = sizeof(std::uint64_t);

std::byte byte_at(std::uint64_t canary, std::size_t offset) noexcept {
    return static_cast<std::byte>(canary >> (8 * (offset % sizeof canary)));
}

/// Bytes requested, as the note says; above the block's: it was overwritten.
std::size_t read_note(std::byte const* start, std::size_t bytes) noexcept {
    std::size_t const slack = noted_slack(start + bytes, canary_of(start));
    return slack <= bytes ? bytes - slack : bytes + 1;
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
    std::byte* const end = of.start + of.bytes;
    TARN_ASSERT(base::address_of(end) % granule_bytes == 0);
    std::uint64_t const canary = canary_of(of.start);
    first_granules const in{end, slack};
    alignas(granule_bytes) std::byte filled[granule_bytes];
    write_granule(filled, canary);
    std::memcpy(in.first + in.skipped, filled + in.skipped, granule_bytes - in.skipped);
    if (slack > granule_bytes) {
        std::uint64_t const last = last_canary(canary, slack);
        write_granule(in.second, canary);
        write_granule(end - granule_bytes, canary);
        std::memcpy(end - sizeof last, &last, sizeof last);
    }
}

std::size_t find_damage(block_extent const& of) noexcept {
    std::size_t const slack = of.bytes - of.requested;
    std::uint64_t const canary = canary_of(of.start);
    std::byte* const end = of.start + of.bytes;
    TARN_ASSERT(base::address_of(end) % granule_bytes == 0);
    if (is_canary_whole(end, canary, slack)) [[likely]] {
        return undamaged;
    }
    first_granules const in{end, slack};
    auto const first_end = static_cast<std::size_t>(in.second + granule_bytes - of.start);
    for (std::size_t at = of.requested; at < of.bytes; ++at) {
        std::uint64_t const expected =
            at >= of.bytes - note_bytes ? last_canary(canary, slack) : canary;
        if ((at < first_end || at >= of.bytes - granule_bytes) &&
            of.start[at] != byte_at(expected, at)) {
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
    if (state < state_live) {
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
