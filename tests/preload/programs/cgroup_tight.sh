# A program that holds 180 MiB at most, in a memory cgroup of 256 MiB, but frees it so that most of
# its pages stay partly used. Tarn heeds the group's limit without being told. On glibc the kernel
# kills it, so that pass runs outside of the group. Needs root and a memory controller.
make_memory_group $((256 << 20))

cc -O1 -o tight "$parts/tight.c" -lpthread
if [ "$allocator" = tarn ]; then
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        run ./tight 160
    )
else
    ./tight 160
fi
