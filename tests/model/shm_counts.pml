/* shm_counts.pml - threads of one client share its bit in a chunk's word; a private count says how
 * many of them were told of the chunk. docs/design/shm.md explains the protocol, src/shm/chunks.cpp
 * has it; run_models runs this model and its mutants.
 *
 * Two threads of client 1, and client 2, take the chunk, share it, publish references to it, read
 * them, hold the chunk, release it. Who takes it has it alone: its count stays 0, and he shares it
 * or gives it back, as a magazine does. From 0 to 1 by a hold, and back, the count is BUSY, and one
 * thread sets or clears the bit. A refused hold takes the bit away again only if it was not there
 * before: else it is that of a thread that has the chunk alone. Who gives that back may find the
 * count BUSY, since others try their old references meanwhile; it is not his business.
 *
 * Who has the chunk sees its client's bit set, nobody else claims it, and what one holds is what its
 * reference meant. Whenever all are idle, the bit is set only if somebody has the chunk, and a chunk
 * that is free has a hint. RECOVERY: hints may be wrong. HOLD_EXCHANGES: a hold is a
 * compare-exchange. References and generations are as in shm_holders.pml.
 *
 * Mutants, each a way to get it wrong:
 *   NO_BUSY              a hold counts from 0 to 1, and sets the bit afterwards
 *   NO_BUSY_BACK         a release counts from 1 to 0, and clears the bit afterwards
 *   REFUSED_DROPS        a refused hold takes the bit away, whosever it is
 *   SHARE_STORES         sharing does not wait for one that is busy
 *   GIVE_MINDS_BUSY      what is given back stays where it is while the count is not 0
 *   COUNTED_IS_MEANT     a chunk that the client holds is held again whatever its generation
 */

#define AGENTS 3 /* threads 1 and 2 of client 1, and client 2 */

#define BIT(which) (1 << which)
#define WITHOUT(set, which) (set & (255 - BIT(which)))

#define BUSY 9

#define NONE 0
#define CURRENT 1
#define OUTDATED 2

#define NOTHING 0
#define ALONE 1
#define COUNTED 2

byte holders;           /* the truth, with the generation: clients */
bool hint = true;
byte word = NONE;       /* the reference that was published */
byte read[AGENTS + 1];  /* what each has read there */
bool seen[AGENTS + 1];  /* it read the truth as free, and the generation is as it was */
byte count[3];          /* each client's own */
byte right;             /* ghost: agents that have the chunk */
byte busy;              /* ghost: agents in the midst of something */
byte gone;

inline finish() {
    busy--;
    assert(busy != 0 || holders != 0 || hint); /* else: lost */
    assert(busy != 0 || (holders & BIT(1)) == 0 || (right & (BIT(1) | BIT(2))) != 0);
    assert(busy != 0 || (holders & BIT(2)) == 0 || (right & BIT(3)) != 0)
}

inline claim() {
    seen[me] = (holders == 0);
    d_step {
        if
        :: seen[me] && holders == 0 ->
            assert(right == 0); /* else: somebody has it */
            holders = BIT(client);
            right = BIT(me);
            has = ALONE;
            word = (word == CURRENT -> OUTDATED : word);
            i = 1;
            do
            :: i <= AGENTS ->
                seen[i] = false;
                read[i] = (read[i] == CURRENT -> OUTDATED : read[i]);
                i++
            :: else -> break
            od;
            i = 0
        :: else -> seen[me] = false
        fi
    }
}

inline take() {
    atomic { has == NOTHING && hint -> busy++ };
    claim();
    if
    :: has == ALONE -> skip
    :: else -> /* the hint was wrong, or is by now */
        hint = false;
        is_last = (holders == 0);
        if
        :: is_last -> is_last = false; hint = true; claim()
        :: else -> skip
        fi
    fi;
    d_step { finish() }
}

/* Takes the client's bit away. */
inline let_go() {
    d_step { holders = WITHOUT(holders, client); is_last = (holders == 0) };
    if
    :: is_last && !hint -> hint = true
    :: else -> skip
    fi;
    is_last = false
}

