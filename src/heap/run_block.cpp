#include "heap/run_block.hpp"

#include <algorithm>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "heap/diversion.hpp"
#include "heap/guarded_page.hpp"
#include "heap/process.hpp"

namespace tarn::impl::heap {

using platform::os;
using sizing::slice_bytes;

namespace {

/// Bytes the program may use, up to the OS page: what is behind stays untouched.
std::size_t usable_for(std::size_t bytes) noexcept {
    return base::align_up(bytes, os::page_bytes());
}

space::budget& budget() noexcept { return process.space.budget(); }

bool try_charge(std::size_t bytes) noexcept {
    bool const charged = budget().try_charge(bytes);
    process.space.ask_if_watched();
    return charged;
}

std::size_t slices_for(std::size_t bytes) noexcept { return base::divide_up(bytes, slice_bytes); }

/// `bytes`: what was asked for.
void set_size(page& home, std::size_t bytes, std::size_t usable) noexcept {
    auto const before = static_cast<std::int64_t>(home.block_bytes.get());
    home.block_bytes.set(usable);
    home.requested_bytes.set(bytes);
    std::int64_t const growth = static_cast<std::int64_t>(usable) - before;
    note_growth({.bytes = growth, .handed_bytes = growth});
}

void set_size(page& home, std::size_t bytes) noexcept { set_size(home, bytes, usable_for(bytes)); }

/// Bytes of a run behind those that the program may use: in mode hardened, an OS page to guard.
std::size_t guard_bytes(bool is_for_user_heap) noexcept {
    return hardening.on && !is_for_user_heap ? os::page_bytes() : 0;
}

std::byte* guard_behind(page const& home) noexcept {
    return home.start + base::align_up(home.block_bytes.get(), os::page_bytes());
}

/// Makes the OS page behind a large block inaccessible, where it has one.
void guard_run(page& home) noexcept {
    bool const is_for_user_heap = home.serves_user_heaps.load(std::memory_order_relaxed);
    if (guard_bytes(is_for_user_heap) != 0) [[unlikely]] {
        home.has_guard = guard_os_page(guard_behind(home));
    }
}

void unguard_run(page& home) noexcept {
    if (home.has_guard) [[unlikely]] {
        unguard_os_page(guard_behind(home));
        home.has_guard = false;
    }
}

/// What a run serves.
struct run_use {
    page_kind kind;
    bool is_for_user_heap = false;
};

/// A descriptor for `memory`, entered in the page map. Null: out of memory.
page* describe(space::run const& memory, std::size_t slices, run_use use) noexcept {
    page* const home = use.is_for_user_heap ? new_user_page() : process.descriptors.allocate();
    if (home == nullptr) {
        return nullptr;
    }
    home->lie_in(memory);
    home->slices.set(static_cast<std::uint32_t>(slices));
    home->requested_bytes.set(0);
    home->divisor = 0;  // is_block_start() is for small pages
    if (!use.is_for_user_heap) {
        home->frees.set(&home->local);  // as in make_page()
    }
    home->local = nullptr;
    home->out.set(1);
    home->capacity.set(1);
    home->block_bytes.set(0);
    home->reserved.set(1);
    home->size_class = 0;
    home->countdown.set(0);
    home->has_guard = false;
    home->remote.reset(hold::held);
    home->owner.set(nullptr);
    if (!pages.assign(memory.base, slices, home)) {
        deallocate_descriptor(*home);
        return nullptr;
    }
    if (!use.is_for_user_heap) {
        home->kind.store(use.kind, std::memory_order_relaxed);
    }
    return home;
}

void forget(page& home) noexcept {
    set_size(home, 0);
    home.kind.store(page_kind::none, std::memory_order_relaxed);
    pages.clear(home.start, home.slices.get());
    deallocate_descriptor(home);
}

struct mapping {
    std::byte* base = nullptr;
    std::size_t bytes = 0;
};

mapping map_huge(run_request wanted) noexcept {
    std::size_t const bytes = slices_for(wanted.bytes) * slice_bytes;
    void* const base = os::reserve(bytes, {.alignment = std::max(wanted.alignment, slice_bytes),
                                           .ceiling = process.options.space.ceiling});
    if (base == nullptr) {
        return {};
    }
    if (!os::commit(base, bytes)) {
        os::release(base, bytes);
        return {};
    }
    return {static_cast<std::byte*>(base), bytes};
}

/// Tells the statistics that a huge block has `now` bytes where it had `before`.
void count_huge(std::size_t before, std::size_t now) noexcept {
    std::uint64_t const held =
        process.huge_bytes.fetch_add(now - before, std::memory_order_relaxed) + now - before;
    raise_to(process.huge_peak_bytes, held);
    if (now < before) {
        process.huge_released_bytes.fetch_add(before - now, std::memory_order_relaxed);
    }
}

/// The page of a huge block of `bytes` bytes at the start of `memory`. Null: out of memory.
page* describe_huge(mapping const& memory, std::size_t bytes,
                    bool is_for_user_heap = false) noexcept {
    page* const home = describe({.base = memory.base}, memory.bytes / slice_bytes,
                                {page_kind::huge, is_for_user_heap});
    if (home != nullptr) {
        std::uint32_t const held =
            process.huge_mappings.fetch_add(1, std::memory_order_relaxed) + 1;
        raise_to(process.huge_mappings_peak, held);
        process.huge_reserved_bytes.fetch_add(memory.bytes, std::memory_order_relaxed);
        count_huge(0, usable_for(bytes));
        set_size(*home, bytes);
    }
    return home;
}

void release_huge(page& home) noexcept {
    mapping const memory{home.start, home.bytes()};
    count_huge(home.block_bytes.get(), 0);
    process.huge_reserved_bytes.fetch_sub(memory.bytes, std::memory_order_relaxed);
    process.huge_mappings.fetch_sub(1, std::memory_order_relaxed);
    forget(home);
    os::release(memory.base, memory.bytes);
}

run_block allocate_huge(run_request wanted) noexcept {
    std::size_t const charged = usable_for(wanted.bytes);
    if (!try_charge(charged)) {
        return {};
    }
    mapping const memory = map_huge(wanted);
    if (memory.base != nullptr) {
        page* const home = describe_huge(memory, wanted.bytes, wanted.is_for_user_heap);
        if (home != nullptr) {
            return {.start = memory.base, .zeroed = true, .home = home, .kind = page_kind::huge};
        }
    }
    if (memory.base != nullptr) {
        os::release(memory.base, memory.bytes);
    }
    budget().refund(charged);
    return {};
}

/// `usable`: bytes that the program may use.
run_block allocate_large(run_request wanted, page_kind kind, std::size_t usable) noexcept {
    std::size_t const slices =
        slices_for(base::align_up(usable, os::page_bytes()) + guard_bytes(wanted.is_for_user_heap));
    std::size_t const alignment = std::max<std::size_t>(wanted.alignment / slice_bytes, 1);
    process.space.ask_for_purge();
    constexpr std::size_t room_to_grow = 4;  // in place, as a multiple
    space::run const memory =
        process.space.acquire(slices, alignment, wanted.grows ? room_to_grow * slices : 0);
    if (memory.base == nullptr) {
        return {};
    }
    page* const home = describe(memory, slices, {kind, wanted.is_for_user_heap});
    if (home == nullptr) {
        process.space.return_run(memory);
        return {};
    }
    set_size(*home, wanted.bytes, usable);
    guard_run(*home);
    return {.start = memory.base, .zeroed = memory.zeroed, .home = home, .kind = kind};
}

void release_large(page& home) noexcept {
    unguard_run(home);
    space::run const memory = home.memory();
    forget(home);
    process.space.return_run(memory);
}

/// Moves a block's pages to a mapping of their own. Null: not possible, and the block stays.
void* move_to_mapping(page& home, std::size_t bytes) noexcept {
    // What had to move once will grow again: room that nobody has touched costs nothing.
    mapping target = map_huge({.bytes = bytes + bytes / 2, .alignment = slice_bytes});
    if (target.base == nullptr) {
        target = map_huge({.bytes = bytes, .alignment = slice_bytes});
    }
    if (target.base == nullptr) {
        return nullptr;
    }
    page* const moved = describe_huge(target, bytes);
    if (moved == nullptr) {
        os::release(target.base, target.bytes);
        return nullptr;
    }
    if (!os::move_pages(home.start, target.base, home.block_bytes.get(), target.bytes)) {
        release_huge(*moved);
        return nullptr;
    }
    return target.base;
}

bool resize_huge_in_place(page& home, std::size_t bytes) noexcept {
    std::size_t const before = home.block_bytes.get();
    std::size_t const after = usable_for(bytes);
    if (after > home.bytes() || (after > before && !try_charge(after - before)) ||
        (after < before && !os::purge(home.start + after, before - after))) {
        return false;
    }
    if (after < before) {
        budget().refund(before - after);
    }
    count_huge(before, after);
    set_size(home, bytes);
    return true;
}

bool resize_large_in_place(page& home, std::size_t bytes) noexcept {
    bool const is_for_user_heap = home.serves_user_heaps.load(std::memory_order_relaxed);
    std::size_t const slices = slices_for(usable_for(bytes) + guard_bytes(is_for_user_heap));
    std::size_t const before = home.slices.get();
    space::run memory = home.memory();
    if (slices > before && (slices * slice_bytes >= huge_bytes_min ||
                            !process.space.extend(memory, slices - before))) {
        return false;
    }
    if (slices != before) {
        home.slices.set(memory.slices);
        bool const entered = pages.resize(home.start, before, slices, &home);
        process.space.shorten(memory, entered ? slices : before);
        home.slices.set(memory.slices);
        if (!entered) {
            return false;
        }
    }
    set_size(home, bytes);
    return true;
}

/// What the host makes of a sample. In a slow path in which nothing is half done.
run_block ask_host(thread_heap& heap, operation const& asked) noexcept {
    if (&heap == &late_heap || heap.in_host) {  // that one is locked
        return {};
    }
    heap.in_slow_path = false;
    heap.in_host = true;
    void* const start = host_allocate_sample(asked);
    heap.in_host = false;
    heap.in_slow_path = true;
    return {.start = start, .zeroed = asked.kind == operation_kind::allocate_zeroed};
}

}  // namespace

run_block try_allocate_run(run_request wanted) noexcept {
    if (wanted.bytes < huge_bytes_min && wanted.alignment < huge_bytes_min) {
        run_block const got = allocate_large(wanted, page_kind::large, usable_for(wanted.bytes));
        if (got.start != nullptr) {
            return got;
        }
    }
    return allocate_huge(wanted);
}

run_block allocate_run(thread_heap& heap, run_request wanted) noexcept {
    run_block got = try_allocate_run(wanted);
    if (got.start == nullptr) {
        reclaim(heap);
        got = try_allocate_run(wanted);
    }
    if (got.start == nullptr) {
        heap.note_refusal();
    } else {
        heap.count_run(0);
    }
    return got;
}

run_block allocate_sampled_run(thread_heap& heap, operation const& asked) noexcept {
    run_block const got = ask_host(heap, asked);
    if (got.start != nullptr) {
        heap.count_run(0);
    }
    heap.note_sample(0);
    return got;
}

run_block allocate_sample(thread_heap& heap, unsigned size_class, operation const& asked) noexcept {
    run_block got = ask_host(heap, asked);
    if (got.start == nullptr) {
        got = allocate_plain_sample(
            size_class,
            {.bytes = asked.bytes, .alignment = std::max(asked.alignment, sizing::quantum)});
    }
    if (got.start != nullptr) {
        heap.count_run(size_class);
    }
    heap.note_sample(size_class);
    return got;
}

run_block allocate_plain_sample(unsigned size_class, run_request wanted) noexcept {
    return allocate_large(wanted, page_kind::sampled, sizing::class_bytes(size_class));
}

std::size_t allocate_guarded_runs(std::span<page*> to, std::size_t slices) noexcept {
    process.space.ask_for_purge();
    space::run all = process.space.acquire(to.size() * slices);
    if (all.base == nullptr) {
        return 0;
    }
    std::size_t made = 0;
    for (; made < to.size(); ++made) {
        space::run part = all;
        part.base += made * slices * slice_bytes;
        part.slices = static_cast<std::uint32_t>(slices);
        page* const home = describe(part, slices, {page_kind::guarded});
        if (home == nullptr) {
            break;
        }
        home->out.set(0);
        home->held_bytes.set(0);
        to[made] = home;
    }
    if (made < to.size()) {
        all.base += made * slices * slice_bytes;
        all.slices = static_cast<std::uint32_t>((to.size() - made) * slices);
        process.space.return_run(all);
    }
    return made;
}

void begin_sample(page& home, std::size_t bytes, std::size_t held_bytes) noexcept {
    home.held_bytes.set(static_cast<std::uint32_t>(held_bytes));
    home.block_bytes.set(bytes);
    home.requested_bytes.set(bytes);
    home.out.set(1);
    // Not as handed out: that may ask for a walk over all pages, for the peak, which others will.
    note_growth({.bytes = static_cast<std::int64_t>(bytes), .handed_bytes = 0});
}

void end_sample(page& home, std::size_t held_bytes) noexcept {
    home.out.set(0);
    note_growth({.bytes = -static_cast<std::int64_t>(home.block_bytes.get()), .handed_bytes = 0});
    home.block_bytes.set(0);
    home.held_bytes.set(static_cast<std::uint32_t>(held_bytes));
}

void release_guarded_run(page& home, run_memory what) noexcept {
    space::run const memory = home.memory();
    forget(home);
    if (what == run_memory::clean) {
        process.space.return_clean_run(memory);
    } else {
        process.space.return_run(memory);
    }
}

void deallocate_sample(thread_heap* heap, operation const& asked) noexcept {
    bool const is_own = heap != nullptr && heap != &empty_heap && heap != &finished_heap;
    if (!is_own) {
        host_deallocate_sample(asked);
        return;
    }
    if (heap->in_host) [[unlikely]] {
        // A signal handler: the host may hold a lock, and have the very block in hand. It leaks.
        host_misuse({.kind = misuse_kind::reentry, .operation = "free", .caller = asked.caller});
        return;
    }
    heap->in_host = true;
    host_deallocate_sample(asked);
    heap->in_host = false;
}

bool deallocate_run(page& home) noexcept {
    // The word says whether the block is still there: two threads that free it at once get two
    // answers. A freed large block has no page any more, so this is for the race alone.
    remote_state const before = home.remote.mark_freed();
    if (before.how() != hold::held) {
        return false;
    }
    release_run(home, home.kind.load(std::memory_order_relaxed));
    return true;
}

void release_run(page& home, page_kind kind) noexcept {
    if (kind == page_kind::huge) {
        budget().refund(home.block_bytes.get());
        release_huge(home);
    } else {
        release_large(home);
    }
}

bool resize_run_in_place(page& home, std::size_t bytes) noexcept {
    if (home.kind.load(std::memory_order_relaxed) == page_kind::huge) {
        return resize_huge_in_place(home, bytes);
    }
    unguard_run(home);
    bool const resized = resize_large_in_place(home, bytes);
    guard_run(home);
    return resized;
}

void* move_run(page& home, std::size_t bytes) noexcept {
    std::size_t const used = home.block_bytes.get();
    if (used < move_bytes_min || bytes < used ||
        process.huge_mappings.load(std::memory_order_relaxed) >= huge_mappings_max) {
        return nullptr;
    }
    std::size_t const charged = usable_for(bytes);
    // The block exists already: only what it grows by can be refused.
    if (!try_charge(charged - used)) {
        return nullptr;
    }
    budget().charge(used);
    void* const moved = move_to_mapping(home, bytes);
    if (moved == nullptr) {
        budget().refund(charged);
        return nullptr;
    }
    if (home.kind.load(std::memory_order_relaxed) == page_kind::huge) {
        budget().refund(used);
        release_huge(home);
    } else {
        // The move cut the arena's mapping in three. What it left stays charged until it is purged.
        static_cast<void>(os::renew(home.start, used));
        release_large(home);
    }
    return moved;
}

}  // namespace tarn::impl::heap
