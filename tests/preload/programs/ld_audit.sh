# A program under an audit library, which has a libc and a malloc of its own in a second namespace;
# then the same with an audit library that is itself linked with libtarn.so.
needs cc python3
cc -O1 -shared -fPIC "$parts/audit.c" -o audit.so
cc -O1 -shared -fPIC "$parts/audit.c" -Wl,--no-as-needed "$TARN_LIBRARY" \
    -Wl,-rpath,"$(dirname "$TARN_LIBRARY")" -o audit_on_tarn.so
for library in audit audit_on_tarn; do
    run env LD_AUDIT="./$library.so" python3 -c '
import json, sqlite3, threading, zlib
threads = [threading.Thread(target=lambda n=n: zlib.compress(bytes(n * 10000))) for n in range(20)]
[t.start() for t in threads]
[t.join() for t in threads]
print(sum(len(json.dumps({str(i): list(range(i))})) for i in range(300)))
'
done
