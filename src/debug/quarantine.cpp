// Quarantine and checks of debug/checked_heap.hpp: what becomes of freed blocks, and looks at
// blocks that are others'.

#include <algorithm>

#include "heap/process.hpp"
#include "debug/checked_heap.hpp"

namespace tarn::impl::debug {

namespace {

constexpr std::uint64_t quarantine_bytes_least = 1 * MiB;

/// Of a counter that only the holder of a lock changes.
void add_locked(std::atomic<std::uint64_t>& counter, std::uint64_t difference) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + difference, std::memory_order_relaxed);
}

}  // namespace

// --- quarantine ----------------------------------------------------------------------------------

void checked_heap::quarantine(block_record& record, shard& own, void const* caller) noexcept {
    record.node_link.store(base::node_index::none, std::memory_order_relaxed);
    // Who comes next is looked for now and then: all threads' numbers are needed for that.
    std::uint64_t const pending_bytes_max =
        std::min<std::uint64_t>(options_.quarantine_bytes / 64, 4 * KiB);
    std::size_t const bytes = record.bytes;
    std::uint32_t due = 0;
    {
        base::lock_guard const guard{own.mutex};
        if (own.newest == base::node_index::none) {
            own.oldest = record.self_index;
        } else {
            records.at(own.newest)->node_link.store(record.self_index, std::memory_order_relaxed);
        }
        own.newest = record.self_index;
        add_locked(own.freed_blocks, 1);
        add_locked(own.freed_bytes, bytes);
        record.settle(block_state::freed);
        ++own.pending_blocks;
        own.pending_bytes += bytes + options_.quarantine_block_bytes;
        if (own.pending_bytes > pending_bytes_max) {
            // Twice as many as came: what is too much is worked off.
            due = 2 * own.pending_blocks;
            own.pending_blocks = 0;
            own.pending_bytes = 0;
        }
    }
    if (due != 0) {
        retire_some(own, due, caller);
    }
}

void checked_heap::retire_some(shard& own, std::uint32_t most, void const* caller) noexcept {
    std::uint64_t freed = 0;
    std::int64_t live = 0;
    for (shard const& each : shards_) {
        freed +=
            each.freed_bytes.load(std::memory_order_relaxed) +
            each.freed_blocks.load(std::memory_order_relaxed) * options_.quarantine_block_bytes;
        live += each.live_bytes.load(std::memory_order_relaxed);
    }
    // The most that was live in this shard since the last time, beside what is in others now.
    std::int64_t const own_live = own.live_bytes.load(std::memory_order_relaxed);
    note_live(live - own_live + own.live_peak.exchange(own_live, std::memory_order_relaxed));
    if (options_.quarantine_bytes == 0) {
        while (retire_one(own, caller) != 0) {  // ends: as many as this thread and few others freed
        }
        return;
    }
    std::uint64_t const share =
        quarantine_bytes_least + static_cast<std::uint64_t>(std::max<std::int64_t>(live, 0)) / 2;
    std::uint64_t const held_bytes_max =
        options_.quarantine_follows_live ? std::min<std::uint64_t>(options_.quarantine_bytes, share)
                                         : options_.quarantine_bytes;
    // After a large block many small ones may have to go.
    most = freed > 2 * held_bytes_max ? std::max(most, 100U) : most;
    shard* other = &own;
    for (std::uint32_t i = 0; i < most && freed > held_bytes_max; ++i) {
        if (i % 16 == 0) {
            other = &shards_[next_shard_.fetch_add(1, std::memory_order_relaxed) % shard_count];
        }
        // From others only where they hold far more, as threads do that free nothing any more:
        // else memory would wander between processors.
        bool const others = other->freed_bytes.load(std::memory_order_relaxed) / 4 >=
                            own.freed_bytes.load(std::memory_order_relaxed) + 1;
        freed -= std::min(freed, retire_one(others ? *other : own, caller));
    }
}

