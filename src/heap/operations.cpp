// The operations on blocks in full: every size, every state of the calling thread, every misuse.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/bits.hpp"
#include "base/errno_keeper.hpp"
#include "heap/diversion.hpp"
#include "heap/hardening.hpp"
#include "heap/process.hpp"
#include "heap/run_block.hpp"
#include "heap/slow_path.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

namespace {

// What realloc makes this large gets a run of its own, though a size class would do: it will grow
// again, and a run grows in place.
constexpr std::size_t grown_run_bytes_min = 16 * KiB;

// Whose blocks are a stand-in's: it has no owner, so that whatever is freed in it takes the slow
// path, which looks for the block itself. Its address is no block's.
constinit page page_of_others{};

// Up to here calloc clears a block faster than it finds out whether that is needed.
constexpr std::size_t clear_bytes_max = 1 * KiB;

/// find_direct() for an operation on a block.
direct_answers const* find_direct_of(thread_heap* heap, void const* block) noexcept {
    return page_of(block) == nullptr ? find_direct(heap) : nullptr;
}

/// A block in a run of its own, once nobody writes to it any more before the program gets it.
void* finish(run_block const& got, std::size_t bytes) noexcept {
    if (hardening.on && got.home != nullptr) [[unlikely]] {
        note_request(*got.home, got.start, bytes);
    }
    return got.start;
}

// asked(): the operation as samples want it, which nobody else pays for.

/// A block of a size class, or a sample in its place.
template <class Asked>
void* allocate_small(thread_heap& heap, unsigned size_class, std::size_t bytes,
                     Asked asked) noexcept {
    if (heap.is_sample_due(size_class)) [[unlikely]] {
        if (run_block const sample = allocate_sample(heap, size_class, asked());
            sample.start != nullptr) {
            return finish(sample, bytes);
        }
    }
    return hardening.on ? heap.allocate_checked(size_class, bytes)
                        : heap.allocate_class(size_class);
}

/// A run, or a sample in its place.
template <class Asked>
run_block allocate_above_small(thread_heap& heap, std::size_t bytes, Asked asked) noexcept {
    if (heap.is_run_sample_due()) [[unlikely]] {
        if (run_block const sample = allocate_sampled_run(heap, asked()); sample.start != nullptr) {
            return sample;
        }
    }
    return allocate_run(heap, {.bytes = bytes, .alignment = sizing::quantum});
}

void* allocate_any(thread_heap& heap, std::size_t bytes, void const* caller,
                   family by = family::malloc) noexcept {
    slow_path const inside{heap, "malloc", caller, ends_in::allocation};
    auto const asked = [bytes, caller, by] {
        return operation{
            .kind = operation_kind::allocate, .by = by, .bytes = bytes, .caller = caller};
    };
    unsigned const size_class = class_in_mode(bytes);
    return size_class == 0 ? finish(allocate_above_small(heap, bytes, asked), bytes)
                           : allocate_small(heap, size_class, bytes, asked);
}

/// For a block that realloc makes larger.
void* allocate_grown(thread_heap& heap, std::size_t bytes, void const* caller) noexcept {
    slow_path const inside{heap, "realloc", caller, ends_in::allocation};
    return finish(allocate_run(heap, {.bytes = bytes, .alignment = sizing::quantum, .grows = true}),
                  bytes);
}

/// What lies behind a block is damaged.
void report_overflow(block_facts const& of, char const* operation, void const* caller) noexcept {
    host_misuse({.kind = misuse_kind::overflow,
                 .operation = operation,
                 .ptr = of.extent.start,
                 .block = of.extent.start,
                 .block_bytes = of.extent.requested,
                 .count = of.damage,
                 .caller = caller});
}

void report_freed(block_facts const& of, char const* operation, void const* caller) noexcept {
    host_misuse({.kind = misuse_kind::freed_block,
                 .operation = operation,
                 .ptr = of.extent.start,
                 .block = of.extent.start,
                 .block_bytes = of.extent.bytes,
                 .caller = caller});
}

/// Whether a block of a size class should stay where it is for a request of `bytes`.
bool fits_in_mode(page const& home, std::size_t bytes) noexcept {
    std::size_t const room = home.block_bytes.get();
    bool const wants_slack = hardening.on && bytes >= slack_bytes_min;
    return fits_well(room, bytes + (wants_slack ? 1 : 0));
}

/// Of a block in a page of kind guarded: it moves. `heap`: that serves the calling thread.
TARN_COLD void* reallocate_sample(thread_heap* heap, void* ptr, std::size_t bytes,
                                  void const* caller) noexcept {
    operation const asked{
        .kind = operation_kind::reallocate, .block = ptr, .bytes = bytes, .caller = caller};
    found_block const found = host_find_sample(ptr);
    if (found.start != ptr) {
        deallocate_sample(heap, asked);  // only says so
        return nullptr;
    }
    unsigned const size_class = class_in_mode(found.bytes);
    std::size_t const usable = sizing::class_bytes(size_class);
    void* const moved = try_hard(heap, bytes, [&](thread_heap& own) -> void* {
        if (!fits_well(usable, bytes)) {
            bool const grows = bytes > found.bytes && bytes >= grown_run_bytes_min;
            return grows ? allocate_grown(own, bytes, caller) : allocate_any(own, bytes, caller);
        }
        // Others of its class would stay where they are, and so remain what they are.
        slow_path const inside{own, "realloc", caller, ends_in::allocation};
        return finish(
            allocate_plain_sample(size_class, {.bytes = bytes, .alignment = sizing::quantum}),
            bytes);
    });
    if (moved == nullptr) {
        return bytes <= found.bytes ? ptr : nullptr;  // shrinking can't fail
    }
    std::memcpy(moved, ptr, std::min(found.bytes, bytes));
    deallocate_sample(heap, asked);
    return moved;
}

/// Of a page that find_block() has found, and that is not of kind guarded.
void free_found(thread_heap& heap, page& home, void* ptr, char const* operation,
                void const* caller) noexcept {
    slow_path const inside{heap, operation, caller};
    if (home.has_states()) [[unlikely]] {
        heap.deallocate_checked(home, ptr, operation, caller);
        return;
    }
    if (hardening.on) [[unlikely]] {
        if (block_facts const facts = look_at_block(home, ptr); facts.damage != undamaged) {
            heap.in_slow_path = false;  // nothing is half done
            report_overflow(facts, operation, caller);
            heap.in_slow_path = true;
        }
    }
    if (home.kind.load(std::memory_order_relaxed) == page_kind::small) {
        heap.deallocate_found(home, ptr, caller);
    } else if (!deallocate_run(home)) {
        heap.in_slow_path = false;  // nothing is half done
        host_misuse({.kind = misuse_kind::double_free,
                     .operation = operation,
                     .ptr = ptr,
                     .block = ptr,
                     .block_bytes = home.block_bytes.get(),
                     .caller = caller});
    }
}

/// &page_of_others, and nothing done, where the block lies in a page of kind guarded.
void* reallocate_here(thread_heap& heap, void* ptr, std::size_t bytes,
                      void const* caller) noexcept {
    misuse_verdict verdict = misuse_verdict::ignore;
    page* const home = find_block("realloc", ptr, caller, &verdict);
    if (home == nullptr) {
        return nullptr;
    }
    if (home->serves_user_heaps.load(std::memory_order_relaxed)) {
        return reallocate_in(heap, *home, ptr, bytes, caller);
    }
    std::size_t usable = home->block_bytes.get();
    bool is_damaged = false;
    page_kind const kind = home->kind.load(std::memory_order_relaxed);
    if (kind == page_kind::guarded) [[unlikely]] {
        return &page_of_others;
    }
    if (hardening.on) [[unlikely]] {
        block_facts const facts = look_at_block(*home, ptr);
        if (!facts.is_live) {
            report_freed(facts, "realloc", caller);
            return nullptr;
        }
        is_damaged = facts.damage != undamaged;
        if (is_damaged) {
            report_overflow(facts, "realloc", caller);
        } else {
            usable = facts.extent.requested;
        }
    }
    bool const is_run = kind >= page_kind::large;
    if (!is_run && fits_in_mode(*home, bytes)) {
        if (kind == page_kind::sampled) {
            home->requested_bytes.set(bytes);
        }
        if (hardening.on) [[unlikely]] {
            note_request(*home, ptr, bytes);
        }
        return ptr;
    }
    if (is_run && bytes >= grown_run_bytes_min / 2) {
        slow_path const inside{heap, "realloc", caller, ends_in::allocation};
        void* const resized = resize_run_in_place(*home, bytes) ? ptr : move_run(*home, bytes);
        if (resized != nullptr) {
            if (hardening.on) [[unlikely]] {
                note_request(*page_of(resized), resized, bytes);
            }
            return resized;
        }
    }
    bool const grows = bytes > usable && bytes >= grown_run_bytes_min;
    void* moved = hardening.on && !grows ? heap.try_allocate_hardened(bytes) : nullptr;
    if (moved == nullptr) {
        moved = grows ? allocate_grown(heap, bytes, caller) : allocate_any(heap, bytes, caller);
    }
    if (moved == nullptr) {
        return bytes <= usable ? ptr : nullptr;  // shrinking can't fail
    }
    std::memcpy(moved, ptr, std::min(usable, bytes));
    if (is_damaged) [[unlikely]] {
        note_request(*home, ptr, usable);  // damage was reported once
    }
    if (hardening.on && heap.try_deallocate_hardened(ptr)) {
        return moved;
    }
    // Somebody else may have freed it meanwhile, as nobody should.
    if (page_of(ptr) == home && home->kind.load(std::memory_order_relaxed) == kind) [[likely]] {
        free_found(heap, *home, ptr, "realloc", caller);
    } else {
        static_cast<void>(free_block(heap, ptr, "realloc", caller));
    }
    return moved;
}

/// calloc where the class has no list, or clearing may not be needed.
TARN_COLD void* allocate_zeroed_slow(thread_heap* heap, std::size_t bytes,
                                     void const* caller) noexcept {
    if (direct_answers const* const direct = find_direct(heap)) [[unlikely]] {
        return direct->allocate_zeroed(1, bytes);
    }
    heap = divert_if_new(heap);
    if (heap == &diverted_heap) [[unlikely]] {
        return answer_diverted(
            {.kind = operation_kind::allocate_zeroed, .bytes = bytes, .caller = caller});
    }
    if (!is_possible("calloc", bytes, caller)) {
        errno = ENOMEM;
        return nullptr;
    }
    return try_hard(heap, bytes, [bytes, caller](thread_heap& own) -> void* {
        slow_path const inside{own, "calloc", caller, ends_in::allocation};
        auto const asked = [bytes, caller] {
            return operation{
                .kind = operation_kind::allocate_zeroed, .bytes = bytes, .caller = caller};
        };
        run_block got;
        unsigned const size_class = class_in_mode(bytes);
        if (size_class == 0) {
            got = allocate_above_small(own, bytes, asked);
        } else {
            if (own.is_sample_due(size_class)) [[unlikely]] {
                got = allocate_sample(own, size_class, asked());
            }
            if (got.start == nullptr) {
                return hardening.on ? own.allocate_checked_zeroed(size_class, bytes)
                                    : own.allocate_class_zeroed(size_class, bytes);
            }
        }
        clear(got, bytes);
        return finish(got, bytes);
    });
}

}  // namespace

