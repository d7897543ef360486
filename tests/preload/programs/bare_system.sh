# Programs where the root file system cannot be written, and where there is no /proc. Needs root,
# for mount namespaces.
needs unshare mount umount python3 perl sqlite3
unshare -m true 2>/dev/null || skip 'no permission for a mount namespace (needs root)'

cat >work.sh <<'WORK'
run python3 -c '
import threading
threads = [threading.Thread(target=lambda: [bytes(n) for n in range(3000)]) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(sum(len(str(n)) for n in range(300000)))'
run perl -e 'my %h = map { $_ => "x" x ($_ % 99) } 1 .. 50000; print scalar(keys %h), "\n"'
run sqlite3 :memory: '
    create table t(a);
    insert into t values (zeroblob(1000000));
    select length(a) from t;'
WORK

cat >read_only_root.sh <<'INSIDE'
mount --make-rprivate /
mount --bind "$scratch" "$scratch"
mount -o remount,bind,ro / || skip 'the root file system cannot be remounted read-only here'
if touch /usr/tarn-test 2>/dev/null; then echo '/ is still writable' >&2; exit 1; fi
cd "$scratch/work"
. ./work.sh
INSIDE

cat >no_proc.sh <<'INSIDE'
mount --make-rprivate /
umount -l /proc || skip '/proc cannot be unmounted here'
if [ -e /proc/self ]; then echo '/proc is still there' >&2; exit 1; fi
. ./work.sh
INSIDE

for system in read_only_root no_proc; do
    unshare -m bash -euo pipefail -c '. "$lib"; . "./$0.sh"' "$system"
done
