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
 * `size` is the library's: so a reader copes with a later library of the same version. */
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
    uint32_t requests;   /**< atomic; the only field that others write */
    uint32_t sequence;   /**< atomic; odd while the rest changes */
    uint32_t answered;   /**< `requests` as it was when the figures were taken */
    uint64_t taken_ms;   /**< CLOCK_MONOTONIC */
    tarn_stats stats;    /**< by_class and by_thread mean nothing here; the counts do */
    tarn_class_stats classes[TARN_CLASSES_MAX];
    tarn_thread_stats threads[TARN_LIVE_THREADS];
} tarn_live;

#endif /* TARN_LIVE_H */