/// Gives the memory of a block that is taken back, and the record. Returns its source_bytes.
std::size_t checked_heap::let_go(block_record& record) noexcept {
    if (source_.keeps_records && record.size_class != 0) {
        record.keep();  // first: with its memory it is somebody else's
        return source_.deallocate(record);
    }
    std::size_t const bytes = source_.deallocate(record);
    record.settle(block_state::unused);
    records.deallocate(record);
    return bytes;
}

std::uint64_t checked_heap::retire_one(shard& from, void const* caller) noexcept {
    block_record* oldest = nullptr;
    {
        base::lock_guard const guard{from.mutex};
        if (from.oldest == base::node_index::none) {
            return 0;
        }
        oldest = records.at(from.oldest);
        from.oldest = oldest->node_link.load(std::memory_order_relaxed);
        if (from.oldest == base::node_index::none) {
            from.newest = base::node_index::none;
        }
        add_locked(from.freed_blocks, std::uint64_t{0} - 1);
        add_locked(from.freed_bytes, std::uint64_t{0} - oldest->bytes);
    }
    // It is in no list any more, so nobody else can have taken it.
    static_cast<void>(oldest->try_take(block_state::freed));
    if (!is_whole(*oldest, block_state::freed)) {
        report_damage(*oldest, block_state::freed, "quarantine", caller);
    }
    std::uint64_t const bytes = oldest->bytes + options_.quarantine_block_bytes;
    from.source_bytes.fetch_sub(static_cast<std::int64_t>(let_go(*oldest)),
                                std::memory_order_relaxed);
    return bytes;
}

std::uint64_t checked_heap::note_live(std::int64_t bytes) noexcept {
    return heap::raise_to(live_peak_bytes_,
                          static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0)));
}

void checked_heap::empty_quarantine() noexcept {
    for (shard& each : shards_) {
        // No more than there are now: others may go on freeing.
        std::uint64_t left = each.freed_blocks.load(std::memory_order_relaxed);
        for (; left != 0 && retire_one(each, nullptr) != 0; --left) {
        }
    }
}

bool checked_heap::is_own_live(block_record& record) noexcept {
    base::lock_guard const guard{checks_mutex};
    if (!record.try_pin()) {
        return false;
    }
    bool const is_so = record.owner == number_ && record.current() == block_state::live;
    record.unpin();
    return is_so;
}

void checked_heap::discard_all() noexcept {
    empty_quarantine();
    for (std::size_t number = 1; records.has(static_cast<base::node_index>(number)); ++number) {
        block_record& record = *records.at(static_cast<base::node_index>(number));
        if (!is_own_live(record) || !record.try_take(block_state::live)) {
            continue;
        }
        shard& own = own_shard(current_thread());
        own.live_blocks.fetch_sub(1, std::memory_order_relaxed);
        own.live_bytes.fetch_sub(static_cast<std::int64_t>(record.bytes),
                                 std::memory_order_relaxed);
        own.source_bytes.fetch_sub(static_cast<std::int64_t>(let_go(record)),
                                   std::memory_order_relaxed);
    }
    records.for_each([this](block_record& each) {
        if (each.is_kept() && each.owner == number_) {
            each.settle(block_state::unused);
            records.deallocate(each);
        }
    });
}

// --- checks --------------------------------------------------------------------------------------

checked_heap::look checked_heap::look_at(std::size_t number, char const* operation) noexcept {
    block_record& record = *records.at(static_cast<base::node_index>(number));
    look seen;
    if (!record.try_pin()) {
        return seen;
    }
    block_state const in = record.current();
    seen.is_checked = record.owner == number_;
    seen.is_damaged = seen.is_checked && !is_whole(record, in);
    if (seen.is_damaged) {
        auto const note = [&](side which) {
            seen.found[seen.count] = describe_damage(record, in, which, operation);
            seen.count += seen.found[seen.count].damaged_bytes != 0 ? 1U : 0U;
        };
        if (in == block_state::freed) {
            note(side::both);
        } else {
            note(side::before);
            note(side::behind);
        }
        // None: the program has put its bytes back meanwhile.
        if (seen.count != 0 && !is_news(record)) {
            seen.count = 0;
        }
    }
    record.unpin();
    return seen;
}

