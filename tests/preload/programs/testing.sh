# A program with scopes of tarn/testing.hpp, linked with libtarn_core.so: under libtarn.so they see
# malloc and operator new.
needs g++
[ -f "$TARN_CORE_LIBRARY" ] || skip "no libtarn_core.so at $TARN_CORE_LIBRARY"
g++ -std=c++20 -O1 -pthread -I"$parts/../../../include" "$parts/testing.cpp" -o testing \
    "$TARN_CORE_LIBRARY" -Wl,-rpath,"$(dirname "$TARN_CORE_LIBRARY")"
run ./testing
