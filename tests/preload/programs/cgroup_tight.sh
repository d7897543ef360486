# A program that holds 180 MiB at most, in a memory cgroup of 256 MiB, but frees it so that most of
# its pages stay partly used. Tarn heeds the group's limit without being told. On glibc the kernel
# kills it, so that pass runs outside of the group. Needs root and a memory controller.
if [ -e /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
    group=/sys/fs/cgroup/memory/tarn-tight-$$ limit=memory.limit_in_bytes
elif grep -qsw memory /sys/fs/cgroup/cgroup.subtree_control; then
    group=/sys/fs/cgroup/tarn-tight-$$ limit=memory.max
else
    skip 'no memory controller in /sys/fs/cgroup'
fi
mkdir "$group" 2>/dev/null || skip 'no permission to make a memory cgroup (needs root)'
trap 'rmdir "$group"' EXIT
echo $((256 << 20)) >"$group/$limit"

cc -O1 -o tight "$parts/tight.c" -lpthread
if [ "$allocator" = tarn ]; then
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        run ./tight 160
    )
else
    ./tight 160
fi
