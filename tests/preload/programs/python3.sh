# python3: threads, child processes, fork, and the modules that lean on malloc; once with Python's
# own small-object allocator in front of malloc, once straight on malloc.
needs python3
cat >work.py <<'SCRIPT'
import collections, concurrent.futures, hashlib, json, multiprocessing, pickle, re
import sqlite3, subprocess, sys, threading, zlib


def mixed(seed):
    state, table, digest = seed, collections.defaultdict(list), hashlib.sha256()
    for step in range(6000):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        table[state >> 54].append(bytes([step % 251]) * (state >> 51 & 2047))
        if step % 3 == 0:
            table.pop(state >> 53 & 1023, None)
    for key in sorted(table):
        digest.update(b"".join(table[key]))
    packed = zlib.compress(b"".join(map(b"".join, table.values()))[:200000], 6)
    return digest.hexdigest()[:16], len(zlib.decompress(packed))


def child(seed):
    return subprocess.run(
        [sys.executable, "-c", f"print(sum(len(str(i)) for i in range({seed}, 60000)))"],
        capture_output=True, text=True, check=True).stdout.strip()


def in_fork(seed):
    return mixed(seed)[0], multiprocessing.current_process().name != "MainProcess"


if __name__ == "__main__":
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        print(list(pool.map(mixed, range(16))))
        print(list(pool.map(child, range(8))))
        # Forks while the pool's threads live.
        with multiprocessing.get_context("fork").Pool(2) as processes:
            print(processes.map(in_fork, range(4)))

    threading.stack_size(64 * 1024)
    ends = []
    for _ in range(5):
        threads = [threading.Thread(target=lambda: ends.append(len("x" * 5000))) for _ in range(60)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    print(sum(ends))

    document = {str(i): [i, str(i) * 5, {"nested": [None, True, i / 7]}] for i in range(8000)}
    text = json.dumps(document)
    print(hashlib.sha256(text.encode()).hexdigest())
    print(pickle.loads(pickle.dumps(document)) == json.loads(text))
    print(len(re.findall(r'"(\d+)\1"', text)), (3**60000).bit_count())
    data = sqlite3.connect(":memory:")
    data.execute("create table t(a integer primary key, b text)")
    data.executemany("insert into t values(?, ?)", ((i, str(i * i)) for i in range(20000)))
    print(data.execute("select count(*), max(b) from t where b like '%77%'").fetchone())
SCRIPT
PYTHONHASHSEED=0 run python3 work.py
PYTHONHASHSEED=0 PYTHONMALLOC=malloc run python3 work.py
