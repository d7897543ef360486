// malloc/entry.hpp - the entry points' common bodies: glibc's rules around the heap's operations.
//
// Threads    any
// Errors     as the C standard, POSIX and glibc 2.36 have them; errno is set where they set it
#pragma once

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "base/attributes.hpp"
#include "platform/os.hpp"
#include "sizing/size_class.hpp"
#include "heap/diversion.hpp"
#include "heap/host.hpp"
#include "heap/thread_heap.hpp"
#include "malloc/step_aside.hpp"

namespace tarn::impl::entry {

using heap::this_thread;

/// count * bytes, or false after a report and with errno ENOMEM.
inline bool multiply(char const* operation, std::size_t count, std::size_t bytes,
                     std::size_t& product, void const* caller) noexcept {
    if (!__builtin_mul_overflow(count, bytes, &product)) [[likely]] {
        return true;
    }
    heap::host_misuse({.kind = heap::misuse_kind::size_overflow,
                       .operation = operation,
                       .count = count,
                       .element_bytes = bytes,
                       .caller = caller});
    errno = ENOMEM;
    return false;
}

inline void* calloc(std::size_t count, std::size_t bytes, void const* caller) noexcept {
    std::size_t product = 0;
    if (__builtin_mul_overflow(count, bytes, &product)) [[unlikely]] {
        if (heap::direct_answers const* const direct = heap::find_direct(this_thread)) {
            return direct->allocate_zeroed(count, bytes);
        }
        static_cast<void>(multiply("calloc", count, bytes, product, caller));
        return nullptr;
    }
    return heap::allocate_zeroed(this_thread, product, caller);
}

inline void* realloc(void* block, std::size_t bytes, void const* caller) noexcept {
    if (block == nullptr) {
        return this_thread->allocate(bytes);
    }
    if (bytes == 0) {
        this_thread->deallocate(block);
        return nullptr;
    }
    return heap::reallocate(this_thread, block, bytes, caller);
}

inline void* reallocarray(void* block, std::size_t count, std::size_t bytes,
                          void const* caller) noexcept {
    std::size_t product = 0;
    if (!multiply("reallocarray", count, bytes, product, caller)) {
        return nullptr;
    }
    return realloc(block, product, caller);
}

/// memalign and aligned_alloc: glibc 2.36 rounds an alignment up to a power of two.
inline void* memalign(std::size_t alignment, std::size_t bytes, void const* caller) noexcept {
    if (alignment <= sizing::quantum) {
        return this_thread->allocate(bytes);
    }
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return nullptr;
    }
    return heap::allocate_aligned(this_thread, bytes, std::bit_ceil(alignment), caller);
}

inline int posix_memalign(void** out, std::size_t alignment, std::size_t bytes,
                          void const* caller) noexcept {
    if (alignment % sizeof(void*) != 0 || !std::has_single_bit(alignment)) {
        return EINVAL;
    }
    if (aside::next_in_line const* const next = aside::next()) {
        return next->posix_memalign(out, alignment, bytes);
    }
    int const kept = errno;
    void* const block = memalign(alignment, bytes, caller);
    errno = kept;
    if (block == nullptr) {
        return ENOMEM;
    }
    *out = block;
    return 0;
}

inline void* valloc(std::size_t bytes, void const* caller) noexcept {
    return memalign(platform::os::page_bytes(), bytes, caller);
}

/// valloc of whole pages.
inline void* pvalloc(std::size_t bytes, void const* caller) noexcept {
    std::size_t const page_bytes = platform::os::page_bytes();
    if (bytes > SIZE_MAX - page_bytes) {
        errno = ENOMEM;
        return nullptr;
    }
    return memalign(page_bytes, base::align_up(bytes, page_bytes), caller);
}

inline std::size_t usable_size(void const* block, void const* caller) noexcept {
    return block == nullptr ? 0 : heap::usable_bytes(block, caller);
}

}  // namespace tarn::impl::entry

/// The address a function returns to: who called malloc.
#define TARN_CALLER __builtin_return_address(0)
