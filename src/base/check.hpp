// base/check.hpp - our own bugs: TARN_CHECK always, TARN_ASSERT in checked builds, audits.
//
// TARN_CHECK   an invariant whose failure would corrupt the program; costs a predictable branch
// TARN_ASSERT  an invariant of the code around it; compiled out at level 0
// TARN_AUDIT   a walk over a structure after a slow-path step; compiled out below level 2
// Errors       one line on stderr that names the expression and the place, then abort
#pragma once

#include "base/attributes.hpp"

namespace tarn::impl::base {

/// Where fatal text goes; the heap's host sets it once at start. Null: text is dropped.
using fatal_writer = void (*)(char const* text, unsigned long bytes) noexcept;
void set_fatal_writer(fatal_writer writer) noexcept;

[[noreturn]] TARN_COLD void fail_check(char const* expression, char const* file, int line) noexcept;

}  // namespace tarn::impl::base

#define TARN_CHECK(expression)                                                    \
    do {                                                                          \
        if (!(expression)) [[unlikely]] {                                         \
            ::tarn::impl::base::fail_check(#expression, __FILE_NAME__, __LINE__); \
        }                                                                         \
    } while (false)

#ifndef __FILE_NAME__
#define __FILE_NAME__ __FILE__
#endif

#if TARN_CHECK_LEVEL >= 1
#define TARN_ASSERT(expression) TARN_CHECK(expression)
#else
#define TARN_ASSERT(expression) static_cast<void>(sizeof(static_cast<bool>(expression)))
#endif

#if TARN_CHECK_LEVEL >= 2
#define TARN_AUDIT(call) static_cast<void>(call)
#else
#define TARN_AUDIT(call) static_cast<void>(0)
#endif
