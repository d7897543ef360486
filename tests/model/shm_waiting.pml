/* shm_waiting.pml - waiting for a chunk of a pool in shared memory: no wake-up is lost.
 * docs/design/shm.md explains the protocol; run_models runs this model and its mutants.
 *
 * Clients wait for a chunk, use it, release it and wake; those that have one at the start release it
 * and wake; others try once to have one (TRIERS). Sleep and wake are futex operations: a sleeper goes
 * to sleep only if the sequence is what it read. Nobody may sleep for ever: that is an end state in
 * which not all have ended.
 *
 * Who finds that a hint was wrong clears it, and looks again: if the chunk is free by now, it sets
 * the hint and tries once more to have the chunk, since those who looked meanwhile may sleep. If it
 * fails, another one has the chunk, and wakes them in the end.
 *
 * KILLS: whoever has a chunk may be killed between any two steps; the chunk is then set free by a
 * recoverer, who does not wake. From then on sleepers wake by themselves at times.
 * KEEPS: who got a chunk does not give it back.
 *
 * BUFFERED: the flag is set by a store that lands at any later time, as on a processor where it does
 * not wait (a release store on x86).
 *
 * Mutants, each a way to get it wrong:
 *   NO_SECOND_TRY     who finds that the chunk is free by now goes on to the next
 *   FLAG_FIRST        the flag is set before the sequence is read
 *   TRIES_FIRST       the last try comes before the flag
 *   FLAG_BEFORE_HINT  a releaser looks at the flag before it sets the hint
 *   WAKES_FIRST       a releaser wakes before it changes the sequence
 *   WAKES_ONE         a releaser wakes one sleeper, though all of them have one flag
 *   SLEEPS_ANYWAY     a sleeper does not compare the sequence
 *   BUFFERED          see above
 *   FINDS_OR_SLEEPS   with KILLS: who wakes by itself tries again only if it recovers somebody
 */

#ifndef WAITERS
#define WAITERS 2
#endif
#ifndef RELEASERS
#define RELEASERS 1
#endif
#ifndef ROUNDS
#define ROUNDS 2 /* of each waiter */
#endif

#ifndef TRIERS
#define TRIERS 0
#endif
#define CHUNKS RELEASERS

/* Chunks count from 1; 0 is none. */
bool is_held[CHUNKS + 1];
bool hint[CHUNKS + 1];
bool flag;
byte sequence;
bool asleep[WAITERS + 1];
bool unrecovered;            /* somebody is dead */
byte dead_has;               /* its chunk */
bool has_killed;             /* sleepers then wake by themselves, at times */
byte gone;
#ifdef BUFFERED
bool is_waiting[WAITERS + 1];

proctype buffer(byte its) {
end:
    do
    :: atomic { is_waiting[its] -> flag = true; is_waiting[its] = false }
    od
}
#endif

#ifdef KILLS
#define MAY_DIE if :: !has_killed -> goto killed :: true fi
#else
#define MAY_DIE skip
#endif

inline recover() {
    d_step {
        unrecovered = false;
        if
        :: dead_has != 0 -> is_held[dead_has] = false; hint[dead_has] = true; dead_has = 0
        :: else -> skip
        fi
    }
}

inline set_flag() {
#ifdef BUFFERED
    is_waiting[me] = true
#else
    flag = true
#endif
}

#ifdef BUFFERED
#define LANDED (!is_waiting[me]) /* a read-modify-write waits for what was stored before */
#else
#define LANDED true
#endif

inline claim() {
    atomic {
        if
        :: LANDED && !is_held[i] -> is_held[i] = true; has = i
        :: is_held[i] -> skip
        fi
    }
}

