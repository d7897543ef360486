/* tarn/shm.h - pools of chunks in memory that several processes share, which no death can break.
 *
 *     tarn_shm_pool const pools[] = {{.chunk_bytes = 256, .count = 1000},
 *                                    {.chunk_bytes = 4096, .count = 100}};
 *     tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
 *     config.pools = pools;
 *     config.pool_count = 2;
 *     tarn_shm_create("camera", &config, NULL);              // once, by anybody
 *
 *     tarn_shm* camera = tarn_shm_attach("camera", NULL, NULL);   // in each process
 *     tarn_shm_chunk chunk;
 *     if (tarn_shm_allocate(camera, 200, 0, NULL, &chunk) == 0) {
 *         memcpy(chunk.payload, picture, 200);
 *         send_to_other_process(chunk.reference);            // 64 bits, by any way there is
 *         ...
 *         tarn_shm_release(camera, chunk.reference);         // when the other one holds it
 *     }
 *     // there:
 *     if (tarn_shm_hold(camera, reference, &chunk) == 0) {
 *         ...
 *         tarn_shm_release(camera, reference);
 *     }
 *     tarn_shm_detach(camera);
 *
 * A *segment* is a file in memory with a name in a domain, or without one. A *client* is one
 * attachment of it. All that its clients have of it goes back when they detach, or die, however.
 *
 * Threads    every function: any thread, but for tarn_shm_detach, which must be the last call
 * Death      a process may be killed at any instruction: others lose nothing and wait for nothing.
 *            What it held is found by whoever next misses a chunk, attaches, or asks for it
 *            (tarn_shm_recover). A process that is only slow or stopped is never taken for dead.
 * Fork       the child has no clients, nor their memory: calls with its parent's say
 *            TARN_SHM_FORKED, but for tarn_shm_detach. exec ends them.
 * Signals    none is async-signal-safe
 * Errors     an enum tarn_shm_error, 0 for success; where a function has an argument `failure`, it
 *            may be null, and else says what, where and why. Nothing ends the process.
 * Security   segments have mode 0600 and lie in a directory of the same user, of mode 0700, unless
 *            asked otherwise; what lies in a segment is checked before it is used. A client that
 *            may write can spoil others' payloads and use up all chunks. Who may write to the file
 *            of a segment with a name can shorten it, which faults others; those without are
 *            sealed.
 * Cost       tarn_shm_take and tarn_shm_give of a chunk: an atomic operation each, on words that
 *            other clients seldom touch; tarn_shm_allocate and tarn_shm_release: five together
 * Needs      Linux 3.15 (file locks that belong to a descriptor); a file system in memory
 * Source     docs/design/shm.md
 */
#ifndef TARN_SHM_H
#define TARN_SHM_H

#include <stddef.h>
#include <stdint.h>

#include <tarn/tarn.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TARN_SHM_POOLS_MAX 16
#define TARN_SHM_CLIENTS_MAX 48
#define TARN_SHM_NAME_MAX 63  /**< bytes of a segment's name, or a domain's */
#define TARN_SHM_LABEL_MAX 31 /**< of a client's label */
#define TARN_SHM_WAIT_FOR_EVER UINT32_MAX

