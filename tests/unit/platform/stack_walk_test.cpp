// Walks beside _Unwind_Backtrace(), whose frames are the ones to find.
#include "platform/stack_walk.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/attributes.hpp"
#include "base/bits.hpp"
#include "base/units.hpp"
#include "support/build.hpp"

// Functions that the compiler writes no unwind tables for. Both call what they are given; the first
// keeps a frame record, the second leaves rubbish in the frame pointer, the third unaligned rubbish
// that lies on the stack.
extern "C" {
void tarn_test_without_tables(void (*call)());
void tarn_test_wild_frame_pointer(void (*call)(), std::uintptr_t frame_pointer);
}
#if defined(__x86_64__)
__asm__(R"(
.text
.p2align 4
tarn_test_without_tables:
    push %rbp
    mov %rsp, %rbp
    call *%rdi
    pop %rbp
    ret
.p2align 4
tarn_test_wild_frame_pointer:
    push %rbp
    mov %rsi, %rbp
    call *%rdi
    pop %rbp
    ret
.p2align 4
    nop
)");
#else
__asm__(R"(
.text
.p2align 4
tarn_test_without_tables:
    stp x29, x30, [sp, #-16]!
    mov x29, sp
    blr x0
    ldp x29, x30, [sp], #16
    ret
.p2align 4
tarn_test_wild_frame_pointer:
    stp x29, x30, [sp, #-16]!
    mov x29, x1
    blr x0
    ldp x29, x30, [sp], #16
    ret
.p2align 4
    nop
)");
#endif

namespace {

using namespace tarn::impl;
using namespace tarn::impl::platform;

using frames = std::vector<void const*>;

TARN_NOINLINE frames walk(walk_method by, void const* caller, std::size_t most = 500) {
    std::array<void const*, 500> room{};
    std::size_t const count = walk_stack(std::span{room}.first(most), by, caller);
    return frames(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(count));
}

frames walk_context(walk_method by, void const* context) {
    std::array<void const*, 500> room{};
    std::size_t const count = walk_interrupted(room, by, context);
    return frames(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(count));
}

/// Keeps a call from being the caller's last act, for which it would give up its frame.
void stay() { __asm__ volatile("" ::: "memory"); }

/// The compiler must take memory at `ptr` for used.
void use(void const* ptr) { __asm__ volatile("" ::"r"(ptr) : "memory"); }

/// What was found last from where expect_same() was called.
frames last;

/// What is found from where the calling function was called.
TARN_NOINLINE void expect_same() {
    void const* const caller = __builtin_return_address(0);
    frames const ours = walk(walk_method::tables, caller);
    frames const theirs = walk(walk_method::libgcc, caller);
    EXPECT_GE(ours.size(), 2U);
    EXPECT_EQ(ours, theirs);
    EXPECT_EQ(walk(walk_method::tables, caller), ours);  // its rules are known now
    EXPECT_TRUE(!ours.empty() && ours.front() == caller);
    last = ours;
    stay();
}

// ---- frames of all kinds ----

/// Has a frame pointer, whatever the options are.
TARN_NOINLINE void with_frame_pointer(void (*call)()) {
    use(__builtin_frame_address(0));
    call();
    stay();
}

TARN_NOINLINE void plain(void (*call)()) {
    call();
    stay();
}

/// All registers that a callee must keep, rbp and x29 too where they are free, are in use.
TARN_NOINLINE std::size_t with_many_registers(void (*call)(), std::size_t seed) {
    std::array<std::size_t, 12> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = seed * (i + 3);
        __asm__ volatile("" : "+r"(values[i]));
    }
    call();
    std::size_t sum = 0;
    for (std::size_t const each : values) {
        sum = sum * 3 + each;
    }
    return sum;
}

TARN_NOINLINE void with_sized_frame(void (*call)(), std::size_t bytes) {
    auto* const room = static_cast<char*>(__builtin_alloca(bytes));
    use(room);
    call();
    use(room);
}

TARN_NOINLINE void with_large_frame(void (*call)()) {
    std::array<char, 300 * KiB> room;
    use(room.data());
    call();
    use(room.data());
}

/// Its frame is found through a copy of the caller's stack pointer: in another register while it
/// is being set up, where a walk ends.
TARN_NOINLINE void with_aligned_frame(void (*call)(), std::size_t bytes, int, int, int, int,
                                      std::size_t on_stack) {
    alignas(64) std::array<char, 128> room;
    auto* const more = static_cast<char*>(__builtin_alloca(bytes + on_stack));
    use(room.data());
    use(more);
    call();
    use(room.data());
    use(more);
}

/// Gives up its frame before the call.
TARN_NOINLINE void with_tail_call(void (*call)()) { call(); }

TARN_NOINLINE int recursive(int depth, void (*call)()) {
    if (depth == 0) {
        call();
        stay();
        return 0;
    }
    int const below = recursive(depth - 1, call);
    stay();
    return below + 1;
}

struct caller_base {
    virtual ~caller_base() = default;
    virtual void run(void (*call)()) const = 0;
};

struct virtual_caller : caller_base {
    TARN_NOINLINE void run(void (*call)()) const override {
        call();
        stay();
    }
};

void once(void (*call)()) {
    static thread_local void (*inside)() = nullptr;
    inside = call;
    std::array<int, 3> values{3, 1, 2};
    std::qsort(values.data(), values.size(), sizeof(int), [](void const* left, void const* right) {
        if (inside != nullptr) {
            void (*const now)() = inside;
            inside = nullptr;
            now();
        }
        return *static_cast<int const*>(left) - *static_cast<int const*>(right);
    });
}

void in_comparison(void (*call)()) {
    std::array<int, 3> values{3, 1, 2};
    bool is_first = true;
    std::sort(values.begin(), values.end(), [&](int left, int right) {
        if (is_first) {
            is_first = false;
            call();
        }
        return left < right;
    });
}

void through_usual(void (*call)()) {
    plain(call);
    with_frame_pointer(call);
    EXPECT_NE(with_many_registers(call, 5), 0U);
    with_sized_frame(call, 100);
    with_sized_frame(call, 10'000);
    with_large_frame(call);
    with_tail_call(call);
    std::unique_ptr<caller_base> const object = std::make_unique<virtual_caller>();
    object->run(call);
    once(call);
    in_comparison(call);
    std::function<void()> const function{call};
    function();
    stay();
}

void through_all(void (*call)()) {
    through_usual(call);
    with_aligned_frame(call, 50, 1, 2, 3, 4, 5);
    stay();
}

TEST(stack_walk, finds_what_libgcc_finds) {
    expect_same();
    through_all(&expect_same);
    for (int const depth : {1, 10, 70, 200}) {
        EXPECT_EQ(recursive(depth, &expect_same), depth);
        EXPECT_GE(last.size(), static_cast<std::size_t>(depth));
    }
    plain([] { through_all(&expect_same); });
    with_aligned_frame([] { with_frame_pointer([] { with_large_frame(&expect_same); }); }, 9, 1, 2,
                       3, 4, 5);
}

TEST(stack_walk, finds_the_start_of_a_thread) {
    std::thread{[] {
        expect_same();
        through_all(&expect_same);
        recursive(100, &expect_same);
    }}.join();
}

TEST(stack_walk, works_on_a_stack_that_the_program_made) {
    std::vector<char> room(512 * KiB);  // large enough for a sanitizer's thread, too
    pthread_attr_t attributes;
    ASSERT_EQ(::pthread_attr_init(&attributes), 0);
    std::size_t const skipped = 4 * KiB - base::address_of(room.data()) % (4 * KiB);
    ASSERT_EQ(::pthread_attr_setstack(&attributes, room.data() + skipped, room.size() - 4 * KiB),
              0);
    pthread_t thread{};
    ASSERT_EQ(::pthread_create(
                  &thread, &attributes,
                  [](void*) -> void* {
                      expect_same();
                      recursive(20, &expect_same);
                      return nullptr;
                  },
                  nullptr),
              0);
    ::pthread_join(thread, nullptr);
    ::pthread_attr_destroy(&attributes);
}

// ---- what is returned ----

TEST(stack_walk, begins_at_the_caller) {
    static void const* caller = nullptr;
    static frames found;
    static frames all;
    caller = nullptr;
    recursive(40, [] {
        caller = __builtin_return_address(0);
        plain([] {
            found = walk(walk_method::tables, caller);
            all = walk(walk_method::tables, nullptr);
            stay();
        });
        stay();
    });
    // Recursion: the caller's address comes once, its callers' again and again.
    ASSERT_GT(found.size(), 40U);
    EXPECT_EQ(found.front(), caller);
    ASSERT_GT(all.size(), found.size());
    EXPECT_EQ(frames(all.end() - static_cast<std::ptrdiff_t>(found.size()), all.end()), found);
    EXPECT_EQ(all.size() - found.size(), 4U);  // walk(), a lambda, plain(), a lambda
}

TEST(stack_walk, keeps_all_where_the_caller_is_not_found) {
    int nowhere = 0;
    for (walk_method const by : {walk_method::tables, walk_method::frames, walk_method::libgcc}) {
        frames const all = walk(by, nullptr);
        frames const found = walk(by, &nowhere);
        ASSERT_EQ(all.size(), found.size());
        // The first is in walk(); the second is where this function called it.
        EXPECT_EQ(all.front(), found.front());
    }
    // Too far away.
    static void const* caller = nullptr;
    static frames found;
    caller = nullptr;
    plain([] {
        caller = __builtin_return_address(0);
        recursive(20, [] { found = walk(walk_method::tables, caller); });
        stay();
    });
    EXPECT_NE(found.front(), caller);
    EXPECT_NE(std::find(found.begin(), found.end(), caller), found.end());
}

TEST(stack_walk, stops_where_the_room_ends) {
    static frames few;
    static frames more;
    for (walk_method const by : {walk_method::tables, walk_method::libgcc}) {
        static walk_method method;
        method = by;
        recursive(100, [] {
            few = walk(method, nullptr, 5);
            more = walk(method, nullptr, stack_frames_max);
            EXPECT_EQ(walk(method, nullptr, 1).size(), 1U);
            EXPECT_EQ(walk(method, nullptr, 0).size(), 0U);
        });
        EXPECT_EQ(few.size(), 5U);
        EXPECT_EQ(more.size(), stack_frames_max);
        EXPECT_TRUE(std::equal(few.begin() + 2, few.end(), more.begin() + 2));
    }
}

TEST(stack_walk, frame_pointers_lead_through_frames_that_have_them) {
    static frames by_frames;
    static frames by_tables;
    with_frame_pointer([] {
        with_frame_pointer([] {
            use(__builtin_frame_address(0));
            std::array<void const*, 4> room{};
            by_frames.assign(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(walk_stack(
                                                              room, walk_method::frames, nullptr)));
            by_tables.assign(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(walk_stack(
                                                              room, walk_method::tables, nullptr)));
            stay();
        });
        use(__builtin_frame_address(0));
    });
    ASSERT_EQ(by_frames.size(), 4U);
    ASSERT_EQ(by_tables.size(), 4U);
    EXPECT_EQ(frames(by_frames.begin() + 1, by_frames.end()),
              frames(by_tables.begin() + 1, by_tables.end()));
}

TEST(stack_walk, neither_allocates_nor_changes_errno) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "the sanitizer's allocator has no mallinfo2()";
    }
    warm_up_stack_walk();
    std::thread{[] {  // whose first walk asks the system
        for (walk_method const by : {walk_method::tables, walk_method::frames}) {
            std::array<void const*, stack_frames_max> room{};
            errno = 1234;
            std::size_t const before = ::mallinfo2().uordblks;
            std::size_t const count = walk_stack(room, by, nullptr);
            std::size_t const after = ::mallinfo2().uordblks;
            EXPECT_GT(count, 0U);
            EXPECT_EQ(before, after);
            EXPECT_EQ(errno, 1234);
        }
    }}
        .join();
}

// ---- signals ----

frames of_handler;
frames of_handler_libgcc;
frames interrupted;
frames interrupted_libgcc;
void const* interrupted_pc = nullptr;

void const* pc_of(void const* context) {
    auto const& registers = static_cast<ucontext_t const*>(context)->uc_mcontext;
#if defined(__x86_64__)
    return base::pointer_to(static_cast<std::uintptr_t>(registers.gregs[REG_RIP]));
#else
    return base::pointer_to(registers.pc);
#endif
}

void handle(int, siginfo_t*, void* context) {
    of_handler = walk(walk_method::tables, nullptr);
    of_handler_libgcc = walk(walk_method::libgcc, nullptr);
    interrupted = walk_context(walk_method::tables, context);
    interrupted_libgcc = walk_context(walk_method::libgcc, context);
    interrupted_pc = pc_of(context);
}

class scoped_handler {
public:
    scoped_handler(int signal, void (*handler)(int, siginfo_t*, void*), int flags)
        : signal_{signal} {
        struct sigaction action {};

        action.sa_sigaction = handler;
        action.sa_flags = SA_SIGINFO | flags;
        ::sigaction(signal, &action, &before_);
    }

    scoped_handler(scoped_handler const&) = delete;
    scoped_handler& operator=(scoped_handler const&) = delete;

    ~scoped_handler() { ::sigaction(signal_, &before_, nullptr); }

private:
    int signal_;

    struct sigaction before_ {};
};

void expect_same_through_signal() {
    interrupted_pc = nullptr;
    with_frame_pointer([] { plain([] { static_cast<void>(std::raise(SIGUSR1)); }); });
    ASSERT_NE(interrupted_pc, nullptr);
    EXPECT_GT(of_handler.size(), interrupted.size());
    // Both begin in walk(), but at two calls of it.
    ASSERT_EQ(of_handler.size(), of_handler_libgcc.size());
    EXPECT_TRUE(
        std::equal(of_handler.begin() + 2, of_handler.end(), of_handler_libgcc.begin() + 2));
    ASSERT_FALSE(interrupted.empty());
    EXPECT_EQ(interrupted.front(), interrupted_pc);
    EXPECT_EQ(interrupted, interrupted_libgcc);
    EXPECT_EQ(frames(of_handler.end() - static_cast<std::ptrdiff_t>(interrupted.size()),
                     of_handler.end()),
              interrupted);
}

TEST(stack_walk, goes_on_through_a_signal_handler) {
    if (tarn::test::under_tsan) {
        GTEST_SKIP() << "ThreadSanitizer calls handlers from its own";
    }
    scoped_handler const handler{SIGUSR1, &handle, 0};
    expect_same_through_signal();
}

TEST(stack_walk, goes_on_from_an_alternate_stack) {
    if (tarn::test::under_tsan) {
        GTEST_SKIP() << "ThreadSanitizer calls handlers from its own";
    }
    std::vector<char> room(256 * KiB);
    stack_t before{};
    stack_t const alternate{.ss_sp = room.data(), .ss_flags = 0, .ss_size = room.size()};
    ASSERT_EQ(::sigaltstack(&alternate, &before), 0);
    {
        scoped_handler const handler{SIGUSR1, &handle, SA_ONSTACK};
        expect_same_through_signal();
    }
    ::sigaltstack(&before, nullptr);
}

#if defined(__x86_64__)

constexpr greg_t trap_flag = 0x100;
int steps = 0;
int different = 0;
frames different_ours;
frames different_theirs;

/// Compares at every instruction.
void compare_step(int, siginfo_t*, void* context) {
    static std::array<void const*, 100> ours;
    static std::array<void const*, 100> theirs;
    std::size_t const count = walk_interrupted(ours, walk_method::tables, context);
    std::size_t const expected = walk_interrupted(theirs, walk_method::libgcc, context);
    ++steps;
    if (!std::equal(ours.begin(), ours.begin() + count, theirs.begin(),
                    theirs.begin() + expected)) {
        if (different++ == 0) {
            different_ours.assign(ours.begin(), ours.begin() + count);
            different_theirs.assign(theirs.begin(), theirs.begin() + expected);
        }
    }
}

void flip_trap_flag(int, siginfo_t*, void* context) {
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] ^= trap_flag;
}

