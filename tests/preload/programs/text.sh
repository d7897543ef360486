# awk, sort with two threads and temporary files, grep, sed, join, diff on generated lines.
needs awk sort grep sed join diff
run awk 'BEGIN {
    s = 1
    for (i = 0; i < 250000; i++) { s = (s * 16807) % 2147483647; print s % 50021, i, s }
}' >lines
sha256sum lines
run sort --parallel=2 -S 4M -k1,1n -k3,3n lines >sorted
run sort --parallel=2 -k3,3 lines | sha256sum
sha256sum sorted
run awk '{ t[$1] = t[$1] substr($3, 1, 2) } END { for (k in t) print k, t[k] }' lines |
    sort | sha256sum
run sed -E 's/([0-9])([0-9]+) ([0-9]+)/\2\1-\3/; /7{3}/d' lines | sha256sum
run grep -cE '(12|34)+.*(98|76){2}' lines
head -n 5000 sorted | sort >left
tail -n 5000 lines | sort >right
run join left right | sha256sum
run diff left right | sha256sum || true
