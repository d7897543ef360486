/* shm_pool.pml - chunks of a pool in shared memory, among processes that are killed between any two
 * steps: allocation, release, magazines, recovery. docs/design/shm.md explains the protocol;
 * run_models runs this model and its mutants.
 *
 * Processes attach to a slot, allocate and release chunks, recover slots whose owner is dead,
 * detach, and attach again. Any of them can be killed at any time, as often as one likes, in the
 * midst of a recovery too; its locks are then given back by the kernel, and a new process comes.
 * When all have detached, slots whose state is alive are recovered once more, and then every chunk
 * must be free, and its hint must be set. That is all that is known of a dead client then: whoever
 * is killed leaves his slot alive.
 *
 * The generation is modelled without a number: a process that has read a chunk's word is told (seen)
 * when the chunk is allocated, which is when the generation changes. That is a generation that
 * never wraps around.
 *
 * Spin's memory is sequentially consistent: memory orders are in the code, each with its partner.
 *
 * Mutants, each a way to get it wrong:
 *   NO_HINT_REPAIR      recovery gives only those chunks a hint from which it took a holder
 *   LIST_THEN_RECORD    whoever clears the hint has the chunk, and writes that down afterwards
 *   NO_SECOND_LOOK      allocation clears a hint that was wrong, and does not look whether the
 *                       chunk is still taken
 *   CLAIM_PLAIN         a chunk is claimed by a load and a store
 *   RELEASE_HINT_FIRST  release looks at the hint before it clears its bit
 *   RECOVER_HINT_FIRST  so does recovery
 *   LOOKED_EARLY        recovery's look at the hint overtakes its change of the chunk's word, as a
 *                       load that is not seq_cst may
 *   HINT_PLAIN          a hint is set by a load and a store of the word
 *   NO_LOCK             a slot is recovered without its lock
 *   STATE_FIRST         recovery says that the slot is free before it looks at the chunks
 *   MAGAZINE_LEFT       detach forgets what is in the magazine
 */

#ifndef PROCESSES
#define PROCESSES 2
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef CHUNKS
#define CHUNKS 2
#endif

#define FREE false
#define ALIVE true

/* Processes, slots and chunks count from 1; 0 is none. Sets have a bit for each. */
#define BIT(which) (1 << which)
#define WITHOUT(set, which) (set & (255 - BIT(which)))

byte holders[CHUNKS + 1];  /* slots: the truth, with the generation */
byte hints;                /* chunks */
bool state[SLOTS + 1];
byte lock[SLOTS + 1];      /* the process that has it; the kernel's */
byte seen[PROCESSES + 1];  /* the chunk whose word it read, while that is as it was read */
byte owner[CHUNKS + 1];    /* ghost: the process whose it is by right, if that lives */
byte busy;                 /* ghost: processes in the midst of something */
byte gone;                 /* processes that come no more */

#define IS_DEAD(slot) (state[slot] == ALIVE && lock[slot] == 0)
#define ANY_IS_DEAD (IS_DEAD(1) || (SLOTS > 1 && IS_DEAD(2)) || (SLOTS > 2 && IS_DEAD(SLOTS)))
#define IS_KNOWN(chunk) (holders[chunk] != 0 || (hints & BIT(chunk)) != 0)

/* Whenever nobody is between two steps, and nobody waits for his recovery. */
inline finish() {
    busy--;
    assert(busy != 0 || ANY_IS_DEAD || (IS_KNOWN(1) && IS_KNOWN(CHUNKS)))
}

/* Before each step that others can see. */
inline may_die() {
    if
    :: true -> goto killed
    :: true -> skip
    fi
}

inline set_hint(which) {
#ifdef HINT_PLAIN
    hint_word = hints;
    atomic { may_die(); hints = hint_word | BIT(which); hint_word = 0 }
#else
    atomic { may_die(); hints = hints | BIT(which) }
#endif
}

