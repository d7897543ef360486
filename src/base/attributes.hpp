// base/attributes.hpp - the few macros where the language fails: temperature and inlining.
// TARN_COLD marks the rare half of an operation: out of line, placed apart. TARN_HOT forces a fast
// path into its caller, so that an entry point stays one function without a frame.
#pragma once

#define TARN_COLD __attribute__((noinline, cold))
#define TARN_NOINLINE __attribute__((noinline))
// TARN_HIDDEN, on declarations of our global variables: -fvisibility reaches definitions only, and
// without it each use goes through the global offset table.
#define TARN_HIDDEN __attribute__((visibility("hidden")))
#define TARN_HOT inline __attribute__((always_inline))

// How much the library checks itself, set by the build (TARN_CHECKS in CMakePresets.json). 0:
// TARN_CHECK only, 1: + TARN_ASSERT, 2: + audit() after slow-path steps.
#ifndef TARN_CHECK_LEVEL
#define TARN_CHECK_LEVEL 0
#endif

// ThreadSanitizer does not see into assembly: there the portable form is used.
#if defined(__SANITIZE_THREAD__)
#define TARN_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TARN_THREAD_SANITIZER 1
#endif
#endif
#ifndef TARN_THREAD_SANITIZER
#define TARN_THREAD_SANITIZER 0
#endif

// Sanitizers must see system calls that map and unmap.
#if TARN_THREAD_SANITIZER || defined(__SANITIZE_ADDRESS__)
#define TARN_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TARN_SANITIZED 1
#endif
#endif
#ifndef TARN_SANITIZED
#define TARN_SANITIZED 0
#endif
