# redis-server: commands with known replies, the benchmark client, a background save by fork, a
# restart from the file. Debian's redis-server brings jemalloc with it; the preloaded malloc wins.
needs redis-server redis-cli redis-benchmark
socket=redis.sock
ask() { redis-cli -s "$socket" "$@"; }

start() {
    run redis-server --port 0 --unixsocket "$socket" --save '' --enable-debug-command local \
        --dbfilename dump.rdb --dir . --io-threads 2 --daemonize no >server.log &
    server=$!
    for _ in {1..500}; do
        if ask ping 2>/dev/null | grep -q PONG; then return; fi
        kill -0 "$server"
        sleep 0.02
    done
    echo 'redis-server does not answer' >&2
    exit 1
}

stop() {
    ask shutdown nosave
    wait "$server"
}

trap 'redis-cli -s "$socket" shutdown nosave >/dev/null 2>&1 || true' EXIT
start
run redis-benchmark -s "$socket" -q -n 20000 -P 16 -r 20000 \
    -t set,get,incr,lpush,rpop,sadd,hset,zadd,mset >benchmark.log
tr '\r' '\n' <benchmark.log | grep -c 'requests per second'
ask flushall async
ask eval '
    for i = 1, 20000 do
        redis.call("set", "s" .. i, string.rep("v", i % 300))
        redis.call("rpush", "l" .. i % 50, i)
        redis.call("hset", "h" .. i % 70, "f" .. i, i * i)
        redis.call("zadd", "z" .. i % 30, i * 7919 % 1000, "m" .. i)
        if i % 4 == 0 then redis.call("unlink", "s" .. i / 2) end
    end
    return redis.call("dbsize")' 0
ask sort l7 by nosort limit 0 5
ask zrange z3 0 -1 withscores | sha256sum
ask debug digest
ask save
stop
start
ask dbsize
ask debug digest
stop
