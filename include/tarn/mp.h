/* tarn/mp.h - a memory pool that checks: guard bytes around each block, the call stacks of its
 * allocation and its free, double and foreign frees, blocks that were never freed.
 *
 *     mp_init(NULL);                      // or with an mp_options; or not at all
 *     char* text = mp_alloc(100);         // from the slab of 128 bytes
 *     ...
 *     mp_free(text);                      // guards are compared here
 *     mp_destroy();                       // statistics, what was not freed, and all memory back
 *
 * It works beside malloc and free, in every mode of the library, in C and in C++. Names with mp_
 * are inline functions for those with tarn_mp_, since other libraries have an mp_init, too; define
 * TARN_MP_NO_SHORT_NAMES to do without them.
 *
 * Threads    every function: any thread, at any time, in static constructors and after main too.
 *            Calls of several threads share no lock but that of a slab, for a few instructions.
 *            mp_destroy waits for calls that are under way in other threads. Calls that come while
 *            it runs, or after it, do nothing but report; only mp_init begins anew.
 * Fork       the child has a pool of its own with the same blocks
 * Signals    none is async-signal-safe
 * Errors     out of memory: null and errno ENOMEM. Misuse: a report, and then the program goes on
 *            or ends, as mp_options say.
 * Alignment  every block is aligned to 16 bytes
 * Cost       a pair of mp_alloc and mp_free with 10 frames each: some 400 ns. Memory: for each
 *            block its slab's size, 32 bytes before and 16 behind, and a record of 48.
 * Source     docs/mp.md, docs/design/mp.md
 */
#ifndef TARN_MP_H
#define TARN_MP_H

#include <stddef.h>
#include <stdint.h>

#include <tarn/tarn.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Where reports go. */
enum tarn_mp_target {
    TARN_MP_STDERR = 0,
    TARN_MP_DESCRIPTOR = 1, /**< mp_options::report_descriptor */
    TARN_MP_FILE = 2,       /**< mp_options::report_path, appended to; made with mode 0600 */
    TARN_MP_CALL = 3        /**< mp_options::report_call */
};

/** How they are written. */
enum tarn_mp_format {
    TARN_MP_TEXT = 0,
    TARN_MP_JSON = 1 /**< one line, an object, for each report */
};

/** Gets a report, not ended by a zero byte: several lines of text, or one of JSON. Called in the
 *  thread that was found out, one thread at a time or several, with no lock held. May use the pool,
 *  but for mp_init and mp_destroy (EDEADLK); what that leads to is reported to standard error. May
 *  not throw. Not called any more when mp_destroy has returned. */
typedef void (*tarn_mp_receiver)(char const* text, size_t bytes, void* context);

/** Start from MP_OPTIONS_DEFAULT and change what is to be different. */
typedef struct tarn_mp_options {
    size_t size;         /**< sizeof(tarn_mp_options) */
    size_t guard_before; /**< 16: guard bytes before each block; 16 to 4096, in sixteens. Behind
                              them come 8 that lead to the block's record, and 8 more. */
    size_t guard_after;  /**< 16: behind it; likewise */
    int guard_byte;      /**< 0xAB: what they are; 0 to 255 */
    int keyed_guards;    /**< 0. 1: they differ from block to block, unpredictably */
    size_t fill_bytes;   /**< 65536: of a block so many are filled with 0xA1 when it comes and
                              0xF4 when it goes, which finds writes after that; 0: none */
    size_t frames;       /**< 10: calls noted of each allocation and free; 0 to 64 */
    int frame_pointers;  /**< 0: calls are found by unwind tables. 1: by frame pointers alone,
                              which is faster and leaves out code compiled without them */
    int slabs;           /**< 1: blocks up to 4096 bytes lie in slabs. 0: all are malloc's */
    uint64_t quarantine_bytes; /**< 262144: of freed blocks that are kept from reuse; 0: none. A
                                    block beside its bytes counts 128. */
    int abort_on_misuse;       /**< 0: goes on after a report. 1: abort() */
    int report_to;             /**< a tarn_mp_target */
    int report_format;         /**< a tarn_mp_format */
    int report_descriptor;     /**< 2 */
    char const* report_path;   /**< copied; at most 511 bytes */
    tarn_mp_receiver report_call;
    void* report_context; /**< what report_call gets as its last argument */
} tarn_mp_options;

/** As a null pointer to mp_init. */
#define TARN_MP_OPTIONS_DEFAULT                                                               \
    {                                                                                         \
        sizeof(tarn_mp_options), 16, 16, 0xAB, 0, 65536, 10, 0, 1, 262144, 0, TARN_MP_STDERR, \
            TARN_MP_TEXT, 2, NULL, NULL, NULL                                                 \
    }

/** Starts the pool. Null: with the defaults. Not needed: the first call of another function starts
 *  it with the defaults, too.
 *  Returns 0; EINVAL: a line on Tarn's report channel names the field that is wrong; EALREADY: it
 *  is started; EBUSY: mp_destroy runs. */
TARN_API int tarn_mp_init(tarn_mp_options const* options) TARN_NOEXCEPT;

/** Allocates `bytes` (0 allowed: a unique block). Null and ENOMEM: no memory, or no pool. */
TARN_API TARN_ALLOCATES void* tarn_mp_alloc(size_t bytes) TARN_NOEXCEPT;

/** `count` * `bytes` of zeroed memory; a report and ENOMEM when the product overflows. */
TARN_API TARN_ALLOCATES void* tarn_mp_calloc(size_t count, size_t bytes) TARN_NOEXCEPT;

