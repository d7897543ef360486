// The concepts accept the systems we have and refuse what lacks a part. What the functions must
// do is in tests/contract/os_memory_test.cpp.
#include "platform/os_memory.hpp"

#include <gtest/gtest.h>

#include "platform/fake/fake_os.hpp"
#include "platform/linux/linux_os.hpp"

namespace {

using namespace tarn::impl::platform;

struct without_purge {
    static std::size_t page_bytes() noexcept;
    static void* reserve(std::size_t, placement) noexcept;
    static void* reserve_zeros(std::size_t) noexcept;
    static bool commit(void*, std::size_t) noexcept;
    static bool decommit(void*, std::size_t) noexcept;
    static void release(void*, std::size_t) noexcept;
    static bool populate_huge(void*, std::size_t) noexcept;
    static bool move_pages(void*, void*, std::size_t) noexcept;
};

struct throwing_commit : linux_os {
    static bool commit(void*, std::size_t);  // not noexcept
};

struct void_commit : linux_os {
    static void commit(void*, std::size_t) noexcept;
};

static_assert(os_memory<linux_os>);
static_assert(os_memory<fake_os>);
static_assert(os_process<linux_os>);
static_assert(os_process<fake_os>);
static_assert(!os_memory<without_purge>);
static_assert(!os_memory<throwing_commit>);
static_assert(!os_memory<void_commit>);
static_assert(!os_process<without_purge>);

TEST(os_memory, placement_asks_for_nothing_by_default) {
    EXPECT_EQ(placement{}.alignment, 0U);
    EXPECT_EQ(placement{}.ceiling, 0U);
}

}  // namespace