void clear(run_block const& block, std::size_t bytes) noexcept {
    // From here on memory that was used is given back to the system, which hands out zeros as they
    // are touched: large tables are mostly sparse, and what nobody touches is then not resident.
    constexpr std::size_t purge_bytes_min = 2 * MiB;
    if (block.start != nullptr && !block.zeroed &&
        (bytes < purge_bytes_min ||
         !platform::os::purge(block.start, base::align_up(bytes, platform::os::page_bytes())))) {
        std::memset(block.start, 0, bytes);
    }
}

std::size_t usable_bytes_of(page const& home, void const* block, void const* caller) noexcept {
    if (home.kind.load(std::memory_order_relaxed) == page_kind::guarded) [[unlikely]] {
        found_block const found = host_find_sample(block);
        return found.start == block ? found.bytes : 0;
    }
    if (!is_hardened(home)) [[likely]] {
        return home.block_bytes.get();
    }
    block_facts const facts = look_at_block(home, block);
    if (!facts.is_live) {
        report_freed(facts, "malloc_usable_size", caller);
        return 0;
    }
    return facts.extent.requested;
}

page* find_block(char const* operation, void const* ptr, void const* caller,
                 misuse_verdict* verdict) noexcept {
    page* const home = page_of(ptr);
    misuse event{
        .kind = misuse_kind::foreign_pointer, .operation = operation, .ptr = ptr, .caller = caller};
    if (home != nullptr) {
        page_kind const kind = home->kind.load(std::memory_order_relaxed);
        bool const is_one_of_many = kind == page_kind::small || kind == page_kind::user;
        bool const is_start = is_one_of_many ? home->starts_block(ptr)
                                             : ptr == home->start || kind == page_kind::guarded;
        bool const was_made = !home->has_states() || !is_start || home->has_made(ptr);
        if (kind != page_kind::none && is_start && was_made) {
            return home;
        }
        if (kind != page_kind::none && was_made) {
            event.kind = misuse_kind::interior_pointer;
            event.block = is_one_of_many ? home->block_of(ptr) : home->start;
            event.block_bytes = home->block_bytes.get();
        }
    }
    *verdict = host_misuse(event);
    return nullptr;
}

