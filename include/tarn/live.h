/* tarn/live.h - the file in which a process on Tarn shows its statistics while it runs.
 *
 * For tools such as `tarn stat`, not for the process itself: that calls tarn_stats_get().
 *
 * The file lies in memory alone (memfd_create): /proc/PID/fd/N of the process is a link to
 * TARN_LIVE_LINK. Only the same user, or root, may open it, and it is gone with the process. It is
 * sealed: its length is TARN_LIVE_BYTES and can't change, so that a mapping of it never faults.
 * It is not there in the first tenth of a second, nor with option live_stats=off.
 *
 * To read: map it shared, readable and writable; check `magic`, `version` and `process_id` (after
 * fork a child has its parent's file open until it has its own). Add 1 to `requests` and wake it
 * (FUTEX_WAKE, shared). A process with a second thread answers at once, also while it idles; one
 * with a single thread when it next takes or gives back a page. Whoever answers raises `sequence`
 * to an even number and wakes it. To copy: read `sequence` until it is even, copy, and take the
 * copy if `sequence` is still the same. Without an answer the last figures stand, as of `taken_ms`;
 * before the first ones `sequence` is 0. The classes and then the threads follow `stats`, whose
 * `size` is the library's: so a reader copes with a later library of the same version.
 *
 * A process in mode debug can be asked to check its blocks. How is said by a tarn_live_check, which
 * lies TARN_LIVE_CHECK_AT bytes from the file's start; that of another process, or of an older
 * library, is zero. Add 1 to its `requests`, then 1 to that of tarn_live, and wake the latter. A
 * process with a second thread checks at once; one with a single thread when it next allocates or
 * frees. It tells what it has found as figures are told, by its own `sequence`. */
#ifndef TARN_LIVE_H
#define TARN_LIVE_H

#include <tarn/tarn.h>

#define TARN_LIVE_NAME "tarn-stats"
#define TARN_LIVE_LINK "/memfd:tarn-stats (deleted)"
#define TARN_LIVE_MAGIC 0x4e524154U /* "TARN" */
#define TARN_LIVE_BYTES 36864
#define TARN_LIVE_THREADS 480

typedef struct tarn_live {
    uint32_t magic;
    uint32_t version;    /**< TARN_STATS_VERSION */
    uint32_t process_id; /**< as the process sees it */
    uint32_t requests;   /**< atomic; others write this, and that of tarn_live_check, alone */
    uint32_t sequence;   /**< atomic; odd while the rest changes */
    uint32_t answered;   /**< `requests` as it was when the figures were taken */
    uint64_t taken_ms;   /**< CLOCK_MONOTONIC */
    tarn_stats stats;    /**< by_class and by_thread mean nothing here; the counts do */
    tarn_class_stats classes[TARN_CLASSES_MAX];
    tarn_thread_stats threads[TARN_LIVE_THREADS];
} tarn_live;

#define TARN_LIVE_CHECK_AT (TARN_LIVE_BYTES - 64)

typedef struct tarn_live_check {
    uint32_t is_answered;          /**< 1: the process checks its blocks when asked */
    uint32_t requests;             /**< atomic; others write it */
    uint32_t sequence;             /**< atomic; odd while the rest changes */
    uint32_t answered;             /**< atomic; `requests` as it was when the check began */
    uint64_t blocks;               /**< checked, live and in quarantine */
    uint64_t damaged_blocks;       /**< of those, reported before or now */
    uint64_t quarantined_blocks;   /**< of `blocks`, about */
    uint64_t damaged_blocks_total; /**< found damaged so far, those that are gone too */
    uint64_t findings_total;       /**< of every kind, so far */
    uint64_t duration_ms;          /**< of the check */
} tarn_live_check;

#endif /* TARN_LIVE_H */
