// In processes of their own: the signal's handler is the process's. More in
// unit/debug/fault_handler_test.cpp.
#include "platform/fault_signal.hpp"

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "base/bits.hpp"
#include "base/units.hpp"
#include "platform/os.hpp"
#include "support/build.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::platform;

std::byte* page = nullptr;
std::atomic<int> calls{0};
memory_fault last{};
std::uintptr_t stack_of_hook = 0;
fault_verdict verdict = fault_verdict::retry;

bool is_ours(void const* address) noexcept {
    return base::address_of(address) - base::address_of(page) < os::page_bytes();
}

fault_verdict handle(memory_fault const& fault) noexcept {
    std::array<char, 100 * KiB> room;  // more than an alternate stack has
    std::memset(room.data(), 1, room.size());
    stack_of_hook = base::address_of(room.data());
    calls.fetch_add(1);
    last = fault;
    if (verdict == fault_verdict::retry) {
        ::mprotect(page, os::page_bytes(), PROT_READ | PROT_WRITE);
    }
    return verdict;
}

template <class Body>
int in_child(Body body) {
    return tarn::test::run_in_child(20, [&] {
        void* const fresh =
            ::mmap(nullptr, os::page_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        page = static_cast<std::byte*>(fresh);
        body();
        std::fflush(stdout);
        return testing::Test::HasFailure() ? 1 : 0;
    });
}

void touch(std::byte volatile* at) { *at = std::byte{1}; }

TEST(fault_signal, an_access_is_tried_again) {
    int const status = in_child([] {
        ASSERT_TRUE(install_fault_hook({.is_ours = &is_ours, .handle = &handle}));
        EXPECT_FALSE(install_fault_hook({.is_ours = &is_ours, .handle = &handle}));
        errno = 7;
        touch(page + 3);
        EXPECT_EQ(errno, 7);
        EXPECT_EQ(calls.load(), 1);
        EXPECT_EQ(last.address, page + 3);
        EXPECT_NE(last.context, nullptr);
        if (!tarn::test::under_emulation) {  // emulators do not tell
            EXPECT_EQ(last.access, memory_access::write);
        }
        EXPECT_EQ(page[3], std::byte{1});
        if (!tarn::test::under_asan && !tarn::test::under_tsan) {
            auto const here = base::address_of(__builtin_frame_address(0));
            EXPECT_GT(here > stack_of_hook ? here - stack_of_hook : stack_of_hook - here,
                      fault_stack_bytes);
        }
    });
    EXPECT_EQ(status, 0);
}

sigjmp_buf way_out;

TEST(fault_signal, what_is_passed_on_reaches_the_previous_handler) {
    int const status = in_child([] {
        ::signal(SIGSEGV, [](int) { siglongjmp(way_out, 1); });
        verdict = fault_verdict::pass_on;
        ASSERT_TRUE(install_fault_hook({.is_ours = &is_ours, .handle = &handle}));
        for (int i = 1; i <= 3; ++i) {
            if (sigsetjmp(way_out, 1) == 0) {
                touch(page);
                ADD_FAILURE() << "no fault";
            }
            EXPECT_EQ(calls.load(), i);
        }
    });
    EXPECT_EQ(status, 0);
}

TEST(fault_signal, a_previous_handler_of_one_call_has_one) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "the process ends by the signal";
    }
    int const status = in_child([] {
        struct sigaction once {};
        once.sa_handler = [](int) { siglongjmp(way_out, 1); };
        once.sa_flags = static_cast<int>(SA_RESETHAND);
        ::sigaction(SIGSEGV, &once, nullptr);
        verdict = fault_verdict::pass_on;
        ASSERT_TRUE(install_fault_hook({.is_ours = &is_ours, .handle = &handle}));
        if (sigsetjmp(way_out, 1) == 0) {
            touch(page);
        }
        touch(page);
    });
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

TEST(fault_signal, a_hook_has_more_stack_than_an_alternate_one) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "there it runs on the thread's, or the alternate one";
    }
    int const status = in_child([] {
        alignas(16) static std::array<std::byte, 16 * 1024> small;
        stack_t alternate{};
        alternate.ss_sp = small.data();
        alternate.ss_size = small.size();
        ASSERT_EQ(::sigaltstack(&alternate, nullptr), 0);
        ASSERT_TRUE(install_fault_hook({.is_ours = &is_ours, .handle = &handle}));
        touch(page);
        EXPECT_EQ(calls.load(), 1);
        stack_t now{};
        ::sigaltstack(nullptr, &now);
        EXPECT_EQ(now.ss_sp, small.data());
    });
    EXPECT_EQ(status, 0);
}

}  // namespace