namespace {

/// allocate_slow() and deallocate_slow() in fast mode, and, where it is no common case, in any.
TARN_COLD void* allocate_plain_slow(std::size_t bytes, thread_heap* heap) noexcept {
    if (direct_answers const* const direct = find_direct(heap)) [[unlikely]] {
        return direct->allocate(bytes);
    }
    return allocate_for(heap, bytes, __builtin_return_address(0));
}

TARN_COLD void deallocate_plain_slow(void* ptr, thread_heap* heap) noexcept {
    if (ptr == nullptr || (!hardening.on && heap->try_adopt_stray(ptr)) ||
        deallocate_quickly(heap, ptr)) {
        return;
    }
    if (direct_answers const* const direct = find_direct_of(heap, ptr)) [[unlikely]] {
        return direct->deallocate(ptr);
    }
    deallocate_for(heap, ptr, __builtin_return_address(0));
}

}  // namespace

block_freed free_block(thread_heap& heap, void* ptr, char const* operation,
                       void const* caller) noexcept {
    if (free_in_user_heap(heap, ptr, heap_id::any, operation, caller)) {
        return block_freed::done;
    }
    misuse_verdict verdict = misuse_verdict::ignore;
    page* const home = find_block(operation, ptr, caller, &verdict);
    if (home == nullptr) {
        if (verdict == misuse_verdict::forward_to_libc) {
            host_forward_free(ptr);
        }
        return block_freed::done;
    }
    if (home->kind.load(std::memory_order_relaxed) == page_kind::guarded) [[unlikely]] {
        return block_freed::is_sample;
    }
    free_found(heap, *home, ptr, operation, caller);
    return block_freed::done;
}