enum tarn_shm_error {
    TARN_SHM_OK = 0,
    TARN_SHM_INVALID = 1,      /**< an argument: failure says which */
    TARN_SHM_NOT_FOUND = 2,    /**< no segment of this name, or id */
    TARN_SHM_EXISTS = 3,       /**< there is one */
    TARN_SHM_FULL = 4,         /**< the file system has no room */
    TARN_SHM_NO_MEMORY = 5,    /**< this process can have no more memory, or address space */
    TARN_SHM_DENIED = 6,       /**< access rights, an owner who is not the user, a symbolic link */
    TARN_SHM_INCOMPATIBLE = 7, /**< no segment, or of another version or layout */
    TARN_SHM_DAMAGED = 8,      /**< its header is not what it was when it was made */
    TARN_SHM_TOO_MANY = 9,     /**< TARN_SHM_CLIENTS_MAX are attached; or no id is left */
    TARN_SHM_IN_USE = 10,      /**< somebody is attached */
    TARN_SHM_EXHAUSTED = 11,   /**< no chunk is free, nor became so in time */
    TARN_SHM_TOO_LARGE = 12,   /**< no pool has such chunks */
    TARN_SHM_STALE = 13,       /**< all holders have released the chunk */
    TARN_SHM_NOT_HELD = 14,    /**< released more often than held */
    TARN_SHM_READ_ONLY = 15,   /**< this client may not write payloads */
    TARN_SHM_FORKED = 16,      /**< this process has the client from its parent */
    TARN_SHM_SYSTEM = 17       /**< another refusal of the system: failure has its errno */
};

typedef struct tarn_shm_failure {
    int code;       /**< a tarn_shm_error */
    int system;     /**< errno, or 0 */
    char text[248]; /**< what, where, why: one line of English, without a newline */
} tarn_shm_failure;

/** Chunks of one size. Start from zeros. */
typedef struct tarn_shm_pool {
    uint64_t chunk_bytes;       /**< room for the user's header and the payload; at least 1 */
    uint32_t count;             /**< from the beginning, with memory of their own; at least 1 */
    uint32_t count_most;        /**< grows to so many, by `count` at a time; 0: does not */
    uint32_t alignment;         /**< of payloads: a power of two up to 2 MiB; 0: 64 */
    uint32_t user_header_bytes; /**< before each payload; up to 4096; 0: none */
} tarn_shm_pool;

typedef struct tarn_shm_config {
    size_t size;                /**< sizeof(tarn_shm_config) */
    tarn_shm_pool const* pools; /**< in any order; no two of one size and alignment */
    size_t pool_count;          /**< 1 to TARN_SHM_POOLS_MAX */
    char const* domain;         /**< null: the user's own */
    unsigned mode; /**< access rights of the file: 0600, or 0660 for a group's domain */
} tarn_shm_config;

#define TARN_SHM_CONFIG_DEFAULT \
    { sizeof(tarn_shm_config), NULL, 0, NULL, 0600 }

/* A domain is where segments have their names. Null is the user's own, /dev/shm/tarn.UID. A name
 * (as a segment's) is /dev/shm/tarn.UID.NAME. A path that begins with '/' is that
 * directory, which has to exist; it may be a group's. */

typedef struct tarn_shm_attaching {
    size_t size;           /**< sizeof(tarn_shm_attaching) */
    char const* domain;    /**< null: the user's own */
    char const* label;     /**< what `tarn shm who` calls this client; null: the program's name */
    int payload_read_only; /**< 1: payloads are mapped so that a write to them is a fault */
    void* address;         /**< where to map it, a page's start; null: anywhere */
} tarn_shm_attaching;

#define TARN_SHM_ATTACHING_DEFAULT \
    { sizeof(tarn_shm_attaching), NULL, NULL, 0, NULL }

/** An attachment. */
typedef struct tarn_shm tarn_shm;

/** One chunk, held. */
typedef struct tarn_shm_chunk {
    uint64_t reference; /**< names it, for all processes: segment, pool, number, generation */
    void* payload;
    void* user_header;      /**< null: the pool has none */
    uint64_t payload_bytes; /**< as asked for */
    uint64_t chunk_bytes;   /**< room from `payload` on */
    uint64_t sequence;      /**< its number among what its first client shared, from 1 on */
    uint32_t origin;        /**< number of that client */
} tarn_shm_chunk;

/** What to do when the smallest pool that fits is empty. Null: those of TARN_SHM_ASKING_DEFAULT. */
typedef struct tarn_shm_asking {
    uint32_t larger_most; /**< 4: chunks of other pools serve up to so many times the size; 1: none
                               but pools of the same size */
    uint32_t wait_ms;     /**< 0; TARN_SHM_WAIT_FOR_EVER */
} tarn_shm_asking;

