#include "heap/run_block.hpp"

#include <algorithm>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "heap/process.hpp"

namespace tarn::impl::heap {

using platform::os;
using sizing::slice_bytes;

namespace {

/// Bytes the program may use, up to the OS page: what is behind stays untouched.
std::size_t usable_for(std::size_t bytes) noexcept {
    return base::align_up(bytes, os::page_bytes());
}

std::size_t slices_for(std::size_t bytes) noexcept { return base::divide_up(bytes, slice_bytes); }

void set_size(page& home, std::size_t bytes) noexcept {
    std::size_t const usable = usable_for(bytes);
    auto const before = static_cast<std::int64_t>(home.block_bytes.get());
    home.block_bytes.set(usable);
    note_growth(static_cast<std::int64_t>(usable) - before);
}

/// A descriptor for `memory`, entered in the page map. Null: out of memory.
page* describe(space::run const& memory, std::size_t slices, page_kind kind) noexcept {
    page* const home = process.descriptors.allocate();
    if (home == nullptr) {
        return nullptr;
    }
    home->start = memory.base;
    home->divisor = 0;  // is_block_start() is for small pages
    home->local = nullptr;
    home->out.set(1);
    home->capacity.set(1);
    home->block_bytes.set(0);
    home->reserved = 1;
    home->size_class = 0;
    home->memory = memory;
    home->mapping_bytes = slices * slice_bytes;
    home->remote.reset(hold::held);
    home->owner.set(nullptr);
    if (!pages.assign(memory.base, slices, home)) {
        process.descriptors.deallocate(*home);
        return nullptr;
    }
    home->kind.store(kind, std::memory_order_relaxed);
    return home;
}

void forget(page& home) noexcept {
    set_size(home, 0);
    home.kind.store(page_kind::none, std::memory_order_relaxed);
    pages.clear(home.start, home.mapping_bytes / slice_bytes);
    process.descriptors.deallocate(home);
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
    if (!os::commit(base, usable_for(wanted.bytes))) {
        os::release(base, bytes);
        return {};
    }
    return {static_cast<std::byte*>(base), bytes};
}

void count_huge(std::size_t bytes) noexcept {
    process.huge_bytes.fetch_add(bytes, std::memory_order_relaxed);
}

void unmap_huge(std::byte* base, std::size_t bytes) noexcept {
    os::release(base, bytes);
    process.huge_bytes.fetch_sub(bytes, std::memory_order_relaxed);
    process.huge_released_bytes.fetch_add(bytes, std::memory_order_relaxed);
}

run_block allocate_huge(run_request wanted) noexcept {
    mapping const memory = map_huge(wanted);
    if (memory.base == nullptr) {
        return {};
    }
    page* const home = describe({.base = memory.base}, memory.bytes / slice_bytes, page_kind::huge);
    if (home == nullptr) {
        os::release(memory.base, memory.bytes);
        return {};
    }
    count_huge(memory.bytes);
    set_size(*home, wanted.bytes);
    return {.start = memory.base, .zeroed = true};
}

run_block allocate_large(run_request wanted) noexcept {
    std::size_t const slices = slices_for(wanted.bytes);
    std::size_t const alignment = std::max<std::size_t>(wanted.alignment / slice_bytes, 1);
    process.space.purge_due();
    space::run const memory = process.space.acquire(slices, alignment);
    if (memory.base == nullptr) {
        return {};
    }
    page* const home = describe(memory, slices, page_kind::large);
    if (home == nullptr) {
        process.space.return_run(memory);
        return {};
    }
    set_size(*home, wanted.bytes);
    return {.start = memory.base, .zeroed = memory.zeroed};
}

/// Gives a huge block a larger mapping and moves its pages there.
void* move_huge(page& home, std::size_t bytes) noexcept {
    mapping const target = map_huge({.bytes = bytes, .alignment = slice_bytes});
    if (target.base == nullptr) {
        return nullptr;
    }
    mapping const source{home.start, home.mapping_bytes};
    std::size_t const used = home.block_bytes.get();
    page* const moved =
        describe({.base = target.base}, target.bytes / slice_bytes, page_kind::huge);
    if (moved == nullptr ||
        !os::move_pages(source.base, target.base, std::min(used, usable_for(bytes)))) {
        if (moved != nullptr) {
            forget(*moved);
        }
        os::release(target.base, target.bytes);
        return nullptr;
    }
    count_huge(target.bytes);
    set_size(*moved, bytes);
    forget(home);
    unmap_huge(source.base, source.bytes);
    return target.base;
}

}  // namespace

run_block allocate_run(thread_heap& heap, run_request wanted) noexcept {
    bool const fits_arena = wanted.bytes < huge_bytes_min && wanted.alignment < huge_bytes_min;
    auto const attempt = [fits_arena, wanted] {
        run_block const got = fits_arena ? allocate_large(wanted) : run_block{};
        return got.start != nullptr ? got : allocate_huge(wanted);
    };
    run_block got = attempt();
    if (got.start == nullptr) {
        reclaim(heap);
        got = attempt();
    }
    if (got.start != nullptr) {
        heap.handed[0].store(heap.handed[0].load(std::memory_order_relaxed) + 1,
                             std::memory_order_relaxed);
    }
    return got;
}

bool deallocate_run(page& home) noexcept {
    // The word says whether the block is still there: two threads that free it at once get two
    // answers. A freed large block has no page any more, so this is for the race alone.
    remote_state const before = home.remote.mark_freed();
    if (before.how() != hold::held) {
        return false;
    }
    if (home.kind.load(std::memory_order_relaxed) == page_kind::huge) {
        mapping const memory{home.start, home.mapping_bytes};
        forget(home);
        unmap_huge(memory.base, memory.bytes);
        return true;
    }
    space::run const memory = home.memory;
    forget(home);
    process.space.return_run(memory);
    process.space.purge_due();
    return true;
}

bool resize_run_in_place(page& home, std::size_t bytes) noexcept {
    std::size_t const slices = slices_for(bytes);
    std::size_t const before = home.mapping_bytes / slice_bytes;
    if (slices == before) {
        if (home.kind.load(std::memory_order_relaxed) == page_kind::huge &&
            usable_for(bytes) > home.block_bytes.get() &&
            !os::commit(home.start, usable_for(bytes))) {
            return false;
        }
        set_size(home, bytes);
        return true;
    }
    if (home.kind.load(std::memory_order_relaxed) == page_kind::huge) {
        return false;
    }
    if (slices > before && (slices * slice_bytes >= huge_bytes_min ||
                            !process.space.extend(home.memory, slices - before))) {
        return false;
    }
    bool const entered = pages.resize(home.start, before, slices, &home);
    process.space.shorten(home.memory, entered ? slices : before);
    if (!entered) {
        return false;
    }
    home.mapping_bytes = slices * slice_bytes;
    set_size(home, bytes);
    return true;
}

void* move_run(thread_heap& heap, page& home, std::size_t bytes) noexcept {
    std::size_t const used = home.block_bytes.get();
    if (home.kind.load(std::memory_order_relaxed) == page_kind::huge && bytes >= huge_bytes_min) {
        return move_huge(home, bytes);
    }
    if (used < move_bytes_min || bytes < used) {
        return nullptr;
    }
    run_block const target = allocate_run(heap, {.bytes = bytes, .alignment = slice_bytes});
    if (target.start == nullptr) {
        return nullptr;
    }
    if (!os::move_pages(home.start, target.start, used)) {
        static_cast<void>(deallocate_run(*pages.find(target.start)));
        return nullptr;
    }
    static_cast<void>(deallocate_run(home));
    return target.start;
}

}  // namespace tarn::impl::heap
