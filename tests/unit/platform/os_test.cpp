#include "platform/os.hpp"

#include <gtest/gtest.h>

#include <type_traits>

namespace {

using namespace tarn::impl::platform;

#ifdef TARN_PLATFORM_FAKE
static_assert(std::is_same_v<os, fake_os>);
#else
static_assert(std::is_same_v<os, linux_os>);
#endif

TEST(os, is_one_of_the_systems) {
    static_assert(os_memory<os>);
    static_assert(os_process<os>);
    EXPECT_GE(os::page_bytes(), 4096U);
}

}  // namespace
