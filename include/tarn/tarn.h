/* tarn.h - the C interface of Tarn's allocator: the standard functions under a prefix, and what
 * they cannot say.
 *
 * Both libtarn.so (which also replaces malloc) and libtarn_core export these names. A block from
 * any tarn_ function may be given to any other; under libtarn.so, malloc and tarn_malloc are one
 * allocator.
 *
 * Threads    every function: any thread, at any time, before and after main too.
 * Signals    none is async-signal-safe; re-entry from a handler is reported, not deadlocked.
 * Errors     out of memory: null and errno ENOMEM. Misuse: see tarn_options "on_misuse".
 * Alignment  every block is aligned to at least 16 bytes.
 */
#ifndef TARN_TARN_H
#define TARN_TARN_H

#include <stddef.h>
#include <stdint.h>

#define TARN_VERSION_MAJOR 0
#define TARN_VERSION_MINOR 1
#define TARN_VERSION_PATCH 0

#ifdef __cplusplus
#define TARN_NOEXCEPT noexcept
extern "C" {
#else
#define TARN_NOEXCEPT
#endif

#if defined(__GNUC__)
#define TARN_API __attribute__((visibility("default")))
#define TARN_ALLOCATES __attribute__((malloc, warn_unused_result))
#else
#define TARN_API
#define TARN_ALLOCATES
#endif

/** "MAJOR.MINOR.PATCH" of the library that serves this process. Never null. */
TARN_API char const* tarn_version(void) TARN_NOEXCEPT;

/** Allocates `bytes` (0 allowed: a unique block). Null and ENOMEM when memory is out or bytes
 *  exceeds PTRDIFF_MAX. Cost: 12 instructions up to 256 bytes on the fast path. */
TARN_API TARN_ALLOCATES void* tarn_malloc(size_t bytes) TARN_NOEXCEPT;

/** Gives a block back. Null is allowed; errno is kept. */
TARN_API void tarn_free(void* block) TARN_NOEXCEPT;

/** `count` * `bytes` of zeroed memory; ENOMEM when the product overflows. */
TARN_API TARN_ALLOCATES void* tarn_calloc(size_t count, size_t bytes) TARN_NOEXCEPT;

/** Resizes, in place where possible. Null on failure, and the old block stays.
 *  realloc(p, 0) frees p and returns null, as glibc does. */
TARN_API void* tarn_realloc(void* block, size_t bytes) TARN_NOEXCEPT;

/** realloc of count * bytes; ENOMEM when the product overflows. */
TARN_API void* tarn_reallocarray(void* block, size_t count, size_t bytes) TARN_NOEXCEPT;

/** C23: frees a block of tarn_malloc, tarn_calloc or tarn_realloc whose size is known. */
TARN_API void tarn_free_sized(void* block, size_t bytes) TARN_NOEXCEPT;

/** C23: frees a block of tarn_aligned_alloc whose alignment and size are known. */
TARN_API void tarn_free_aligned_sized(void* block, size_t alignment, size_t bytes) TARN_NOEXCEPT;

/** `alignment`: a power of two, else rounded up to one, as glibc 2.36 does. */
TARN_API TARN_ALLOCATES void* tarn_aligned_alloc(size_t alignment, size_t bytes) TARN_NOEXCEPT;

/** Returns 0, EINVAL (alignment no power of two multiple of sizeof(void*)) or ENOMEM;
 *  `*out` is untouched on failure and errno is not set. */
TARN_API int tarn_posix_memalign(void** out, size_t alignment, size_t bytes) TARN_NOEXCEPT;

/** Bytes that may be used in `block`: at least what was asked for. 0 for null. */
TARN_API size_t tarn_malloc_usable_size(void const* block) TARN_NOEXCEPT;

/** What the process holds now. Set `size` to sizeof(tarn_stats) before the call; a newer library
 *  fills no more than that. All fields in bytes unless named otherwise. */
typedef struct tarn_stats {
    size_t size;                    /**< in: sizeof(tarn_stats) of the caller */
    uint64_t live_bytes;            /**< in blocks handed to the program, by block size */
    uint64_t live_peak_bytes;       /**< highest live_bytes that a walk has met: 1/32 of it may be
                                         missed, beside heavy freeing and allocating 1/4 */
    uint64_t live_blocks;           /**< number of those blocks */
    uint64_t mapped_bytes;          /**< committed from the system, metadata included */
    uint64_t reserved_bytes;        /**< address space reserved, metadata included */
    uint64_t metadata_bytes;        /**< committed for Tarn's own records */
    uint64_t held_by_threads_bytes; /**< free blocks in pages that threads own */
    uint64_t free_in_bins_bytes;    /**< free blocks in pages that any thread may take */
    uint64_t free_runs_bytes;       /**< free runs of slices that still hold memory */
    uint64_t purged_bytes;          /**< given back to the system so far, in total */
    uint64_t cross_thread_frees;    /**< frees of blocks whose page another thread owned */
    uint64_t threads;               /**< thread heaps in use */
    uint64_t page_count;            /**< pages and large blocks in use */
} tarn_stats;

/** Fills `*out`. Returns 0, or EINVAL when out is null or out->size is unknown.
 *  While other threads allocate the figures are a snapshot to one page per class and thread.
 *  Cost: a walk over all pages; takes no lock that allocation's fast path or refill needs. */
TARN_API int tarn_stats_get(tarn_stats* out) TARN_NOEXCEPT;

/** What tarn_purge() looks at. */
enum tarn_purge_scope {
    TARN_PURGE_THREAD =
        0, /**< free blocks of the calling thread: handed to others, or given back */
    TARN_PURGE_PROCESS = 1 /**< also all that no thread holds: partly used pages, free runs */
};

/** Gives free memory back to the system at once; whole OS pages inside partly used pages, too. What
 *  other threads hold for themselves stays (option thread_cache_bytes), and goes when they call it.
 *  Returns the bytes given back; 0 also for an unknown scope. malloc_trim() of libtarn.so is
 *  TARN_PURGE_PROCESS.
 *  Cost: a walk over the pages in question and a system call for each stretch. */
TARN_API size_t tarn_purge(int scope) TARN_NOEXCEPT;

/** Gives back what has been free for purge_delay_ms, as the background thread would; for programs
 *  with one thread that idle in a loop of their own. Returns the bytes given back.
 *  Cost: a look at the clock when nothing is due. */
TARN_API size_t tarn_scavenge(void) TARN_NOEXCEPT;

/** Writes the statistics report as text to a file descriptor. Allocates nothing. */
TARN_API void tarn_stats_print(int fd) TARN_NOEXCEPT;

/** Writes the option table with the values in effect. Allocates nothing. */
TARN_API void tarn_options_print(int fd) TARN_NOEXCEPT;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* TARN_TARN_H */
