// Operations on user heaps in full: every state of the calling thread, every misuse. Contract:
// heap/user_heap.hpp.

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/errno_keeper.hpp"
#include "heap/diversion.hpp"
#include "heap/hardening.hpp"
#include "heap/process.hpp"
#include "heap/slow_path.hpp"
#include "heap/user_heap.hpp"

namespace tarn::impl::heap {

namespace {

misuse_kind misuse_of(user_free result) noexcept {
    switch (result) {
        case user_free::interior:
            return misuse_kind::interior_pointer;
        case user_free::other_heap:
            return misuse_kind::other_heap;
        default:
            return misuse_kind::double_free;
    }
}

}  // namespace

bool free_in_user_heap(thread_heap& heap, void* ptr, heap_id expected, char const* operation,
                       void const* caller) noexcept {
    page* const home = page_of(ptr);
    if (home == nullptr) {
        return is_destroying_heap();  // this call may have begun before
    }
    if (!home->serves_user_heaps.load(std::memory_order_relaxed)) {
        return false;
    }
    user_free_result result;
    {
        slow_path const inside{heap, operation, caller};
        result = deallocate_in(*home, ptr, expected);
    }
    if (result.what != user_free::done) {
        host_misuse({.kind = misuse_of(result.what),
                     .operation = operation,
                     .ptr = ptr,
                     .block = result.block,
                     .block_bytes = result.block_bytes,
                     .caller = caller});
    }
    return true;
}

void* allocate_in(thread_heap* caller_heap, heap_id id, run_request wanted, contents filled,
                  char const* operation, void const* caller) noexcept {
    if (!is_possible(operation, wanted.bytes, caller)) {
        errno = ENOMEM;
        return nullptr;
    }
    if (find_heap(id) == nullptr) {
        host_misuse({.kind = misuse_kind::no_heap,
                     .operation = operation,
                     .count = static_cast<std::size_t>(id),
                     .caller = caller});
        errno = EINVAL;
        return nullptr;
    }
    undiverted const served;
    return try_hard(undiverted::in_place_of(caller_heap), wanted.bytes, [=](thread_heap& own) {
        slow_path const inside{own, operation, caller, ends_in::allocation};
        run_block const got = allocate_in(own, id, wanted);
        if (filled == contents::zero) {
            clear(got, wanted.bytes);
        }
        return got.start;
    });
}

void deallocate_in(thread_heap* caller_heap, heap_id id, void* ptr, void const* caller) noexcept {
    if (ptr == nullptr) {
        return;
    }
    base::errno_keeper const keeper;
    undiverted const served;
    with_heap(undiverted::in_place_of(caller_heap), [=](thread_heap& own) {
        constexpr char const* operation = "tarn_heap_free";
        if (free_in_user_heap(own, ptr, id, operation, caller)) {
            return;
        }
        misuse_verdict verdict = misuse_verdict::ignore;
        if (page const* const home = find_block(operation, ptr, caller, &verdict)) {
            host_misuse({.kind = misuse_kind::other_heap,
                         .operation = operation,
                         .ptr = ptr,
                         .block = ptr,
                         .block_bytes = usable_bytes_of(*home, ptr, caller),
                         .caller = caller});
        }
    });
}

bool destroy_heap(thread_heap* caller_heap, heap_id id, void const* caller) noexcept {
    base::errno_keeper const keeper;
    undiverted const served;
    return with_heap(undiverted::in_place_of(caller_heap), [=](thread_heap& own) {
        slow_path const inside{own, "tarn_heap_destroy", caller};
        return destroy_heap(id);
    });
}

std::size_t trim_heap(thread_heap* caller_heap, heap_id id, void const* caller) noexcept {
    base::errno_keeper const keeper;
    undiverted const served;
    return with_heap(undiverted::in_place_of(caller_heap), [=](thread_heap& own) {
        slow_path const inside{own, "tarn_heap_trim", caller};
        trimmed_bytes const bytes = trim_heaps(id);
        return bytes.pages + bytes.inside;
    });
}

void* reallocate_in(thread_heap& heap, page& home, void* ptr, std::size_t bytes,
                    void const* caller) noexcept {
    std::size_t const usable = home.block_bytes.get();
    heap_id const id = heap_of(home);
    void* moved = nullptr;
    {
        slow_path const inside{heap, "realloc", caller, ends_in::allocation};
        bool const is_small = home.kind.load(std::memory_order_relaxed) == page_kind::user;
        if (is_small ? fits_well(usable, bytes)
                     : bytes > sizing::small_max / 2 && resize_in_place(home, ptr, bytes)) {
            return ptr;
        }
        run_request const wanted{
            .bytes = bytes, .alignment = sizing::quantum, .grows = bytes > usable};
        moved = allocate_in(heap, id, wanted).start;
    }
    if (moved == nullptr) {
        return bytes <= usable ? ptr : nullptr;  // shrinking can't fail
    }
    std::memcpy(moved, ptr, std::min(usable, bytes));
    static_cast<void>(free_in_user_heap(heap, ptr, id, "realloc", caller));
    return moved;
}

bool expand(thread_heap* caller_heap, void* ptr, std::size_t bytes, void const* caller) noexcept {
    base::errno_keeper const keeper;
    undiverted const served;
    page* home = page_of(ptr);
    bool const is_users =
        home != nullptr && home->serves_user_heaps.load(std::memory_order_relaxed);
    if (current_stand_in() != nullptr && !is_users) {
        return bytes <= usable_bytes(ptr, caller);
    }
    misuse_verdict verdict = misuse_verdict::ignore;
    home = find_block("tarn_expand", ptr, caller, &verdict);
    if (home == nullptr || bytes > bytes_max) {
        return false;
    }
    page_kind const kind = home->kind.load(std::memory_order_relaxed);
    if (is_hardened(*home)) [[unlikely]] {
        block_facts const facts = look_at_block(*home, ptr);
        // Damage is told when the block is freed.
        if (!facts.is_live || facts.damage != undamaged || bytes <= facts.extent.requested) {
            return facts.is_live && bytes <= facts.extent.requested;
        }
        if (bytes <= facts.extent.bytes) {
            if (kind >= page_kind::large) {
                home->requested_bytes.set(bytes);
            }
            note_request(*home, ptr, bytes);
            return true;
        }
    } else if (bytes <= usable_bytes_of(*home, ptr, caller)) {
        return true;
    }
    if (kind != page_kind::large && kind != page_kind::huge) {
        return false;
    }
    return with_heap(undiverted::in_place_of(caller_heap), [=](thread_heap& own) {
        slow_path const inside{own, "tarn_expand", caller, ends_in::allocation};
        if (home->serves_user_heaps.load(std::memory_order_relaxed)) {
            return resize_in_place(*home, ptr, bytes);
        }
        bool const resized = resize_run_in_place(*home, bytes);
        if (resized && hardening.on) {
            note_request(*home, ptr, bytes);
        }
        return resized;
    });
}

}  // namespace tarn::impl::heap
