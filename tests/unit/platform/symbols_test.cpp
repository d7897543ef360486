#include "platform/symbols.hpp"

#include <gtest/gtest.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include "support/build.hpp"
#include "support/known_calls.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl::platform;
using tarn::test::known_call;

struct frame {
    std::size_t call;
    std::string function;
    std::string file;
    unsigned line;
    bool is_inlined;
    std::string module;
};

std::vector<frame> describe(std::vector<void const*> const& addresses) {
    std::vector<frame> frames;
    auto add = [&](source_frame const& seen) noexcept {
        frames.push_back({seen.call, std::string{seen.function}, std::string{seen.file}, seen.line,
                          seen.is_inlined, std::string{seen.place->module()}});
    };
    describe_calls(addresses, frame_visitor{add});
    return frames;
}

std::vector<frame> describe(known_call const& call) { return describe(std::vector{call.address}); }

bool ends_with(std::string const& text, std::string_view end) {
    return std::string_view{text}.ends_with(end);
}

constexpr std::string_view known_file = "tests/support/known_calls.hpp";

void expect_one(known_call const& call, std::string_view function) {
    std::vector<frame> const frames = describe(call);
    ASSERT_EQ(frames.size(), 1U);
    EXPECT_EQ(frames[0].function, function);
    EXPECT_TRUE(ends_with(frames[0].file, known_file)) << frames[0].file;
    EXPECT_EQ(frames[0].line, call.line);
    EXPECT_FALSE(frames[0].is_inlined);
}

TEST(symbols, a_method) {
    expect_one(tarn::test::known_type{}.method(1), "tarn::test::known_type::method(int) const");
}

TEST(symbols, a_static_function) {
    expect_one(tarn::test::static_function(""),
               "tarn::test::(anonymous namespace)::static_function(char const*)");
}

TEST(symbols, a_template) {
    expect_one(tarn::test::template_function(1, 2.0),
               "tarn::test::known_call tarn::test::(anonymous namespace)::"
               "template_function<int, double>(int, double)");
}

TEST(symbols, a_lambda) {
    auto const lambda = [](known_call & call) __attribute__((noinline)) {
        using tarn::test::return_address;
        TARN_TEST_CALL(call);
    };
    known_call call;
    lambda(call);
    std::vector<frame> const frames = describe(call);
    ASSERT_EQ(frames.size(), 1U);
    EXPECT_NE(frames[0].function.find("operator()"), std::string::npos) << frames[0].function;
    EXPECT_TRUE(ends_with(frames[0].file, "symbols_test.cpp")) << frames[0].file;
    EXPECT_EQ(frames[0].line, call.line);
}

TEST(symbols, an_inlined_function_comes_before_its_caller) {
    known_call const call = tarn::test::with_inlined();
    std::vector<frame> const frames = describe(call);
    ASSERT_EQ(frames.size(), 2U);
    EXPECT_NE(frames[0].function.find("inlined_inner"), std::string::npos) << frames[0].function;
    EXPECT_EQ(frames[0].line, call.line);
    EXPECT_TRUE(frames[0].is_inlined);
    EXPECT_NE(frames[1].function.find("with_inlined"), std::string::npos) << frames[1].function;
    EXPECT_EQ(frames[1].line, call.outer_line);
    EXPECT_FALSE(frames[1].is_inlined);
}

TEST(symbols, many_calls_in_their_order) {
    // More than fit into what one round can find.
    std::vector<known_call> const kinds{tarn::test::static_function(""), tarn::test::with_inlined(),
                                        tarn::test::template_function(1, 2.0), known_call{}};
    constexpr std::size_t count = tarn::test::under_emulation ? 400 : 8000;
    std::vector<void const*> addresses;
    for (std::size_t i = 0; i < count; ++i) {
        addresses.push_back(kinds[i % kinds.size()].address);
    }
    std::vector<frame> const frames = describe(addresses);
    ASSERT_EQ(frames.size(), count / kinds.size() * (kinds.size() + 1));
    std::size_t at = 0;
    for (std::size_t i = 0; i < count; ++i) {
        known_call const& kind = kinds[i % kinds.size()];
        ASSERT_EQ(frames[at].call, i);
        ASSERT_EQ(frames[at].line, kind.line) << i;
        at += kind.outer_line != 0 ? 2 : 1;
    }
}

