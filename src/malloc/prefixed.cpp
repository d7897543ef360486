// The C interface of tarn/tarn.h.

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tarn/tarn.h"

#include "heap/process.hpp"
#include "control/options.hpp"
#include "control/statistics.hpp"
#include "malloc/entry.hpp"

using tarn::impl::heap::this_thread;
namespace control = tarn::impl::control;
namespace entry = tarn::impl::entry;
namespace heap = tarn::impl::heap;

#define TARN_TEXT(x) #x
#define TARN_VERSION_TEXT(major, minor, patch) \
    TARN_TEXT(major) "." TARN_TEXT(minor) "." TARN_TEXT(patch)

extern "C" {

char const* tarn_version() noexcept {
    return TARN_VERSION_TEXT(TARN_VERSION_MAJOR, TARN_VERSION_MINOR, TARN_VERSION_PATCH);
}

void* tarn_malloc(std::size_t bytes) noexcept { return this_thread->allocate(bytes); }

void tarn_free(void* block) noexcept { this_thread->deallocate(block); }

void* tarn_calloc(std::size_t count, std::size_t bytes) noexcept {
    return entry::calloc(count, bytes, TARN_CALLER);
}

void* tarn_realloc(void* block, std::size_t bytes) noexcept {
    return entry::realloc(block, bytes, TARN_CALLER);
}

void* tarn_reallocarray(void* block, std::size_t count, std::size_t bytes) noexcept {
    return entry::reallocarray(block, count, bytes, TARN_CALLER);
}

void tarn_free_sized(void* block, std::size_t /*bytes*/) noexcept {
    this_thread->deallocate(block);
}

void tarn_free_aligned_sized(void* block, std::size_t /*alignment*/,
                             std::size_t /*bytes*/) noexcept {
    this_thread->deallocate(block);
}

void* tarn_aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
    return entry::memalign(alignment, bytes, TARN_CALLER);
}

int tarn_posix_memalign(void** out, std::size_t alignment, std::size_t bytes) noexcept {
    return entry::posix_memalign(out, alignment, bytes, TARN_CALLER);
}

std::size_t tarn_malloc_usable_size(void const* block) noexcept {
    return entry::usable_size(block, TARN_CALLER);
}

int tarn_stats_get(tarn_stats* out) noexcept {
    if (out == nullptr || out->size < sizeof(std::size_t) || out->size > sizeof(tarn_stats)) {
        return EINVAL;
    }
    control::statistics const now = control::collect_statistics();
    tarn_stats const full{.size = out->size,
                          .live_bytes = now.live_bytes,
                          .live_peak_bytes = now.live_peak_bytes,
                          .live_blocks = now.live_blocks,
                          .mapped_bytes = now.mapped_bytes,
                          .reserved_bytes = now.reserved_bytes,
                          .metadata_bytes = now.metadata_bytes,
                          .held_by_threads_bytes = now.held_by_threads_bytes,
                          .free_in_bins_bytes = now.free_in_bins_bytes,
                          .free_runs_bytes = now.free_runs_bytes,
                          .purged_bytes = now.purged_bytes,
                          .cross_thread_frees = now.cross_thread_frees,
                          .threads = now.threads,
                          .page_count = now.page_count};
    std::memcpy(out, &full, out->size);
    return 0;
}

std::size_t tarn_purge(int scope) noexcept {
    switch (scope) {
        case TARN_PURGE_THREAD:
            return heap::trim(this_thread, heap::reclaim_scope::thread, TARN_CALLER);
        case TARN_PURGE_PROCESS:
            return heap::trim(this_thread, heap::reclaim_scope::process, TARN_CALLER);
        default:
            return 0;
    }
}

std::size_t tarn_scavenge() noexcept { return heap::scavenge(this_thread, TARN_CALLER); }

void tarn_stats_print(int fd) noexcept {
    tarn::impl::base::text_buffer<control::statistics_text_bytes> text;
    control::describe_statistics(control::collect_statistics(), text);
    tarn::impl::platform::os::write_all(fd, text.view().data(), text.view().size());
}

void tarn_options_print(int fd) noexcept {
    static_cast<void>(tarn::impl::heap::start_process());  // else nobody has read them yet
    tarn::impl::base::text_buffer<control::statistics_text_bytes> text;
    control::describe_options(control::current_options(), text);
    tarn::impl::platform::os::write_all(fd, text.view().data(), text.view().size());
}

}  // extern "C"
