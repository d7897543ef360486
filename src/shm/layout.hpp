// shm/layout.hpp - what a segment's file holds, byte by byte.
//
//     0               header: written once, before the file has a name; then never
//     page            shared_words, client slots; for each pool: truths, hints
//     payload_at      the chunks of each pool: header, user's header, payload
//
// Always     Types of fixed width, no pointers; 64-bit words aligned to 8, so that 32-bit and
//            64-bit processes agree. layout_hash stands for all sizes and offsets.
//            All but the header may be anything where a client is hostile: whoever reads it checks.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tarn/detail/atomic_policy.hpp"
#include "tarn/shm.h"

#include "shm/chunk_word.hpp"

namespace tarn::impl::shm {

using atomics = tarn::detail::std_atomics;

inline constexpr std::array<char, 8> magic{'T', 'A', 'R', 'N', 's', 'h', 'm', '\n'};
inline constexpr std::uint32_t layout_version = 1;
inline constexpr std::uint32_t byte_order = 0x01020304;
/// Of the file's layout, whatever the processor's is.
inline constexpr std::size_t line_bytes = 64;
inline constexpr std::size_t pools_most = TARN_SHM_POOLS_MAX;
inline constexpr std::size_t name_bytes = TARN_SHM_NAME_MAX + 1;
inline constexpr std::size_t label_bytes = TARN_SHM_LABEL_MAX + 1;
static_assert(clients_most == TARN_SHM_CLIENTS_MAX);

/// Chunks of a pool are numbered in so many bits of a reference.
inline constexpr unsigned number_bits = 28;
inline constexpr unsigned pool_bits = 4;
inline constexpr std::uint64_t chunks_most = std::uint64_t{1} << number_bits;
/// Distances in a segment have 48 bits in a relative pointer.
inline constexpr std::uint64_t segment_bytes_most = std::uint64_t{1} << 48;
/// Ids from here on are of anonymous segments; 0 is none.
inline constexpr std::uint32_t anonymous_ids_from = 0x8000;
inline constexpr std::uint32_t ids_end = 0x10000;

struct pool_row {
    std::uint64_t chunk_bytes;
    std::uint64_t stride;       // from chunk to chunk
    std::uint64_t payloads_at;  // of the first chunk, from the file's start
    std::uint64_t truths_at;
    std::uint64_t hints_at;
    std::uint32_t count;  // from the beginning, and by so many it grows
    std::uint32_t count_most;
    std::uint32_t alignment;
    std::uint32_t user_header_bytes;
    std::uint32_t lead_bytes;  // from a chunk's start to its payload
    std::uint32_t unused;
};

struct header {
    std::array<char, 8> magic;
    std::uint32_t version;
    std::uint32_t byte_order;
    std::uint64_t layout_hash;
    std::array<unsigned char, 16> uuid;
    std::array<unsigned char, 16> boot_id;
    std::uint32_t id;
    std::uint32_t pool_count;
    std::uint64_t file_bytes;
    std::uint64_t payload_at;
    std::uint64_t page_bytes;
    std::uint64_t shared_at;
    std::uint64_t slots_at;
    std::uint32_t creator_process;
    std::uint32_t creator_user;
    std::array<char, name_bytes> name;  // empty: anonymous
    std::array<pool_row, pools_most> pools;
    std::uint32_t unused;
    std::uint32_t checksum;  // of all before it: CRC-32C
};

template <class T>
using shared_atomic = atomics::atomic<T>;

struct alignas(line_bytes) shared_words {
    // What waiters look at lies apart from what only slow paths touch.
    shared_atomic<std::uint32_t> sequence;
    shared_atomic<std::uint32_t> waiting;
    alignas(line_bytes) shared_atomic<std::uint64_t> recoveries;
    std::array<shared_atomic<std::uint32_t>, pools_most> ready;  // chunks with memory
};

/// `state`: bit 0 is set while a client owns it; above it, how many have.
struct alignas(2 * line_bytes) client_slot {
    shared_atomic<std::uint64_t> state;
    shared_atomic<std::uint64_t> started;
    shared_atomic<std::uint64_t> namespace_id;
    shared_atomic<std::uint64_t> allocations;
    shared_atomic<std::uint32_t> process_id;
    shared_atomic<std::uint32_t> user_id;
    std::array<shared_atomic<std::uint64_t>, label_bytes / sizeof(std::uint64_t)> label;
};

/// Atomic since one may look at it whose chunk it is not.
struct chunk_header {
    shared_atomic<std::uint64_t> sequence;
    shared_atomic<std::uint64_t> payload_bytes;
    shared_atomic<std::uint32_t> origin;
    std::uint32_t unused;
    std::array<std::uint64_t, 5> reserved;
};

static_assert(sizeof(pool_row) == 64);
static_assert(sizeof(header) == 1208 && sizeof(header) <= 4096);
static_assert(offsetof(header, pools) % 8 == 0);
static_assert(sizeof(shared_words) == 3 * line_bytes);
static_assert(sizeof(client_slot) == 2 * line_bytes);
static_assert(sizeof(chunk_header) == 64);
static_assert(sizeof(chunk_word<atomics>) == 8 && alignof(chunk_word<atomics>) <= 8);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Locks: bytes far behind any file's end.
inline constexpr std::uint64_t attached_byte = std::uint64_t{1} << 60;
inline constexpr std::uint64_t growth_byte = attached_byte + 1;
inline constexpr std::uint64_t slot_bytes_from = attached_byte + 64;

constexpr std::uint64_t layout_hash() noexcept {
    std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
    for (std::uint64_t const fact :
         {std::uint64_t{sizeof(header)}, std::uint64_t{offsetof(header, pools)},
          std::uint64_t{sizeof(pool_row)}, std::uint64_t{offsetof(pool_row, lead_bytes)},
          std::uint64_t{sizeof(shared_words)}, std::uint64_t{offsetof(shared_words, recoveries)},
          std::uint64_t{offsetof(shared_words, ready)}, std::uint64_t{sizeof(client_slot)},
          std::uint64_t{offsetof(client_slot, process_id)},
          std::uint64_t{offsetof(client_slot, label)}, std::uint64_t{sizeof(chunk_header)},
          std::uint64_t{clients_most}, std::uint64_t{number_bits}, std::uint64_t{pools_most}}) {
        hash = (hash ^ fact) * 0x100000001b3;
    }
    return hash;
}

struct reference_parts {
    std::uint32_t segment;
    std::uint32_t pool;
    std::uint32_t number;
    generation now;
};

constexpr std::uint64_t reference_of(reference_parts parts) noexcept {
    return (std::uint64_t{parts.segment} << 48) | (std::uint64_t{parts.pool} << 44) |
           (std::uint64_t{parts.number} << 16) | static_cast<std::uint64_t>(parts.now);
}

constexpr reference_parts parts_of(std::uint64_t reference) noexcept {
    return {.segment = static_cast<std::uint32_t>(reference >> 48),
            .pool = static_cast<std::uint32_t>((reference >> 44) & (pools_most - 1)),
            .number = static_cast<std::uint32_t>(reference >> 16) &
                      static_cast<std::uint32_t>(chunks_most - 1),
            .now = static_cast<generation>(reference & 0xffff)};
}

}  // namespace tarn::impl::shm