#define TARN_SHM_ASKING_DEFAULT \
    { 4, 0 }

/** "out of room" and the like, for a tarn_shm_error. */
TARN_API char const* tarn_shm_error_text(int error) TARN_NOEXCEPT;

/** Makes a segment, whole, under a name: letters, digits, '-', '_' and '.', not first. Its memory
 *  is there from now on, also where nobody is attached, until tarn_shm_remove.
 *  Cost: its memory is cleared by the system. */
TARN_API int tarn_shm_create(char const* name, tarn_shm_config const* config,
                             tarn_shm_failure* failure) TARN_NOEXCEPT;

/** Makes one without a name, and attaches it: it lives as long as it is attached anywhere, or its
 *  descriptor is left. The file is sealed: nobody can shorten it. Null on failure. */
TARN_API tarn_shm* tarn_shm_create_anonymous(tarn_shm_config const* config,
                                             tarn_shm_attaching const* attaching,
                                             tarn_shm_failure* failure) TARN_NOEXCEPT;

/** Attaches a segment. `attaching` may be null. Null on failure. */
TARN_API tarn_shm* tarn_shm_attach(char const* name, tarn_shm_attaching const* attaching,
                                   tarn_shm_failure* failure) TARN_NOEXCEPT;

/** The same of an anonymous segment by its descriptor, which stays the caller's. */
TARN_API tarn_shm* tarn_shm_attach_descriptor(int descriptor, tarn_shm_attaching const* attaching,
                                              tarn_shm_failure* failure) TARN_NOEXCEPT;

/** The descriptor of an anonymous segment, to pass on over a socket (tarn_shm_send) or to a child;
 *  it lives as long as the client, in a forked child, too. -1: the segment has a name. */
TARN_API int tarn_shm_descriptor(tarn_shm* client) TARN_NOEXCEPT;

/** Sends the descriptor over a connected UNIX socket, and receives one: the caller's to close. -1:
 *  none came. `of_user`: only from a process of this user, (uid_t)-1: of any. */
TARN_API int tarn_shm_send(int socket, tarn_shm* client, tarn_shm_failure* failure) TARN_NOEXCEPT;
TARN_API int tarn_shm_receive(int socket, uint32_t of_user,
                              tarn_shm_failure* failure) TARN_NOEXCEPT;

/** Gives back all that this client holds, and unmaps the segment. Null is allowed. */
TARN_API void tarn_shm_detach(tarn_shm* client) TARN_NOEXCEPT;

/** Removes the name. TARN_SHM_IN_USE: somebody is attached, and nothing is changed; with
 *  `also_in_use` the name goes all the same, and the memory with the last client. */
TARN_API int tarn_shm_remove(char const* name, char const* domain, int also_in_use,
                             tarn_shm_failure* failure) TARN_NOEXCEPT;

/** A chunk of at least `bytes`, aligned to `alignment` (0: 64, or what its pool has). Its contents
 *  are what was there before. */
TARN_API int tarn_shm_allocate(tarn_shm* client, uint64_t bytes, uint32_t alignment,
                               tarn_shm_asking const* asking, tarn_shm_chunk* chunk) TARN_NOEXCEPT;

/** Up to `most` chunks of one pool, at most 64, for the caller alone: nobody else may be told their
 *  references until tarn_shm_share. The number of them; 0: none is free, or they may not be had.
 *  The fastest way, and what a thread keeps for itself (tarn/shm/magazine.hpp). */
TARN_API uint32_t tarn_shm_take(tarn_shm* client, uint32_t pool, uint32_t most,
                                tarn_shm_chunk* chunks) TARN_NOEXCEPT;

