#include "heap/orphans.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "heap/block_set.hpp"
#include "heap/diversion.hpp"
#include "heap/process.hpp"

namespace tarn::impl::heap {

namespace {

/// Used slices that belong to no page: a thread vanished while it held the run.
void return_lost_runs() noexcept {
    constexpr std::size_t runs_max = 16;
    std::array<space::run, runs_max> lost;
    std::size_t count = runs_max;
    while (count == runs_max) {
        count = 0;
        process.space.for_each_used([&lost, &count](space::run const& used) {
            for (std::uint32_t slice = 0; slice < used.slices && count < runs_max; ++slice) {
                std::byte* const base = used.base + slice * sizing::slice_bytes;
                page const* const entered = page_of(base);
                if (entered == nullptr ||
                    entered->kind.load(std::memory_order_relaxed) == page_kind::none) {
                    lost[count] = {.base = base, .slices = 1, .arena = used.arena};
                    ++count;
                }
            }
        });
        for (std::size_t i = 0; i < count; ++i) {
            if (pages.find(lost[i].base) != nullptr) {
                pages.clear(lost[i].base, 1);
            }
            if (hardening.on) {  // a thread may have vanished before it was guarded, or after
                static_cast<void>(platform::os::unguard(lost[i].base, sizing::slice_bytes));
            }
            process.space.return_run(lost[i]);
        }
    }
}

/// A page in nobody's hands goes where others find it.
void settle(page& orphan) noexcept {
    orphan.owner.set(nullptr);
    orphan.list_next = nullptr;
    orphan.list_prev = nullptr;
    if (orphan.out.get() == 0) {
        release_page(orphan);
    } else if (orphan.is_full()) {
        orphan.remote.reset(hold::adrift);
    } else {
        put_in_bin(orphan);
    }
}

bool is_alive(thread_heap const* owner) noexcept {
    return owner != nullptr && owner->phase.load(std::memory_order_relaxed) == heap_phase::active;
}

/// Pops the pages of all bins into one chain. Each is marked by pointing back to itself: every
/// other page that looks binned or held without owner is then known to be lost.
page* empty_bins() noexcept {
    page* chain = nullptr;
    for (shared_bin& bin : process.bins) {
        for (;;) {
            base::node_index const index = process.descriptors.pop(bin.pages);
            if (index == base::node_index::none) {
                break;
            }
            page& popped = *process.descriptors.at(index);
            popped.list_next = chain;
            popped.list_prev = &popped;
            chain = &popped;
        }
    }
    return chain;
}

/// Makes a large block as long as the page map says: its thread may have vanished between the
/// two steps in which a block changes its length. The slices in between are lost runs.
void repair_length(page& large) noexcept {
    std::uint32_t slices = 1;
    while (slices < large.slices.get() &&
           page_of(large.start + slices * sizing::slice_bytes) == &large) {
        ++slices;
    }
    if (slices < large.slices.get()) {
        // Entries behind a gap, too. Their memory is there, since they were entered once.
        static_cast<void>(pages.resize(large.start, large.slices.get(), slices, &large));
        large.slices.set(slices);
        large.block_bytes.set(
            std::min<std::size_t>(large.block_bytes.get(), slices * sizing::slice_bytes));
    }
}

// Far above what an allocation list can hold; a list that a misuse tore may have no end.
constexpr int strays_most = 1 << 16;

struct stray_chain {
    block* first = nullptr;
    std::size_t count = 0;  // a double free can make the chain a ring
};

/// Takes the free blocks out of a vanished thread's cache.
void collect_cached(block_cache const& cache, stray_chain& chain) noexcept {
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        for (std::uint32_t i = 0; i < cache.count(size_class); ++i) {
            // The fork may have been amid a store: of an entry's two words one may be another's.
            block* const at = cache.entry(size_class, i).at;
            page* const home = pages.find(at);
            if (home == nullptr || !home->has_states()) {
                continue;
            }
            block_state& state = home->states.get()[home->index_of(at)];
            if (state.load(std::memory_order_relaxed) == state_away) {
                state.store(state_live, std::memory_order_relaxed);  // it may be there twice
                write_link(at, chain.first);
                chain.first = at;
                ++chain.count;
            }
        }
    }
}

/// Takes the blocks of other pages than the current ones out of the allocation lists of vanished
/// threads.
stray_chain collect_strays() noexcept {
    stray_chain chain;
    process.heaps.for_each([&chain](thread_heap& each) {
        if (each.phase.load(std::memory_order_relaxed) != heap_phase::vanished) {
            return;
        }
        if (block_cache* const cache = each.cache()) {
            collect_cached(*cache, chain);
            return;
        }
        for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
            block** link = &each.head(size_class);
            auto const most =
                static_cast<int>(sizing::page_blocks(size_class, sizing::page_slices_max));
            for (int taken = 0; taken < strays_most; ++taken) {
                block* const stray = each.take_stray(size_class, link, most);
                if (stray == nullptr) {
                    break;
                }
                chain.first = ::new (stray) block{chain.first};
                ++chain.count;
            }
        }
    });
    return chain;
}

/// Frees them, once every page is where it belongs.
void return_strays(stray_chain chain) noexcept {
    for (; chain.first != nullptr && chain.count != 0; --chain.count) {
        block* const stray = chain.first;
        chain.first = read_link(stray);
        page& home = *pages.find(stray);
        bool const has_states = home.has_states();
        if (has_states) {
            seal_alone(stray, mix(stray));
            home.states.get()[home.index_of(stray)].store(state_free, std::memory_order_relaxed);
        }
        remote_state seen = home.remote.load();
        if (seen.how() != hold::adrift) {
            while (!(has_states ? home.remote.try_post(seen, stray)
                                : home.remote.try_push(seen, stray))) {
            }
            if (seen.how() == hold::binned &&
                static_cast<int>(seen.count()) + 1 == home.out.get()) {
                hint_at_empty_page(home.size_class);
            }
            continue;
        }
        static_cast<void>(home.remote.try_claim());  // nobody else lives
        static_cast<void>(has_states ? home.out.decrement_to_zero() : home.push(stray));
        settle(home);
    }
}

