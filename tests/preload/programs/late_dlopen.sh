# A program loads libtarn_core.so late, when other libraries have used up the static thread-local
# storage but for 64 bytes, and threads run; the build with dynamic thread-local storage, with none
# left at all.
needs cc
[ -f "$TARN_CORE_LIBRARY" ] || skip "no libtarn_core.so at $TARN_CORE_LIBRARY"
cc -O1 -pthread "$parts/late_dlopen.c" -o late_dlopen
mkdir fillers
for bytes in 64 8; do
    cc -O1 -shared -fPIC -DBYTES="$bytes" "$parts/tls_filler.c" -o "filler$bytes.so"
    for ((i = 0; i < 100; i++)); do cp "filler$bytes.so" "fillers/$bytes-$i.so"; done
done

# with LIBRARY LEFT - see late_dlopen.c; core_user.so is linked with LIBRARY.
with() {
    cc -O1 -shared -fPIC "$parts/core_user.c" "$1" -Wl,-rpath,"$(dirname "$1")" -o core_user.so
    run ./late_dlopen "$1" "$2"
}

with "$TARN_CORE_LIBRARY" 64
dynamic=$(dirname "$TARN_CORE_LIBRARY")/libtarn_core_dynamic_tls.so
if [ -f "$dynamic" ]; then
    with "$dynamic" 0
fi
