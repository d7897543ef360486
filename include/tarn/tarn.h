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

/** One size class, in tarn_stats. */
typedef struct tarn_class_stats {
    uint64_t block_bytes; /**< of each block; 0: blocks above 128 KiB, of any size */
    uint64_t allocations; /**< so far */
    uint64_t live_blocks; /**< handed to the program */
    uint64_t live_bytes;
    uint64_t free_blocks;           /**< made, not live; those ready in threads' lists too */
    uint64_t pages;                 /**< or large blocks */
    uint64_t page_bytes;            /**< of those, used or not */
    uint64_t requested_bytes;       /**< of live_bytes: what the program asked for, estimated */
    uint64_t requested_error_bytes; /**< its standard error */
    uint64_t sampled_blocks;        /**< number of live blocks that tell it */
} tarn_class_stats;

/** One thread, in tarn_stats. What threads past their exit still allocate counts for thread 0. */
typedef struct tarn_thread_stats {
    uint64_t thread_id; /**< as gettid() */
    /** So far, those of finished threads whose records it took over included. */
    uint64_t allocations;
    uint64_t cross_thread_frees;
    uint64_t pages; /**< that it owns */
    uint64_t page_bytes;
    uint64_t free_bytes; /**< free blocks in those pages and in its lists: what it holds */
} tarn_thread_stats;

/** Changes when a field changes its meaning; new fields only make tarn_stats larger. */
#define TARN_STATS_VERSION 1

/** What the process holds now. Set `size` to sizeof(tarn_stats) before the call; a newer library
 *  fills no more than that. All fields in bytes unless named otherwise. While nobody allocates or
 *  frees:
 *      mapped_bytes + purged_inside_bytes == metadata_bytes + live_bytes + page_tail_bytes +
 *          fresh_bytes + held_by_threads_bytes + free_in_bins_bytes + free_runs_bytes */
typedef struct tarn_stats {
    size_t size;      /**< in: sizeof(tarn_stats) of the caller */
    uint64_t version; /**< TARN_STATS_VERSION of the library */
    uint64_t process_id;

    uint64_t live_bytes;            /**< in blocks handed to the program, by block size */
    uint64_t live_peak_bytes;       /**< highest live_bytes that a walk has met: 1/32 of it may be
                                         missed, beside heavy freeing and allocating 1/4 */
    uint64_t live_blocks;           /**< number of those blocks */
    uint64_t requested_bytes;       /**< of live_bytes: what the program asked for. The rest is
                                         rounding. Exact above 128 KiB, else estimated from samples */
    uint64_t requested_error_bytes; /**< its standard error: in 19 of 20 cases the truth is within
                                         two of them */
    uint64_t sampled_blocks; /**< number of live blocks that are samples (sample_interval_bytes):
                                  each has an OS page to itself */
    uint64_t allocations;    /**< number, so far */
    uint64_t cross_thread_frees;  /**< frees of blocks whose page another thread owned, so far */
    uint64_t mapped_bytes;        /**< from the system and not given back, metadata included */
    uint64_t reserved_bytes;      /**< address space reserved, metadata included */
    uint64_t metadata_bytes;      /**< mapped for Tarn's own records */
    uint64_t resident_bytes;      /**< of the whole process, other memory included */
    uint64_t resident_peak_bytes; /**< of the whole process, so far */
    uint64_t page_faults;         /**< of the whole process, number so far */

    uint64_t page_tail_bytes;       /**< ends of pages and large blocks where no block fits */
    uint64_t fresh_bytes;           /**< in pages, never handed out yet: mostly not resident */
    uint64_t held_by_threads_bytes; /**< free blocks in pages that threads own */
    uint64_t cached_page_bytes;     /**< of those, in pages without any block that is in use */
    uint64_t free_in_bins_bytes;    /**< free blocks in pages that any thread may take */
    uint64_t free_runs_bytes;       /**< free runs of slices that still hold memory */
    uint64_t free_runs;             /**< number of those */
    uint64_t purged_inside_bytes;   /**< of the four above: given back to the system */
    uint64_t purged_bytes;          /**< given back to the system so far, in total */

    uint64_t huge_bytes;        /**< of live_bytes: in mappings of their own */
    uint64_t huge_blocks;       /**< number of those blocks */
    uint64_t huge_peak_bytes;   /**< so far */
    uint64_t huge_blocks_peak;  /**< so far */
    uint64_t arenas_peak_bytes; /**< all other blocks and free runs, so far */

    uint64_t soft_limit_bytes; /**< 0: none */
    uint64_t hard_limit_bytes; /**< 0: none */
    uint64_t limit_refusals;   /**< requests to the system that the hard limit stopped, so far */

    uint64_t threads;        /**< with a heap of their own, now */
    uint64_t threads_unread; /**< of those: blocks in their lists count as live, since the system
                                  refuses to read them (process_vm_readv) */
    uint64_t pages;          /**< in use, large blocks among them */

    /** Null, or what tarn_stats_get_all() was given. */
    tarn_class_stats* by_class; /**< by rising block size, but blocks above 128 KiB come first */
    uint64_t class_count;       /**< elements filled */
    tarn_thread_stats* by_thread;
    uint64_t thread_count; /**< elements filled */
} tarn_stats;

/** Fills `*out`, without arrays. Returns 0, or EINVAL when out is null or out->size is unknown.
 *  Exact while no other thread allocates or frees; else a snapshot.
 *  Cost: a walk over all pages and over the free lists of all threads. Takes no lock that
 *  allocation's fast path or refill needs. Thread-safe, not async-signal-safe. Allocates nothing.
 */
TARN_API int tarn_stats_get(tarn_stats* out) TARN_NOEXCEPT;

/** Enough for every size class. */
#define TARN_CLASSES_MAX 128

