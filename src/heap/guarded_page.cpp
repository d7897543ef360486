#include "heap/guarded_page.hpp"

#include <algorithm>
#include <atomic>

#include "base/bits.hpp"
#include "platform/os.hpp"
#include "heap/process.hpp"

namespace tarn::impl::heap {

using platform::os;

namespace {

// Where each takes two mappings: the system allows a process 65,530 of them (by default), and the
// program needs some.
constexpr std::size_t protected_pages_max = 14'000;

constinit std::atomic<std::size_t> guarded{0};

std::byte* guard_of(page const& of) noexcept { return of.start + of.bytes() - os::page_bytes(); }

/// Blocks of a page with so many slices, its guard left out.
std::size_t blocks_in(unsigned size_class, std::size_t slices) noexcept {
    std::size_t const blocks =
        (slices * sizing::slice_bytes - os::page_bytes()) / sizing::class_bytes(size_class);
    return std::min(blocks, guarded_blocks(size_class));
}

}  // namespace

std::size_t guarded_slices(unsigned size_class, std::size_t wanted) noexcept {
    // Rather more address space than a few blocks less.
    std::size_t const unguarded = sizing::page_blocks(size_class, wanted);
    bool const is_enough =
        wanted * sizing::slice_bytes > os::page_bytes() &&
        blocks_in(size_class, wanted) >= unguarded - std::max<std::size_t>(unguarded / 4, 1);
    bool const loses_half = unguarded <= 2;
    return is_enough && !loses_half
               ? wanted
               : wanted + base::divide_up(os::page_bytes(), sizing::slice_bytes);
}

bool add_states(page& fresh) noexcept {
    block_state* const states = process.states.allocate(fresh.size_class);
    if (states == nullptr) {
        space::run const memory = fresh.memory();
        pages.clear(memory.base, memory.slices);
        process.descriptors.deallocate(fresh);
        process.space.return_run(memory);
        return false;
    }
    fresh.divisor = 0;
    fresh.states.set(states);
    fresh.reserved.set(static_cast<int>(blocks_in(fresh.size_class, fresh.slices.get())));
    fresh.has_guard = guard_os_page(guard_of(fresh));
    return true;
}

void remove_states(page& empty) noexcept {
    if (empty.has_guard) {
        unguard_os_page(guard_of(empty));
    }
    process.states.deallocate(empty.size_class, empty.states.get());
}

bool guard_os_page(std::byte* at) noexcept {
    // A limit that a few threads may overstep.
    if ((os::guards_by() != platform::guard_method::markers &&
         guarded.load(std::memory_order_relaxed) >= protected_pages_max) ||
        !os::guard(at, os::page_bytes())) {
        return false;
    }
    guarded.fetch_add(1, std::memory_order_relaxed);
    return true;
}

void unguard_os_page(std::byte* at) noexcept {
    // It joins mappings, and needs no memory.
    if (os::unguard(at, os::page_bytes())) {
        guarded.fetch_sub(1, std::memory_order_relaxed);
    }
}

std::size_t guarded_os_pages() noexcept { return guarded.load(std::memory_order_relaxed); }

}  // namespace tarn::impl::heap
