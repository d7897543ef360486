// platform/os.hpp - `platform::os`: the system this build of the core talks to.
//
// The library talks to Linux. Tests that make the system fail compile the same sources once more
// with TARN_PLATFORM_FAKE and get fake_os in its place.
#pragma once

#include "platform/fake/fake_os.hpp"
#include "platform/linux/linux_os.hpp"

namespace tarn::impl::platform {

#ifdef TARN_PLATFORM_FAKE
using os = fake_os;
#else
using os = linux_os;
#endif

}  // namespace tarn::impl::platform
