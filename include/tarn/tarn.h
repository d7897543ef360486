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

/** What tarn_block_at() says of a block. */
typedef struct tarn_block {
    size_t bytes; /**< as tarn_malloc_usable_size(); 0: no block of Tarn's begins there; SIZE_MAX:
                       there may be one of a malloc for which Tarn stepped aside */
    void* page;   /**< for tarn_free_in(), as long as the block lives */
} tarn_block;

/** The block that begins at `address`, which may be any; no report where none does. One that was
 *  freed counts, too. Its bytes are at most 15, an eighth and, with an alignment above 16, that
 *  alignment more than what was asked for; from 128 KiB on at most 64 KiB more than that.
 *  Cost: some 13 instructions. */
TARN_API tarn_block tarn_block_at(void const* address) TARN_NOEXCEPT;

/** Gives back `block`, not null, for which tarn_block_at() has named this page. Cost: that of
 *  tarn_free() without a second search. */
TARN_API void tarn_free_in(void* block, void* page) TARN_NOEXCEPT;

/** Bytes of the block that holds `address`, at its start or inside; where it begins is put into
 *  `*start`. 0 and null: none does. */
TARN_API size_t tarn_find_block(void const* address, void** start) TARN_NOEXCEPT;

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

/** Pools, regions and heaps of one kind and name, in tarn_stats. */
typedef struct tarn_owner_stats {
    char kind[24];       /**< "block_pool"; "others": what found no room */
    char name[40];       /**< cut where it is longer; empty: none was given */
    uint64_t owners;     /**< number of them */
    uint64_t held_bytes; /**< that they took, from wherever they take memory */
    uint64_t live_bytes; /**< of those: handed out, or free and held ready; as of when the owner
                              last took or returned memory, or looked at what it holds ready */
} tarn_owner_stats;

/** Changes when a field changes its meaning; new fields only make tarn_stats larger. */
#define TARN_STATS_VERSION 1

/** What the process holds now. Set `size` to sizeof(tarn_stats) before the call; a newer library
 *  fills no more than that. All fields in bytes unless named otherwise. While nobody allocates or
 *  frees:
 *      mapped_bytes + purged_inside_bytes == metadata_bytes + live_bytes + page_tail_bytes +
 *          fresh_bytes + held_by_threads_bytes + free_in_bins_bytes + free_in_heaps_bytes +
 *          free_runs_bytes + quarantined_bytes + guard_bytes */
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
    uint64_t free_in_heaps_bytes;   /**< free blocks in pages of heaps (tarn_heap_create) */
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
    uint64_t thread_count;      /**< elements filled */
    tarn_owner_stats* by_owner; /**< null, or what tarn_owners_get() filled: set by the caller */
    uint64_t owner_count;       /**< elements there */

    /** Of option mode=debug; else 0. live_bytes is there what the program asked for, to the byte,
     *  but for what does not come from malloc and its kin; by_class tells of the blocks that its
     *  blocks lie in, those in quarantine too. */
    uint64_t quarantined_blocks; /**< freed, and kept from reuse: number */
    uint64_t quarantined_bytes;  /**< in those, as they were asked for */
    uint64_t guard_bytes; /**< around live blocks and those: guards, and what is rounded up */

    /** Of option sampled_guards; 0 in mode debug. */
    uint64_t guarded_blocks; /**< of live_blocks: number between inaccessible pages */
    uint64_t guarded_so_far; /**< number, so far */
    uint64_t guards_refused; /**< samples, so far, that the system had no such pages for; from the
                                  first on it is asked no more, and this counts no more */
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

/** Fills a row for each kind and name of owners, at most `room`, those that hold most first; what
 *  finds no room is added to the last row. Returns the number of rows filled. Allocates nothing.
 *  Cost: a comparison for each owner and row, during which owners begin and end a little later. */
TARN_API size_t tarn_owners_get(tarn_owner_stats* rows, size_t room) TARN_NOEXCEPT;

/** For libraries on top of this one: what holds memory and hands parts of it out. Lies in memory of
 *  the owner's and does not move. All fields are the library's. */
