// The operations on blocks in full: every size, every state of the calling thread, every misuse.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/bits.hpp"
#include "base/errno_keeper.hpp"
#include "heap/process.hpp"
#include "heap/run_block.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

namespace {

enum class ends_in : std::uint8_t { allocation, other };

/// Marks that the calling thread is inside its heap. A signal handler that allocates there would
/// find lists half changed: it is named instead.
class slow_path {
public:
    slow_path(thread_heap& heap, char const* operation, void const* caller,
              ends_in ending = ends_in::other) noexcept
        : heap_{heap}, may_allocate_{ending == ends_in::allocation && &heap != &late_heap} {
        if (heap.in_slow_path) [[unlikely]] {
            host_misuse({.kind = misuse_kind::reentry, .operation = operation, .caller = caller});
        }
        heap.in_slow_path = true;
        if (process.orphans.load(std::memory_order_acquire)) [[unlikely]] {
            adopt_orphans();
        }
    }

    ~slow_path() {
        heap_.in_slow_path = false;
        // Not sooner: whoever wraps clock_gettime or madvise may allocate there.
        if (std::uint64_t const now_ms = process.space.purge_if_asked(); now_ms != 0) {
            bool const done = host_memory_freed(may_allocate_, now_ms);
            if (may_allocate_ && process.space.budget().is_above_watched()) {
                host_memory_grew();
            }
            if (!done) {
                process.space.ask_for_purge();
            }
        }
    }