void* allocate_hardened_slow(std::size_t bytes, thread_heap* heap) noexcept {
    if (void* const block = heap->try_allocate_hardened(bytes)) {
        return block;
    }
    return allocate_plain_slow(bytes, heap);
}

void deallocate_hardened_slow(void* ptr, thread_heap* heap) noexcept {
    if (ptr != nullptr && !heap->try_deallocate_hardened(ptr) && !heap->try_post_hardened(ptr)) {
        deallocate_plain_slow(ptr, heap);
    }
}

void* allocate_slow(std::size_t bytes, thread_heap* heap) noexcept {
    return hardening.on ? allocate_hardened(bytes, heap) : allocate_plain_slow(bytes, heap);
}

void* allocate_for(thread_heap* heap, std::size_t bytes, void const* caller, family by) noexcept {
    if (hardening.on) [[unlikely]] {
        if (void* const block = heap->try_allocate_hardened(bytes)) {
            return block;
        }
    }
    heap = divert_if_new(heap);
    if (heap == &diverted_heap) [[unlikely]] {
        return answer_diverted(
            {.kind = operation_kind::allocate, .by = by, .bytes = bytes, .caller = caller});
    }
    if (!is_possible("malloc", bytes, caller)) {
        errno = ENOMEM;
        return nullptr;
    }
    return try_hard(heap, bytes, [bytes, caller, by](thread_heap& own) {
        return allocate_any(own, bytes, caller, by);
    });
}

void deallocate_slow(void* ptr, thread_heap* heap) noexcept {
    return hardening.on ? deallocate_hardened(ptr, heap) : deallocate_plain_slow(ptr, heap);
}

