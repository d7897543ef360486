/* page_ownership.pml - how threads share pages: src/heap/remote_word.hpp, thread_heap.cpp,
 * process.cpp and src/base/tagged_stack.hpp, step by step. docs/design/page-ownership.md explains
 * the protocol; run_models runs this model and its mutants.
 *
 * Any thread may free any live block at any time, allocate, part with a page, sweep the bin, or
 * leave. When all have left, a last heap frees what is still live, leaves too and sweeps, and then
 * every page must be released. With HINT, has_empty must tell of every empty page in the bin
 * before that sweep. Blocks are linked for real, and compare-exchange compares what the
 * code compares.
 *
 * Steps that no other thread can tell apart are one: what only a page's holder touches; a write of
 * the owner field, which every other thread compares with itself alone; a look at a list that only
 * this thread empties, together with taking it. FINE makes them single steps, for a smaller run.
 *
 * The stack's tag is modelled without a number: a thread that has read the head is told (`watch`)
 * when somebody pops, which is when the tag changes. That is a tag that never wraps around.
 *
 * Spin's memory is sequentially consistent: this model says nothing about memory orders. Those are
 * in the code, each with its partner. ThreadSanitizer runs over them in tests/unit/heap
 * (remote_word_test), tests/unit/base (tagged_stack_test) and tests/stress, and sees: release of
 * try_push() with acquire of look() and try_take(), for the links and contents of posted blocks; release of
 * set_adrift() with acquire of try_claim(), and release of the stack's push() with acquire of its
 * pop(), for the owner's plain fields.
 *
 * Left out: blocks made step by step, several size classes, fork, memory that runs out.
 *
 * Mutants, each a way to get it wrong:
 *   SET_ADRIFT_PLAIN    a full page leaves by a plain store
 *   CLAIM_PLAIN         an adrift page is claimed by a load and a store
 *   PUSH_IGNORES_ADRIFT a block is posted to an adrift page
 *   BIN_BEFORE_OWNER    the owner is taken back after the page is in its bin
 *   NO_TAG              the stack's head has no tag
 *   TAKE_PLAIN          the remote list is taken by a load and a store
 *   ADRIFT_BEFORE_OWNER the owner is taken back after the page has gone adrift
 *   NO_SECOND_LOOK      a page that became empty on its way into the bin is not noticed
 */

#ifndef THREADS
#define THREADS 2
#endif
#ifndef PAGES
#define PAGES 2
#endif
#ifndef BLOCKS
#define BLOCKS 2 /* per page */
#endif
#define LAST (THREADS + 1) /* the heap that frees what is left */
#define ALL_BLOCKS (PAGES * BLOCKS)

/* Pages, blocks and threads count from 1; 0 is none. */
#define PAGE_OF(block) ((block - 1) / BLOCKS + 1)
#define FIRST_OF(p) ((p - 1) * BLOCKS + 1)

#ifdef MALLOCS /* by each thread */
#define MAY_ALLOCATE (allocations < MALLOCS)
#define COUNT_IT allocations++
#else
#define MAY_ALLOCATE true
#define COUNT_IT skip
#endif

#ifdef FINE
#define TOGETHER
#else
#define TOGETHER atomic
#endif

#define HELD 0
#define ADRIFT 1
#define BINNED 2

typedef page_t {
    byte owner;
    byte own_list; /* what its owner freed, linked by next[] */
    byte out;
    byte how; /* with list and count: the remote word */
    byte list;
    byte count;
    byte link; /* in the bin's stack, or among the free descriptors */
    bool released;
    byte holder /* ghost: whose it is by right; 0: adrift, in the bin, or released */
}

page_t page[PAGES + 1];
byte next[ALL_BLOCKS + 1];
bool live[ALL_BLOCKS + 1]; /* in the program's hands */
byte bin_head;
byte free_head; /* descriptors to use again */
byte watch[LAST + 1]; /* 0: not in the stack, 1: has read its head, 2: somebody has popped since */
byte gone;            /* threads that have left */
#ifdef HINT
bool has_empty; /* a page in the bin became empty */
#endif