inline try() {
    i = 1;
    do
    :: i > CHUNKS || has != 0 -> break
    :: else ->
        if
        :: hint[i] ->
            claim();
            if
            :: has != 0 -> skip
            :: else ->
                atomic { LANDED -> hint[i] = false };
                if
                :: is_held[i] -> skip
                :: else ->
                    hint[i] = true;
#ifndef NO_SECOND_TRY
                    claim()
#endif
                fi
            fi
        :: else -> skip
        fi;
        i++
    od;
    i = 0
}

inline wake() {
    d_step {
        i = 1;
        do
        :: i <= WAITERS ->
#ifdef WAKES_ONE
            if
            :: asleep[i] -> asleep[i] = false; break
            :: else -> skip
            fi;
#else
            asleep[i] = false;
#endif
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline free_it() {
    atomic { MAY_DIE; is_held[has] = false };
    if
    :: hint[has] -> skip
    :: else -> atomic { MAY_DIE; hint[has] = true }
    fi;
    has = 0
}

inline ask() {
    was = flag;
    if
    :: was -> atomic { MAY_DIE; was = flag; flag = false }
    :: else -> skip
    fi
}

inline release() {
#ifdef FLAG_BEFORE_HINT
    ask();
    free_it();
#else
    free_it();
    ask();
#endif
    if
    :: was ->
#ifdef WAKES_FIRST
        atomic { MAY_DIE; wake() };
        atomic { MAY_DIE; sequence++ }
#else
        atomic { MAY_DIE; sequence++ };
        atomic { MAY_DIE; wake() }
#endif
    :: else -> skip
    fi;
    was = false
}

proctype waiter(byte me) {
    byte seen;
    byte rounds;
    byte i;
    byte has;
    bool was;

    do
    :: rounds == ROUNDS -> break
    :: else ->
        do
        :: has != 0 -> break
        :: else ->
#ifdef FLAG_FIRST
            set_flag();
            seen = sequence;
#else
            seen = sequence;
#ifndef TRIES_FIRST
            set_flag();
#endif
#endif
            try();
#ifdef TRIES_FIRST
            set_flag();
#endif
            if
            :: has != 0 -> skip
            :: else ->
#ifdef SLEEPS_ANYWAY
                asleep[me] = true;
#else
                asleep[me] = (sequence == seen);
#endif
sleeping:
                if
                :: !asleep[me]
#ifdef FINDS_OR_SLEEPS
                :: atomic { asleep[me] && unrecovered -> recover(); asleep[me] = false }
#else
                :: atomic { asleep[me] && has_killed -> asleep[me] = false }
#endif
                fi
            fi;
            seen = 0
        od;
#ifdef KEEPS
        has = 0;
#else
        release();
#endif
        rounds++
    od;
    goto leave;

killed:
    skip;
    d_step {
        has_killed = true;
        unrecovered = true;
        dead_has = has
    };
leave:
    gone++
}

/* Has a chunk, or tries to have one. */
proctype releaser(byte me; byte has) {
    byte i;
    bool was;

    if
    :: has == 0 -> try()
    :: else -> skip
    fi;
    if
    :: has != 0 -> release()
    :: else -> skip
    fi;
    goto leave;

killed:
    skip;
    d_step {
        has_killed = true;
        unrecovered = true;
        dead_has = has
    };
leave:
    gone++
}

#ifdef KILLS
proctype recoverer() {
end:
    do
    :: atomic { unrecovered -> recover() }
    od
}
#endif

init {
    byte i;
    atomic {
#ifdef KILLS
        run recoverer();
#endif
        i = 1;
        do
        :: i <= RELEASERS -> is_held[i] = true; hint[i] = true; run releaser(0, i); i++
        :: else -> break
        od;
        i = 1;
        do
        :: i <= TRIERS -> run releaser(0, 0); i++
        :: else -> break
        od;
        i = 1;
        do
        :: i <= WAITERS ->
            run waiter(i);
#ifdef BUFFERED
            run buffer(i);
#endif
            i++
        :: else -> break
        od;
        i = 0
    };
    (gone == WAITERS + RELEASERS + TRIERS)
}
