# Programs that start with descriptors 0 and 2 closed: what they open gets those numbers, and
# nothing else may be written there.
needs python3 perl sqlite3
cat >work.py <<'SCRIPT'
import os, threading
opened = sorted(os.open(f"out{n}", os.O_WRONLY | os.O_CREAT) for n in range(2))
threads = [threading.Thread(target=lambda: [bytes(n * 37) for n in range(3000)]) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
for fd in opened:
    os.write(fd, b"only this\n")
print(opened)
SCRIPT
run python3 work.py <&- 2>&-
cat out0 out1
run perl -e '
    open(my $file, ">", "out2");
    my %table = map { $_ => "x" x $_ } 1 .. 3000;
    print $file scalar(%table), "\n"' 2>&-
cat out2
run sqlite3 file.db 'create table t(a); insert into t values (1), (2); select sum(a) from t' 2>&-
run sqlite3 file.db 'pragma integrity_check'
