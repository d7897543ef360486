# tar, xz with two threads, gzip, bzip2, zstd: pack a tree, unpack it again.
needs tar xz gzip bzip2
mkdir -p tree/{a,b,c}/{d,e}
for file in tree/*/*; do
    seq 1 60000 >"$file/numbers"
    head -c 300000 /dev/zero | tr '\0' 'q' >"$file/same"
done
run tar --sort=name --mtime=@1600000000 --owner=0 --group=0 --numeric-owner -cf tree.tar tree
sha256sum tree.tar
run xz -T2 -1 --block-size=256KiB -k tree.tar
sha256sum tree.tar.xz
run xz -T2 -dc tree.tar.xz | cmp - tree.tar
run gzip -nk tree.tar
run bzip2 -k --fast tree.tar
sha256sum tree.tar.gz tree.tar.bz2
run gzip -dc tree.tar.gz | cmp - tree.tar
run bzip2 -dc tree.tar.bz2 | run tar -tvf - | sha256sum
if command -v zstd >/dev/null; then
    run zstd -q -T2 -10 -c tree.tar | run zstd -dc | cmp - tree.tar
fi
mkdir out
run tar -C out -xf tree.tar.xz
diff -r tree out/tree && echo same tree