TEST(stack_walk, is_right_at_every_instruction) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "a sanitizer's own code is no subject";
    }
    different_ours.reserve(100);
    different_theirs.reserve(100);
    steps = 0;
    different = 0;
    {
        scoped_handler const handler{SIGTRAP, &compare_step, 0};
        scoped_handler const flip{SIGUSR1, &flip_trap_flag, 0};
        static_cast<void>(std::raise(SIGUSR1));
        through_usual(&stay);
        recursive(3, &stay);
        static_cast<void>(std::raise(SIGUSR1));
    }
    EXPECT_GT(steps, 500);
    EXPECT_EQ(different, 0) << "of " << steps;
    EXPECT_EQ(different_ours, different_theirs);
}

#endif

// ---- stacks of coroutines ----

ucontext_t outside;

void start_coroutine(std::vector<char>& room, void (*run)()) {
    ucontext_t inside{};
    ASSERT_EQ(::getcontext(&inside), 0);
    inside.uc_stack.ss_sp = room.data();
    inside.uc_stack.ss_size = room.size();
    inside.uc_link = &outside;
    ::makecontext(&inside, run, 0);
    ASSERT_EQ(::swapcontext(&outside, &inside), 0);
}

TEST(stack_walk, works_in_a_coroutine) {
    if (tarn::test::under_tsan || tarn::test::under_asan) {
        GTEST_SKIP() << "the sanitizer would have to be told of each switch";
    }
    std::vector<char> room(1 * MiB);
    for (int i = 0; i < 3; ++i) {
        start_coroutine(room, [] {
            expect_same();
            through_all([] { expect_same(); });
            recursive(30, &expect_same);
        });
    }
    expect_same();
    std::thread{[&room] {
        start_coroutine(room, [] { recursive(30, &expect_same); });
        expect_same();
    }}.join();
}