/** Resizes; the block moves, but for large ones with room behind. Null `block`: as mp_alloc; 0
 *  bytes: frees and returns null. Null on failure, and the old block stays; EINVAL: it is none. */
TARN_API void* tarn_mp_realloc(void* block, size_t bytes) TARN_NOEXCEPT;

/** Compares the block's guards and gives it back. Null is allowed; errno is kept. Reported:
 *  overwritten guards (the block is freed all the same); a block that was freed already, with the
 *  stacks of its allocation and of both frees; a pointer into a block; a block of malloc, or of
 *  nobody (nothing else happens then). */
TARN_API void tarn_mp_free(void* block) TARN_NOEXCEPT;

/** What was asked for; 0 for null, and after a report for what is no live block. */
TARN_API size_t tarn_mp_usable_size(void* block) TARN_NOEXCEPT;

/** Compares the guards of all blocks, and the contents of freed ones in quarantine. Reports damage
 *  that was not reported yet, and returns the number of all damaged blocks. */
TARN_API size_t tarn_mp_check_all(void) TARN_NOEXCEPT;

/** Writes how many blocks there are, in each slab and beside them. */
TARN_API void tarn_mp_dump_stats(void) TARN_NOEXCEPT;

/** Writes the blocks that are not freed yet, with the stacks of their allocation, grouped by those.
 *  Returns how many there are. */
TARN_API size_t tarn_mp_dump_leaks(void) TARN_NOEXCEPT;

/** Blocks of one slab, or of none. */
typedef struct tarn_mp_slab_stats {
    uint64_t block_bytes; /**< 32 to 4096; 0: larger blocks, which are malloc's */
    uint64_t total;       /**< slots: in_use + held + free; 0 of larger blocks */
    uint64_t in_use;      /**< blocks that are not freed */
    uint64_t held;        /**< freed blocks in quarantine, and those a call has in hand */
    uint64_t free;
    uint64_t peak;        /**< the most that were in use or held at once; within some dozens where
                               several threads work */
    uint64_t chunks;      /**< of memory that the slab took */
    uint64_t chunk_bytes; /**< in all of them */
    uint64_t allocations; /**< so far */
} tarn_mp_slab_stats;

#define TARN_MP_SLABS 8

/** Set `size` before the call. */
typedef struct tarn_mp_stats {
    size_t size; /**< sizeof(tarn_mp_stats) */
    uint64_t live_blocks;
    uint64_t live_bytes; /**< as asked for */
    uint64_t held_blocks;
    uint64_t held_bytes;
    uint64_t allocations;
    tarn_mp_slab_stats slabs[TARN_MP_SLABS];
    tarn_mp_slab_stats larger;
} tarn_mp_stats;

/** Fills `*out`. Returns 0, or EINVAL: null, or an unknown size. Cost: a walk over all blocks. */
TARN_API int tarn_mp_get_stats(tarn_mp_stats* out) TARN_NOEXCEPT;

/** Waits for calls under way in other threads, checks all blocks, writes statistics and what is not
 *  freed, as mp_dump_stats and mp_dump_leaks do, and gives all memory back, that of blocks which
 *  were not freed, too. The destination of reports is forgotten; later ones go to standard error.
 *  Returns 0; EALREADY after a report: there is no pool; EDEADLK: a receiver of reports calls. */
TARN_API int tarn_mp_destroy(void) TARN_NOEXCEPT;

#ifdef __cplusplus
} /* extern "C" */
#endif

#ifndef TARN_MP_NO_SHORT_NAMES

/* Always inlined, so that reports show the caller, also in a build without optimisation. */
#if defined(__GNUC__)
#define TARN_MP_INLINE static inline __attribute__((always_inline, unused))
#else
#define TARN_MP_INLINE static inline
#endif

typedef tarn_mp_options mp_options;
typedef tarn_mp_stats mp_stats;
typedef tarn_mp_slab_stats mp_slab_stats;

/* NOLINTNEXTLINE(readability-identifier-naming): the inline names have no prefix */
#define MP_OPTIONS_DEFAULT TARN_MP_OPTIONS_DEFAULT

TARN_MP_INLINE int mp_init(mp_options const* options) TARN_NOEXCEPT {
    return tarn_mp_init(options);
}

TARN_MP_INLINE void* mp_alloc(size_t bytes) TARN_NOEXCEPT { return tarn_mp_alloc(bytes); }

TARN_MP_INLINE void* mp_calloc(size_t count, size_t bytes) TARN_NOEXCEPT {
    return tarn_mp_calloc(count, bytes);
}

TARN_MP_INLINE void* mp_realloc(void* block, size_t bytes) TARN_NOEXCEPT {
    return tarn_mp_realloc(block, bytes);
}

TARN_MP_INLINE void mp_free(void* block) TARN_NOEXCEPT { tarn_mp_free(block); }

TARN_MP_INLINE size_t mp_usable_size(void* block) TARN_NOEXCEPT {
    return tarn_mp_usable_size(block);
}

TARN_MP_INLINE size_t mp_check_all(void) TARN_NOEXCEPT { return tarn_mp_check_all(); }

TARN_MP_INLINE void mp_dump_stats(void) TARN_NOEXCEPT { tarn_mp_dump_stats(); }

TARN_MP_INLINE size_t mp_dump_leaks(void) TARN_NOEXCEPT { return tarn_mp_dump_leaks(); }

TARN_MP_INLINE int mp_get_stats(mp_stats* out) TARN_NOEXCEPT { return tarn_mp_get_stats(out); }

TARN_MP_INLINE int mp_destroy(void) TARN_NOEXCEPT { return tarn_mp_destroy(); }

#endif /* TARN_MP_NO_SHORT_NAMES */

#endif /* TARN_MP_H */