namespace {

void deallocate_told(thread_heap* heap, void* ptr, told what, void const* caller) noexcept {
    heap = divert_if_new(heap);
    base::errno_keeper const keeper;
    if (heap == &diverted_heap) [[unlikely]] {
        static_cast<void>(answer_diverted({.kind = operation_kind::deallocate,
                                           .by = what.by,
                                           .block = ptr,
                                           .bytes = what.bytes,
                                           .alignment = what.alignment,
                                           .caller = caller}));
        return;
    }
    block_freed const result = with_heap(
        heap, [ptr, caller](thread_heap& own) { return free_block(own, ptr, "free", caller); });
    if (result == block_freed::is_sample) [[unlikely]] {
        deallocate_sample(heap, {.kind = operation_kind::deallocate,
                                 .by = what.by,
                                 .block = ptr,
                                 .bytes = what.bytes,
                                 .alignment = what.alignment,
                                 .caller = caller});
    }
}

}  // namespace

void deallocate_for(thread_heap* heap, void* ptr, void const* caller) noexcept {
    deallocate_told(heap, ptr, {.by = family::malloc}, caller);
}

namespace {

TARN_COLD void deallocate_told_plain_slow(void* ptr, thread_heap* heap, std::size_t bytes,
                                          std::size_t alignment, family by) noexcept {
    if (ptr == nullptr || (!hardening.on && heap->try_adopt_stray(ptr)) ||
        deallocate_quickly(heap, ptr)) {
        return;
    }
    if (direct_answers const* const direct = find_direct_of(heap, ptr)) [[unlikely]] {
        return direct->deallocate_told(ptr, bytes, alignment, by);
    }
    deallocate_told(heap, ptr, {.by = by, .bytes = bytes, .alignment = alignment},
                    __builtin_return_address(0));
}

}  // namespace

void deallocate_told_slow(void* ptr, thread_heap* heap, std::size_t bytes, std::size_t alignment,
                          family by) noexcept {
    return hardening.on && heap->cache() != nullptr  // no thread's that is diverted
               ? deallocate_hardened(ptr, heap)
               : deallocate_told_plain_slow(ptr, heap, bytes, alignment, by);
}

void deallocate_emptied(void* ptr, page* home, thread_heap* heap) noexcept {
    base::errno_keeper const keeper;
    void const* const caller = __builtin_return_address(0);
    slow_path const inside{*heap, "free", caller};
    heap->deallocate_emptied(*home, ptr, caller);
}

void* allocate_zeroed(thread_heap* heap, std::size_t bytes, void const* caller) noexcept {
    if (bytes <= clear_bytes_max) {
        void* const block =
            hardening.on ? heap->try_allocate_hardened(bytes) : heap->try_allocate(bytes);
        if (block != nullptr) {
            return std::memset(block, 0, bytes);
        }
    }
    return allocate_zeroed_slow(heap, bytes, caller);
}

void* allocate_aligned(thread_heap* heap, std::size_t bytes, std::size_t alignment,
                       void const* caller, family by) noexcept {
    direct_answers const* const direct = by == family::malloc ? find_direct(heap) : nullptr;
    if (direct != nullptr) [[unlikely]] {
        return direct->allocate_aligned(alignment, bytes);
    }
    heap = divert_if_new(heap);
    if (heap == &diverted_heap) [[unlikely]] {
        return answer_diverted({.kind = operation_kind::allocate_aligned,
                                .by = by,
                                .bytes = bytes,
                                .alignment = alignment,
                                .caller = caller});
    }
    if (!is_possible("memalign", bytes, caller)) {
        errno = ENOMEM;
        return nullptr;
    }
    return try_hard(heap, bytes, [bytes, alignment, caller, by](thread_heap& own) -> void* {
        slow_path const inside{own, "memalign", caller, ends_in::allocation};
        unsigned const size_class = alignment <= sizing::slice_bytes && bytes <= sizing::small_max
                                        ? class_in_mode(bytes, alignment)
                                        : 0;
        if (size_class != 0) {
            return allocate_small(own, size_class, bytes, [bytes, alignment, caller, by] {
                return operation{.kind = operation_kind::allocate_aligned,
                                 .by = by,
                                 .bytes = bytes,
                                 .alignment = alignment,
                                 .caller = caller};
            });
        }
        run_request const wanted{.bytes = std::max<std::size_t>(bytes, 1), .alignment = alignment};
        return finish(allocate_run(own, wanted), wanted.bytes);
    });
}