heap::check_result checked_heap::check_all(char const* operation, void const* caller) noexcept {
    heap::check_result result;
    for (std::size_t number = 1; records.has(static_cast<base::node_index>(number)); ++number) {
        look seen;
        {
            base::lock_guard const guard{checks_mutex};
            seen = look_at(number, operation);
        }
        result.checked_blocks += seen.is_checked ? 1U : 0U;
        result.damaged_blocks += seen.is_damaged ? 1U : 0U;
        tell_all(seen, caller);
    }
    checked_blocks_.fetch_add(result.checked_blocks, std::memory_order_relaxed);
    return result;
}

void checked_heap::check_some(std::size_t blocks, void const* caller) noexcept {
    for (; blocks != 0; --blocks) {
        if (!checks_mutex.try_lock()) {
            return;  // somebody else is at it
        }
        std::size_t const number = next_check_;
        look seen;
        if (records.has(static_cast<base::node_index>(number))) {
            ++next_check_;
            seen = look_at(number, "walk");
        } else {
            next_check_ = 1;
            blocks = 1;
        }
        checks_mutex.unlock();
        tell_all(seen, caller);
    }
}

void checked_heap::tell_all(look& seen, void const* caller) noexcept {
    for (std::size_t i = 0; i < seen.count; ++i) {
        report(seen.found[i], caller);
    }
}

check_figures checked_heap::figures() noexcept {
    std::int64_t blocks = 0;
    std::int64_t bytes = 0;
    std::int64_t source_bytes = 0;
    check_figures now;
    for (shard const& each : shards_) {
        blocks += each.live_blocks.load(std::memory_order_relaxed);
        bytes += each.live_bytes.load(std::memory_order_relaxed);
        source_bytes += each.source_bytes.load(std::memory_order_relaxed);
        now.quarantined_blocks += each.freed_blocks.load(std::memory_order_relaxed);
        now.quarantined_bytes += each.freed_bytes.load(std::memory_order_relaxed);
        now.allocations += each.allocations.load(std::memory_order_relaxed);
    }
    now.live_blocks = static_cast<std::uint64_t>(std::max<std::int64_t>(blocks, 0));
    now.live_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0));
    now.source_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(source_bytes, 0));
    now.live_peak_bytes = note_live(bytes);
    for (shard const& each : shards_) {
        std::int64_t const most = each.live_peak.load(std::memory_order_relaxed);
        now.live_peak_bytes =
            note_live(bytes - each.live_bytes.load(std::memory_order_relaxed) + most);
    }
    now.checked_blocks = checked_blocks_.load(std::memory_order_relaxed);
    now.damaged_blocks = damaged_blocks_.load(std::memory_order_relaxed);
    now.findings = findings_.load(std::memory_order_relaxed);
    return now;
}

void checked_heap::forget_figures() noexcept {
    for (shard& each : shards_) {
        each.live_blocks.store(0, std::memory_order_relaxed);
        each.live_bytes.store(0, std::memory_order_relaxed);
        each.live_peak.store(0, std::memory_order_relaxed);
        each.source_bytes.store(0, std::memory_order_relaxed);
        each.allocations.store(0, std::memory_order_relaxed);
    }
    live_peak_bytes_.store(0, std::memory_order_relaxed);
    checked_blocks_.store(0, std::memory_order_relaxed);
    damaged_blocks_.store(0, std::memory_order_relaxed);
    findings_.store(0, std::memory_order_relaxed);
}

void checked_heap::lock_for_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    for (shard& each : shards_) {
        each.mutex.lock_unranked();
    }
}

void checked_heap::unlock_after_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    for (shard& each : shards_) {
        each.mutex.unlock_unranked();
    }
}

}  // namespace tarn::impl::debug
