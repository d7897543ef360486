/* tagged_stack.pml - include/tarn/detail/tagged_stack.hpp, step by step, and the lists that crash
 * where it does not: stories (a) and (b) of docs/design/lockfree.md. run_models runs this model and
 * its mutants.
 *
 * Threads pop and push nodes in any order. What a thread pops it holds alone; when all have ended,
 * each node is held or in the stack once. Nodes that are not needed any more may be given back
 * (GIVES_BACK): their contents always, their links never, which is what type-stable memory means.
 *
 * The tag is a number here, counted modulo TAGS: as many pops as a thread can sleep through.
 * Spin's memory is sequentially consistent; orders are tested by tests/lockfree (data races of
 * explored_data) and by ThreadSanitizer.
 *
 * Mutants, each a way to get it wrong:
 *   NO_TAG           the head is the node alone                       (story b)
 *   LINK_GIVEN_BACK  a node's link goes back with its memory          (story a)
 *   LINK_AFTER_HEAD  a push sets the link when the node is in the stack already
 *   SHORT_TAG        the tag comes around while a thread sleeps
 */

#ifndef THREADS
#define THREADS 2
#endif
#ifndef NODES
#define NODES 3
#endif
#ifndef POPS
#define POPS 2 /* by each thread */
#endif
#ifdef SHORT_TAG
#define TAGS 2
#else
#define TAGS (THREADS * POPS + 1)
#endif

/* Nodes and threads count from 1; 0 is none. */
byte head;
byte tag;
byte link[NODES + 1];
byte holder[NODES + 1];  /* ghost; 0: in the stack */
bool is_memory[NODES + 1]; /* ghost: not given back */

#ifdef NO_TAG
#define UNCHANGED (head == top)
#define NEXT_TAG tag
#else
#define UNCHANGED (head == top && tag == seen)
#define NEXT_TAG ((tag + 1) % TAGS)
#endif

inline read_head() { d_step { top = head; seen = tag } }

proctype thread(byte me) {
    byte top;
    byte seen;
    byte next;
    byte mine[POPS];
    byte held;
    byte pops;
    bool done;

next_operation:
    top = 0;
    seen = 0;
    next = 0;
    done = false;
    if
    :: pops < POPS -> pops++; goto pop
    :: held > 0 -> goto push
#ifdef GIVES_BACK
    :: held > 0 -> goto give_back
#endif
    :: goto end_of_thread
    fi;

pop:
    read_head();
    do
    :: top == 0 -> break
    :: else ->
#ifdef LINK_GIVEN_BACK
        assert(is_memory[top]);
#endif
        next = link[top];
        atomic {
            if
            :: UNCHANGED ->
                assert(holder[top] == 0);
                holder[top] = me;
                head = next;
                tag = NEXT_TAG;
                mine[held] = top;
                held++;
                done = true
            :: else -> read_head()
            fi
        };
        if
        :: done -> break
        :: else -> skip
        fi
    od;
    goto next_operation;

push:
    atomic { /* any of its nodes */
        held--;
        if
        :: next = mine[held]
        :: held > 0 -> next = mine[0]; mine[0] = mine[held]
        fi;
        mine[held] = 0;
        assert(holder[next] == me)
    };
    read_head();
    do
    ::
#ifndef LINK_AFTER_HEAD
        link[next] = top;
#endif
        atomic {
            if
            :: UNCHANGED -> head = next; holder[next] = 0; done = true
            :: else -> read_head()
            fi
        };
        if
        :: done -> break
        :: else -> skip
        fi
    od;
#ifdef LINK_AFTER_HEAD
    link[next] = top;
#endif
    goto next_operation;

#ifdef GIVES_BACK
give_back:
    atomic { held--; is_memory[mine[held]] = false; mine[held] = 0 };
    goto next_operation;
#endif

end_of_thread:
    skip
}

init {
    byte i;
    byte n;
    atomic {
        i = NODES;
        do
        :: i > 0 -> link[i] = head; head = i; is_memory[i] = true; i--
        :: else -> break
        od;
        i = 1;
        do
        :: i <= THREADS -> run thread(i); i++
        :: else -> break
        od
    };
    (_nr_pr == 1);
    d_step { /* what is in the stack: each node once, and all that nobody holds */
        n = 0;
        do
        :: head != 0 && n <= NODES -> assert(holder[head] == 0); holder[head] = 255; head = link[head]; n++
        :: else -> break
        od;
        i = 1;
        do
        :: i <= NODES -> assert(holder[i] != 0); i++
        :: else -> break
        od
    }
}
