// The C library's names, for the libraries that replace malloc.

#include "tarn/tarn.h"

#include "malloc/entry.hpp"

using tarn::impl::heap::this_thread;
namespace entry = tarn::impl::entry;

// NOLINTBEGIN(bugprone-exception-escape): nothing here throws
extern "C" {

TARN_API void* malloc(std::size_t bytes) noexcept { return this_thread->allocate(bytes); }

TARN_API void free(void* block) noexcept { this_thread->deallocate(block); }

TARN_API void* calloc(std::size_t count, std::size_t bytes) noexcept {
    return entry::calloc(count, bytes, TARN_CALLER);
}

TARN_API void* realloc(void* block, std::size_t bytes) noexcept {
    return entry::realloc(block, bytes, TARN_CALLER);
}

TARN_API void* reallocarray(void* block, std::size_t count, std::size_t bytes) noexcept {
    return entry::reallocarray(block, count, bytes, TARN_CALLER);
}

TARN_API void free_sized(void* block, std::size_t bytes) noexcept {
    this_thread->deallocate_as<tarn::impl::heap::family::malloc>(block, bytes);
}

TARN_API void free_aligned_sized(void* block, std::size_t alignment, std::size_t bytes) noexcept {
    this_thread->deallocate_aligned<tarn::impl::heap::family::malloc>(block, bytes, alignment);
}

TARN_API void cfree(void* block) noexcept { this_thread->deallocate(block); }

TARN_API int posix_memalign(void** out, std::size_t alignment, std::size_t bytes) noexcept {
    return entry::posix_memalign(out, alignment, bytes, TARN_CALLER);
}

TARN_API void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
    return entry::memalign(alignment, bytes, TARN_CALLER);
}

TARN_API void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
    return entry::memalign(alignment, bytes, TARN_CALLER);
}

TARN_API void* valloc(std::size_t bytes) noexcept { return entry::valloc(bytes, TARN_CALLER); }

TARN_API void* pvalloc(std::size_t bytes) noexcept { return entry::pvalloc(bytes, TARN_CALLER); }

TARN_API std::size_t malloc_usable_size(void* block) noexcept {
    return entry::usable_size(block, TARN_CALLER);
}

}  // extern "C"
// NOLINTEND(bugprone-exception-escape)