/** Gives them back. */
TARN_API void tarn_shm_give(tarn_shm* client, uint64_t const* references,
                            uint32_t count) TARN_NOEXCEPT;

/** Makes such a chunk one as of tarn_shm_allocate, with that size and the client's next sequence
 *  number: its reference may be passed on, and tarn_shm_release ends it. Also gives one that was
 *  allocated here, and that nobody was told of, another size. TARN_SHM_INVALID: others hold it. */
TARN_API int tarn_shm_share(tarn_shm* client, uint64_t reference,
                            uint64_t payload_bytes) TARN_NOEXCEPT;

/** The smallest pool whose chunks do, or TARN_SHM_POOLS_MAX. */
TARN_API uint32_t tarn_shm_pool_for(tarn_shm* client, uint64_t bytes,
                                    uint32_t alignment) TARN_NOEXCEPT;

/** Holds a chunk whose reference came from another client; or once more one that this client holds
 *  already. TARN_SHM_STALE: nobody held it any more. The other one keeps it until then. */
TARN_API int tarn_shm_hold(tarn_shm* client, uint64_t reference,
                           tarn_shm_chunk* chunk) TARN_NOEXCEPT;

/** As often as it was allocated and held. TARN_SHM_NOT_HELD: it is not, nothing was done. */
TARN_API int tarn_shm_release(tarn_shm* client, uint64_t reference) TARN_NOEXCEPT;

/** What a reference leads to, of a chunk that this client holds; TARN_SHM_NOT_HELD otherwise. */
TARN_API int tarn_shm_describe(tarn_shm* client, uint64_t reference,
                               tarn_shm_chunk* chunk) TARN_NOEXCEPT;

/** Looks for clients that died, and takes back what they held. The number of them; below 0: a
 *  tarn_shm_error, negative. */
TARN_API int tarn_shm_recover(tarn_shm* client) TARN_NOEXCEPT;

/** The same, as soon as one dies: waits for that, at most so long. Clients of the same pid
 *  namespace are told by the system at once, others looked for every 100 ms. For a thread that a
 *  program has for it; without one the dead are found when a chunk is missed. */
TARN_API int tarn_shm_housekeep(tarn_shm* client, uint32_t most_ms) TARN_NOEXCEPT;

/* What there is to see, for programs and for `tarn shm`. */

typedef struct tarn_shm_info {
    size_t size; /**< sizeof(tarn_shm_info), set by the caller */
    char name[TARN_SHM_NAME_MAX + 1];
    uint32_t id;
    uint32_t pool_count;
    uint32_t client;        /**< number of the own one, TARN_SHM_CLIENTS_MAX for an observer */
    uint32_t clients;       /**< number of those that are attached */
    uint64_t control_bytes; /**< all but the chunks */
    uint64_t payload_bytes; /**< of the chunks, when all pools have grown */
    uint64_t ready_bytes;   /**< of those, with memory */
    uint64_t recoveries;    /**< of dead clients, so far */
    void const* base;       /**< of the mapping */
    uint64_t mapped_bytes;
} tarn_shm_info;

typedef struct tarn_shm_pool_info {
    uint64_t chunk_bytes;
    uint64_t stride_bytes;
    uint32_t alignment;
    uint32_t user_header_bytes;
    uint32_t ready; /**< chunks with memory */
    uint32_t count_most;
    uint32_t free; /**< chunks that nobody holds */
} tarn_shm_pool_info;

typedef struct tarn_shm_client_info {
    int state;           /**< 0: free. 1: alive. 2: dead, not recovered yet */
    uint32_t generation; /**< clients this slot had so far */
    int32_t process_id;  /**< as itself sees it */
    uint32_t user_id;
    uint64_t namespace_id; /**< inode of its pid namespace */
    uint64_t started;      /**< start of the process, in clock ticks since boot */
    uint64_t held;         /**< chunks */
    uint64_t held_bytes;   /**< of those, with their strides */
    uint64_t allocations;  /**< chunks that could be shared, so far */
    char label[TARN_SHM_LABEL_MAX + 1];
} tarn_shm_client_info;

