// tarn/detail/poison.hpp - tells AddressSanitizer and Valgrind which bytes nobody may touch.
//
// Threads    any
// Always     without these tools, nothing happens and nothing is linked
// Cost       AddressSanitizer: an eighth of the bytes is written; Valgrind: a request to it; else
//            none, where memory_is_watched() is asked first
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

namespace tarn::detail {

/// Whether a tool looks at every access. What is allocated then should be poisoned before and
/// after, and not only for a fast path's convenience lie next to other blocks.
[[nodiscard]] inline bool memory_is_watched() noexcept {
#if defined(TARN_DETAIL_ASAN)
    return true;
#elif defined(TARN_DETAIL_VALGRIND)
    return RUNNING_ON_VALGRIND != 0;
#else
    return false;
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

}  // namespace tarn::detail
