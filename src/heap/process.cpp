#include "heap/process.hpp"

#include <algorithm>
#include <limits>

#include "base/check.hpp"
#include "heap/diversion.hpp"
#include "heap/guarded_page.hpp"

namespace tarn::impl::heap {

using platform::os;

constinit process_page_map pages;
constinit process_state process;
constinit heap_options process_state::options;
constinit thread_heap empty_heap;
constinit thread_heap finished_heap;
constinit thread_heap diverted_heap;
constinit thread_heap late_heap;
thread_local constinit thread_heap* this_thread = &empty_heap;

namespace {

enum start_phase : std::uint32_t { not_started, starting, awaited, started, start_failed };

// While it starts, the process that does it stands above the phase.
constexpr unsigned phase_bits = 3;

/// Fits reservations to what the process may use.
void scale_to_limits(heap_options& options) noexcept {
    std::size_t const limit = os::address_space_limit();
    options.space.ceiling = pages.ceiling();
    if (limit != std::numeric_limits<std::size_t>::max()) {
        std::size_t const share = std::max<std::size_t>(limit / 16, 4 * MiB);
        options.space.arena_bytes =
            std::min(options.space.arena_bytes, base::align_down(share, 2 * MiB));
    }
}

start_phase start_once() noexcept {
    process.options = host_options();
    if (process.options.hardened && !hardening.on) {
        hardening.set_keys(os::random_bits(), os::random_bits(), os::random_bits(),
                           os::random_bits());
        hardening.zero_on_free = process.options.zero_on_free;
        hardening.on.set(true);
    }
    if (!pages.initialize()) {
        return start_failed;
    }
    scale_to_limits(process.options);
    process.space.configure(process.options.space);
    late_heap.enter(0);
    return started;
}

}  // namespace

bool start_process() noexcept {
    // acquire: pairs with the release below; a thread that sees `started` sees what it needs.
    std::uint32_t seen = process.start_state.load(std::memory_order_acquire);
    if (seen == started) [[likely]] {
        return true;
    }
    std::uint32_t const self = os::process_id() << phase_bits;
    bool has_waited = false;
    while (seen != started) {
        std::uint32_t const phase = seen % (1U << phase_bits);
        bool const is_busy = phase == starting || phase == awaited;
        // In the child of a fork nobody goes on with what another thread of its parent had begun.
        if (is_busy && seen - phase == self) {
            if (phase == awaited || process.start_state.compare_exchange_strong(
                                        seen, self | awaited, std::memory_order_acquire)) {
                has_waited = true;
                os::wait(process.start_state, self | awaited);
                seen = process.start_state.load(std::memory_order_acquire);
            }
            continue;
        }
        if (!process.start_state.compare_exchange_strong(seen, self | starting,
                                                         std::memory_order_acquire)) {
            continue;
        }
        seen = start_once();
        if (process.start_state.exchange(seen, std::memory_order_release) == (self | awaited) ||
            has_waited) {  // others may wait since then
            os::wake_one(process.start_state);
        }
        if (seen == start_failed) {
            return false;  // memory may be there next time
        }
    }
    if (has_waited) {
        os::wake_one(process.start_state);  // each waiter wakes the next
    }
    return true;
}

thread_heap* enter_thread() noexcept {
    if (process.start_state.load(std::memory_order_acquire) != started && !start_process()) {
        return nullptr;
    }
    base::node_index const idle = process.heaps.pop(process.idle_heaps);
    thread_heap* const own =
        idle != base::node_index::none ? process.heaps.at(idle) : process.heaps.allocate();
    if (own == nullptr) {
        return nullptr;
    }
    own->enter(os::thread_id());
    process.active_heaps.fetch_add(1, std::memory_order_relaxed);
    this_thread = own;
    // Both may allocate, and find this thread served.
    if (!process.host_told.exchange(true, std::memory_order_relaxed)) {
        host_started();
    }
    host_thread_entered(own);
    return own;
}

void leave_thread(thread_heap& heap) noexcept {
    end_diversions();
    this_thread = &finished_heap;
    if (process.orphans.load(std::memory_order_acquire)) {
        adopt_orphans();
    }
    heap.leave();
    process.space.purge_due();  // while the heap still counts as active: a fork may come meanwhile
    heap.phase.store(heap_phase::unused, std::memory_order_relaxed);
    process.active_heaps.fetch_sub(1, std::memory_order_relaxed);
    process.heaps.push(process.idle_heaps, heap);
    host_thread_left();
    divert_finished_thread();
}

void enter_if_new() noexcept {
    undiverted const served;
    if (this_thread == &empty_heap) {
        static_cast<void>(enter_thread());
    }
}

page* new_user_page() noexcept {
    base::node_index const idle = process.descriptors.pop(process.idle_user_pages);
    if (idle != base::node_index::none) {
        return process.descriptors.at(idle);
    }
    page* const fresh = process.descriptors.allocate();
    if (fresh != nullptr) {
        // Before the page map can lead here.
        fresh->serves_user_heaps.store(true, std::memory_order_relaxed);
    }
    return fresh;
}

void deallocate_descriptor(page& unused) noexcept {
    if (unused.serves_user_heaps.load(std::memory_order_relaxed)) {
        process.descriptors.push(process.idle_user_pages, unused);
    } else {
        process.descriptors.deallocate(unused);
    }
}

page* make_page(space::run const& memory, unsigned size_class, page* descriptor) noexcept {
    if (descriptor == nullptr) {
        process.space.return_run(memory);
        return nullptr;
    }
    std::size_t const bytes = sizing::class_bytes(size_class);
    descriptor->lie_in(memory);
    descriptor->purged.set(0);
    descriptor->divisor = page::divisor_for(bytes);
    if (!descriptor->serves_user_heaps.load(std::memory_order_relaxed)) {
        descriptor->frees.set(&descriptor->local);  // else its lane is there, for late readers
    }
    descriptor->local = nullptr;
    descriptor->out.set(0);
    descriptor->capacity.set(0);
    descriptor->block_bytes.set(bytes);
    descriptor->reserved.set(static_cast<int>(sizing::page_blocks(size_class, memory.slices)));
    descriptor->size_class = static_cast<std::uint8_t>(size_class);
    descriptor->list_zeroed = false;
    descriptor->fresh_zeroed = memory.zeroed;
    descriptor->countdown.set(0);
    descriptor->has_guard = false;
    descriptor->remote.reset(hold::held);
    if (!pages.assign(memory.base, memory.slices, descriptor)) {
        deallocate_descriptor(*descriptor);
        process.space.return_run(memory);
        return nullptr;
    }
    return descriptor;
}

void release_page(page& empty) noexcept {
    TARN_ASSERT(empty.out.get() == 0);
    if (empty.accounted.get() != 0) {
        note_growth({.bytes = -static_cast<std::int64_t>(empty.accounted.get()) *
                              static_cast<std::int64_t>(empty.block_bytes.get()),
                     .handed_bytes = 0});
        empty.accounted.set(0);
    }
    empty.touch_all();  // as a free run it counts as dirty
    if (hardening.on) [[unlikely]] {
        remove_states(empty);
    }
    space::run const memory = empty.memory();
    process.bins[empty.size_class].slices.fetch_sub(memory.slices, std::memory_order_relaxed);
    empty.kind.store(page_kind::none, std::memory_order_relaxed);
    empty.owner.set(nullptr);
    pages.clear(memory.base, memory.slices);
    process.descriptors.deallocate(empty);
    process.space.return_run(memory);
}

void put_in_bin(page& partial) noexcept {
    unsigned const size_class = partial.size_class;
    int const out = partial.out.get();
    partial.owner.set(nullptr);
    partial.remote.set_binned();
    process.descriptors.push(process.bins[size_class].pages, partial);
    // Its last block may have come back before it was known as binned. Or the page is not ours to
    // look at any more: then this hint is wrong.
    if (static_cast<int>(partial.remote.load().count()) == out) {
        hint_at_empty_page(size_class);
    }
}

void hint_at_empty_page(unsigned size_class) noexcept {
    process.bins[size_class].has_empty.store(true, std::memory_order_relaxed);
    process.bins_have_empty.store(true, std::memory_order_relaxed);
    process.space.ask_for_purge();
}

std::size_t sweep_bins(sweep_scope scope, sweep_depth depth) noexcept {
    std::size_t bytes = 0;
    // Cleared first: a page that becomes empty meanwhile sets it again.
    process.bins_have_empty.store(false, std::memory_order_relaxed);
    for (shared_bin& bin : process.bins) {
        bool const has_empty = bin.has_empty.exchange(false, std::memory_order_relaxed);
        if (scope == sweep_scope::bins_with_empty_pages && !has_empty) {
            continue;
        }
        page* kept = nullptr;
        for (;;) {
            base::node_index const index = process.descriptors.pop(bin.pages);
            if (index == base::node_index::none) {
                break;
            }
            page& taken = *process.descriptors.at(index);
            taken.collect_remote();
            if (taken.out.get() == 0) {
                release_page(taken);
            } else {
                bytes += depth == sweep_depth::os_pages ? taken.purge_inside() : 0;
                taken.list_next = kept;
                kept = &taken;
            }
        }
        while (kept != nullptr) {
            page& next = *kept;
            kept = next.list_next;
            next.list_next = nullptr;
            put_in_bin(next);
        }
    }
    return bytes;
}

std::size_t reclaim(thread_heap& own, reclaim_scope scope) noexcept {
    // Also waits for the scavenger's pass: what that has in hand would still be there.
    base::lock_guard const guard{process.scavenging};
    std::size_t bytes = own.trim();
    if (scope == reclaim_scope::process) {
        bytes += sweep_bins(sweep_scope::all_bins, sweep_depth::os_pages);
    }
    process.purged_inside_bytes.fetch_add(bytes, std::memory_order_relaxed);
    if (scope == reclaim_scope::process) {
        bytes += trim_heaps(heap_id::any).inside;
        bytes += process.space.purge_all();
        process.space.release_idle_arenas();
    }
    return bytes;
}

std::size_t scavenge() noexcept {
    base::lock_guard const guard{process.scavenging};
    if (process.orphans.load(std::memory_order_acquire)) {
        return 0;  // what is in our hands would be taken for lost
    }
    if (process.bins_have_empty.load(std::memory_order_relaxed)) {
        sweep_bins(sweep_scope::bins_with_empty_pages);
    }
    return process.space.purge_due();
}

bool has_memory_to_scavenge() noexcept {
    return process.bins_have_empty.load(std::memory_order_relaxed) || process.space.has_dirty();
}

outside_totals measure_outside() noexcept {
    outside_totals totals;
    process.descriptors.for_each([&totals](page const& each) {
        page_kind const kind = each.kind.load(std::memory_order_relaxed);
        if (kind == page_kind::none) {
            return;
        }
        std::int64_t const posted =
            kind == page_kind::small ? static_cast<std::int64_t>(each.remote.load().count()) : 0;
        std::int64_t const blocks = std::max<std::int64_t>(each.outside() - posted, 0);
        totals.blocks += static_cast<std::uint64_t>(blocks);
        totals.bytes += static_cast<std::uint64_t>(blocks) * each.block_bytes.get();
    });
    return totals;
}

void note_growth(heap_growth told) noexcept {
    // outside_bytes is an upper bound: a free counts when its page is next looked at. Only a walk
    // tells the truth, and a new peak is possible only when the bound exceeds the last one and
    // enough was handed out since the last walk to get there. Walks that find none become rarer,
    // so that a program which frees at random beside its peak does not pay for them.
    std::int64_t const bound =
        process.outside_bytes.fetch_add(told.bytes, std::memory_order_relaxed) + told.bytes;
    if (told.handed_bytes <= 0) {
        return;
    }
    std::int64_t const handed =
        process.handed_bytes.fetch_add(told.handed_bytes, std::memory_order_relaxed) +
        told.handed_bytes;
    auto const is_due = [bound, handed] {
        auto const peak =
            static_cast<std::int64_t>(process.live_peak_bytes.load(std::memory_order_relaxed));
        return bound > peak && handed >= process.next_walk.load(std::memory_order_relaxed);
    };
    if (!is_due() || process.walk_running.exchange(true, std::memory_order_acquire)) {
        return;
    }
    if (!is_due()) {  // somebody else's walk has just ended
        process.walk_running.store(false, std::memory_order_release);
        return;
    }
    constexpr std::uint32_t futile_max = 3;
    auto const peak =
        static_cast<std::int64_t>(process.live_peak_bytes.load(std::memory_order_relaxed));
    auto const exact = static_cast<std::int64_t>(measure_outside().bytes);
    std::uint32_t futile = process.futile_walks.load(std::memory_order_relaxed);
    if (exact > peak) {
        raise_to(process.live_peak_bytes, static_cast<std::uint64_t>(exact));
        futile = 0;
    } else {
        futile = std::min(futile + 1, futile_max);
    }
    process.futile_walks.store(futile, std::memory_order_relaxed);
    std::int64_t const known = std::max(exact, peak);
    std::int64_t const step = std::max(growth_step_bytes, known / 32) << futile;
    process.next_walk.store(handed + (known - exact) + step - growth_step_bytes / 2,
                            std::memory_order_relaxed);
    // release: pairs with the acquire above; one walk at a time.
    process.walk_running.store(false, std::memory_order_release);
}

}  // namespace tarn::impl::heap