/* --- ghost checks -------------------------------------------------------------------------- */

/* length = of a list, which may not be longer than a page. */
inline measure(first) {
    walk = first;
    length = 0;
    do
    :: walk != 0 && length <= BLOCKS -> walk = next[walk]; length++
    :: else -> break
    od;
    walk = 0
}

inline check_page(p) {
    measure(page[p].list);
    assert(length == page[p].count);
    assert(page[p].how != ADRIFT || page[p].list == 0);
    if
    :: p == current || kept[p] -> /* what a holder may rely on between two operations */
        assert(page[p].holder == me && page[p].owner == me && page[p].how == HELD);
        measure(page[p].own_list);
        assert(page[p].out + length == BLOCKS)
    :: else -> skip
    fi;
    length = 0
}

/* --- the remote word ----------------------------------------------------------------------- */

#define WORD_IS(p, a, b, c) (page[p].how == (a) && page[p].list == (b) && page[p].count == (c))

inline set_word(p, a, b, c) {
    page[p].how = a;
    page[p].list = b;
    page[p].count = c
}

inline load_word(p) {
    d_step {
        seen_how = page[p].how;
        seen_list = page[p].list;
        seen_count = page[p].count
    }
}

inline forget_word() {
    d_step { seen_how = 0; seen_list = 0; seen_count = 0 }
}

/* Where the word is not held and empty: seen_list = its list, and it is. */
inline take(p) {
#ifdef TAKE_PLAIN
    load_word(p);
    d_step { set_word(p, HELD, 0, 0) }
#else
    TOGETHER {
        load_word(p);
        do
        :: seen_how == HELD && seen_list == 0 -> break
        :: else ->
            atomic {
                if
                :: WORD_IS(p, seen_how, seen_list, seen_count) -> set_word(p, HELD, 0, 0); break
                :: else -> load_word(p)
                fi
            }
        od;
        skip /* spin: no jump from the loop straight into a d_step */
    }
#endif
}

/* done: the page has left. The owner field goes first. */
inline leave_full(p) {
#ifdef ADRIFT_BEFORE_OWNER
    d_step {
        done = WORD_IS(p, HELD, 0, 0);
        if
        :: done -> set_word(p, ADRIFT, 0, 0); page[p].holder = 0
        :: else -> skip
        fi
    };
    if
    :: done -> page[p].owner = 0
    :: else -> skip
    fi
#else
    TOGETHER {
        page[p].owner = 0;
        d_step {
#ifdef SET_ADRIFT_PLAIN
            set_word(p, ADRIFT, 0, 0);
            page[p].holder = 0;
            done = true
#else
            if
            :: WORD_IS(p, HELD, 0, 0) ->
                set_word(p, ADRIFT, 0, 0);
                page[p].holder = 0;
                done = true
            :: else -> done = false
            fi
#endif
        };
        if
        :: !done -> page[p].owner = me
        :: else -> skip
        fi
    }
#endif
}

inline collect_remote(p) {
    take(p);
    d_step {
        if
        :: seen_list != 0 ->
            assert(page[p].holder == me && seen_count <= page[p].out);
            walk = seen_list;
            length = 1;
            do
            :: length < seen_count -> walk = next[walk]; length++
            :: else -> break
            od;
            next[walk] = page[p].own_list;
            page[p].own_list = seen_list;
            page[p].out = page[p].out - seen_count;
            walk = 0;
            length = 0
        :: else -> skip
        fi;
        seen_how = 0;
        seen_list = 0;
        seen_count = 0
    }
}

/* --- the bin ------------------------------------------------------------------------------- */

inline read_head() {
    d_step { top = bin_head; watch[me] = 1 }
}

#ifdef NO_TAG
#define UNCHANGED (bin_head == top)
#else
#define UNCHANGED (bin_head == top && watch[me] == 1)
#endif

