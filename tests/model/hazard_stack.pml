/* hazard_stack.pml - include/tarn/detail/hazard_stack.hpp, step by step: a reader names its node and
 * looks again; nodes come back through retire alone; close while others pop. Stories (a), (b) and
 * (c) of docs/design/lockfree.md. run_models runs this model and its mutants.
 *
 * Two threads pop, retire what they popped, and look through what is retired; a reclaimed node is
 * given back or pushed again. CLOSER: thread 2 then closes the stack.
 *
 * The name is stored through a store buffer of one entry where BUFFERED says so: the store then
 * lands at any later time, as on a processor where it does not wait (a release store on x86). All
 * else is sequentially consistent.
 *
 * Mutants, each a way to get it wrong:
 *   NO_SECOND_LOOK  the node is read without looking whether it is still the head
 *   BUFFERED        the second look does not wait for the name to land
 *   NO_SCAN         a retired node is reclaimed at once
 *   PUSHED_AGAIN    a popped node is pushed again without being retired
 *   CLOSE_RECLAIMS  what is in the stack when it is closed is reclaimed at once
 */

#ifndef NODES
#define NODES 3
#endif
#ifndef POPS
#define POPS 2 /* by each thread */
#endif
#define THREADS 2
#define CLOSED 255

/* Nodes and threads count from 1; 0 is none. */
byte head;
byte link[NODES + 1];
byte named[THREADS + 1];
byte holder[NODES + 1];    /* ghost; 0: in the stack */
bool is_memory[NODES + 1]; /* ghost: not reclaimed */
byte end_count;
#ifdef BUFFERED
byte waiting_name[THREADS + 1];
bool is_waiting[THREADS + 1];

proctype buffer(byte its) {
    do
    :: atomic {
            is_waiting[its] -> named[its] = waiting_name[its]; waiting_name[its] = 0;
            is_waiting[its] = false
        }
    :: atomic { end_count == THREADS && !is_waiting[its] -> break }
    od
}

#define NAME(node) atomic { !is_waiting[me] -> waiting_name[me] = node; is_waiting[me] = true }
#define LANDED (!is_waiting[me]) /* a compare-exchange waits for what was stored before */
#else
#define NAME(node) named[me] = node
#define LANDED true
#endif

/* Nobody reads it any more, but for those who hold on to it wrongly. */
inline reclaim(node) {
    atomic {
        assert(holder[node] == me);
        if
        :: is_memory[node] = false
        :: back = node /* to be pushed */
        fi
    }
}

proctype thread(byte me) {
    byte top;
    byte next;
    byte back;
    byte each;
    byte other;
    byte pops;
    bool done;
    bool retired[NODES + 1];

    other = THREADS + 1 - me;

next_operation:
    atomic { top = 0; next = 0; done = false; each = 0 };
    if
    :: back != 0 -> goto push
    :: pops < POPS -> pops++; goto pop
    :: pops == POPS -> goto leave
    fi;

pop:
    top = head;
    do
    :: top == 0 || top == CLOSED -> break
    :: else ->
        NAME(top);
#ifndef NO_SECOND_LOOK
        atomic {
            if
            :: head != top -> top = head; next = CLOSED
            :: else -> next = 0
            fi
        };
        if
        :: next == CLOSED -> next = 0; goto again
        :: else -> skip
        fi;
#endif
        assert(is_memory[top]); /* story (a) */
        next = link[top];
        atomic {
            LANDED ->
            if
            :: head == top ->
                assert(holder[top] == 0); /* story (b) */
                holder[top] = me;
                head = next;
                done = true
            :: else -> top = head
            fi
        };
        next = 0;
        if
        :: done -> break
        :: else -> skip
        fi;
again:
        skip
    od;
    NAME(0);
    if
    :: !done -> goto next_operation
    :: else -> skip
    fi;
#ifdef PUSHED_AGAIN
    if
    :: back = top; goto next_operation
    :: skip
    fi;
#endif
    retired[top] = true;

scan: /* reclaims what nobody has named */
    atomic { top = 0; done = false; each = 1 };
    do
    :: each <= NODES && retired[each] && back == 0 ->
        if
#ifdef NO_SCAN
        :: true ->
#else
        :: named[other] != each ->
#endif
            atomic { retired[each] = false; reclaim(each) }
#ifndef NO_SCAN
        :: else -> skip
#endif
        fi;
        each++
    :: each <= NODES && (!retired[each] || back != 0) -> each++
    :: else -> break
    od;
    goto next_operation;

push:
    top = head;
    do
    :: top == CLOSED -> is_memory[back] = false; break /* it stays with this thread */
    :: else ->
        link[back] = top;
        atomic {
            LANDED ->
            if
            :: head == top -> assert(holder[back] == me); head = back; holder[back] = 0; done = true
            :: else -> top = head
            fi
        };
        if
        :: done -> break
        :: else -> skip
        fi
    od;
    atomic { back = 0; goto next_operation };

leave:
#ifdef CLOSER
    if
    :: me == THREADS ->
        atomic {
            LANDED -> top = head; head = CLOSED;
            each = top;
            do
            :: each != 0 ->
                assert(holder[each] == 0);
                holder[each] = me;
#ifdef CLOSE_RECLAIMS
                is_memory[each] = false;
#else
                retired[each] = true;
#endif
                each = link[each]
            :: else -> break
            od
        };
        each = 1;
        do
        :: each <= NODES && retired[each] && named[other] != each ->
            atomic { retired[each] = false; is_memory[each] = false; each++ }
        :: each <= NODES && retired[each] && named[other] == each -> each++
        :: each <= NODES && !retired[each] -> each++
        :: else -> break
        od
    :: else -> skip
    fi;
#endif
    end_count++
}

init {
    byte i;
    atomic {
        i = NODES;
        do
        :: i > 0 -> link[i] = head; head = i; is_memory[i] = true; i--
        :: else -> break
        od;
        i = 1;
        do
        :: i <= THREADS ->
            run thread(i);
#ifdef BUFFERED
            run buffer(i);
#endif
            i++
        :: else -> break
        od
    };
    (_nr_pr == 1);
    d_step { /* each node in the stack once, and nobody's */
        i = 0;
        do
        :: head != 0 && head != CLOSED && i <= NODES ->
            assert(holder[head] == 0 && is_memory[head]);
            holder[head] = 254;
            head = link[head];
            i++
        :: else -> break
        od;
        assert(i <= NODES)
    }
}
