// support/known_calls.hpp - calls whose function, file and line a test knows.
//
// Included by the unit test of the program's own symbols and by the library that others open.
#pragma once

namespace tarn::test {

struct known_call {
    void const* address = nullptr;  // that it returns to
    unsigned line = 0;
    unsigned outer_line = 0;  // of the call of the inlined function that the call is in
};

/// Where its caller goes on.
__attribute__((noinline, weak)) void const* return_address() noexcept {
    asm volatile("" ::: "memory");
    return __builtin_return_address(0);
}

// Each keeps the call from being its last act, which would be a jump.
#define TARN_TEST_CALL(call)                        \
    do {                                            \
        (call).line = __LINE__;                     \
        (call).address = return_address();          \
        asm volatile("" ::"r"(&(call)) : "memory"); \
    } while (false)

struct known_type {
    __attribute__((noinline)) known_call method(int number) const {
        known_call call;
        static_cast<void>(number);
        TARN_TEST_CALL(call);
        return call;
    }
};

namespace {

[[maybe_unused]] __attribute__((noinline)) known_call static_function(char const* /*text*/) {
    known_call call;
    TARN_TEST_CALL(call);
    return call;
}

__attribute__((always_inline)) inline known_call inlined_inner() {
    known_call call;
    TARN_TEST_CALL(call);
    return call;
}

[[maybe_unused]] __attribute__((noinline)) known_call with_inlined() {
    unsigned const line = __LINE__ + 1;
    known_call call = inlined_inner();
    call.outer_line = line;
    return call;
}

template <class First, class Second>
__attribute__((noinline)) known_call template_function(First /*first*/, Second /*second*/) {
    known_call call;
    TARN_TEST_CALL(call);
    return call;
}

}  // namespace

}  // namespace tarn::test