    slow_path(slow_path const&) = delete;
    slow_path& operator=(slow_path const&) = delete;

private:
    thread_heap& heap_;
    bool may_allocate_;
};

constexpr std::size_t bytes_max = PTRDIFF_MAX;

// What realloc makes this large gets a run of its own, though a size class would do: it will grow
// again, and a run grows in place.
constexpr std::size_t grown_run_bytes_min = 16 * KiB;

// Up to here calloc clears a block faster than it finds out whether that is needed.
constexpr std::size_t clear_bytes_max = 1 * KiB;

// From here on calloc gives memory that was used back to the system, which hands out zeros as they
// are touched: large tables are mostly sparse, and what nobody touches is then not resident.
constexpr std::size_t purge_to_zero_bytes_min = 2 * MiB;

bool is_possible(char const* operation, std::size_t bytes, void const* caller) noexcept {
    if (bytes <= bytes_max) [[likely]] {
        return true;
    }
    host_misuse({.kind = misuse_kind::size_overflow,
                 .operation = operation,
                 .count = 1,
                 .element_bytes = bytes,
                 .caller = caller});
    return false;
}

/// Calls allocate(heap), once more where the program could make room below its hard limit. Leaves
/// ENOMEM in errno for null, else what was there before.
template <class Allocate>
void* try_hard(thread_heap* heap, std::size_t bytes, Allocate allocate) noexcept {
    int const kept = errno;
    std::uint64_t const refusals = process.space.budget().refusals();
    auto const is_worth_another = [bytes, refusals] {
        return process.space.budget().refusals() != refusals && host_limit_met(bytes);
    };
    void* block = nullptr;
    for (bool again = false;; again = true) {
        block = with_heap(heap, allocate);
        if (block != nullptr || again || !is_worth_another()) [[likely]] {
            break;
        }
        heap = this_thread;
    }
    errno = block == nullptr ? ENOMEM : kept;
    return block;
}

/// The page of a block, or null after a report: `ptr` is not the start of a block of ours.
page* find_block(char const* operation, void const* ptr, void const* caller,
                 misuse_verdict* verdict) noexcept {
    page* const home = page_of(ptr);
    misuse event{
        .kind = misuse_kind::foreign_pointer, .operation = operation, .ptr = ptr, .caller = caller};
    if (home != nullptr) {
        page_kind const kind = home->kind.load(std::memory_order_relaxed);
        bool const is_start =
            kind == page_kind::small ? home->is_block_start(ptr) : ptr == home->start;
        if (kind != page_kind::none && is_start) {
            return home;
        }
        if (kind != page_kind::none) {
            event.kind = misuse_kind::interior_pointer;
            event.block = kind == page_kind::small ? home->block_of(ptr) : home->start;
            event.block_bytes = home->block_bytes.get();
        }
    }
    *verdict = host_misuse(event);
    return nullptr;
}

void free_block(thread_heap& heap, void* ptr, char const* operation, void const* caller) noexcept {
    misuse_verdict verdict = misuse_verdict::ignore;
    page* const home = find_block(operation, ptr, caller, &verdict);
    if (home == nullptr) {
        if (verdict == misuse_verdict::forward_to_libc) {
            host_forward_free(ptr);
        }
        return;
    }
    slow_path const inside{heap, operation, caller};
    if (home->kind.load(std::memory_order_relaxed) == page_kind::small) {
        heap.deallocate_found(*home, ptr, caller);
    } else if (!deallocate_run(*home)) {
        heap.in_slow_path = false;  // nothing is half done
        host_misuse({.kind = misuse_kind::double_free,
                     .operation = operation,
                     .ptr = ptr,
                     .block = ptr,
                     .block_bytes = home->block_bytes.get(),
                     .caller = caller});
    }
}

/// A block of a size class, or a sample in its place.
void* allocate_small(thread_heap& heap, unsigned size_class, run_request wanted) noexcept {
    if (heap.is_sample_due(size_class)) [[unlikely]] {
        if (void* const sample = allocate_sample(heap, size_class, wanted).start) {
            return sample;
        }
    }
    return heap.allocate_class(size_class);
}

void* allocate_any(thread_heap& heap, std::size_t bytes, void const* caller) noexcept {
    slow_path const inside{heap, "malloc", caller, ends_in::allocation};
    if (bytes > sizing::small_max) {
        return allocate_run(heap, {.bytes = bytes, .alignment = sizing::quantum}).start;
    }
    return allocate_small(heap, sizing::class_of(bytes),
                          {.bytes = bytes, .alignment = sizing::quantum});
}

/// For a block that realloc makes larger.
void* allocate_grown(thread_heap& heap, std::size_t bytes, void const* caller) noexcept {
    slow_path const inside{heap, "realloc", caller, ends_in::allocation};
    return allocate_run(heap, {.bytes = bytes, .alignment = sizing::quantum, .grows = true}).start;
}

/// Whether a block of `usable` bytes should stay where it is for a request of `bytes`.
bool fits_well(std::size_t usable, std::size_t bytes) noexcept {
    return bytes <= usable && (bytes >= usable / 2 || usable <= 2 * sizing::quantum);
}

void* reallocate_here(thread_heap& heap, void* ptr, std::size_t bytes,
                      void const* caller) noexcept {
    misuse_verdict verdict = misuse_verdict::ignore;
    page* const home = find_block("realloc", ptr, caller, &verdict);
    if (home == nullptr) {
        return nullptr;
    }
    std::size_t const usable = home->block_bytes.get();
    page_kind const kind = home->kind.load(std::memory_order_relaxed);
    bool const is_run = kind >= page_kind::large;
    if (!is_run && fits_well(usable, bytes)) {
        if (kind == page_kind::sampled) {
            home->requested_bytes.set(bytes);
        }
        return ptr;
    }
    if (is_run && bytes >= grown_run_bytes_min / 2) {
        slow_path const inside{heap, "realloc", caller, ends_in::allocation};
        if (resize_run_in_place(*home, bytes)) {
            return ptr;
        }
        if (void* const moved = move_run(*home, bytes)) {
            return moved;
        }
    }
    bool const grows = bytes > usable && bytes >= grown_run_bytes_min;
    void* const moved =
        grows ? allocate_grown(heap, bytes, caller) : allocate_any(heap, bytes, caller);
    if (moved == nullptr) {
        return bytes <= usable ? ptr : nullptr;  // shrinking can't fail
    }
    std::memcpy(moved, ptr, std::min(usable, bytes));
    free_block(heap, ptr, "realloc", caller);
    return moved;
}

/// calloc where the class has no list, or clearing may not be needed.
TARN_COLD void* allocate_zeroed_slow(thread_heap* heap, std::size_t bytes,
                                     void const* caller) noexcept {
    if (!is_possible("calloc", bytes, caller)) {
        errno = ENOMEM;
        return nullptr;
    }
    return try_hard(heap, bytes, [bytes, caller](thread_heap& own) -> void* {
        slow_path const inside{own, "calloc", caller, ends_in::allocation};
        run_request const wanted{.bytes = bytes, .alignment = sizing::quantum};
        run_block got;
        if (bytes > sizing::small_max) {
            got = allocate_run(own, wanted);
        } else {
            unsigned const size_class = sizing::class_of(bytes);
            if (own.is_sample_due(size_class)) [[unlikely]] {
                got = allocate_sample(own, size_class, wanted);
            }
            if (got.start == nullptr) {
                return own.allocate_class_zeroed(size_class, bytes);
            }
        }
        if (got.start != nullptr && !got.zeroed &&
            (bytes < purge_to_zero_bytes_min ||
             !platform::os::purge(got.start, base::align_up(bytes, platform::os::page_bytes())))) {
            std::memset(got.start, 0, bytes);
        }
        return got.start;
    });
}

}  // namespace

