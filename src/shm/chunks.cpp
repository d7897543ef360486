// The functions of tarn/shm.h that allocate, hold and release.
#include <algorithm>
#include <bit>
#include <new>

#include "tarn/shm.h"

#include "shm/client.hpp"

namespace tarn::impl::shm {

namespace {

// While a client waits it looks for the dead, which nobody else may do.
constexpr std::uint32_t look_again_ms = 20;
// How long a growth by somebody else is waited for.
constexpr std::uint32_t growth_ms = 10;

client& of(tarn_shm* handle) noexcept { return *reinterpret_cast<client*>(handle); }

/// A chunk that a reference names, in this segment, and with memory.
struct named_chunk {
    std::uint32_t pool;
    std::uint32_t number;
    generation now;
};

bool find(client const& in, std::uint64_t reference, named_chunk& found) noexcept {
    reference_parts const parts = parts_of(reference);
    found = {.pool = parts.pool, .number = parts.number, .now = parts.now};
    return parts.segment == in.head().id && parts.pool < in.head().pool_count &&
           parts.number < in.ready(parts.pool);
}

void fill(client const& in, named_chunk const& from, tarn_shm_chunk& to) noexcept {
    pool_row const& row = in.row(from.pool);
    std::byte* const start = in.chunk_at(from.pool, from.number);
    chunk_header const& written = in.header_of(from.pool, from.number);
    std::uint64_t const room = row.chunk_bytes - row.user_header_bytes;
    to.reference = reference_of(
        {.segment = in.head().id, .pool = from.pool, .number = from.number, .now = from.now});
    to.payload = start + row.lead_bytes;
    to.user_header = row.user_header_bytes == 0 ? nullptr : start + sizeof(chunk_header);
    to.chunk_bytes = room;
    // Others wrote these.
    to.payload_bytes = std::min(written.payload_bytes.load(std::memory_order_relaxed), room);
    to.sequence = written.sequence.load(std::memory_order_relaxed);
    to.origin =
        std::min(written.origin.load(std::memory_order_relaxed), std::uint32_t{clients_most});
}

void write_header(client& by, named_chunk const& to, std::uint64_t bytes,
                  std::uint64_t sequence) noexcept {
    chunk_header& header = by.header_of(to.pool, to.number);
    header.sequence.store(sequence, std::memory_order_relaxed);
    header.payload_bytes.store(bytes, std::memory_order_relaxed);
    header.origin.store(static_cast<std::uint32_t>(by.number()), std::memory_order_relaxed);
}

bool fits(pool_row const& row, std::uint64_t bytes, std::uint32_t alignment) noexcept {
    return bytes <= row.chunk_bytes - row.user_header_bytes && alignment <= row.alignment;
}

std::uint32_t smallest(client const& in, std::uint64_t bytes, std::uint32_t alignment) noexcept {
    for (std::uint32_t pool = 0; pool < in.head().pool_count; ++pool) {
        if (fits(in.row(pool), bytes, alignment)) {
            return pool;
        }
    }
    return pools_most;
}

bool take_one(client& by, std::uint32_t pool, named_chunk& taken) noexcept {
    std::atomic<std::uint32_t>& start = by.start(pool);
    chunks in = by.chunks_of(pool);
    std::uint32_t const from = start.load(std::memory_order_relaxed);
    claimed_chunk const claimed = in.allocate(by.number(), from);
    if (claimed.number == claimed_chunk::none) {
        return false;
    }
    if (claimed.number / 64 != from / 64) {
        start.store(claimed.number, std::memory_order_relaxed);
    }
    taken = {.pool = pool, .number = claimed.number, .now = claimed.now};
    return true;
}

struct wanted {
    std::uint64_t bytes;
    std::uint32_t alignment;
    std::uint32_t first;       // the smallest pool that does
    std::uint64_t bytes_most;  // of the chunks that may serve
};

bool take_any(client& by, wanted const& what, named_chunk& taken) noexcept {
    for (std::uint32_t pool = what.first; pool < by.head().pool_count; ++pool) {
        pool_row const& row = by.row(pool);
        if (row.chunk_bytes > what.bytes_most && pool != what.first) {
            break;
        }
        if (fits(row, what.bytes, what.alignment) && take_one(by, pool, taken)) {
            return true;
        }
    }
    return false;
}

/// After a miss: what the dead had, and memory not used yet.
int take_hard(client& by, wanted const& what, named_chunk& taken) noexcept {
    if (by.recover() > 0 && take_any(by, what, taken)) {
        return TARN_SHM_OK;
    }
    std::uint64_t const until = platform::monotonic_ms() + growth_ms;
    for (std::uint32_t pool = what.first; pool < by.head().pool_count; ++pool) {
        if (!fits(by.row(pool), what.bytes, what.alignment) ||
            (by.row(pool).chunk_bytes > what.bytes_most && pool != what.first)) {
            continue;
        }
        std::uint32_t const seen = by.ready(pool);
        int grown = by.grow(pool, seen);
        while (grown == TARN_SHM_IN_USE && platform::monotonic_ms() < until) {
            platform::let_others_run();
            grown = by.grow(pool, seen);
        }
        if (grown == TARN_SHM_OK && take_any(by, what, taken)) {
            return TARN_SHM_OK;
        }
        if (grown != TARN_SHM_OK && grown != TARN_SHM_EXHAUSTED && grown != TARN_SHM_IN_USE) {
            return grown;
        }
    }
    return TARN_SHM_EXHAUSTED;
}

int take_waiting(client& by, wanted const& what, std::uint32_t wait_ms,
                 named_chunk& taken) noexcept {
    bool const for_ever = wait_ms == TARN_SHM_WAIT_FOR_EVER;
    std::uint64_t const until = platform::monotonic_ms() + wait_ms;
    shared_words& words = by.words();
    for (;;) {
        // This order: docs/design/shm.md, "Waiting".
        std::uint32_t const seen = words.sequence.load(std::memory_order_seq_cst);
        words.waiting.store(1, std::memory_order_seq_cst);
        if (take_any(by, what, taken)) {
            return TARN_SHM_OK;
        }
        // What can't grow can still be released.
        int const error = take_hard(by, what, taken);
        if (error == TARN_SHM_OK) {
            return error;
        }
        std::uint64_t const now = platform::monotonic_ms();
        if (!for_ever && now >= until) {
            return error;
        }
        std::uint64_t const left = for_ever ? look_again_ms : until - now;
        platform::wait_shared(
            words.sequence, seen,
            static_cast<std::uint32_t>(std::min<std::uint64_t>(left, look_again_ms)));
        if (by.may_allocate() != 0) {
            return by.may_allocate();
        }
    }
}

/// From 0 to 1: nobody else in this process knows the chunk, but one who let it go, or tries an old
/// reference to it, may not be through. False: it is counted already.
bool begin_count(private_count& count) noexcept {
    std::uint32_t none = 0;
    // acquire: pairs with the release of who let it go.
    while (!count.compare_exchange_weak(none, 1, std::memory_order_acquire,
                                        std::memory_order_relaxed)) {
        if (none == count_busy) {
            platform::let_others_run();
        } else if (none != 0) {
            return false;
        }
        none = 0;
    }
    return true;
}

void let_go_of(client& by, named_chunk const& what) noexcept {
    if (by.chunks_of(what.pool).release(by.number(), what.number) == let_go::free) {
        by.tell_waiters();
    }
}

bool is_own(client const& by, named_chunk const& what) noexcept {
    std::uint64_t const word = by.chunks_of(what.pool).word_of(what.number);
    return (word & bit_of(by.number())) != 0 && generation_of(word) == what.now;
}

/// The count, once no thread sees to the shared bit or tries an old reference.
std::uint32_t settled(private_count const& count, std::uint32_t seen) noexcept {
    while (seen == count_busy) {
        platform::let_others_run();
        seen = count.load(std::memory_order_relaxed);
    }
    return seen;
}

/// Of a chunk that was allocated here: nobody holds it but who allocated it.
bool is_told_to_nobody(client const& by, named_chunk const& what,
                       private_count const& count) noexcept {
    std::uint64_t const word = by.chunks_of(what.pool).word_of(what.number);
    return holders_of(word) == bit_of(by.number()) && count.load(std::memory_order_relaxed) == 1 &&
           by.header_of(what.pool, what.number).origin.load(std::memory_order_relaxed) ==
               static_cast<std::uint32_t>(by.number());
}

/// One of those that have it here, less. False: there is none.
bool end_count(client& by, named_chunk const& what) noexcept {
    private_count& count = by.count_of(what.pool, what.number);
    std::uint32_t seen = count.load(std::memory_order_relaxed);
    do {
        seen = settled(count, seen);
        if (seen == 0) {
            return false;
        }
        // acq_rel: what all have done with the chunk is done before the last lets it go.
    } while (!count.compare_exchange_weak(seen, seen == 1 ? count_busy : seen - 1,
                                          std::memory_order_acq_rel, std::memory_order_relaxed));
    if (seen == 1) {
        let_go_of(by, what);
        // release: pairs with the acquire of who counts from 0 next.
        count.store(0, std::memory_order_release);
    }
    return true;
}

/// One more; busy: the first, which has to see to the shared bit.
std::uint32_t add_count(private_count& count) noexcept {
    std::uint32_t seen = count.load(std::memory_order_relaxed);
    do {
        seen = settled(count, seen);
    } while (!count.compare_exchange_weak(seen, seen == 0 ? count_busy : seen + 1,
                                          std::memory_order_acquire, std::memory_order_relaxed));
    return seen == 0 ? count_busy : seen + 1;
}

}  // namespace

}  // namespace tarn::impl::shm