typedef struct tarn_owner {
    char const* kind;
    char const* name;
    uint64_t held_bytes;
    uint64_t live_bytes;
    struct tarn_owner* next;
    struct tarn_owner* previous;
} tarn_owner;

/** From here on statistics list the owner, with nothing held. `kind` and `name`, which may be null,
 *  must outlive it. Takes a lock for a few instructions. */
TARN_API void tarn_owner_enter(tarn_owner* owner, char const* kind, char const* name) TARN_NOEXCEPT;

/** Ends that. */
TARN_API void tarn_owner_leave(tarn_owner* owner) TARN_NOEXCEPT;

/** Adds to what the owner holds, and to what of it is live. By one thread at a time; a load and a
 *  store each. */
TARN_API void tarn_owner_add(tarn_owner* owner, int64_t held_bytes,
                             int64_t live_bytes) TARN_NOEXCEPT;

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

/** What mode debug knows (option mode). Set `size` to sizeof(tarn_checks). */
typedef struct tarn_checks {
    size_t size;
    uint64_t live_blocks; /**< that are checked: all of malloc and its kin, but those of heaps */
    uint64_t live_bytes;  /**< of those, as asked for */
    uint64_t live_peak_bytes;
    uint64_t quarantined_blocks; /**< freed and kept from reuse; they are checked, too */
    uint64_t quarantined_bytes;  /**< of those, as they were asked for */
    uint64_t guard_bytes;        /**< around all these */
    uint64_t checked_blocks;     /**< looked at by tarn_check_all() and its kin, so far */
    uint64_t damaged_blocks;     /**< found damaged by anything, so far; each counts once */
    uint64_t findings;           /**< of every kind, double frees too, so far: reports, as long as
                                      option on_misuse lets them be written */
} tarn_checks;

/** Fills `*out`. Returns 0; EINVAL: null or unknown size; ENOTSUP: this process is not in mode
 *  debug, so that tarn_check_all() checks nothing. Exact while no other thread allocates or frees.
 *  Allocates nothing. */
TARN_API int tarn_checks_get(tarn_checks* out) TARN_NOEXCEPT;

/** In mode debug: checks the guards of every live block, and guards and fill of every freed one
 *  that is still kept, now. Returns how many are damaged, those that were reported before included;
 *  0: none is, or nothing is checked (tarn_checks_get() tells). Damage that nobody was told of is
 *  reported, and then option on_misuse applies: by default the process ends. Thread-safe; others
 *  may allocate and free meanwhile. Allocates nothing.
 *  Cost: a walk over all blocks. */
TARN_API size_t tarn_check_all(void) TARN_NOEXCEPT;

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

/* --- Heaps -------------------------------------------------------------------------------------
 * A heap has blocks, a limit and figures of its own, and can be destroyed with all its blocks at
 * once. Any thread may allocate and free in it. Its blocks are given back by tarn_heap_free(),
 * tarn_free() or, under libtarn.so, free(); tarn_realloc() keeps a block in its heap;
 * tarn_malloc_usable_size() knows them.
 * Destruction frees all blocks: a free in another thread that has looked at its block by then does
 * nothing. A later one is reported as misuse, as long as nothing else lies there; so let frees come
 * to their end before.
 * Cost: a lock that few threads share, per allocation and free. */

/** A heap; `id` 0 is none. No two heaps of a process ever have the same. */
typedef struct tarn_heap {
    uint64_t id;
} tarn_heap;

#define TARN_HEAP_NAME_MAX 31 /**< bytes of a name; what is longer is cut */

/** Set `size` to sizeof(tarn_heap_options) and all else to 0, or to what is wanted. */
typedef struct tarn_heap_options {
    size_t size;
    char const* name;     /**< null: none */
    uint64_t limit_bytes; /**< of its pages; beyond, allocations fail. 0: none */
    int has_numa_node;    /**< not 0: its memory is wanted from the node below */
    int numa_node;        /**< a wish: what the system cannot give is ignored */
} tarn_heap_options;

/** `options` null: all as 0. id 0 and errno: EINVAL: unknown size, a NUMA node below 0; ENOMEM.
 *  Cost: some 5 KiB of metadata for each heap, as much again for each CPU on which threads meet. */