void adopt_pages() noexcept {
    stray_chain const strays = collect_strays();
    page* binned = empty_bins();
    process.descriptors.for_each([](page& each) {
        if (each.kind.load(std::memory_order_relaxed) == page_kind::large) {
            repair_length(each);
            return;
        }
        if (each.kind.load(std::memory_order_relaxed) != page_kind::small ||
            each.list_prev == &each || each.remote.load().how() == hold::adrift) {
            return;
        }
        thread_heap const* const owner = each.owner.get();
        if (!is_alive(owner)) {
            bool const is_current = owner != nullptr && owner->current(each.size_class) == &each;
            repair(each, is_current ? owner->head(each.size_class) : nullptr);
            settle(each);
        }
    });
    while (binned != nullptr) {
        page& next = *binned;
        binned = next.list_next;
        next.collect_remote();
        settle(next);
    }
    return_strays(strays);
}

}  // namespace

namespace {

/// The same where blocks have states, which say all.
void repair_by_states(page& orphan) noexcept {
    static_cast<void>(orphan.remote.take());
    int outside = orphan.capacity.get();
    for (int index = 0; index < orphan.capacity.get(); ++index) {
        if (orphan.states.get()[index].load(std::memory_order_relaxed) > state_zero) {
            continue;
        }
        --outside;
        if (orphan.is_unlisted(static_cast<std::size_t>(index))) {
            std::byte* const at =
                orphan.start + static_cast<std::size_t>(index) * orphan.block_bytes.get();
            seal_alone(at, mix(at));
        }
    }
    orphan.touch_all();
    orphan.countdown.set(0);
    orphan.out.set(outside);
    orphan.fresh_zeroed = false;  // blocks behind capacity may have been sealed already
}

}  // namespace

void repair(page& orphan, block const* list) noexcept {
    if (orphan.has_states()) {
        return repair_by_states(orphan);
    }
    block_set free_blocks{orphan};
    free_blocks.add_list(list);
    free_blocks.add_list(orphan.local);
    free_blocks.add_list(orphan.remote.take().list());
    block* rebuilt = nullptr;
    int outside = orphan.capacity.get();
    for (auto index = static_cast<std::size_t>(orphan.capacity.get()); index-- > 0;) {
        if (free_blocks.contains(index) || orphan.is_unlisted(index)) {
            std::byte* const at = orphan.start + index * orphan.block_bytes.get();
            write_link(at, rebuilt);
            rebuilt = reinterpret_cast<block*>(at);
            --outside;
        }
    }
    orphan.frees.set(&orphan.local);
    orphan.local = rebuilt;
    orphan.touch_all();
    orphan.countdown.set(0);
    orphan.out.set(outside);
    orphan.fresh_zeroed = false;  // blocks behind capacity may have been linked already
    orphan.list_zeroed = false;
}

void adopt_orphans() noexcept {
    base::lock_guard const guard{process.adoption};
    if (!process.orphans.load(std::memory_order_relaxed)) {
        return;
    }
    adopt_pages();
    process.heaps.for_each([](thread_heap& each) {
        if (each.phase.load(std::memory_order_relaxed) == heap_phase::vanished) {
            each.forget();
            each.phase.store(heap_phase::unused, std::memory_order_relaxed);
            process.heaps.push(process.idle_heaps, each);
        }
    });
    return_lost_runs();
    // release: pairs with the acquire at the head of every slow path.
    process.orphans.store(false, std::memory_order_release);
}

void prepare_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    process.late.lock();
    process.scavenging.lock();
    lock_heaps_for_fork();
    process.adoption.lock();
    process.space.lock_for_fork();
    process.heaps.lock_for_fork();
    process.descriptors.lock_for_fork();
    process.lanes.lock_for_fork();
    process.user_heaps.lock_for_fork();
    process.states.lock_for_fork();
    process.caches.lock_for_fork();
    base::lock_holder.store(&errno, std::memory_order_relaxed);
}

void fork_in_parent() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    base::lock_holder.store(nullptr, std::memory_order_relaxed);
    process.caches.unlock_after_fork();
    process.states.unlock_after_fork();
    process.user_heaps.unlock_after_fork();
    process.lanes.unlock_after_fork();
    process.descriptors.unlock_after_fork();
    process.heaps.unlock_after_fork();
    process.space.unlock_after_fork();
    process.adoption.unlock();
    unlock_heaps_after_fork();
    process.scavenging.unlock();
    process.late.unlock();
}

void fork_in_child() noexcept {
    fork_in_parent();
    thread_heap const* const own = own_heap();
    bool any = false;
    std::uint32_t active = 0;
    process.heaps.for_each([own, &any, &active](thread_heap& each) {
        if (each.phase.load(std::memory_order_relaxed) != heap_phase::active) {
            return;
        }
        if (&each == own) {
            each.thread_id.store(platform::os::thread_id(), std::memory_order_relaxed);
            ++active;
            return;
        }
        each.phase.store(heap_phase::vanished, std::memory_order_relaxed);
        any = true;
    });
    process.active_heaps.store(active, std::memory_order_relaxed);
    process.walk_running.store(false, std::memory_order_relaxed);
    process.destructions.store(0, std::memory_order_relaxed);
    host_forked();
    if (any) {
        process.orphans.store(true, std::memory_order_release);
    }
}

}  // namespace tarn::impl::heap