/** The same with a row for each size class and each thread, as far as there is room; either array
 *  may be null. Room for threads: as many as there ever were at once, and two. */
TARN_API int tarn_stats_get_all(tarn_stats* out, tarn_class_stats* classes, size_t class_room,
                                tarn_thread_stats* threads, size_t thread_room) TARN_NOEXCEPT;

/** How tarn_stats_format() writes. */
enum tarn_stats_as {
    TARN_STATS_REPORT = 0,     /**< a table for people */
    TARN_STATS_LINE = 1,       /**< one line for a log: key=value ... */
    TARN_STATS_JSON = 2,       /**< an object; keys as in tarn_stats, arrays as there are */
    TARN_STATS_PROMETHEUS = 3, /**< text exposition format 0.0.4 */
    TARN_STATS_KEYS = 4        /**< a line "key value" for each field */
};

/** Writes `*of`, as tarn_stats_get_all() filled it, to the `room` bytes at `to`, terminated by a
 * zero byte unless room is 0. Returns the length of the whole text, as snprintf does; 0 for an
 * unknown format or a null `of`. Thread-safe. Allocates nothing. */
TARN_API size_t tarn_stats_format(tarn_stats const* of, int format, char* to,
                                  size_t room) TARN_NOEXCEPT;

/** Walks every page and every list of free blocks, and compares with what the statistics say.
 *  Returns the number of contradictions; each is a line on the report channel that names the page.
 *  `out`: null, or filled as by tarn_stats_get(), but from the walk. While other threads allocate
 *  or free it returns nonsense, and may crash. */
TARN_API size_t tarn_audit(tarn_stats* out) TARN_NOEXCEPT;

/** Limits on the memory held for blocks: tarn_stats::mapped_bytes without metadata_bytes, which is
 *  below 1 % of it. Untouched memory of large blocks counts. Set `size` to sizeof(tarn_limits). */
typedef struct tarn_limits {
    size_t size;
    /** Above it, free memory goes back to the system as the heap grows, and listeners are told for
     *  each 64th of it that is added. 0: none. Never makes an allocation fail. */
    uint64_t soft_bytes;
    /** Allocations that would need more fail, with ENOMEM or std::bad_alloc. 0: none. Below what is
     *  held: nothing new until enough was freed. */
    uint64_t hard_bytes;
    /** So much of hard_bytes is kept for a thread whose allocation has failed, and for blocks of up
     *  to 1 KiB: what unwinding and error messages need. 0: a sixteenth of hard_bytes, at most
     *  1 MiB. */
    uint64_t reserve_bytes;
} tarn_limits;

/** Returns 0, or EINVAL: null, unknown size, soft_bytes or reserve_bytes above hard_bytes.
 *  Thread-safe. Options soft_limit_bytes and hard_limit_bytes set them at the start. */
TARN_API int tarn_limits_set(tarn_limits const* limits) TARN_NOEXCEPT;

/** Fills `*out`, whose size must be set. Returns 0 or EINVAL. */
TARN_API int tarn_limits_get(tarn_limits* out) TARN_NOEXCEPT;

/** Why a listener is called. */
enum tarn_pressure_kind {
    TARN_PRESSURE_SOFT_LIMIT = 1, /**< more than soft_bytes is held, free memory given back */
    TARN_PRESSURE_HARD_LIMIT = 2, /**< an allocation is about to fail: it is tried once more */
    TARN_PRESSURE_CGROUP = 4,     /**< the cgroup uses more than 7/8 of its limit while this
                                       process grows */
    TARN_PRESSURE_SYSTEM = 8      /**< told by a thread that watches the cgroup and the system's
                                       memory pressure (PSI), also while this process idles */
};

typedef struct tarn_pressure {
    int kind;  /**< one of tarn_pressure_kind */
    int level; /**< 1: moderate; 2: critical */
    uint64_t held_bytes;
    uint64_t limit_bytes;  /**< 0 for TARN_PRESSURE_SYSTEM */
    uint64_t wanted_bytes; /**< of the allocation that is about to fail; else 0 */
} tarn_pressure;

/** May allocate and free; may not throw or wait for another thread that allocates. */
typedef void (*tarn_pressure_listener)(tarn_pressure const* event, void* context);

/** From here on `listener` is called for these kinds (tarn_pressure_kind, added up): in the thread
 *  whose allocation led to it, inside malloc, with no lock of Tarn held; for TARN_PRESSURE_SYSTEM
 *  in a thread of its own, which this call starts. One call at a time in the whole process.
 *  Returns 0; EINVAL; ENOMEM: there are 16 pairs of listener and context already; EAGAIN: nothing
 *  tells of the system's pressure, the other kinds are listened to. Thread-safe. */
TARN_API int tarn_pressure_listen(unsigned kinds, tarn_pressure_listener listener,
                                  void* context) TARN_NOEXCEPT;

/** Ends that. When it returns, no call is running or will come; inside a listener: none will come.
 *  Returns 0 or ENOENT. */
TARN_API int tarn_pressure_unlisten(tarn_pressure_listener listener, void* context) TARN_NOEXCEPT;

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

/** For libraries on top of this one: reports misuse of what they hand out, `text` being a line
 * without its end, and does as option on_misuse says: by default that ends the process.
 * Thread-safe. Allocates nothing. */
TARN_API void tarn_report_misuse(char const* text) TARN_NOEXCEPT;

/** Not 0: pools are to take each block from their upstream (option pools=plain). */
TARN_API int tarn_pools_are_plain(void) TARN_NOEXCEPT;

/** Writes the option table with the values in effect. Allocates nothing. */
TARN_API void tarn_options_print(int fd) TARN_NOEXCEPT;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* TARN_TARN_H */
