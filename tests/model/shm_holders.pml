/* shm_holders.pml - references to a chunk in shared memory: who has read one may hold the chunk, if
 * it is still the one that was meant. docs/design/shm.md explains the protocol; run_models runs this
 * model and its mutants.
 *
 * Clients allocate the chunk, publish references to it in one word, read the word, hold the chunk,
 * publish it again, release it, keep it in a magazine, and are killed between any two steps, as
 * often as one likes. A recoverer, which is cut short as often, clears up after them; only then has
 * a dead client's slot a new owner. (Locks: shm_slots.pml.) The chunk is claimed only when nobody
 * holds it by right, and what was held is what the reference meant.
 *
 * Generations are modelled without numbers: a reference is CURRENT until the chunk is allocated
 * again, and OUTDATED then. That is a generation that never wraps around. LATE and SAME are what
 * mutants make of it: outdated, but with the generation that the chunk still has.
 *
 * HOLD_EXCHANGES is what the library does: a hold by compare-exchange, which leaves nothing behind
 * when it is refused. Without it a hold sets its bit first, which must hold as well: a refused one's
 * bit is in the word for a while, and a hold that comes in that moment succeeds though the chunk was
 * free; it was not allocated since, so it is what the reference meant.
 *
 * Mutants, each a way to get it wrong:
 *   NO_GENERATION      a hold looks only whether anybody holds the chunk
 *   GENERATION_APART   the generation is a word of its own, changed after the claim
 *   HOLD_LOOKS_FIRST   a hold looks at the word, and sets its bit afterwards
 *   MAGAZINE_OF_GIVEN  a chunk whose reference was given away goes into a magazine
 *   REFUSED_NO_HINT    a refused hold takes its bit away, and sets no hint
 *   RELEASE_STORES     the last holder's release looks at the word, and stores that nobody holds it
 */

#ifndef CLIENTS
#define CLIENTS 2
#endif

/* Clients count from 1; 0 is none. Sets have a bit for each. */
#define BIT(which) (1 << which)
#define WITHOUT(set, which) (set & (255 - BIT(which)))

#define NONE 0
#define CURRENT 1
#define OUTDATED 2
#define LATE 3
#define SAME 4

byte holders;             /* the truth, with the generation */
bool hint = true;
byte word = NONE;         /* the reference that was published */
byte read[CLIENTS + 1];   /* what each has read there */
bool seen[CLIENTS + 1];   /* it read the truth as free, and the generation is as it was */
bool dead[CLIENTS + 1];   /* and not yet recovered */
byte right;               /* ghost: clients that live and hold the chunk */
byte busy;                /* ghost: clients in the midst of something */
byte gone;                /* clients that come no more */

#if defined(NO_GENERATION)
#define MATCHES(reference) true
#elif defined(GENERATION_APART) || defined(MAGAZINE_OF_GIVEN)
#define MATCHES(reference) (reference != OUTDATED)
#else
#define MATCHES(reference) (reference == CURRENT)
#endif

#ifdef MAGAZINE_OF_GIVEN
#define MAY_BE_KEPT true
#else
#define MAY_BE_KEPT !is_given
#endif

#define ANY_IS_DEAD (dead[1] || dead[2] || (CLIENTS > 2 && dead[CLIENTS]))

inline may_die() {
    if
    :: true -> goto killed
    :: true -> skip
    fi
}

/* Whenever nobody is between two steps, and nobody waits for his recovery. */
inline finish() {
    busy--;
    assert(busy != 0 || ANY_IS_DEAD || holders != 0 || hint)
}

#ifdef GENERATION_APART
#define OUTDATED_NOW LATE
#else
#define OUTDATED_NOW OUTDATED
#endif

/* All references to the chunk become outdated: of this kind. */
inline outdate(from, to) {
    word = (word == from -> to : word);
    i = 1;
    do
    :: i <= CLIENTS -> read[i] = (read[i] == from -> to : read[i]); i++
    :: else -> break
    od;
    i = 0
}

inline claim() {
    atomic { may_die(); seen[me] = (holders == 0) };
    atomic {
        may_die();
        if
        :: seen[me] && holders == 0 ->
            d_step {
                assert(right == 0); /* else: it is held */
                holders = BIT(me);
                right = BIT(me);
                has = true;
                is_given = false;
                i = 1;
                do
                :: i <= CLIENTS -> seen[i] = false; i++
                :: else -> break
                od;
                outdate(CURRENT, OUTDATED_NOW)
            }
        :: else -> seen[me] = false
        fi
    }
}