inline push_on_bin(p) {
    TOGETHER { read_head(); page[p].link = top };
    do
    :: atomic {
            if
            :: UNCHANGED ->
                bin_head = p;
                page[p].holder = 0;
                top = 0;
                watch[me] = 0;
                break
            :: else -> read_head()
            fi
        };
        page[p].link = top
    od
}

/* top = the page taken, or none. */
inline pop_from_bin() {
    read_head();
    do
    :: top == 0 -> break
    :: top != 0 ->
        beneath = page[top].link;
        atomic {
            if
            :: UNCHANGED ->
                d_step {
                    bin_head = beneath;
                    beneath = 0;
                    length = 1;
                    do
                    :: length <= LAST ->
                        watch[length] = (watch[length] == 1 -> 2 : watch[length]);
                        length++
                    :: else -> break
                    od;
                    length = 0;
                    assert(page[top].holder == 0 && !page[top].released);
                    page[top].holder = me
                };
                break
            :: else -> read_head()
            fi
        }
    od;
    watch[me] = 0
}

inline put_in_bin(p) {
#ifdef BIN_BEFORE_OWNER
    page[p].how = BINNED;
    push_on_bin(p);
    page[p].owner = 0
#else
    TOGETHER { page[p].owner = 0; page[p].how = BINNED }; /* fetch_or: the list stays */
    push_on_bin(p);
#if defined(HINT) && !defined(NO_SECOND_LOOK)
    if
    :: page[p].count == page[p].out -> has_empty = true /* only a hint: others may have it now */
    :: else -> skip
    fi
#endif
#endif
}

/* --- pages --------------------------------------------------------------------------------- */

inline release_page(p) {
    d_step {
        assert(page[p].holder == me && page[p].out == 0 && WORD_IS(p, HELD, 0, 0));
        length = FIRST_OF(p);
        do
        :: length < FIRST_OF(p) + BLOCKS ->
            assert(!live[length]);
            next[length] = 0;
            length++
        :: else -> break
        od;
        length = 0;
        page[p].owner = 0;
        page[p].own_list = 0;
        page[p].holder = 0;
        page[p].released = true;
        page[p].link = free_head;
        free_head = p
    }
}

/* Parts with a page that this heap holds and none of its lists knows. */
inline dispose(p) {
    collect_remote(p);
    done = false;
    do
    :: !done && page[p].own_list == 0 ->
        leave_full(p);
        if
        :: !done -> collect_remote(p)
        :: else -> skip
        fi
    :: else -> break
    od;
    if
    :: done -> done = false
    :: else ->
        if
        :: page[p].out == 0 -> release_page(p)
        :: else -> put_in_bin(p)
        fi
    fi
}

/* head = the free blocks of a page this heap holds, if there are any. */
inline take_list(p) {
    if
    :: page[p].own_list != 0 ->
        d_step {
            head = page[p].own_list;
            page[p].own_list = 0;
            page[p].out = BLOCKS
        }
    :: else ->
        take(p);
        head = seen_list;
        forget_word()
    fi
}

/* A free descriptor becomes a page whose blocks are all in the allocation list. */
inline fresh_page() {
    d_step {
        if
        :: free_head != 0 ->
            current = free_head;
            free_head = page[current].link;
            assert(page[current].released && page[current].holder == 0);
            page[current].released = false;
            page[current].link = 0;
            page[current].holder = me;
            page[current].owner = me;
            set_word(current, HELD, 0, 0);
            page[current].out = BLOCKS;
            length = FIRST_OF(current);
            do
            :: length < FIRST_OF(current) + BLOCKS - 1 -> next[length] = length + 1; length++
            :: else -> break
            od;
            next[length] = 0;
            length = 0;
            head = FIRST_OF(current)
        :: else -> skip
        fi
    }
}

/* --- a thread ------------------------------------------------------------------------------ */

