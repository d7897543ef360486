// Each test in a process of its own: the signal's handler is the process's.
#include "debug/fault_handler.hpp"

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <thread>
#include <vector>

#include "base/bits.hpp"
#include "debug/page_source.hpp"
#include "support/build.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;
using heap::operation_kind;
using platform::guard_method;
using platform::os;

struct seen_finding {
    finding what;
    std::size_t frames;
    void const* innermost;
};

// Of the child alone. A handler may not allocate.
std::array<seen_finding, 64> seen;
std::atomic<std::size_t> seen_count{0};

void note(finding const& found) noexcept {
    std::size_t const number = seen_count.fetch_add(1);
    if (number < seen.size()) {
        seen[number] = {.what = found,
                        .frames = found.stack.size(),
                        .innermost = found.stack.empty() ? nullptr : found.stack.front()};
        seen[number].what.stack = {};
    }
}

class fault_handler : public ::testing::TestWithParam<guard_method> {
protected:
    void SetUp() override {
        if (GetParam() == guard_method::markers && os::guards_by() != guard_method::markers) {
            GTEST_SKIP() << "this system has no guard markers";
        }
    }

    /// body() in a child with a heap of such blocks. What it expects counts here.
    template <class Body>
    int in_child(Body body) {
        return tarn::test::run_in_child(60, [&] {
            os::guard_by(GetParam());
            heap_.configure(with_page_defaults({.handler = &note}), page_source());
            body();
            std::fflush(stdout);
            return HasFailure() ? 1 : 0;
        });
    }

    static void install() {
        EXPECT_TRUE(install_fault_handler(&note, platform::walk_method::tables));
    }

    std::byte* allocate(std::size_t bytes, std::size_t alignment = 0) {
        return static_cast<std::byte*>(heap_.allocate(
            {.kind = alignment == 0 ? operation_kind::allocate : operation_kind::allocate_aligned,
             .bytes = bytes,
             .alignment = alignment}));
    }

    bool free(void* block) {
        return heap_.deallocate({.kind = operation_kind::deallocate, .block = block});
    }

    checked_heap heap_{heap_number::program, page_source()};
};

INSTANTIATE_TEST_SUITE_P(all, fault_handler,
                         ::testing::Values(guard_method::markers, guard_method::protection),
                         [](auto const& each) {
                             return each.param == guard_method::markers ? "markers" : "protection";
                         });

__attribute__((noinline)) std::byte read_at(std::byte const volatile* at) { return *at; }

__attribute__((noinline)) void write_at(std::byte volatile* at) { *at = std::byte{7}; }

void expect_last(std::size_t count, access_kind access, std::byte const* at, std::byte const* block,
                 block_state state) {
    ASSERT_EQ(seen_count.load(), count);
    seen_finding const& last = seen[count - 1];
    EXPECT_EQ(last.what.what, fault::bad_access);
    if (!tarn::test::under_emulation) {  // emulators do not tell
        EXPECT_EQ(last.what.access, access);
    }
    EXPECT_EQ(last.what.ptr, at);
    EXPECT_EQ(last.what.block.user, block);
    EXPECT_EQ(last.what.block.state, state);
    EXPECT_EQ(last.what.damage_first, at - block);
    EXPECT_NE(last.what.thread, 0U);
    EXPECT_GE(last.frames, tarn::test::under_emulation ? 1U : 2U);
}