TEST(symbols, addresses_in_nothing) {
    int local = 0;
    void* const page =
        ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::vector<void const*> const odd{nullptr,
                                       reinterpret_cast<void const*>(1),
                                       reinterpret_cast<void const*>(~std::uintptr_t{0}),
                                       reinterpret_cast<void const*>(std::uintptr_t{1} << 63),
                                       page,
                                       &local};
    std::vector<frame> const frames = describe(odd);
    ASSERT_EQ(frames.size(), odd.size());
    for (frame const& seen : frames) {
        EXPECT_EQ(seen.function, "");
        EXPECT_EQ(seen.line, 0U);
        EXPECT_EQ(seen.module, "");
    }
    EXPECT_TRUE(describe(std::vector<void const*>{}).empty());
    ::munmap(page, 4096);
}

TEST(symbols, every_byte_of_a_page_of_code) {
    // Wrong ones, too: the middle of instructions, the space between functions.
    auto const* const start =
        static_cast<char const*>(tarn::test::static_function("").address) - 2048;
    std::vector<void const*> addresses;
    for (std::ptrdiff_t i = 0; i < 4096; i += tarn::test::under_emulation ? 256
                                              : tarn::test::is_slow       ? 64
                                                                          : 1) {
        addresses.push_back(start + i);
    }
    EXPECT_GE(describe(addresses).size(), addresses.size());
}

TEST(symbols, keeps_errno) {
    known_call const call = tarn::test::static_function("");
    errno = 4711;
    auto ignore = [](source_frame const&) noexcept {};
    describe_calls({&call.address, 1}, frame_visitor{ignore});
    EXPECT_EQ(errno, 4711);
}

TEST(symbols, nothing_is_allocated_by_malloc) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "the sanitizer's malloc does not count";
    }
    known_call const calls[] = {tarn::test::with_inlined(), tarn::test::template_function(1, 2.0)};
    auto ignore = [](source_frame const&) noexcept {};
    release_symbols();
    auto const before = ::mallinfo2();
    for (known_call const& call : calls) {
        describe_calls({&call.address, 1}, frame_visitor{ignore});
    }
    auto const after = ::mallinfo2();
    EXPECT_EQ(before.uordblks, after.uordblks);
    EXPECT_EQ(before.arena, after.arena);
    EXPECT_EQ(before.hblks, after.hblks);
}

TEST(symbols, no_descriptor_stays_open) {
    int const before = ::dup(0);
    ::close(before);
    describe(tarn::test::static_function(""));
    int const after = ::dup(0);
    ::close(after);
    EXPECT_EQ(before, after);
}

// Another thread holds the loader's lock, in which it waits for us.
TEST(symbols, while_the_loader_is_locked) {
    struct meeting {
        std::atomic<bool> is_locked{false};
        std::atomic<bool> may_go{false};
    } place;

    std::thread holder{[&] {
        ::dl_iterate_phdr(
            [](dl_phdr_info*, std::size_t, void* data) {
                auto& shared = *static_cast<meeting*>(data);
                shared.is_locked = true;
                shared.is_locked.notify_one();
                shared.may_go.wait(false);
                return 1;
            },
            &place);
    }};
    place.is_locked.wait(false);
    known_call const call = tarn::test::static_function("");
    std::vector<frame> const frames = describe(call);
    place.may_go = true;
    place.may_go.notify_one();
    holder.join();
    ASSERT_EQ(frames.size(), 1U);
    EXPECT_EQ(frames[0].line, call.line);
}

TEST(symbols, threads_at_once_all_get_lines) {
    known_call const call = tarn::test::with_inlined();
    // An emulator reads the tables anew for each call: a thread may wait too long for its turn.
    std::uint64_t const calls = tarn::test::under_emulation ? 1 : tarn::test::scaled(50);
    std::atomic<int> wrong{0};
    std::array<std::thread, 4> threads;
    for (std::thread& thread : threads) {
        thread = std::thread{[&] {
            for (std::uint64_t i = 0; i < calls; ++i) {
                std::vector<frame> const frames = describe(call);
                bool const is_plain = frames.size() == 1 && frames[0].line == 0;
                bool const is_full = frames.size() == 2 && frames[0].line == call.line;
                wrong += is_full || (is_plain && tarn::test::under_emulation) ? 0 : 1;
            }
        }};
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong.load(), 0);
}

