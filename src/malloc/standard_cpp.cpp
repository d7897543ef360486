// The twenty replaceable forms of operator new and delete.
//
// Compiled with exceptions, for the one place where a new_handler's exception ends in a null
// pointer. What that needs of the C++ runtime is referenced weakly: see malloc/cxx_runtime.hpp.

#include <new>

#include "tarn/tarn.h"

#include "malloc/cxx_runtime.hpp"
#include "malloc/entry.hpp"

using tarn::impl::heap::this_thread;
namespace cxx_runtime = tarn::impl::cxx_runtime;
namespace heap = tarn::impl::heap;

__asm__(
    ".weak __gxx_personality_v0\n"
    ".weak __cxa_begin_catch\n"
    ".weak __cxa_end_catch\n"
    ".weak _Unwind_Resume\n"
    ".weak _ZSt9terminatev\n");

namespace {

/// One attempt; the heap's own slow path sets errno, which operator new leaves as it was.
void* attempt(std::size_t bytes, std::size_t alignment, void const* caller) noexcept {
    int const kept = errno;
    void* const block = alignment <= tarn::impl::sizing::quantum
                            ? this_thread->allocate(bytes)
                            : heap::allocate_aligned(this_thread, bytes, alignment, caller);
    errno = kept;
    return block;
}

/// [new.delete.single]: asks the new_handler for memory until there is some or it gives up.
TARN_COLD void* new_slow(std::size_t bytes, std::size_t alignment, void const* caller) {
    for (;;) {
        if (void* const block = attempt(bytes, alignment, caller)) {
            return block;
        }
        cxx_runtime::new_handler const handler = cxx_runtime::current_new_handler();
        if (handler == nullptr) {
            cxx_runtime::throw_bad_alloc();
        }
        handler();
    }
}

TARN_COLD void* nothrow_new_slow(std::size_t bytes, std::size_t alignment,
                                 void const* caller) noexcept {
    try {
        for (;;) {
            if (void* const block = attempt(bytes, alignment, caller)) {
                return block;
            }
            cxx_runtime::new_handler const handler = cxx_runtime::current_new_handler();
            if (handler == nullptr) {
                return nullptr;
            }
            handler();
        }
    } catch (...) {
        return nullptr;
    }
}

TARN_COLD void* new_plain_slow(std::size_t bytes) { return new_slow(bytes, 0, TARN_CALLER); }

TARN_COLD void* nothrow_new_plain_slow(std::size_t bytes) noexcept {
    return nothrow_new_slow(bytes, 0, TARN_CALLER);
}

TARN_HOT void* new_plain(std::size_t bytes) {
    void* const block = this_thread->try_allocate(bytes);
    return block != nullptr ? block : new_plain_slow(bytes);
}

TARN_HOT void* nothrow_new_plain(std::size_t bytes) noexcept {
    void* const block = this_thread->try_allocate(bytes);
    return block != nullptr ? block : nothrow_new_plain_slow(bytes);
}

}  // namespace

// NOLINTBEGIN(misc-new-delete-overloads): these are the replacements
TARN_API void* operator new(std::size_t bytes) { return new_plain(bytes); }

TARN_API void* operator new[](std::size_t bytes) { return new_plain(bytes); }

TARN_API void* operator new(std::size_t bytes, std::nothrow_t const& /*tag*/) noexcept {
    return nothrow_new_plain(bytes);
}

TARN_API void* operator new[](std::size_t bytes, std::nothrow_t const& /*tag*/) noexcept {
    return nothrow_new_plain(bytes);
}

TARN_API void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return new_slow(bytes, static_cast<std::size_t>(alignment), TARN_CALLER);
}

TARN_API void* operator new[](std::size_t bytes, std::align_val_t alignment) {
    return new_slow(bytes, static_cast<std::size_t>(alignment), TARN_CALLER);
}

TARN_API void* operator new(std::size_t bytes, std::align_val_t alignment,
                            std::nothrow_t const& /*tag*/) noexcept {
    return nothrow_new_slow(bytes, static_cast<std::size_t>(alignment), TARN_CALLER);
}

TARN_API void* operator new[](std::size_t bytes, std::align_val_t alignment,
                              std::nothrow_t const& /*tag*/) noexcept {
    return nothrow_new_slow(bytes, static_cast<std::size_t>(alignment), TARN_CALLER);
}

TARN_API void operator delete(void* block) noexcept { this_thread->deallocate(block); }

TARN_API void operator delete[](void* block) noexcept { this_thread->deallocate(block); }

TARN_API void operator delete(void* block, std::nothrow_t const& /*tag*/) noexcept {
    this_thread->deallocate(block);
}

TARN_API void operator delete[](void* block, std::nothrow_t const& /*tag*/) noexcept {
    this_thread->deallocate(block);
}

TARN_API void operator delete(void* block, std::size_t /*bytes*/) noexcept {
    this_thread->deallocate(block);
}

TARN_API void operator delete[](void* block, std::size_t /*bytes*/) noexcept {
    this_thread->deallocate(block);
}

TARN_API void operator delete(void* block, std::align_val_t /*alignment*/) noexcept {
    this_thread->deallocate(block);
}

TARN_API void operator delete[](void* block, std::align_val_t /*alignment*/) noexcept {
    this_thread->deallocate(block);
}

TARN_API void operator delete(void* block, std::align_val_t /*alignment*/,
                              std::nothrow_t const& /*tag*/) noexcept {
    this_thread->deallocate(block);
}

TARN_API void operator delete[](void* block, std::align_val_t /*alignment*/,
                                std::nothrow_t const& /*tag*/) noexcept {
    this_thread->deallocate(block);
}

TARN_API void operator delete(void* block, std::size_t /*bytes*/,
                              std::align_val_t /*alignment*/) noexcept {
    this_thread->deallocate(block);
}

TARN_API void operator delete[](void* block, std::size_t /*bytes*/,
                                std::align_val_t /*alignment*/) noexcept {
    this_thread->deallocate(block);
}

// NOLINTEND(misc-new-delete-overloads)