// ---- code without tables, and worse ----

TEST(stack_walk, follows_frame_pointers_where_tables_are_missing) {
    static frames found;
    static frames outer;
    outer.clear();
    plain([] {
        outer = walk(walk_method::tables, __builtin_return_address(0));
        tarn_test_without_tables([] {
            found = walk(walk_method::tables, __builtin_return_address(0));
            stay();
        });
        stay();
    });
    ASSERT_GT(found.size(), outer.size());
    // tarn_test_without_tables(), then what called it
    EXPECT_EQ(found.size(), outer.size() + 2);
    EXPECT_EQ(frames(found.end() - static_cast<std::ptrdiff_t>(outer.size()), found.end()), outer);
}

TEST(stack_walk, stops_at_wild_frame_pointers) {
    static frames found;
    std::array<std::uintptr_t, 4> loop{};  // a frame record that leads to itself
    loop[0] = base::address_of(loop.data());
    loop[1] = 0x1234;
    auto const here = base::address_of(loop.data());
    for (std::uintptr_t const wild :
         {std::uintptr_t{0}, std::uintptr_t{8}, ~std::uintptr_t{0}, ~std::uintptr_t{7},
          std::uintptr_t{0x1234'5678'1234'5678}, std::uintptr_t{0x7fff'ffff'fff8}, here + 1, here,
          here - 64 * KiB}) {
        for (walk_method const by : {walk_method::tables, walk_method::frames}) {
            static walk_method method;
            method = by;
            found.clear();
            tarn_test_wild_frame_pointer([] { found = walk(method, nullptr); }, wild);
            EXPECT_GE(found.size(), 1U);
            EXPECT_LT(found.size(), 20U);
        }
    }
}

// Whatever lies on the stack above, the walk ends and faults nowhere.
TEST(stack_walk, survives_rubbish_registers) {
    if (tarn::test::under_tsan) {
        GTEST_SKIP() << "reads other threads' memory, on purpose";
    }
    ucontext_t context{};
    ASSERT_EQ(::getcontext(&context), 0);
    std::uint64_t seed = 12345;
    auto const next = [&seed] {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        return seed >> 16;
    };
    std::vector<std::uintptr_t> words(4096);
    std::array<std::uintptr_t, 6> const codes{
        base::address_of(reinterpret_cast<void*>(&expect_same)),
        base::address_of(reinterpret_cast<void*>(&std::qsort)),
        base::address_of(reinterpret_cast<void*>(&recursive)),
        0,
        0x1234,
        base::address_of(words.data())};
    for (int i = 0; i < 3000; ++i) {
        std::uintptr_t const stack = base::address_of(words.data());
        for (std::size_t n = 0; n < 64; ++n) {
            words[next() % words.size()] =
                n % 2 == 0 ? codes[next() % 6] + next() % 64 : stack + next() % (words.size() * 8);
        }
        std::uintptr_t const pc = codes[next() % 6] + next() % 64;
        std::uintptr_t const sp = next() % 4 == 0 ? next() : stack + next() % (words.size() * 8);
        std::uintptr_t const fp = next() % 4 == 0 ? next() : stack + next() % (words.size() * 8);
#if defined(__x86_64__)
        context.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(pc);
        context.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>(sp);
        context.uc_mcontext.gregs[REG_RBP] = static_cast<greg_t>(fp);
#else
        context.uc_mcontext.pc = pc;
        context.uc_mcontext.sp = sp;
        context.uc_mcontext.regs[29] = fp;
        context.uc_mcontext.regs[30] = codes[next() % 6];
#endif
        std::array<void const*, stack_frames_max> room{};
        EXPECT_GE(walk_interrupted(room, walk_method::tables, &context), 1U);
        EXPECT_GE(walk_interrupted(room, walk_method::frames, &context), 1U);
        EXPECT_EQ(room[0], base::pointer_to(pc));
    }
}

TEST(stack_walk, a_jump_to_nowhere_was_made_by_the_caller) {
    static frames found;
    static void const* caller = nullptr;
    if (tarn::test::under_asan || tarn::test::under_tsan || tarn::test::under_emulation) {
        GTEST_SKIP() << "the fault would be reported, or is the emulator's";
    }
    static ucontext_t back;
    static bool volatile is_back = false;
    scoped_handler const handler{SIGSEGV,
                                 [](int, siginfo_t*, void* context) {
                                     found = walk_context(walk_method::tables, context);
                                     is_back = true;
                                     ::setcontext(&back);
                                 },
                                 SA_NODEFER};
    plain([] {
        caller = __builtin_return_address(0);
        is_back = false;
        ::getcontext(&back);
        if (!is_back) {
            reinterpret_cast<void (*)()>(std::uintptr_t{16})();
        }
        stay();
    });
    ASSERT_GE(found.size(), 3U);
    EXPECT_EQ(found[0], base::pointer_to(16));
    EXPECT_EQ(found[2], caller);
}

// ---- libraries that come and go ----

#if defined(TARN_TEST_STACK_PLUGINS)

TEST(stack_walk, knows_a_library_from_another_at_its_place) {
    std::array<std::string, 2> const paths{TARN_TEST_STACK_PLUGINS "/libstack_plugin_small.so",
                                           TARN_TEST_STACK_PLUGINS "/libstack_plugin_large.so"};
    using call_through = void (*)(void (*)());
    std::array<call_through, 2> last_place{};
    int reused = 0;
    for (int round = 0; round < 6; ++round) {
        std::size_t const which = static_cast<std::size_t>(round) % 2;
        void* const library = ::dlopen(paths[which].c_str(), RTLD_NOW);
        ASSERT_NE(library, nullptr) << ::dlerror();
        auto const call =
            reinterpret_cast<call_through>(::dlsym(library, "tarn_test_call_through"));
        ASSERT_NE(call, nullptr);
        reused += call == last_place[1 - which] ? 1 : 0;
        last_place[which] = call;
        call(&expect_same);
        call(&expect_same);
        ::dlclose(library);
    }
    EXPECT_GT(reused, 0) << "the loader never used an address again: nothing was tested";
}

#endif

// ---- threads ----

TEST(stack_walk, serves_threads_at_once) {
    std::vector<std::thread> workers;
    std::atomic<int> wrong{0};
    for (int worker = 0; worker < 4; ++worker) {
        workers.emplace_back([&wrong, worker] {
            for (int i = 0; i < static_cast<int>(tarn::test::scaled(300)); ++i) {
                static thread_local bool is_same = false;
                void (*const look)() = [] {
                    void const* const caller = __builtin_return_address(0);
                    is_same =
                        walk(walk_method::tables, caller) == walk(walk_method::libgcc, caller);
                    stay();
                };
                recursive((i + worker) % 30, look);
                wrong.fetch_add(is_same ? 0 : 1);
                once(look);
                wrong.fetch_add(is_same ? 0 : 1);
            }
        });
    }
    for (std::thread& worker : workers) {
        worker.join();
    }
    EXPECT_EQ(wrong.load(), 0);
}

}  // namespace