TEST_P(fault_handler, tells_reads_and_writes_by_one_too_far) {
    int const status = in_child([&] {
        install();
        std::size_t count = 0;
        for (std::size_t alignment : {0UL, 64UL, 4096UL}) {
            for (std::size_t bytes : {0UL, 16UL, 64UL, 4096UL, 200'000UL}) {
                std::size_t const unit = std::max<std::size_t>(alignment, 16);
                for (access_kind const access : {access_kind::read, access_kind::write}) {
                    std::byte* const block = allocate(bytes, alignment);
                    std::byte* const end = block + base::align_up(bytes, unit);
                    if (access == access_kind::read) {
                        EXPECT_EQ(read_at(end), std::byte{0});
                    } else {
                        write_at(end);
                    }
                    expect_last(++count, access, end, block, block_state::live);
                    write_at(end + 1);
                    EXPECT_EQ(seen_count.load(), count) << "a page is told once";
                    EXPECT_TRUE(free(block));
                }
            }
        }
    });
    EXPECT_EQ(status, 0);
}

TEST_P(fault_handler, tells_accesses_after_free_and_before_the_start) {
    int const status = in_child([&] {
        install();
        std::byte* const block = allocate(5000);
        std::size_t const front = base::address_of(block) % os::page_bytes();
        write_at(block - 1);  // a guard byte
        EXPECT_EQ(seen_count.load(), 0U);
        write_at(block - front - 1);
        expect_last(1, access_kind::write, block - front - 1, block, block_state::live);
        EXPECT_TRUE(free(block));
        EXPECT_EQ(seen_count.load(), 2U) << "the guard byte";
        EXPECT_EQ(seen[1].what.what, fault::underflow);
        static_cast<void>(read_at(block + 4999));
        expect_last(3, access_kind::read, block + 4999, block, block_state::freed);
        EXPECT_NE(seen[2].what.block.released, space::stack_id::none);
        heap_.empty_quarantine();
        static_cast<void>(read_at(block));
        ASSERT_GE(seen_count.load(), 4U);
        EXPECT_EQ(seen[3].what.block.state, block_state::unused);
        EXPECT_EQ(seen[3].what.block.user, block);
        EXPECT_TRUE(free(block));
        EXPECT_EQ(seen[4].what.what, fault::double_free);
    });
    EXPECT_EQ(status, 0);
}

TEST_P(fault_handler, works_on_a_small_alternate_stack_and_leaves_registers_alone) {
    int const status = in_child([&] {
        install();
        // What a signal's frame and a sanitizer take, and little more.
        alignas(16) static std::array<std::byte, 16 * 1024> small;
        stack_t alternate{};
        alternate.ss_sp = small.data();
        alternate.ss_size = small.size();
        ASSERT_EQ(::sigaltstack(&alternate, nullptr), 0);
        std::byte* const block = allocate(64);
        double sum = 0;
        for (std::size_t i = 0; i < 65; ++i) {
            sum = sum * 0.5 + static_cast<double>(i);
            sum += static_cast<double>(read_at(block + i)) * 0;
        }
        EXPECT_EQ(seen_count.load(), 1U);
        EXPECT_GT(sum, 100.0);
        stack_t now{};
        EXPECT_EQ(::sigaltstack(nullptr, &now), 0);
        EXPECT_EQ(now.ss_sp, small.data());
        EXPECT_EQ(now.ss_flags, 0);
        sigset_t blocked;
        ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
        EXPECT_EQ(::sigismember(&blocked, SIGALRM), 0);
        EXPECT_EQ(::sigismember(&blocked, SIGSEGV), 0);
    });
    EXPECT_EQ(status, 0);
}

TEST_P(fault_handler, threads_that_fault_at_once_are_all_told) {
    if (tarn::test::under_tsan) {
        GTEST_SKIP() << "it starts no threads in a child";
    }
    constexpr std::size_t threads = 4;
    constexpr std::size_t rounds = 8;
    int const status = in_child([&] {
        install();
        std::vector<std::thread> all;
        for (std::size_t t = 0; t < threads; ++t) {
            all.emplace_back([&] {
                for (std::size_t i = 0; i < rounds; ++i) {
                    std::byte* const block = allocate(32);
                    write_at(block + 32);
                    EXPECT_TRUE(free(block));
                }
            });
        }
        for (std::thread& each : all) {
            each.join();
        }
        EXPECT_EQ(seen_count.load(), threads * rounds);
    });
    EXPECT_EQ(status, 0);
}

// --- others' faults ------------------------------------------------------------------------------

void* protected_page() {
    return ::mmap(nullptr, os::page_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

std::atomic<int> own_calls{0};
void* own_address = nullptr;
bool own_blocks_usr1 = false;
bool own_blocks_segv = false;
sigjmp_buf way_out;

void own_handler(int number, siginfo_t* info, void* context) {
    own_calls.fetch_add(1);
    own_address = info->si_addr;
    sigset_t blocked;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    own_blocks_usr1 = ::sigismember(&blocked, SIGUSR1) == 1;
    own_blocks_segv = ::sigismember(&blocked, SIGSEGV) == 1;
    if (number != SIGSEGV || context == nullptr) {
        ::_exit(9);
    }
    siglongjmp(way_out, 1);
}

void set_own_handler(int flags) {
    struct sigaction own {};

    own.sa_sigaction = &own_handler;
    own.sa_flags = SA_SIGINFO | flags;
    ::sigemptyset(&own.sa_mask);
    ::sigaddset(&own.sa_mask, SIGUSR1);
    ::sigaction(SIGSEGV, &own, nullptr);
}

TEST_P(fault_handler, the_programs_handler_gets_its_own_faults_as_ever) {
    int const status = in_child([&] {
        set_own_handler(0);
        install();
        auto* const page = static_cast<std::byte*>(protected_page());
        for (int i = 1; i <= 3; ++i) {
            if (sigsetjmp(way_out, 1) == 0) {
                write_at(page + 5);
                ADD_FAILURE() << "no fault";
            }
            EXPECT_EQ(own_calls.load(), i);
            EXPECT_EQ(own_address, page + 5);
            EXPECT_TRUE(own_blocks_usr1);
            EXPECT_TRUE(own_blocks_segv);
        }
        if (sigsetjmp(way_out, 1) == 0) {
            static_cast<void>(read_at(nullptr));
        }
        EXPECT_EQ(own_calls.load(), 4);
        EXPECT_EQ(seen_count.load(), 0U);
        std::byte* const block = allocate(16);
        write_at(block + 16);
        EXPECT_EQ(seen_count.load(), 1U);
        EXPECT_EQ(own_calls.load(), 4) << "that one was ours";
    });
    EXPECT_EQ(status, 0);
}

TEST_P(fault_handler, what_the_program_protects_of_a_live_block_is_its_own) {
    int const status = in_child([&] {
        set_own_handler(SA_NODEFER);
        install();
        std::size_t const os_page = os::page_bytes();
        std::byte* const block = allocate(2 * os_page, os_page);
        for (int const how : {PROT_READ, PROT_NONE}) {
            ASSERT_EQ(::mprotect(block, os_page, how), 0);
            if (sigsetjmp(way_out, 1) == 0) {
                write_at(block + 5);
                ADD_FAILURE() << "no fault";
            }
            EXPECT_EQ(own_address, block + 5);
            EXPECT_FALSE(own_blocks_segv && !tarn::test::under_tsan);  // its own hook blocks all
            ASSERT_EQ(::mprotect(block, os_page, PROT_READ | PROT_WRITE), 0);
        }
        EXPECT_EQ(own_calls.load(), 2);
        EXPECT_EQ(seen_count.load(), 0U);
        EXPECT_TRUE(free(block));
    });
    EXPECT_EQ(status, 0);
}

TEST_P(fault_handler, without_another_handler_the_system_ends_the_process) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "sanitizers have a handler";
    }
    for (auto const disposition : {SIG_DFL, SIG_IGN}) {
        int const status = in_child([&] {
            ::signal(SIGSEGV, disposition);
            install();
            write_at(static_cast<std::byte*>(protected_page()));
        });
        EXPECT_TRUE(WIFSIGNALED(status));
        EXPECT_EQ(WTERMSIG(status), SIGSEGV);
    }
    int const sent = in_child([&] {
        install();
        ::raise(SIGSEGV);
    });
    EXPECT_TRUE(WIFSIGNALED(sent)) << "not a fault, but sent";
    EXPECT_EQ(in_child([&] {
                  ::signal(SIGSEGV, SIG_IGN);
                  install();
                  ::raise(SIGSEGV);
              }),
              0);
}

struct sigaction found_by_later {};

void later_handler(int number, siginfo_t* info, void* context) {
    own_calls.fetch_add(1);
    found_by_later.sa_sigaction(number, info, context);
}

TEST_P(fault_handler, a_handler_installed_later_may_pass_faults_on) {
    int const status = in_child([&] {
        install();
        struct sigaction later {};
        later.sa_sigaction = &later_handler;
        later.sa_flags = SA_SIGINFO;
        ::sigaction(SIGSEGV, &later, &found_by_later);
        std::byte* const block = allocate(16);
        write_at(block + 16);
        EXPECT_EQ(own_calls.load(), 1);
        expect_last(1, access_kind::write, block + 16, block, block_state::live);
    });
    EXPECT_EQ(status, 0);
}

TEST_P(fault_handler, a_fault_inside_of_the_handler_ends_the_process) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "sanitizers have a handler";
    }
    static std::byte* other = nullptr;
    int const status = in_child([&] {
        EXPECT_TRUE(install_fault_handler([](finding const&) noexcept { write_at(other + 16); },
                                          platform::walk_method::tables));
        other = allocate(16);
        write_at(allocate(16) + 16);
    });
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

TEST_P(fault_handler, is_installed_once) {
    int const status = in_child([&] {
        install();
        EXPECT_FALSE(install_fault_handler(&note, platform::walk_method::tables));
    });
    EXPECT_EQ(status, 0);
}

}  // namespace