using namespace tarn::impl::shm;  // NOLINT(google-build-using-namespace): only C functions follow

extern "C" {

uint32_t tarn_shm_pool_for(tarn_shm* client, uint64_t bytes, uint32_t alignment) TARN_NOEXCEPT {
    return smallest(of(client), bytes, alignment);
}

int tarn_shm_allocate(tarn_shm* client, uint64_t bytes, uint32_t alignment,
                      tarn_shm_asking const* asking, tarn_shm_chunk* chunk) TARN_NOEXCEPT {
    tarn_shm_asking const usual = TARN_SHM_ASKING_DEFAULT;
    tarn_shm_asking const& how = asking == nullptr ? usual : *asking;
    auto& by = of(client);
    if (int const error = by.may_allocate(); error != 0) {
        return error;
    }
    if (alignment != 0 && !std::has_single_bit(alignment)) {
        return TARN_SHM_INVALID;
    }
    std::uint32_t const first = smallest(by, bytes, alignment);
    if (first == pools_most) {
        return TARN_SHM_TOO_LARGE;
    }
    wanted const what{.bytes = bytes,
                      .alignment = alignment,
                      .first = first,
                      .bytes_most = by.row(first).chunk_bytes *
                                    std::clamp<std::uint64_t>(how.larger_most, 1, 1U << 20)};
    named_chunk taken{};
    if (!take_any(by, what, taken)) {
        int const error = how.wait_ms == 0 ? take_hard(by, what, taken)
                                           : take_waiting(by, what, how.wait_ms, taken);
        if (error != 0) {
            return error;
        }
    }
    static_cast<void>(begin_count(by.count_of(taken.pool, taken.number)));
    write_header(by, taken, bytes, by.next_sequence());
    fill(by, taken, *chunk);
    return TARN_SHM_OK;
}

uint32_t tarn_shm_take(tarn_shm* client, uint32_t pool, uint32_t most,
                       tarn_shm_chunk* chunks) TARN_NOEXCEPT {
    auto& by = of(client);
    if (by.may_allocate() != 0 || pool >= by.head().pool_count || most == 0) {
        return 0;
    }
    constexpr std::uint32_t at_once = 64;
    std::atomic<std::uint32_t>& start = by.start(pool);
    std::uint32_t const from = start.load(std::memory_order_relaxed);
    std::uint64_t taken = 0;
    auto in = by.chunks_of(pool);
    std::uint32_t const first = in.take(by.number(), from, std::min(most, at_once), taken);
    if (taken == 0) {
        return 0;
    }
    if (first / at_once != from / at_once) {
        start.store(first, std::memory_order_relaxed);
    }
    std::uint32_t got = 0;
    for (; taken != 0; taken &= taken - 1, ++got) {
        std::uint32_t const number = first + static_cast<std::uint32_t>(std::countr_zero(taken));
        named_chunk const one{
            .pool = pool, .number = number, .now = generation_of(in.word_of(number))};
        write_header(by, one, by.row(pool).chunk_bytes - by.row(pool).user_header_bytes, 0);
        fill(by, one, chunks[got]);
    }
    return got;
}

void tarn_shm_give(tarn_shm* client, uint64_t const* references, uint32_t count) TARN_NOEXCEPT {
    auto& by = of(client);
    if (by.may_allocate() != 0) {
        return;
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        named_chunk what{};
        if (!find(by, references[i], what) || !is_own(by, what)) {
            continue;
        }
        // Another thread that tries an old reference to it makes it busy, for a moment.
        private_count const& told = by.count_of(what.pool, what.number);
        if (settled(told, told.load(std::memory_order_relaxed)) == 0) {
            let_go_of(by, what);
        }
    }
}

int tarn_shm_share(tarn_shm* client, uint64_t reference, uint64_t payload_bytes) TARN_NOEXCEPT {
    auto& by = of(client);
    named_chunk what{};
    if (int const error = by.may_allocate(); error != 0) {
        return error;
    }
    if (!find(by, reference, what) || !is_own(by, what)) {
        return TARN_SHM_NOT_HELD;
    }
    if (payload_bytes > by.row(what.pool).chunk_bytes - by.row(what.pool).user_header_bytes) {
        return TARN_SHM_TOO_LARGE;
    }
    private_count& count = by.count_of(what.pool, what.number);
    if (!begin_count(count) && !is_told_to_nobody(by, what, count)) {
        return TARN_SHM_INVALID;
    }
    write_header(by, what, payload_bytes, by.next_sequence());
    return TARN_SHM_OK;
}

int tarn_shm_hold(tarn_shm* client, uint64_t reference, tarn_shm_chunk* chunk) TARN_NOEXCEPT {
    auto& by = of(client);
    named_chunk what{};
    if (int const error = by.usable(); error != 0) {
        return error;
    }
    if (!find(by, reference, what)) {
        return TARN_SHM_INVALID;
    }
    private_count& count = by.count_of(what.pool, what.number);
    if (add_count(count) != count_busy) {
        // This process holds it, and so goes on to: but is it the one that was meant?
        if (!is_own(by, what)) {
            end_count(by, what);
            return TARN_SHM_STALE;
        }
    } else {
        bool const held = by.chunks_of(what.pool).hold(by.number(), what.number, what.now);
        // release: pairs with the acquire of who counts next.
        count.store(held ? 1 : 0, std::memory_order_release);
        if (!held) {
            return TARN_SHM_STALE;
        }
    }
    fill(by, what, *chunk);
    return TARN_SHM_OK;
}

int tarn_shm_release(tarn_shm* client, uint64_t reference) TARN_NOEXCEPT {
    auto& by = of(client);
    named_chunk what{};
    if (int const error = by.usable(); error != 0) {
        return error;
    }
    bool const is_held = find(by, reference, what) && is_own(by, what) && end_count(by, what);
    return is_held ? TARN_SHM_OK : TARN_SHM_NOT_HELD;
}

int tarn_shm_describe(tarn_shm* client, uint64_t reference, tarn_shm_chunk* chunk) TARN_NOEXCEPT {
    auto& by = of(client);
    named_chunk what{};
    if (int const error = by.usable(); error != 0) {
        return error;
    }
    if (!find(by, reference, what) || !is_own(by, what)) {
        return TARN_SHM_NOT_HELD;
    }
    fill(by, what, *chunk);
    return TARN_SHM_OK;
}

int tarn_shm_recover(tarn_shm* client) TARN_NOEXCEPT { return of(client).recover(); }

int tarn_shm_housekeep(tarn_shm* client, uint32_t most_ms) TARN_NOEXCEPT {
    return of(client).housekeep(most_ms);
}

uint32_t tarn_shm_reference_segment(uint64_t reference) TARN_NOEXCEPT {
    return parts_of(reference).segment;
}

uint32_t tarn_shm_reference_pool(uint64_t reference) TARN_NOEXCEPT {
    return parts_of(reference).pool;
}

uint32_t tarn_shm_reference_number(uint64_t reference) TARN_NOEXCEPT {
    return parts_of(reference).number;
}

}  // extern "C"
