# A program in a memory cgroup of 256 MiB that holds 120 MiB at a time, of ever other block sizes:
# what it has freed must serve other sizes or go back to the system, else the kernel kills it.
# Needs root and a memory controller (cgroup version 1 or 2).
needs python3 sqlite3
make_memory_group $((256 << 20))

cat >work.py <<'SCRIPT'
import threading
total = 0
for size in (40, 200, 1000, 5000, 30000, 150000, 1 << 20, 20 << 20, 3000, 100):
    blocks = [b"x" * size for _ in range((120 << 20) // (size + 48))]
    total += len(blocks)
    del blocks
print(total)

def one(size, ends):
    ends.append(sum(map(len, [b"y" * size for _ in range((15 << 20) // (size + 48))])))

for size in (60, 700, 20000, 300000):
    ends = []
    threads = [threading.Thread(target=one, args=(size + n, ends)) for n in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print(sum(ends))
SCRIPT
(
    echo "$BASHPID" >"$group/cgroup.procs"
    PYTHONMALLOC=malloc run python3 work.py
    run sqlite3 :memory: '
        create table t(a integer primary key, b text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 300000)
            insert into t select i, printf("%.*c", i % 300, "x") from n;
        delete from t where a % 3;
        vacuum;
        select count(*), sum(length(b)) from t;'
)
