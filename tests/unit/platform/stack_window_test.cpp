#include "platform/linux/stack_window.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <thread>

#include "base/bits.hpp"
#include "platform/linux/linux_os.hpp"

namespace {

using namespace tarn::impl;
using platform::is_readable;
using platform::stack_window;

std::uintptr_t here() { return base::address_of(__builtin_frame_address(0)); }

TEST(stack_window, the_system_says_what_is_readable) {
    std::size_t const page = platform::linux_os::page_bytes();
    void* const base = ::mmap(nullptr, 3 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(base, MAP_FAILED);
    auto const start = base::address_of(base);
    ASSERT_EQ(::mprotect(base::pointer_to(start + page), page, PROT_NONE), 0);
    errno = 77;
    EXPECT_TRUE(is_readable(start));
    EXPECT_FALSE(is_readable(start + page));
    EXPECT_TRUE(is_readable(start + 2 * page));
    EXPECT_FALSE(is_readable(0));
    EXPECT_FALSE(is_readable(~std::uintptr_t{7}));
    EXPECT_TRUE(is_readable(here()));
    ::munmap(base, 3 * page);
    EXPECT_FALSE(is_readable(start));
    EXPECT_EQ(errno, 77);
}

void expect_own_stack() {
    stack_window window;
    std::uintptr_t value = 0;
    EXPECT_FALSE(window.is_own());
    EXPECT_FALSE(window.has(0));
    // Not a variable's address: a sanitizer keeps variables elsewhere.
    std::uintptr_t const at = here();
    window.enter(at);
    EXPECT_TRUE(window.is_own());
    EXPECT_TRUE(window.read(at, value));
    EXPECT_EQ(value, stack_window::load(at));
    EXPECT_TRUE(window.read(at + 8, value));
    EXPECT_FALSE(window.read(at + 4, value));     // not aligned
    EXPECT_FALSE(window.read(at - 4096, value));  // below the stack pointer
    EXPECT_FALSE(window.read(0, value));
    EXPECT_FALSE(window.read(at + (std::uintptr_t{1} << 32), value));
}

TEST(stack_window, knows_the_stack_of_each_thread) {
    expect_own_stack();
    expect_own_stack();
    std::thread{[] {
        expect_own_stack();
        expect_own_stack();
    }}.join();
}

TEST(stack_window, asks_about_each_page_of_other_stacks) {
    std::size_t const page = platform::linux_os::page_bytes();
    void* const base =
        ::mmap(nullptr, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(base, MAP_FAILED);
    auto const start = base::address_of(base);
    auto* const words = static_cast<std::uintptr_t*>(base);
    ASSERT_EQ(::mprotect(base::pointer_to(start + 2 * page), page, PROT_NONE), 0);
    words[page / 8 - 1] = 5;
    words[page / 8] = 6;
    words[3 * page / 8] = 7;
    for (int i = 0; i < 3; ++i) {
        stack_window window;
        window.enter(start + 512);
        EXPECT_FALSE(window.is_own());
        std::uintptr_t value = 0;
        EXPECT_TRUE(window.read(start + page - 8, value));
        EXPECT_EQ(value, 5U);
        EXPECT_TRUE(window.read(start + page, value));
        EXPECT_EQ(value, 6U);
        EXPECT_FALSE(window.read(start + 2 * page, value));
        EXPECT_TRUE(window.read(start + 3 * page, value));
        EXPECT_EQ(value, 7U);
        EXPECT_TRUE(window.read(start + page - 8, value));
        EXPECT_EQ(value, 5U);
    }
    ::munmap(base, 4 * page);
    stack_window window;
    window.enter(start + 512);
    std::uintptr_t value = 0;
    EXPECT_FALSE(window.read(start + page, value));
}

}  // namespace