/* What is had alone, back. */
inline give() {
    atomic {
        has == ALONE -> busy++;
        has = NOTHING;
        right = WITHOUT(right, me)
    };
#ifdef GIVE_MINDS_BUSY
    if
    :: count[client] == 0 -> let_go()
    :: else -> skip
    fi;
#else
    let_go();
#endif
    d_step { finish() }
}

inline share() {
#ifdef SHARE_STORES
    d_step { has == ALONE -> count[client] = 1; has = COUNTED }
#else
    d_step { has == ALONE && count[client] == 0 -> count[client] = 1; has = COUNTED }
#endif
}

/* One that knows the chunk, less. */
inline end_count() {
    atomic {
        if
        :: count[client] > 1 && count[client] != BUSY -> count[client] = count[client] - 1
        :: count[client] == 1 -> is_mine = true;
#ifdef NO_BUSY_BACK
            count[client] = 0
#else
            count[client] = BUSY
#endif
        fi
    };
    if
    :: is_mine ->
        let_go();
#ifndef NO_BUSY_BACK
        count[client] = 0;
#endif
        is_mine = false
    :: else -> skip
    fi
}

inline hold() {
    atomic { has == NOTHING && word != NONE -> read[me] = word; busy++ };
    atomic { /* waits for one that is busy */
        if
        :: count[client] == 0 -> is_mine = true;
#ifdef NO_BUSY
            count[client] = 1
#else
            count[client] = BUSY
#endif
        :: count[client] != 0 && count[client] != BUSY -> count[client] = count[client] + 1
        fi
    };
    if
    :: is_mine ->
        d_step {
            was_there = (holders & BIT(client)) != 0;
            has = (holders != 0 && read[me] == CURRENT -> COUNTED : NOTHING);
#ifdef HOLD_EXCHANGES
            holders = (has -> holders | BIT(client) : holders);
            was_there = true;
#else
            holders = holders | BIT(client);
#endif
            right = (has -> right | BIT(me) : right);
            read[me] = NONE
#ifdef REFUSED_DROPS
            ; was_there = false
#endif
        };
        if
        :: has == NOTHING && !was_there -> let_go()
        :: else -> skip
        fi;
#ifdef NO_BUSY
        if
        :: has == NOTHING -> count[client] = count[client] - 1
        :: else -> skip
        fi;
#else
        count[client] = (has == COUNTED -> 1 : 0);
#endif
        is_mine = false
    :: else -> /* the word keeps its generation while the client holds the chunk */
        d_step {
#if defined(COUNTED_IS_MEANT)
            has = COUNTED;
#else
            has = (read[me] == CURRENT -> COUNTED : NOTHING);
#endif
            assert(has == NOTHING || read[me] == CURRENT); /* else: another than was meant */
            right = (has -> right | BIT(me) : right);
            read[me] = NONE
        };
        if
        :: has == NOTHING -> end_count()
        :: else -> skip
        fi
    fi;
    d_step { was_there = false; finish() }
}

inline release() {
    atomic {
        has == COUNTED -> has = NOTHING;
        right = WITHOUT(right, me);
        busy++
    };
    end_count();
    d_step { finish() }
}

proctype agent(byte me; byte client) {
    byte has = NOTHING;
    bool is_mine; /* the client's bit, to change */
    bool was_there;
    bool is_last;
    byte i;

    do
    :: take()
    :: give()
    :: share()
    :: hold()
    :: release()
    :: d_step { has == COUNTED -> word = CURRENT }
    :: d_step { has != NOTHING -> assert((holders & BIT(client)) != 0) }
    :: has == NOTHING -> break
    od;
    gone++
}

#ifdef RECOVERY
proctype recoverer() { /* of somebody else; gives hints, which may be late */
    bool is_free;
end:
    do
    :: d_step { holders == 0 && !hint && !is_free -> is_free = true }
    :: d_step { is_free -> is_free = false; hint = true }
    od
}
#endif

init {
    atomic {
#ifdef RECOVERY
        run recoverer();
#endif
        run agent(1, 1);
        run agent(2, 1);
        run agent(3, 2)
    };
    (gone == AGENTS);
    assert(holders == 0 && hint && count[1] == 0 && count[2] == 0)
}
