// base/thread_annotations.hpp - names for clang's -Wthread-safety; nothing under GCC.
#pragma once

#if defined(__clang__)
#define TARN_ANNOTATION(x) __attribute__((x))
#else
#define TARN_ANNOTATION(x)
#endif

#define TARN_CAPABILITY(name) TARN_ANNOTATION(capability(name))
#define TARN_SCOPED_CAPABILITY TARN_ANNOTATION(scoped_lockable)
#define TARN_GUARDED_BY(lock) TARN_ANNOTATION(guarded_by(lock))
#define TARN_REQUIRES(lock) TARN_ANNOTATION(requires_capability(lock))
#define TARN_ACQUIRE(...) TARN_ANNOTATION(acquire_capability(__VA_ARGS__))
#define TARN_TRY_ACQUIRE(...) TARN_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define TARN_RELEASE(...) TARN_ANNOTATION(release_capability(__VA_ARGS__))
#define TARN_NO_THREAD_SAFETY_ANALYSIS TARN_ANNOTATION(no_thread_safety_analysis)
