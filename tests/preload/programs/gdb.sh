# gdb: a program that calls itself deeply, stopped at a breakpoint, its frames and values printed;
# the program under gdb is on the same allocator.
needs gdb gcc
cat >deep.c <<'C'
#include <stdio.h>
#include <stdlib.h>
struct node { int value; struct node* next; };
static int walk(struct node const* at) { return at == NULL ? 0 : at->value + walk(at->next); }
int main(void) {
    struct node* list = NULL;
    for (int i = 0; i < 200; ++i) {
        struct node* const made = malloc(sizeof *made);
        *made = (struct node){.value = i, .next = list};
        list = made;
    }
    printf("%d\n", walk(list));
    return 0;
}
C
gcc -g -O0 deep.c -o deep
cat >commands <<'GDB'
set width 0
set print address off
set debuginfod enabled off
break walk if at != 0 && at->value == 20
run
backtrace 3
print *at
frame 100
info args
python print(sum(int(f) for f in range(1000)), gdb.selected_frame().name())
delete
continue
GDB
run gdb -nx -batch -x commands ./deep 2>gdb.err |
    grep -v -e '^warning:' -e 'libthread_db' -e '^\[' || true
if grep -q 'ptrace: Operation not permitted' gdb.err; then skip 'ptrace is not permitted here'; fi
cat gdb.err >&2
