// A library for tests to open, copy, strip and damage.
#include "support/known_calls.hpp"

extern "C" __attribute__((visibility("default"))) void guest_call(tarn::test::known_call* to) {
    *to = tarn::test::with_inlined();
}

extern "C" __attribute__((visibility("default"))) void guest_static_call(
    tarn::test::known_call* to) {
    *to = tarn::test::static_function("");
}