TEST(symbols, while_this_thread_describes_already) {
    // As in a signal handler: the visit holds the turn.
    known_call const call = tarn::test::static_function("");
    unsigned inner_line = 1;
    std::string inner_module;
    auto again = [&](source_frame const&) noexcept {
        auto note = [&](source_frame const& seen) noexcept {
            inner_line = seen.line;
            inner_module = seen.place->module();
        };
        describe_calls({&call.address, 1}, frame_visitor{note});
    };
    describe_calls({&call.address, 1}, frame_visitor{again});
    EXPECT_EQ(inner_line, 0U);  // the plain form, at once
    EXPECT_NE(inner_module, "");
}

known_call described_in_handler;
unsigned line_in_handler = 0;

TEST(symbols, in_a_signal_handler_on_a_small_stack) {
    std::array<char, 64 * 1024> room;
    stack_t small{};
    stack_t before{};
    small.ss_sp = room.data();
    small.ss_size = room.size();
    ASSERT_EQ(::sigaltstack(&small, &before), 0);

    struct sigaction action {};

    struct sigaction old_action {};

    action.sa_flags = SA_ONSTACK;
    action.sa_handler = [](int) {
        auto note = [](source_frame const& seen) noexcept { line_in_handler = seen.line; };
        describe_calls({&described_in_handler.address, 1}, frame_visitor{note});
    };
    described_in_handler = tarn::test::static_function("");
    ASSERT_EQ(::sigaction(SIGUSR1, &action, &old_action), 0);
    ::raise(SIGUSR1);
    ::sigaction(SIGUSR1, &old_action, nullptr);
    ::sigaltstack(&before, nullptr);
    EXPECT_EQ(line_in_handler, described_in_handler.line);
}

TEST(symbols, in_a_child_of_a_fork_that_came_in_the_middle) {
    known_call const call = tarn::test::static_function("");
    int status = -1;
    auto fork_now = [&](source_frame const&) noexcept {
        status = tarn::test::run_in_child(60, [&] {
            std::vector<frame> const frames = describe(call);
            return frames.size() == 1 && frames[0].line == call.line ? 0 : 1;
        });
    };
    describe_calls({&call.address, 1}, frame_visitor{fork_now});
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    expect_one(call, "tarn::test::(anonymous namespace)::static_function(char const*)");
}

/// From now on this process can't make others.
bool forbid_processes() {
    std::array<sock_filter, 4> code{
        sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    sock_fprog const program{static_cast<unsigned short>(code.size()), code.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(symbols, without_processes_the_place_is_known) {
    constexpr int can_not_forbid = 77;
    int const status = tarn::test::run_in_child(60, [] {
        if (!forbid_processes()) {
            return can_not_forbid;
        }
        std::vector<frame> const frames = describe(tarn::test::static_function(""));
        return frames.size() == 1 && frames[0].line == 0 && !frames[0].module.empty() ? 0 : 1;
    });
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == can_not_forbid) {
        GTEST_SKIP() << "the system has no filters";
    }
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(symbols, without_memory_the_place_is_known) {
    if (tarn::test::under_asan || tarn::test::under_tsan || tarn::test::under_emulation) {
        GTEST_SKIP() << "needs address space itself";
    }
    int const status = tarn::test::run_in_child(60, [] {
        known_call const call = tarn::test::static_function("");
        std::string module;
        module.reserve(4096);
        unsigned line = 1;
        rlimit const none{0, 0};
        ::setrlimit(RLIMIT_AS, &none);
        auto note = [&](source_frame const& seen) noexcept {
            line = seen.line;
            module = seen.place->module();
        };
        describe_calls({&call.address, 1}, frame_visitor{note});
        return line == 0 && !module.empty() ? 0 : 1;
    });
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(symbols, without_descriptors_the_place_is_known) {
    int const status = tarn::test::run_in_child(60, [] {
        known_call const call = tarn::test::static_function("");
        rlimit const none{0, 0};
        ::setrlimit(RLIMIT_NOFILE, &none);
        std::vector<frame> const frames = describe(call);
        return frames.size() == 1 && !frames[0].module.empty() ? 0 : 1;
    });
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
