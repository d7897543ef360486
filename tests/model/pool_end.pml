/* pool_end.pml - include/tarn/detail/magazine.hpp, step by step: threads that end, threads that take
 * over what those left, and a pool that ends before or after them. Story (c) of
 * docs/design/lockfree.md. run_models runs this model and its mutants.
 *
 * Each thread joins, which is taking a magazine that was left or a new one, works for a while,
 * takes the blocks of magazines that were left, and ends, at any time. The pool ends when no thread
 * is inside of it: threads that still have magazines end later. Magazines are given back once each,
 * and nobody touches one after, nor the pool after its end.
 *
 * Mutants, each a way to get it wrong:
 *   END_LOOKS_FIRST     a thread's end looks at the state and then sets it
 *   CLOSE_LOOKS_FIRST   so does the pool's
 *   END_GIVES_TO_POOL   a thread that sees its pool alive gives its blocks back to it
 *   CLOSE_FREES_ALL     the pool's end gives all magazines back
 *   TAKE_PLAIN          a magazine that was left is taken by a load and a store
 */

#ifndef THREADS
#define THREADS 2
#endif
#define MAGAZINES THREADS

#define HELD 0
#define LEFT 1
#define CLOSED 2

/* Magazines and threads count from 1; 0 is none. */
byte state[MAGAZINES + 1];
byte made;                    /* magazines that exist or did */
byte holder[MAGAZINES + 1];   /* ghost */
bool is_memory[MAGAZINES + 1]; /* ghost */
bool pool_is_memory = true;   /* ghost */
byte inside;                  /* threads that use the pool; the program keeps its end away from them */
bool has_begun_to_end;

/* Takes magazine m, if it was left. */
inline try_take(m) {
    assert(pool_is_memory);
    assert(is_memory[m]);
#ifdef TAKE_PLAIN
    if
    :: state[m] == LEFT -> state[m] = HELD; assert(holder[m] == 0); holder[m] = me; taken = true
    :: else -> taken = false
    fi
#else
    atomic {
        if
        :: state[m] == LEFT -> state[m] = HELD; assert(holder[m] == 0); holder[m] = me; taken = true
        :: else -> taken = false
        fi
    }
#endif
}

inline give_back(m) {
    d_step { assert(is_memory[m]); is_memory[m] = false }
}

proctype thread(byte me) {
    byte mine;
    byte i;
    bool taken;
    byte before;

    /* Works, unless the pool has begun to end: the program sees to that. */
    atomic {
        if
        :: !has_begun_to_end -> inside++
        :: true -> goto end_of_thread
        fi
    };
    i = 1;
    do
    :: i <= made && mine == 0 ->
        try_take(i);
        if
        :: taken -> mine = i
        :: else -> i++
        fi
    :: else -> break
    od;
    if
    :: mine == 0 ->
        atomic {
            made++;
            mine = made;
            is_memory[mine] = true;
            state[mine] = HELD;
            holder[mine] = me
        }
    :: else -> skip
    fi;
    i = 1;
    do /* takes what others left */
    :: i <= made && i != mine ->
        try_take(i);
        if
        :: taken -> atomic { holder[i] = 0; state[i] = LEFT }
        :: else -> skip
        fi;
        i++
    :: i <= made && i == mine -> i++
    :: else -> break
    od;
    inside--;

    /* Ends, at some time. */
    assert(is_memory[mine]);
#ifdef END_GIVES_TO_POOL
    if
    :: state[mine] != CLOSED -> assert(pool_is_memory)
    :: else -> skip
    fi;
#endif
#ifdef END_LOOKS_FIRST
    before = state[mine];
    d_step {
        assert(is_memory[mine]);
        if
        :: before != CLOSED -> holder[mine] = 0; state[mine] = LEFT
        :: else -> skip
        fi
    };
#else
    d_step {
        before = state[mine];
        holder[mine] = 0;
        state[mine] = LEFT
    };
#endif
    if
    :: before == CLOSED -> give_back(mine)
    :: else -> skip
    fi;

end_of_thread:
    skip
}

proctype pool() {
    byte i;
    byte before;

    atomic { inside == 0 -> has_begun_to_end = true };
    i = 1;
    do
    :: i <= made ->
        assert(is_memory[i]);
#ifdef CLOSE_LOOKS_FIRST
        before = state[i];
        d_step {
            assert(is_memory[i]);
            state[i] = CLOSED
        };
#else
        d_step { before = state[i]; state[i] = CLOSED };
#endif
#ifdef CLOSE_FREES_ALL
        give_back(i);
#else
        if
        :: before == LEFT -> give_back(i)
        :: else -> skip
        fi;
#endif
        i++
    :: else -> break
    od;
    pool_is_memory = false
}

init {
    byte i;
    atomic {
        run pool();
        i = 1;
        do
        :: i <= THREADS -> run thread(i); i++
        :: else -> break
        od
    };
    (_nr_pr == 1);
    d_step {
        i = 1;
        do
        :: i <= made -> assert(!is_memory[i]); i++ /* none is lost */
        :: else -> break
        od
    }
}
