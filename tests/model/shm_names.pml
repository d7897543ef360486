/* shm_names.pml - the life of a segment's name, among processes that are killed between any two
 * system calls. docs/design/shm.md explains the protocol; run_models runs this model and its
 * mutants.
 *
 * A segment is a file. It is made without a name, filled, linked under its id and then under its
 * name. Its creator and all who attach have a shared lock on it, which the kernel gives back when
 * they close it or die. Who gets the lock alone may remove the name and then the id of a file that
 * has both, or the id of one that has nothing else. After any lock the file's links are counted: by
 * its path somebody may have removed it before.
 *
 * A name that is seen belongs to a file that is filled and has its id. Who is attached, is attached
 * to the file of that name. When all have ended nothing is left but what can be removed.
 *
 * Mutants, each a way to get it wrong:
 *   NAMED_EMPTY        the file is filled when it has its name
 *   NAME_FIRST         it gets its name before its id
 *   LOCKED_LATE        its creator locks it when it has its links
 *   ATTACH_UNCHECKED   attach does not count the links
 *   ATTACH_ANY_LINK    attach is content with one
 *   SWEEP_UNLOCKED     an id that has no name is removed without the lock
 *   SWEEP_LOOKS_FIRST  the links are counted before the lock
 *   REMOVE_UNCHECKED   remove does not count the links
 *   REMOVE_UNLOCKED    remove does not lock
 *   ID_GOES_FIRST      remove takes the id first, then the name
 */

#ifndef PROCESSES
#define PROCESSES 2
#endif
#ifndef IDS
#define IDS 2
#endif
#define FILES (PROCESSES + 1)

/* Processes, files and ids count from 1; 0 is none. Sets have a bit for each. */
#define BIT(which) (1 << which)

byte name;                  /* the file it leads to */
byte id[IDS + 1];           /* the same */
byte links[FILES + 1];
byte its_id[FILES + 1];     /* written in the file */
bool is_filled[FILES + 1];
byte opened[PROCESSES + 1]; /* the file that each has open */
byte shared[FILES + 1];     /* processes that have its lock */
byte alone[FILES + 1];      /* the process that has its lock alone */
bool attached[PROCESSES + 1]; /* ghost */
byte gone;

#define IS_USABLE (name == 0 || (is_filled[name] && id[its_id[name]] == name))
#define IS_ATTACHED_HERE(its) (!attached[its] || opened[its] == name)

inline may_die() {
    if
    :: true -> goto closes
    :: true -> skip
    fi
}

inline check() {
    assert(IS_USABLE);
    assert(IS_ATTACHED_HERE(1) && IS_ATTACHED_HERE(2) && IS_ATTACHED_HERE(PROCESSES))
}

inline lock_shared() {
    atomic {
        may_die();
        if
        :: alone[file] == 0 -> shared[file] = shared[file] | BIT(me)
        :: else -> goto closes
        fi
    }
}

inline lock_alone() {
    atomic {
        may_die();
        if
        :: alone[file] == 0 && shared[file] == 0 -> alone[file] = me
        :: else -> goto closes
        fi
    }
}

inline count_links(least, most) {
    atomic {
        may_die();
        if
        :: links[file] >= least && links[file] <= most -> skip
        :: else -> goto closes
        fi
    }
}

/* Whatever it leads to by now. */
inline unlink_name() {
    atomic {
        may_die();
        if
        :: name != 0 -> d_step { links[name] = links[name] - 1; name = 0; check() }
        :: else -> skip
        fi
    }
}

inline unlink_id() {
    atomic {
        may_die();
        if
        :: id[its_id[file]] != 0 ->
            d_step { links[id[its_id[file]]]--; id[its_id[file]] = 0; check() }
        :: else -> skip
        fi
    }
}

inline link_name() {
    atomic {
        may_die();
        if
        :: name == 0 -> d_step { name = file; links[file]++; check() }
        :: else -> exists = true
        fi
    }
}

inline link_id() {
    atomic {
        may_die();
        if
        :: id[1] == 0 -> its_id[file] = 1
        :: IDS > 1 && id[IDS] == 0 -> its_id[file] = IDS
        :: else -> goto closes
        fi;
        d_step { id[its_id[file]] = file; links[file]++ }
    }
}

#define IS_OPEN(which) (opened[1] == which || opened[2] == which || opened[PROCESSES] == which)
#define IS_GONE(which) (links[which] == 0 && !IS_OPEN(which))

/* The first that is free: files are all alike. */
inline open_new() {
    d_step {
        file = 1;
        do
        :: file <= FILES && !IS_GONE(file) -> file++
        :: else -> break
        od
    };
    if
    :: file > FILES -> file = 0; goto idle
    :: else -> skip
    fi;
    opened[me] = file
}

proctype process(byte me) {
    byte file;
    bool exists;

idle:
    if
    :: atomic { open_new(); goto create }
    :: atomic { name != 0 -> file = name; opened[me] = file; goto attach }
    :: atomic { name != 0 -> file = name; opened[me] = file; goto remove }
    :: atomic { id[1] != 0 -> file = id[1]; opened[me] = file; goto sweep }
    :: atomic { IDS > 1 && id[IDS] != 0 -> file = id[IDS]; opened[me] = file; goto sweep }
    :: goto leave
    fi;

create:
#ifndef NAMED_EMPTY
    is_filled[file] = true;
#endif
#ifndef LOCKED_LATE
    lock_shared();
#endif
#ifdef NAME_FIRST
    link_name();
    if
    :: exists -> goto closes
    :: else -> skip
    fi;
    link_id();
#else
    link_id();
    link_name();
    if
    :: exists -> unlink_id(); goto closes
    :: else -> skip
    fi;
#endif
#ifdef NAMED_EMPTY
    atomic { may_die(); is_filled[file] = true };
#endif
#ifdef LOCKED_LATE
    lock_shared();
#endif
    goto works;

attach:
    lock_shared();
#ifdef ATTACH_ANY_LINK
    count_links(1, 2);
#elif !defined(ATTACH_UNCHECKED)
    count_links(2, 2);
#endif
works:
    skip;
    d_step { attached[me] = true; check() };
    goto closes;

remove:
#ifndef REMOVE_UNLOCKED
    lock_alone();
#endif
#ifndef REMOVE_UNCHECKED
    count_links(2, 2);
#endif
#ifdef ID_GOES_FIRST
    unlink_id();
    unlink_name();
#else
    unlink_name();
    unlink_id();
#endif
    goto closes;

sweep:
#ifdef SWEEP_LOOKS_FIRST
    count_links(1, 1);
#endif
#ifndef SWEEP_UNLOCKED
    lock_alone();
#endif
#ifndef SWEEP_LOOKS_FIRST
    count_links(1, 1);
#endif
    unlink_id();

closes: /* or dies */
    skip;
    d_step {
        alone[file] = (alone[file] == me -> 0 : alone[file]);
        shared[file] = shared[file] & (255 - BIT(me));
        opened[me] = 0;
        attached[me] = false;
        exists = false;
        if
        :: IS_GONE(file) -> its_id[file] = 0; is_filled[file] = false
        :: else -> skip
        fi;
        file = 0
    };
    goto idle;

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
        :: i <= FILES -> /* its links are what can be removed */
            assert(alone[i] == 0 && shared[i] == 0);
            assert(links[i] == 0 || (links[i] == 1 && id[its_id[i]] == i) ||
                   (links[i] == 2 && id[its_id[i]] == i && name == i));
            i++
        :: else -> break
        od
    }
}
