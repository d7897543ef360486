// control/watch.hpp - watches: the diversion behind tarn_watch_begin().
//
// Threads    a watch belongs to the thread that began it
// Always     its memory is the caller's: nothing here allocates or fails for want of memory
// Source     tarn/tarn.h says what is counted, docs/design/testing.md why
#pragma once

#include "tarn/tarn.h"

namespace tarn::impl::control {

/// 0 or EINVAL, as the tarn_ functions of these names.
[[nodiscard]] int begin_watch(tarn_watch& watch) noexcept;
[[nodiscard]] int end_watch(tarn_watch& watch) noexcept;

}  // namespace tarn::impl::control