inline clear_bit(its) {
    atomic {
        may_die();
        d_step {
            had = (holders[chunk] & BIT(its)) != 0;
            holders[chunk] = WITHOUT(holders[chunk], its);
            if
            :: its == slot && owner[chunk] == me -> owner[chunk] = 0
            :: else -> skip
            fi;
#ifdef NO_HINT_REPAIR
            is_free = had && holders[chunk] == 0;
#else
            is_free = holders[chunk] == 0;
#endif
            had = false
        }
    }
}

/* Idempotent, and beside everything else, twice, or cut short. */
inline recover(its) {
#ifdef STATE_FIRST
    atomic { may_die(); state[its] = FREE };
#endif
    chunk = 1;
    do
    :: chunk <= CHUNKS ->
#ifdef RECOVER_HINT_FIRST
        if
        :: holders[chunk] == 0 || holders[chunk] == BIT(its) -> set_hint(chunk)
        :: else -> skip
        fi;
        clear_bit(its);
#else
#ifdef LOOKED_EARLY
        has_hint = (hints & BIT(chunk)) != 0;
        clear_bit(its);
#else
        clear_bit(its);
        has_hint = (hints & BIT(chunk)) != 0;
#endif
        if
        :: is_free && !has_hint -> is_free = false; set_hint(chunk)
        :: else -> is_free = false
        fi;
        has_hint = false;
#endif
        chunk++
    :: else -> chunk = 0; break
    od;
    atomic { may_die(); state[its] = FREE }
}

inline give_hint() {
    has_hint = (hints & BIT(chunk)) != 0;
    if
    :: has_hint -> has_hint = false
    :: else -> set_hint(chunk)
    fi
}

inline claim() {
    atomic {
        may_die();
        d_step {
            if
#if defined(LIST_THEN_RECORD) || defined(CLAIM_PLAIN)
            :: true ->
#else
            :: seen[me] != 0 && holders[chunk] == 0 ->
#endif
                holders[chunk] = holders[chunk] | BIT(slot);
                assert(owner[chunk] == 0); /* else: handed to two */
                owner[chunk] = me;
                used = used | BIT(chunk);
                other = 1;
                do
                :: other <= PROCESSES ->
                    seen[other] = (seen[other] == chunk -> 0 : seen[other]);
                    other++
                :: else -> break
                od;
                other = 0;
                chunk = 0
            :: else -> seen[me] = 0
            fi
        }
    }
}

inline allocate() {
    atomic {
        if
        :: (hints & BIT(1)) != 0 -> chunk = 1
        :: CHUNKS > 1 && (hints & BIT(2)) != 0 -> chunk = 2
        fi;
#ifdef LIST_THEN_RECORD
        hints = WITHOUT(hints, chunk);
#endif
        busy++
    };
#ifdef LIST_THEN_RECORD
    claim();
#else
    atomic { may_die(); seen[me] = (holders[chunk] == 0 -> chunk : 0) };
    if
    :: seen[me] != 0 -> claim()
    :: else -> skip
    fi;
    if
    :: chunk == 0 -> skip /* it is mine, and its hint stays */
    :: else ->
        atomic { may_die(); hints = WITHOUT(hints, chunk) };
#ifndef NO_SECOND_LOOK
        is_free = (holders[chunk] == 0);
        if
        :: is_free ->
            is_free = false;
            set_hint(chunk);
            atomic { may_die(); seen[me] = (holders[chunk] == 0 -> chunk : 0) };
            if
            :: seen[me] != 0 -> claim() /* once more: see shm_waiting.pml */
            :: else -> skip
            fi
        :: else -> skip
        fi;
#endif
        chunk = 0
    fi;
#endif
    d_step { finish() }
}

inline release() {
    atomic {
        if
        :: (used & BIT(1)) != 0 -> chunk = 1
        :: (used & BIT(2)) != 0 -> chunk = 2
        fi;
        used = WITHOUT(used, chunk);
        busy++
    };
#ifdef RELEASE_HINT_FIRST
    if
    :: holders[chunk] == BIT(slot) -> give_hint()
    :: else -> skip
    fi;
    clear_bit(slot);
    is_free = false;
#else
    clear_bit(slot);
    if
    :: is_free -> is_free = false; give_hint()
    :: else -> skip
    fi;
#endif
    d_step { chunk = 0; finish() }
}

