/* shm_slots.pml - clients' slots in a segment in shared memory: who has one, who is dead, who may
 * clear up. docs/design/shm.md explains the protocol; run_models runs this model and its mutants.
 *
 * A slot has a byte that its owner locks, and a state. The kernel gives a lock back when the process
 * dies, and not before. Who has the lock of a slot whose state is alive, and is not its owner, knows
 * that the owner is dead. Processes attach, work (hold chunks, as a set for each slot), recover
 * others, detach, and are killed between any two steps, as often as one likes.
 *
 * Nobody may own a slot that another one owns, nothing may be taken from an owner who lives, a new
 * owner inherits nothing, and what a dead one held can always be found: his slot says alive.
 *
 * Mutants, each a way to get it wrong:
 *   STATE_READ_EARLY  attach reads the state before it has the lock
 *   ALIVE_FIRST       attach writes alive, and then recovers whoever was there before
 *   UNLOCKED_FIRST    recovery gives the lock back before it writes that the slot is free
 *   WORKS_FIRST       a client holds something before its slot says alive
 *   NO_RECOVERY       attach takes a dead client's slot as it is
 *   STATE_DECIDES     a slot is taken by a compare-exchange of its state, and locked after it
 *   FOREIGN_CLOSE     a process loses its locks when it closes any descriptor of the file, as it
 *                     does with POSIX locks that are not those of an open file description
 */

#ifndef PROCESSES
#define PROCESSES 3
#endif
#define SLOTS 2
#define CHUNKS 2

#define FREE false
#define ALIVE true

/* Processes, slots and chunks count from 1; 0 is none. Sets have a bit for each chunk. */
#define BIT(which) (1 << which)
#define WITHOUT(set, which) (set & (255 - BIT(which)))

bool state[SLOTS + 1];
byte lock[SLOTS + 1];  /* the process that has it; the kernel's */
byte held[SLOTS + 1];  /* the set of chunks whose word has this client's bit */
byte owner[SLOTS + 1]; /* ghost: the process whose it is by right, if that lives */
byte gone;             /* processes that come no more */

/* Before each step that others can see. */
inline may_die() {
    if
    :: true -> goto killed
    :: true -> skip
    fi
}

inline clear_bit(chunk) {
    atomic {
        may_die();
        assert(owner[other] == 0); /* else: taken from the living */
        held[other] = WITHOUT(held[other], chunk)
    }
}

inline recover() {
    clear_bit(1);
    clear_bit(2);
#ifdef UNLOCKED_FIRST
    if
    :: is_attaching -> skip
    :: else -> atomic { may_die(); lock[other] = 0 }
    fi;
#endif
    atomic { may_die(); state[other] = FREE }
}

proctype process(byte me) {
    byte slot;
    byte other;
    bool seen;
#ifdef UNLOCKED_FIRST
    bool is_attaching;
#endif

attach:
    atomic {
#ifdef UNLOCKED_FIRST
        is_attaching = true;
#endif
        if
        :: other = 1
        :: other = 2
        :: other = 0; goto leave
        fi;
        seen = state[other]
    };
#ifdef STATE_DECIDES
    atomic {
        if
        :: state[other] == FREE -> state[other] = ALIVE; seen = FREE
        :: else -> other = 0
        fi
    };
    if
    :: other == 0 -> goto attach
    :: else -> skip
    fi;
#endif
    atomic {
        may_die();
        if
        :: lock[other] == 0 -> lock[other] = me
        :: else -> other = 0
        fi
    };
    if
    :: other == 0 -> goto attach
    :: else -> skip
    fi;
#if !defined(STATE_READ_EARLY) && !defined(STATE_DECIDES)
    seen = state[other];
#endif
#ifdef ALIVE_FIRST
    atomic { may_die(); state[other] = ALIVE };
#endif
#ifdef WORKS_FIRST
    if
    :: seen == FREE -> atomic { may_die(); held[other] = held[other] | BIT(1) }
    :: else -> skip
    fi;
#endif
#ifndef NO_RECOVERY
    if
    :: seen == ALIVE -> recover()
    :: else -> skip
    fi;
#endif
    d_step {
#ifndef ALIVE_FIRST
        state[other] = ALIVE;
#endif
#ifndef WORKS_FIRST
        assert(held[other] == 0); /* else: inherited */
#endif
        assert(owner[other] == 0); /* else: two have it */
        owner[other] = me;
        slot = other;
#ifdef UNLOCKED_FIRST
        is_attaching = false;
#endif
        seen = FREE;
        other = 0
    };

    do
    :: atomic { assert(owner[slot] == me); held[slot] = held[slot] | BIT(1) }
    :: atomic { assert(owner[slot] == me); held[slot] = held[slot] | BIT(2) }
    :: held[slot] = WITHOUT(held[slot], 1)
    :: held[slot] = WITHOUT(held[slot], 2)
#ifdef FOREIGN_CLOSE
    :: lock[slot] = 0
#endif
    :: atomic { /* is another one dead? */
            other = 3 - slot;
            if
            :: lock[other] == 0 -> lock[other] = me
            :: else -> other = 0
            fi
        };
        if
        :: other != 0 && state[other] == ALIVE -> recover()
        :: else -> skip
        fi;
        atomic {
            may_die();
            lock[other] = (lock[other] == me -> 0 : lock[other]);
            other = 0
        }
    :: goto killed
    :: break
    od;

    /* Detaches: a recovery of its own slot. */
    atomic { owner[slot] = 0; other = slot };
    recover();

killed: /* the kernel gives the locks back; or so does detach, which is then at its end */
    skip;
    d_step {
        other = 1;
        do
        :: other <= SLOTS ->
            lock[other] = (lock[other] == me -> 0 : lock[other]);
            owner[other] = (owner[other] == me -> 0 : owner[other]);
            other++
        :: else -> break
        od;
        assert(state[1] == ALIVE || held[1] == 0); /* else: nobody will look */
        assert(state[2] == ALIVE || held[2] == 0);
        other = 0;
        seen = FREE;
        slot = 0
    };
    goto attach;

leave:
    gone++
}

init {
    byte i;
    atomic {
        i = 1;
        do
        :: i <= PROCESSES -> run process(i); i++
        :: else -> break
        od
    };
    (gone == PROCESSES);
    d_step {
        i = 1;
        do
        :: i <= SLOTS ->
            assert(lock[i] == 0 && owner[i] == 0);
            assert(state[i] == ALIVE || held[i] == 0);
            i++
        :: else -> break
        od
    }
}