void* allocate_slow(std::size_t bytes, thread_heap* heap) noexcept {
    void const* const caller = __builtin_return_address(0);
    if (!is_possible("malloc", bytes, caller)) {
        errno = ENOMEM;
        return nullptr;
    }
    return try_hard(heap, bytes,
                    [bytes, caller](thread_heap& own) { return allocate_any(own, bytes, caller); });
}

void deallocate_slow(void* ptr, thread_heap* heap) noexcept {
    if (ptr == nullptr || heap->try_adopt_stray(ptr)) {
        return;
    }
    base::errno_keeper const keeper;
    void const* const caller = __builtin_return_address(0);
    with_heap(heap, [ptr, caller](thread_heap& own) { free_block(own, ptr, "free", caller); });
}

void deallocate_emptied(void* ptr, page* home, thread_heap* heap) noexcept {
    base::errno_keeper const keeper;
    void const* const caller = __builtin_return_address(0);
    slow_path const inside{*heap, "free", caller};
    heap->deallocate_emptied(*home, ptr, caller);
}

void* allocate_zeroed(thread_heap* heap, std::size_t bytes, void const* caller) noexcept {
    if (bytes <= clear_bytes_max) {
        if (void* const block = heap->try_allocate(bytes)) {
            return std::memset(block, 0, bytes);
        }
    }
    return allocate_zeroed_slow(heap, bytes, caller);
}

void* allocate_aligned(thread_heap* heap, std::size_t bytes, std::size_t alignment,
                       void const* caller) noexcept {
    if (!is_possible("memalign", bytes, caller)) {
        errno = ENOMEM;
        return nullptr;
    }
    return try_hard(heap, bytes, [bytes, alignment, caller](thread_heap& own) -> void* {
        slow_path const inside{own, "memalign", caller, ends_in::allocation};
        unsigned const size_class = alignment <= sizing::slice_bytes && bytes <= sizing::small_max
                                        ? sizing::class_of_aligned(bytes, alignment)
                                        : 0;
        if (size_class != 0) {
            return allocate_small(own, size_class, {.bytes = bytes, .alignment = alignment});
        }
        return allocate_run(own, {.bytes = std::max<std::size_t>(bytes, 1), .alignment = alignment})
            .start;
    });
}

void* reallocate(thread_heap* heap, void* ptr, std::size_t bytes, void const* caller) noexcept {
    if (!is_possible("realloc", bytes, caller)) {
        errno = ENOMEM;
        return nullptr;
    }
    return try_hard(heap, bytes, [ptr, bytes, caller](thread_heap& own) {
        return reallocate_here(own, ptr, bytes, caller);
    });
}

std::size_t trim(thread_heap* heap, reclaim_scope scope, void const* caller) noexcept {
    base::errno_keeper const keeper;
    return with_heap(heap, [scope, caller](thread_heap& own) {
        slow_path const inside{own, "malloc_trim", caller};
        return reclaim(own, scope);
    });
}

std::size_t scavenge(thread_heap* heap, void const* caller) noexcept {
    base::errno_keeper const keeper;
    return with_heap(heap, [caller](thread_heap& own) {
        slow_path const inside{own, "tarn_scavenge", caller};
        return scavenge();
    });
}

std::size_t usable_bytes(void const* ptr, void const* caller) noexcept {
    misuse_verdict verdict = misuse_verdict::ignore;
    page const* const home = find_block("malloc_usable_size", ptr, caller, &verdict);
    return home == nullptr ? 0 : home->block_bytes.get();
}

}  // namespace tarn::impl::heap