proctype thread(byte me) {
    byte head;    /* the allocation list */
    byte current; /* the page it comes from */
    bool kept[PAGES + 1];
    byte chosen;
    byte freed;
    byte seen_how;
    byte seen_list;
    byte seen_count;
    byte top;
    byte beneath;
    byte walk;
    byte length;
    byte chain; /* pages that a sweep goes through, a bit each */
    bool done;
    bool leaving;
#ifdef MALLOCS
    byte allocations;
#endif

    (me != LAST || gone == THREADS);

next_operation:
    atomic {
        d_step {
            chosen = 1;
            do
            :: chosen <= PAGES -> check_page(chosen); chosen++
            :: else -> break
            od;
            chosen = 0
        };
        if
        :: me != LAST && head != 0 && MAY_ALLOCATE -> /* malloc() */
            d_step {
                COUNT_IT;
                assert(!live[head]); /* else: handed out twice */
                live[head] = true;
                chosen = head;
                head = next[chosen];
                next[chosen] = 0;
                chosen = 0
            };
            goto next_operation
        :: me != LAST && head == 0 && MAY_ALLOCATE -> goto refill
        :: freed = 1 -> goto free_block
        :: chosen = 1 -> goto part_with_a_page
#ifdef SWEEPS
        :: me != LAST -> goto sweep
#endif
        :: goto leave
        fi
    };

refill:
    if
    :: current != 0 ->
        take_list(current);
        if
        :: head != 0 -> goto next_operation
        :: else ->
            leave_full(current);
            if
            :: done -> atomic { current = 0; done = false }
            :: else ->
                take_list(current);
                assert(head != 0); /* a block came back: that is why the page stayed */
                goto next_operation
            fi
        fi
    :: else -> skip
    fi;
    d_step { /* a page of its own, else one of the bin, else a fresh one */
        chosen = 1;
        do
        :: chosen <= PAGES && !kept[chosen] -> chosen++
        :: else -> break
        od;
        if
        :: chosen <= PAGES -> current = chosen; kept[chosen] = false
        :: else -> skip
        fi;
        chosen = 0
    };
    if
    :: current != 0 -> skip
    :: else ->
        pop_from_bin();
        if
        :: top != 0 ->
            atomic { current = top; top = 0; page[current].owner = me };
            collect_remote(current)
        :: else -> fresh_page()
        fi
    fi;
    if
    :: current != 0 && head == 0 ->
        take_list(current);
        assert(head != 0) /* kept pages and those of the bin have a free block */
    :: else -> skip
    fi;
    goto next_operation;

free_block: /* free() of any block that the program holds */
    atomic {
        do
        :: freed < ALL_BLOCKS -> freed++
        :: break
        od;
        if
        :: live[freed] -> live[freed] = false
        :: else -> freed = 0; goto next_operation
        fi;
        chosen = PAGE_OF(freed);
        if
        :: page[chosen].owner == me ->
            d_step {
                assert(page[chosen].holder == me);
                next[freed] = page[chosen].own_list;
                page[chosen].own_list = freed;
                page[chosen].out--;
                freed = 0
            };
            if
            :: page[chosen].out == 0 && current != chosen -> goto emptied
            :: else -> goto done_freeing
            fi
        :: else -> load_word(chosen)
        fi
    };
    do
    :: atomic {
            if
#ifdef PUSH_IGNORES_ADRIFT
            :: false ->
#else
            :: seen_how == ADRIFT ->
#endif
                if
#ifdef CLAIM_PLAIN
                :: true ->
#else
                :: page[chosen].how == ADRIFT ->
#endif
                    d_step {
                        page[chosen].how = HELD;
                        assert(page[chosen].holder == 0);
                        page[chosen].holder = me;
                        page[chosen].owner = me;
                        next[freed] = page[chosen].own_list;
                        page[chosen].own_list = freed;
                        page[chosen].out--;
                        freed = 0;
                        seen_how = 0;
                        seen_list = 0;
                        seen_count = 0
                    };
                    if
                    :: page[chosen].out == 0 -> goto emptied
                    :: kept[chosen] = true; goto done_freeing
                    :: goto dispose_of_it /* beyond the cap */
                    fi
                :: else -> load_word(chosen)
                fi
            :: else ->
                if
                :: WORD_IS(chosen, seen_how, seen_list, seen_count) ->
                    assert(!page[chosen].released && page[chosen].how != ADRIFT);
                    next[freed] = seen_list;
                    page[chosen].list = freed;
                    page[chosen].count++;
                    freed = 0;
                    break
                :: else -> load_word(chosen)
                fi
            fi
        }
    od;
#ifdef HINT
    if
    :: seen_how == BINNED && seen_count + 1 == page[chosen].out -> has_empty = true
    :: else -> skip
    fi;
#endif
    forget_word();

done_freeing:
    chosen = 0;
    goto next_operation;

emptied: /* one empty page may be kept */
    if
    :: kept[chosen] -> goto done_freeing
    :: kept[chosen] = false; release_page(chosen)
    fi;
    goto done_freeing;

part_with_a_page: /* the cap on what a thread keeps */
    atomic {
        do
        :: chosen < PAGES -> chosen++
        :: break
        od;
        if
        :: kept[chosen] -> kept[chosen] = false
        :: else -> goto done_freeing
        fi
    };

dispose_of_it:
    dispose(chosen);
    goto done_freeing;

leave: /* the end of the thread */
    atomic {
        if
        :: me == LAST -> /* only when nothing is live any more */
            freed = 1;
            do
            :: freed <= ALL_BLOCKS && !live[freed] -> freed++
            :: else -> break
            od;
            if
            :: freed <= ALL_BLOCKS -> freed = 0; goto next_operation
            :: else -> freed = 0
            fi
        :: else -> skip
        fi;
        d_step {
            do
            :: head != 0 ->
                chosen = head;
                head = next[chosen];
                next[chosen] = page[current].own_list;
                page[current].own_list = chosen;
                page[current].out--
            :: else -> break
            od;
            chosen = current;
            current = 0
        }
    };
    if
    :: chosen != 0 -> dispose(chosen)
    :: else -> skip
    fi;
    chosen = 1;
    do
    :: chosen <= PAGES && kept[chosen] ->
        kept[chosen] = false;
        dispose(chosen);
        chosen++
    :: chosen <= PAGES && !kept[chosen] -> chosen++
    :: else -> break
    od;
    atomic { chosen = 0; leaving = true };
    if
    :: me == LAST -> skip
    :: else -> gone++; goto end_of_thread
    fi;
#ifdef HINT
    d_step {
        chosen = 1;
        do
        :: chosen <= PAGES ->
            assert(has_empty || page[chosen].how != BINNED ||
                   page[chosen].count != page[chosen].out);
            chosen++
        :: else -> break
        od;
        chosen = 0
    };
#endif

sweep: /* empties the bin, gives empty pages back and puts the others in again */
#ifdef HINT
    has_empty = false;
#endif
    do
    :: pop_from_bin();
        if
        :: top == 0 -> break
        :: else ->
            atomic { chosen = top; top = 0 };
            collect_remote(chosen);
            if
            :: page[chosen].out == 0 -> release_page(chosen)
            :: else -> chain = chain | (1 << chosen)
            fi;
            chosen = 0
        fi
    od;
    chosen = 1;
    do
    :: chosen <= PAGES && (chain & (1 << chosen)) != 0 -> put_in_bin(chosen); chosen++
    :: chosen <= PAGES && (chain & (1 << chosen)) == 0 -> chosen++
    :: else -> break
    od;
    atomic { chosen = 0; chain = 0 };
    if
    :: leaving -> skip
    :: else -> goto next_operation
    fi;

end_of_thread:
    skip
}

init {
    byte i;
    atomic {
        i = 1;
        do
        :: i <= PAGES ->
            page[i].released = true;
            page[i].link = free_head;
            free_head = i;
            i++
        :: else -> break
        od;
        i = 1;
        do
        :: i <= LAST -> run thread(i); i++
        :: else -> break
        od;
        i = 0
    };
    (_nr_pr == 1);
    d_step {
        i = 1;
        do
        :: i <= PAGES -> assert(page[i].released && page[i].holder == 0); i++
        :: else -> break
        od
    }
}