proctype process(byte me) {
    byte slot;
    byte used;     /* chunks that its program has */
    byte magazine; /* chunks that are its own all the same */
    byte chunk;
    byte other;
    bool had;
    bool has_hint;
    bool is_free;
#ifdef HINT_PLAIN
    byte hint_word;
#endif

attach:
    atomic {
        if
        :: lock[1] == 0 -> other = 1
        :: SLOTS > 1 && lock[2] == 0 -> other = 2
        :: SLOTS > 2 && lock[3] == 0 -> other = 3
        :: goto leave
        fi;
        lock[other] = me;
        busy++
    };
    if
    :: state[other] == ALIVE -> recover(other)
    :: else -> skip
    fi;
    atomic { may_die(); state[other] = ALIVE; slot = other; other = 0; finish() };

    do
    :: allocate()
    :: release()
#ifdef MAGAZINES
    :: atomic { used != 0 -> /* all that is private is one step */
            magazine = magazine | used;
            used = 0
        }
    :: atomic { magazine != 0 ->
            assert((magazine & used) == 0);
            assert((magazine & BIT(1)) == 0 || owner[1] == me);
            assert((magazine & BIT(2)) == 0 || owner[CHUNKS] == me);
            used = used | magazine;
            magazine = 0
        }
#endif
    :: atomic { /* is another one dead? */
            if
#ifdef NO_LOCK
            :: slot != 1 -> other = 1
            :: SLOTS > 1 && slot != 2 -> other = 2
#else
            :: lock[1] == 0 -> other = 1; lock[1] = me
            :: SLOTS > 1 && lock[2] == 0 -> other = 2; lock[2] = me
            :: SLOTS > 2 && lock[3] == 0 -> other = 3; lock[3] = me
#endif
            fi;
            busy++
        };
        if
        :: state[other] == ALIVE -> recover(other)
        :: else -> skip
        fi;
        atomic {
            may_die();
#ifndef NO_LOCK
            lock[other] = 0;
#endif
            other = 0;
            finish()
        }
    :: atomic { busy++; goto killed }
    :: break
    od;

    /* Detaches. */
#ifdef MAGAZINE_LEFT
    do
    :: release()
    :: used == 0 -> break
    od;
    atomic { state[slot] = FREE; busy++ };
#else
    atomic { used = 0; magazine = 0; busy++ };
    recover(slot);
#endif

killed: /* the kernel gives the locks back; or so does detach, which is then at its end */
    skip;
    d_step {
        other = 1;
        do
        :: other <= SLOTS -> lock[other] = (lock[other] == me -> 0 : lock[other]); other++
        :: else -> break
        od;
        other = 1;
        do
        :: other <= CHUNKS -> owner[other] = (owner[other] == me -> 0 : owner[other]); other++
        :: else -> break
        od;
        other = 0;
        seen[me] = 0;
        slot = 0;
        used = 0;
        magazine = 0;
        chunk = 0;
        has_hint = false;
        is_free = false;
        finish()
    };
    goto attach;

leave:
    gone++
}

init {
    byte i;
    byte chunk;
    atomic {
        i = 1;
        do
        :: i <= CHUNKS -> hints = hints | BIT(i); i++
        :: else -> break
        od;
        i = 1;
        do
        :: i <= PROCESSES -> run process(i); i++
        :: else -> break
        od;
        i = 0
    };
    (gone == PROCESSES);
    d_step { /* whoever attaches next finds the dead, by their state */
        i = 1;
        do
        :: i <= SLOTS ->
            assert(lock[i] == 0);
            chunk = 1;
            do
            :: chunk <= CHUNKS && state[i] == ALIVE ->
                holders[chunk] = WITHOUT(holders[chunk], i);
#ifndef NO_HINT_REPAIR
                hints = (holders[chunk] == 0 -> hints | BIT(chunk) : hints);
#endif
                chunk++
            :: else -> break
            od;
            i++
        :: else -> break
        od;
        i = 1;
        do
        :: i <= CHUNKS -> assert(holders[i] == 0 && (hints & BIT(i)) != 0); i++ /* else: lost */
        :: else -> break
        od
    }
}