inline allocate() {
    atomic { !has && hint -> busy++ };
    claim();
    if
    :: has -> skip
    :: else -> /* the hint was wrong, or is by now */
        atomic { may_die(); hint = false };
        is_last = (holders == 0);
        if
        :: is_last -> atomic { may_die(); is_last = false; hint = true }; claim()
        :: else -> skip
        fi
    fi;
#ifdef GENERATION_APART
    if
    :: has -> atomic { may_die(); outdate(LATE, OUTDATED) }
    :: else -> skip
    fi;
#endif
    d_step { finish() }
}

inline release() {
#ifdef RELEASE_STORES
    is_last = (holders == BIT(me));
    atomic {
        may_die();
        right = WITHOUT(right, me);
        holders = (is_last -> 0 : WITHOUT(holders, me))
    };
#else
    atomic {
        may_die();
        d_step {
            right = WITHOUT(right, me);
            holders = WITHOUT(holders, me);
            is_last = (holders == 0)
        }
    };
#endif
    if
#ifdef REFUSED_NO_HINT
    :: is_last && is_refused -> skip
    :: is_last && !is_refused ->
#else
    :: is_last ->
#endif
        is_last = hint;
        if
        :: is_last -> skip
        :: else -> atomic { may_die(); hint = true }
        fi
    :: else -> skip
    fi;
    d_step { is_last = false; has = false; is_given = false; finish() }
}

inline hold() {
    atomic { !has && word != NONE -> read[me] = word; busy++ };
#ifdef HOLD_LOOKS_FIRST
    atomic { may_die(); has = (holders != 0 && MATCHES(read[me])) };
    if
    :: has -> atomic { may_die(); holders = holders | BIT(me) }
    :: else -> skip
    fi;
#elif defined(HOLD_EXCHANGES)
    atomic {
        may_die();
        if
        :: holders != 0 && MATCHES(read[me]) -> holders = holders | BIT(me); has = true
        :: else -> skip
        fi
    };
#else
    atomic {
        may_die();
        d_step {
            has = (holders != 0 && MATCHES(read[me]));
            holders = holders | BIT(me)
        }
    };
#endif
    d_step {
        if
        :: has ->
            assert(read[me] == CURRENT); /* else: another chunk than was meant */
            right = right | BIT(me);
            is_given = true
        :: else -> skip
        fi;
        read[me] = NONE
    };
#if defined(HOLD_EXCHANGES) || defined(HOLD_LOOKS_FIRST)
    d_step { finish() }
#else
    if
    :: has -> d_step { finish() }
    :: else ->
#ifdef REFUSED_NO_HINT
        is_refused = true;
#endif
        release();
#ifdef REFUSED_NO_HINT
        is_refused = false
#endif
    fi
#endif
}

proctype client(byte me) {
    bool has;
    bool is_given;    /* its reference was */
    bool is_magazine; /* it is in there */
    bool is_last;
#ifdef REFUSED_NO_HINT
    bool is_refused;
#endif
    byte i;

life:
    do
    :: allocate()
    :: hold()
    :: atomic { has && !is_magazine -> busy++ }; release()
    :: atomic { has && !is_magazine -> word = CURRENT; is_given = true }
    :: has && !is_magazine && MAY_BE_KEPT -> is_magazine = true
    :: atomic { is_magazine -> /* this is an allocation, too */
            assert(right == BIT(me));
            is_magazine = false;
            is_given = false;
            outdate(CURRENT, SAME)
        }
    :: atomic { busy++; goto killed }
    :: !has -> break
    od;
    goto leave;

killed:
    atomic {
        dead[me] = true;
        right = WITHOUT(right, me);
        seen[me] = false;
        read[me] = NONE;
        has = false;
        is_given = false;
        is_magazine = false;
        is_last = false;
#ifdef REFUSED_NO_HINT
        is_refused = false;
#endif
        i = 0;
        busy--
    };
    !dead[me]; /* the slot has a new owner */
    goto life;

leave:
    gone++
}

proctype recoverer() {
    byte its;
    bool is_free;

start:
end:
    atomic {
        if
        :: dead[1] -> its = 1
        :: dead[2] -> its = 2
        :: CLIENTS > 2 && dead[CLIENTS] -> its = CLIENTS
        fi;
        holders = WITHOUT(holders, its);
        is_free = (holders == 0)
    };
    if
    :: is_free && !hint ->
        if
        :: hint = true
        :: atomic { is_free = false; its = 0; goto start } /* dies, and is replaced */
        fi
    :: else -> skip
    fi;
    atomic {
        is_free = false;
        if
        :: dead[its] = false
        :: skip
        fi;
        its = 0
    };
    goto start
}

init {
    byte i;
    atomic {
        run recoverer();
        i = 1;
        do
        :: i <= CLIENTS -> run client(i); i++
        :: else -> break
        od
    };
    (gone == CLIENTS);
    assert(holders == 0 && hint && busy == 0)
}