void* reallocate(thread_heap* heap, void* ptr, std::size_t bytes, void const* caller) noexcept {
    if (direct_answers const* const direct = find_direct_of(heap, ptr)) [[unlikely]] {
        return direct->reallocate(ptr, bytes);
    }
    heap = divert_if_new(heap);
    if (heap == &diverted_heap) [[unlikely]] {
        return answer_diverted(
            {.kind = operation_kind::reallocate, .block = ptr, .bytes = bytes, .caller = caller});
    }
    if (!is_possible("realloc", bytes, caller)) {
        errno = ENOMEM;
        return nullptr;
    }
    void* const result = try_hard(heap, bytes, [ptr, bytes, caller](thread_heap& own) {
        return reallocate_here(own, ptr, bytes, caller);
    });
    if (result == &page_of_others) [[unlikely]] {
        return reallocate_sample(heap, ptr, bytes, caller);
    }
    return result;
}

std::size_t trim(thread_heap* heap, reclaim_scope scope, void const* caller) noexcept {
    base::errno_keeper const keeper;
    undiverted const served;
    return with_heap(undiverted::in_place_of(heap), [scope, caller](thread_heap& own) {
        slow_path const inside{own, "malloc_trim", caller};
        return reclaim(own, scope);
    });
}

std::size_t scavenge(thread_heap* heap, void const* caller) noexcept {
    base::errno_keeper const keeper;
    undiverted const served;
    return with_heap(undiverted::in_place_of(heap), [caller](thread_heap& own) {
        slow_path const inside{own, "tarn_scavenge", caller};
        return scavenge();
    });
}

std::size_t usable_bytes(void const* ptr, void const* caller) noexcept {
    if (stand_in const* const all = current_stand_in()) {
        undiverted const served;
        return all->usable_bytes(ptr, caller);
    }
    return usable_bytes_in_heap(ptr, caller);
}

std::size_t usable_bytes_in_heap(void const* ptr, void const* caller) noexcept {
    misuse_verdict verdict = misuse_verdict::ignore;
    page const* const home = find_block("malloc_usable_size", ptr, caller, &verdict);
    return home == nullptr ? 0 : usable_bytes_of(*home, ptr, caller);
}

found_block find_block_around(void const* ptr) noexcept {
    stand_in const* const all = current_stand_in();
    return all == nullptr ? find_block_in_heap(ptr) : all->find_block_around(ptr);
}

found_block find_block_in_heap(void const* ptr) noexcept {
    page const* const home = page_of(ptr);
    page_kind const kind =
        home == nullptr ? page_kind::none : home->kind.load(std::memory_order_relaxed);
    if (kind == page_kind::none) {
        return {};
    }
    if (kind == page_kind::guarded) [[unlikely]] {
        return host_find_sample(ptr);
    }
    bool const is_small = kind == page_kind::small || kind == page_kind::user;
    std::byte* const start = is_small ? home->block_of(ptr) : home->start;
    std::size_t const bytes = home->block_bytes.get();
    // Behind the last block of a page, and behind a large one, there may be a rest.
    bool const is_rest = is_small
                             ? home->index_of(ptr) >= static_cast<std::size_t>(home->reserved.get())
                             : base::address_of(ptr) - base::address_of(start) >= bytes;
    if (is_rest) {
        return {};
    }
    if (is_hardened(*home)) [[unlikely]] {
        if (block_facts const facts = look_at_block(*home, start); facts.is_live) {
            return {.start = start, .bytes = facts.extent.requested};
        }
    }
    return {.start = start, .bytes = bytes};
}

block_home find_home_slow(void const* ptr) noexcept {
    found_block const found = find_block_around(ptr);
    if (found.start != ptr) {
        return {};
    }
    page* const home = page_of(ptr);
    // In mode hardened nobody frees past the checks.
    bool const is_of_others = home == nullptr || hardening.on;
    return {.bytes = found.bytes, .home = is_of_others ? &page_of_others : home};
}

}  // namespace tarn::impl::heap
