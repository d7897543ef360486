// tarn/detail/poison.hpp - tells AddressSanitizer and Valgrind which bytes nobody may touch.
//
// Threads    any
// Always     without these tools, nothing happens and nothing is linked
// Cost       AddressSanitizer: an eighth of the bytes is written; Valgrind: a request to it; else
//            none, where memory_is_watched() is asked first or is_asan_build is false
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define TARN_DETAIL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TARN_DETAIL_ASAN 1
#endif
#endif

#if defined(TARN_DETAIL_ASAN)
extern "C" {
void __asan_poison_memory_region(void const volatile* start, std::size_t bytes);
void __asan_unpoison_memory_region(void const volatile* start, std::size_t bytes);
}
#elif __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define TARN_DETAIL_VALGRIND 1
#endif

/// On functions that read what they have poisoned themselves.
#if defined(TARN_DETAIL_ASAN)
#define TARN_DETAIL_READS_POISONED __attribute__((no_sanitize("address")))
#else
#define TARN_DETAIL_READS_POISONED
#endif

namespace tarn::detail {

/// Whether the program was built with AddressSanitizer.
#if defined(TARN_DETAIL_ASAN)
inline constexpr bool is_asan_build = true;
#else
inline constexpr bool is_asan_build = false;
#endif

/// Whether Valgrind's memcheck runs the program; its other tools do not look at accesses.
[[nodiscard]] inline bool is_under_memcheck() noexcept {
#if defined(TARN_DETAIL_VALGRIND)
    return VALGRIND_MAKE_MEM_DEFINED(nullptr, 0) != 0;
#else
    return false;
#endif
}

/// Whether a tool looks at every access. What is allocated then should be poisoned before and
/// after, and not only for a fast path's convenience lie next to other blocks.
[[nodiscard]] inline bool memory_is_watched() noexcept {
#if defined(TARN_DETAIL_ASAN)
    return true;
#else
    return is_under_memcheck();
#endif
}

/// Whoever touches these bytes from now on is reported.
inline void poison([[maybe_unused]] void* start, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(TARN_DETAIL_ASAN)
    __asan_poison_memory_region(start, bytes);
#elif defined(TARN_DETAIL_VALGRIND)
    static_cast<void>(VALGRIND_MAKE_MEM_NOACCESS(start, bytes));
#endif
}

/// These bytes may be written, and read once they have been.
inline void unpoison([[maybe_unused]] void* start, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(TARN_DETAIL_ASAN)
    __asan_unpoison_memory_region(start, bytes);
#elif defined(TARN_DETAIL_VALGRIND)
    static_cast<void>(VALGRIND_MAKE_MEM_UNDEFINED(start, bytes));
#endif
}

/// Tells memcheck of a pool, named by an address, and of blocks that it hands out: an access to a
/// block that was given back is then reported with both stacks.
inline void begin_watched_pool([[maybe_unused]] void const* pool) noexcept {
#if defined(TARN_DETAIL_VALGRIND)
    VALGRIND_CREATE_MEMPOOL(pool, 0, 0);
#endif
}

inline void end_watched_pool([[maybe_unused]] void const* pool) noexcept {
#if defined(TARN_DETAIL_VALGRIND)
    VALGRIND_DESTROY_MEMPOOL(pool);
#endif
}

inline void watch_allocated([[maybe_unused]] void const* pool, [[maybe_unused]] void* block,
                            [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(TARN_DETAIL_VALGRIND)
    VALGRIND_MEMPOOL_ALLOC(pool, block, bytes);
#endif
}

inline void watch_freed([[maybe_unused]] void const* pool, [[maybe_unused]] void* block) noexcept {
#if defined(TARN_DETAIL_VALGRIND)
    VALGRIND_MEMPOOL_FREE(pool, block);
#endif
}

}  // namespace tarn::detail