typedef struct tarn_shm_chunk_info {
    uint64_t holders; /**< a bit for each client */
    uint32_t generation;
    uint32_t hint;     /**< 1: said to be free, perhaps */
    uint64_t sequence; /**< what its allocating client wrote, perhaps long ago */
    uint64_t payload_bytes;
    uint32_t origin;
} tarn_shm_chunk_info;

/** Opens a segment to look at it: takes no client's slot, maps all for reading alone. For the
 *  functions below, tarn_shm_recover and tarn_shm_detach. */
TARN_API tarn_shm* tarn_shm_observe(char const* name, char const* domain,
                                    tarn_shm_failure* failure) TARN_NOEXCEPT;

TARN_API int tarn_shm_info_get(tarn_shm* client, tarn_shm_info* info) TARN_NOEXCEPT;
TARN_API int tarn_shm_pool_info_get(tarn_shm* client, uint32_t pool,
                                    tarn_shm_pool_info* info) TARN_NOEXCEPT;
TARN_API int tarn_shm_client_info_get(tarn_shm* client, uint32_t number,
                                      tarn_shm_client_info* info) TARN_NOEXCEPT;
TARN_API int tarn_shm_chunk_info_get(tarn_shm* client, uint32_t pool, uint32_t number,
                                     tarn_shm_chunk_info* info) TARN_NOEXCEPT;

/** Checks what must hold while no client is between two steps: each holder is alive, each free
 *  chunk has its hint. Calls `receive` for each fault with a line of text. The number of faults;
 *  below 0: -TARN_SHM_FORKED. */
TARN_API int tarn_shm_audit(tarn_shm* client, void (*receive)(void* context, char const* text),
                            void* context) TARN_NOEXCEPT;

/** Calls `receive` with the name of each segment of a domain; stops when it returns other than 0.
 *  TARN_SHM_NOT_FOUND: there is no such domain. */
TARN_API int tarn_shm_list(char const* domain, int (*receive)(void* context, char const* name),
                           void* context, tarn_shm_failure* failure) TARN_NOEXCEPT;

/** Removes what creations and removals left that were killed. The number of files, or -1. */
TARN_API int tarn_shm_clean(char const* domain, tarn_shm_failure* failure) TARN_NOEXCEPT;

/* References and pointers. */

/** Its parts. */
TARN_API uint32_t tarn_shm_reference_segment(uint64_t reference) TARN_NOEXCEPT;
TARN_API uint32_t tarn_shm_reference_pool(uint64_t reference) TARN_NOEXCEPT;
TARN_API uint32_t tarn_shm_reference_number(uint64_t reference) TARN_NOEXCEPT;

/** A pointer into a segment as 64 bits that mean the same in all processes: the segment's id in
 *  the upper 16, the distance from its start in the lower 48. 0: null, or in no segment that this
 *  process has attached. Cost: a search among these. */
TARN_API uint64_t tarn_shm_relative(void const* pointer) TARN_NOEXCEPT;

/** And back, to where this process has it: null for 0, and for what is not `bytes` aligned to
 *  `alignment` inside of a segment. One that is not attached is looked for in the domain `domain`
 *  and mapped for reading. Cost: a load and a few comparisons where it is mapped. */
TARN_API void* tarn_shm_absolute(uint64_t relative, uint64_t bytes,
                                 uint64_t alignment) TARN_NOEXCEPT;

/** Whence tarn_shm_absolute maps segments that are not attached: a domain, as above. The segments
 *  stay mapped until the process ends, or tarn_shm_unmap_all. */
TARN_API int tarn_shm_map_on_demand(char const* domain, tarn_shm_failure* failure) TARN_NOEXCEPT;
TARN_API void tarn_shm_unmap_all(void) TARN_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif /* TARN_SHM_H */
