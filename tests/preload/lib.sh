# lib.sh - what the scripts in programs/ may use; run_program sources it before the script.
#
# A script does its work once per pass, in an empty current folder whose path is the same in both
# passes, under `set -euo pipefail`. What it prints to stdout must not depend on time, process ids
# or addresses. The script itself is never on Tarn, only what it starts with `run`.
#
#   needs COMMAND...   skips the test unless all of these are installed
#   skip WHY           ends the test as skipped
#   run COMMAND ARGS   runs COMMAND, and what that starts, on the allocator of this pass
#   make_memory_group BYTES   a memory cgroup of that limit, $group, until the script ends
#   $parts             the folder with sources that scripts compile
#   $allocator         glibc or tarn: which pass this is
#   $TARN_LIBRARY, $TARN_CORE_LIBRARY   the libraries, in both passes

skip() {
    echo "$*" >&2
    exit 77
}

needs() {
    local command
    for command; do
        command -v "$command" >/dev/null || skip "$command is not installed"
    done
}

# Replaces the shell by COMMAND; notes the process id, whose statistics will be the proof.
become() {
    if [ "$allocator" = tarn ]; then
        echo "$BASHPID ${*//$'\n'/ }" >>"$scratch/pids"
        exec env LD_PRELOAD="$TARN_LIBRARY" TARN_OPTIONS="$run_options" "$@"
    fi
    exec "$@"
}

run() {
    (become "$@")
}

make_memory_group() {
    local limit
    if [ -e /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
        group=/sys/fs/cgroup/memory/tarn-test-$$ limit=memory.limit_in_bytes
    elif grep -qsw memory /sys/fs/cgroup/cgroup.subtree_control; then
        group=/sys/fs/cgroup/tarn-test-$$ limit=memory.max
    else
        skip 'no memory controller in /sys/fs/cgroup'
    fi
    mkdir "$group" 2>/dev/null || skip 'no permission to make a memory cgroup (needs root)'
    trap 'rmdir "$group"' EXIT
    echo "$1" >"$group/$limit"
}
