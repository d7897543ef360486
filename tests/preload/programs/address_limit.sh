# Under `ulimit -v` of 1 GiB: threads, a database, and a program that meets the limit. At least half
# of the address space must be the program's to use, and running out must be a clean failure.
needs python3 sqlite3
ulimit -v 1048576
cat >work.py <<'SCRIPT'
import threading
threading.stack_size(1 << 20)
sums = []
def work():
    sums.append(len([bytes(n) for n in range(3000)]))

threads = [threading.Thread(target=work) for _ in range(16)]
[t.start() for t in threads]
[t.join() for t in threads]
print(sum(sums))
chunks = []
try:
    while True:
        chunks.append(bytearray(4 << 20))
except MemoryError:
    count = len(chunks)
    del chunks
    print("MemoryError;", "at least 512 MiB" if count >= 128 else f"already at {count * 4} MiB")
print(len({n: str(n) * 10 for n in range(200000)}), len(bytearray(400 << 20)))
SCRIPT
PYTHONMALLOC=malloc run python3 work.py
run sqlite3 :memory: '
    create table t(a integer primary key, b text);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
        insert into t select i, printf("%.*c", i % 200, "x") from n;
    create index i on t(b, a);
    select count(*), sum(length(b)) from t;
    select length(zeroblob(900000000));'