TARN_API tarn_heap tarn_heap_create(tarn_heap_options const* options) TARN_NOEXCEPT;

/** Frees all blocks. Returns 0; EINVAL: there is no such heap. Cost: O(pages). */
TARN_API int tarn_heap_destroy(tarn_heap heap) TARN_NOEXCEPT;

/** As tarn_malloc(). ENOMEM also where the heap's limit is met. No such heap: a report, null and
 *  EINVAL. */
TARN_API TARN_ALLOCATES void* tarn_heap_malloc(tarn_heap heap, size_t bytes) TARN_NOEXCEPT;

/** As tarn_calloc(). */
TARN_API TARN_ALLOCATES void* tarn_heap_calloc(tarn_heap heap, size_t count,
                                               size_t bytes) TARN_NOEXCEPT;

/** As tarn_aligned_alloc(). */
TARN_API TARN_ALLOCATES void* tarn_heap_aligned_alloc(tarn_heap heap, size_t alignment,
                                                      size_t bytes) TARN_NOEXCEPT;

/** As tarn_free(), and reports what is not a block of this heap. */
TARN_API void tarn_heap_free(tarn_heap heap, void* block) TARN_NOEXCEPT;

/** Makes `block`, of any heap or none, at least `bytes` long without moving it. Returns 1; 0: that
 *  is not possible, and nothing has changed. A few KiB more fit often, for blocks above 128 KiB
 *  also what is free behind them. */
TARN_API int tarn_expand(void* block, size_t bytes) TARN_NOEXCEPT;

/** The heap that holds an address, inside a block too; id 0: none. */
TARN_API tarn_heap tarn_heap_of(void const* address) TARN_NOEXCEPT;

/** 0: none; below what is held: nothing new until enough was freed. Returns 0 or EINVAL: there is
 *  no such heap. */
TARN_API int tarn_heap_set_limit(tarn_heap heap, uint64_t bytes) TARN_NOEXCEPT;

typedef struct tarn_heap_stats {
    size_t size; /**< in: sizeof(tarn_heap_stats) of the caller */
    tarn_heap heap;
    char name[TARN_HEAP_NAME_MAX + 1];
    uint64_t live_blocks;     /**< number */
    uint64_t live_bytes;      /**< of those, by block size */
    uint64_t allocations;     /**< number, so far */
    uint64_t held_bytes;      /**< of its pages, blocks above 128 KiB among them: what limit_bytes
                                   means */
    uint64_t held_peak_bytes; /**< so far */
    uint64_t limit_bytes;     /**< 0: none */
    uint64_t limit_refusals;  /**< allocations that the limit stopped, so far */
    uint64_t metadata_bytes;  /**< of Tarn's records for it, beside held_bytes */
    uint64_t pages;           /**< number */
    uint64_t lanes;           /**< that threads can use at once without waiting */
    int64_t numa_node;        /**< -1: any */
} tarn_heap_stats;

/** Returns 0, or EINVAL: no such heap, null, unknown size. Exact while nobody uses the heap. */
TARN_API int tarn_heap_stats_get(tarn_heap heap, tarn_heap_stats* out) TARN_NOEXCEPT;

/** The same of all heaps, as many as there is room for. Returns their number. `rows` null: just
 *  that. The first row's size counts for all. */
TARN_API size_t tarn_heaps_get_all(tarn_heap_stats* rows, size_t room) TARN_NOEXCEPT;

/** Not 0 ends the walk. */
typedef int (*tarn_block_visitor)(void* block, size_t bytes, void* context);

/** Calls visit() for each live block of the heap, in no order and holding no lock: it may free the
 *  block, and allocate. What other threads free meanwhile may be visited, what they allocate may be
 *  missed. Returns 0 or EINVAL: there is no such heap. Cost: a look at all pages of the process. */
TARN_API int tarn_heap_walk(tarn_heap heap, tarn_block_visitor visit, void* context) TARN_NOEXCEPT;

/** Gives the heap's free pages, and free OS pages inside others, back. Returns the bytes. */
TARN_API size_t tarn_heap_trim(tarn_heap heap) TARN_NOEXCEPT;

/** Writes the statistics report as text to a file descriptor. Allocates nothing. */
TARN_API void tarn_stats_print(int fd) TARN_NOEXCEPT;

/** For libraries on top of this one: reports misuse of what they hand out, `text` being a line
 * without its end, and does as option on_misuse says: by default that ends the process.
 * Thread-safe. Allocates nothing. */
TARN_API void tarn_report_misuse(char const* text) TARN_NOEXCEPT;

/** Writes `text` as a line on the report channel, and goes on. Thread-safe. Allocates nothing. */
TARN_API void tarn_report_line(char const* text) TARN_NOEXCEPT;

/** What a thread asks for, as a watch sees it. */
enum tarn_operation_kind {
    TARN_ALLOCATE = 0,
    TARN_RESIZE = 1, /**< realloc of a block to a size above 0 */
    TARN_FREE = 2
};

typedef struct tarn_operation {
    int kind;           /**< one of tarn_operation_kind */
    char const* name;   /**< "malloc" (also new), "calloc", "memalign", "realloc" or "free" */
    void* block;        /**< to be resized or freed; null: to be allocated */
    size_t bytes;       /**< asked for */
    size_t alignment;   /**< of memalign and its kin, above 16; else 0 */
    void const* caller; /**< an address in the function that asks, as far as that is known */
} tarn_operation;

/** Called before the operation is done. Not 0: it fails, with ENOMEM (TARN_FREE never does). What
 *  it allocates itself no watch of the thread sees. May not throw, nor begin or end watches. */
typedef int (*tarn_watch_decide)(tarn_operation const* asked, void* context);

enum tarn_watch_flag {
    TARN_WATCH_ALONE = 1 /**< watches begun before see nothing and decide nothing meanwhile */
};

/** Sees what one thread allocates and frees: by any tarn_ function, and by malloc, operator new and
 *  their kin where Tarn serves them. Pools show what they take from the core. Set `size`, and what
 *  of the next three is wanted; all else to zero. */
typedef struct tarn_watch {
    size_t size;              /**< sizeof(tarn_watch) */
    unsigned flags;           /**< of tarn_watch_flag, added up */
    unsigned state;           /**< the library's */
    tarn_watch_decide decide; /**< null: to count is enough */
    void* context;
    /** Counted while the watch is on; its thread may read them and set them to zero at any time. */
    uint64_t allocations;     /**< blocks handed out */
    uint64_t reallocations;   /**< blocks resized, moved or not */
    uint64_t frees;           /**< blocks given back; not null, nor what is no block */
    uint64_t failures;        /**< allocations and resizes that gave null, whoever refused them */
    uint64_t requested_bytes; /**< asked for by the first two */
    uint64_t allocated_bytes; /**< in the blocks these gave: tarn_malloc_usable_size() */
    uint64_t freed_bytes;     /**< in the blocks that were given back or resized */
    int64_t peak_live_bytes;  /**< the most that allocated_bytes was above freed_bytes */
    void* reserved[4];        /**< the library's */
} tarn_watch;

/** From here on `watch`, which must stay where it is, sees what the calling thread allocates and
 *  frees. Watches nest: the latest is asked first, and all that are on count what is done. Returns
 *  0, or EINVAL: null, unknown size or flags, on already. Allocates nothing.
 *  Cost: no instruction for other threads; each operation of this one takes the slow path. */
TARN_API int tarn_watch_begin(tarn_watch* watch) TARN_NOEXCEPT;

/** Ends that, in any order with other watches; the counts stay. The end of the thread ends it, too.
 *  Returns 0, or EINVAL: the calling thread has not begun it. */
TARN_API int tarn_watch_end(tarn_watch* watch) TARN_NOEXCEPT;

/** Not 0: pools are to take each block from their upstream (option pools=plain). */
TARN_API int tarn_pools_are_plain(void) TARN_NOEXCEPT;

/** Writes the option table with the values in effect. Allocates nothing. */
TARN_API void tarn_options_print(int fd) TARN_NOEXCEPT;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* TARN_TARN_H */
