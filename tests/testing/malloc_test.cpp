// Scopes where malloc and operator new are Tarn's: also what the C++ library allocates.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "tarn/testing.hpp"

// The linker marks the ends of a section whose name is an identifier.
extern "C" char const
    __start_tarn_test_callers[];  // NOLINT(bugprone-reserved-identifier): not our name
extern "C" char const
    __stop_tarn_test_callers[];  // NOLINT(bugprone-reserved-identifier): not our name

// NOLINTBEGIN(clang-analyzer-unix.Malloc,clang-analyzer-cplusplus.NewDeleteLeaks): the analyzer
// loses sight of a block in opaque()
namespace {

using tarn::allocation_counts;
using tarn::count_allocations;
using tarn::fail_plan;
using tarn::fail_scope;

/// Hides from the compiler that a block is not needed.
void* opaque(void* block) {
    asm volatile("" : "+r"(block) : : "memory");
    return block;
}

struct alignas(128) aligned_type {
    char bytes[128];
};

TEST(malloc_scopes, see_malloc) { EXPECT_TRUE(tarn::sees_malloc()); }

TEST(malloc_scopes, see_every_name_once) {
    allocation_counts const counts = count_allocations([] {
        void* block = opaque(std::malloc(10));
        block = opaque(std::realloc(block, 1000));
        std::free(block);
        std::free(opaque(std::calloc(3, 4)));
        std::free(opaque(std::aligned_alloc(64, 128)));
        void* out = nullptr;
        ASSERT_EQ(::posix_memalign(&out, 32, 10), 0);
        std::free(opaque(out));
        ::operator delete(opaque(::operator new(10)));
        ::operator delete[](opaque(::operator new[](10)));
        ::operator delete(opaque(::operator new(10, std::nothrow)));
        ::operator delete[](opaque(::operator new[](10, std::nothrow)));
        std::align_val_t const alignment{128};
        ::operator delete(opaque(::operator new(10, alignment)), alignment);
        ::operator delete[](opaque(::operator new[](10, alignment, std::nothrow)), alignment);
    });
    EXPECT_EQ(counts.allocations, 10U);
    EXPECT_EQ(counts.reallocations, 1U);
    EXPECT_EQ(counts.frees, 10U);
    EXPECT_EQ(counts.live_bytes(), 0);
}

TEST(malloc_scopes, see_what_the_library_allocates) {
    allocation_counts const counts = count_allocations([] {
        auto const shared = std::make_shared<int>(1);
        std::map<int, std::string> map;
        map[1] = std::string(100, 'x');
        auto const aligned = std::make_unique<aligned_type>();
        opaque(aligned.get());
    });
    EXPECT_EQ(counts.allocations, 4U);
    EXPECT_EQ(counts.live_blocks(), 0);
}

TEST(malloc_scopes, let_operator_new_throw) {
    fail_scope const scope{fail_plan::nth(1)};
    EXPECT_THROW(::operator delete(opaque(::operator new(10))), std::bad_alloc);
    EXPECT_EQ(scope.failed(), 1U);
}

TEST(malloc_scopes, leave_errno_to_operator_new_as_it_was) {
    fail_scope const scope{fail_plan::nth(1)};
    errno = EDOM;
    EXPECT_EQ(opaque(::operator new(10, std::nothrow)), nullptr);
    EXPECT_EQ(errno, EDOM);
}

int handler_calls = 0;

TEST(malloc_scopes, ask_the_new_handler_and_count_the_next_attempt) {
    handler_calls = 0;
    std::new_handler const before = std::set_new_handler([] { ++handler_calls; });
    {
        fail_scope const scope{fail_plan::nth(1)};
        ::operator delete(opaque(::operator new(10)));
        EXPECT_EQ(scope.seen(), 2U);
    }
    std::set_new_handler(before);
    EXPECT_EQ(handler_calls, 1);
}

TEST(malloc_scopes, survive_exceptions_that_find_no_memory) {
    // libstdc++ keeps some memory for exceptions; where that is used, malloc has failed before.
    int caught = 0;
    std::uint64_t failed = 0;
    {
        fail_scope const scope{fail_plan::always()};
        for (int i = 0; i < 10; ++i) {
            try {
                ::operator delete(opaque(::operator new(10)));
            } catch (std::bad_alloc const&) {
                ++caught;
            }
        }
        failed = scope.failed();
    }
    EXPECT_EQ(caught, 10);
    EXPECT_GE(failed, 20U) << "an exception's own memory counts, too";
}

#define TARN_CALLER_TEST [[gnu::noinline, gnu::section("tarn_test_callers")]] void

TARN_CALLER_TEST calls_new() { ::operator delete(opaque(::operator new(10))); }

TARN_CALLER_TEST calls_nothrow_new() {
    ::operator delete(opaque(::operator new(10, std::nothrow)));
}

TARN_CALLER_TEST calls_aligned_new() {
    std::align_val_t const alignment{64};
    ::operator delete(opaque(::operator new(10, alignment)), alignment);
}

TARN_CALLER_TEST calls_malloc() { std::free(opaque(std::malloc(10))); }

TEST(malloc_scopes, name_the_caller_of_malloc_and_operator_new) {
    for (auto* const allocate :
         {&calls_new, &calls_nothrow_new, &calls_aligned_new, &calls_malloc}) {
        tarn::no_alloc_scope const scope{{.action = tarn::on_breach::count}};
        allocate();
        ASSERT_EQ(scope.breaches(), 1U);
        auto const* const caller = static_cast<char const*>(scope.first_breach()->caller);
        EXPECT_TRUE(caller >= __start_tarn_test_callers && caller < __stop_tarn_test_callers)
            << static_cast<void const*>(caller);
    }
}

/// Adds to both, or to neither.
class ledger {
public:
    void add(std::string const& text) {
        names_.push_back(text);
        try {
            index_[text] = names_.size();
        } catch (...) {
            names_.pop_back();
            throw;
        }
    }

    [[nodiscard]] bool is_sound() const { return names_.size() == index_.size(); }

    [[nodiscard]] std::size_t size() const { return names_.size(); }

private:
    std::vector<std::string> names_;
    std::map<std::string, std::size_t> index_;
};

TEST(malloc_scopes, drive_a_class_through_every_failure) {
    std::string const text(50, 't');
    std::uint64_t const failures = tarn::for_each_failure(
        [&text] {
            ledger tested;
            bool sound = true;
            std::size_t before = 0;
            for (char const letter : {'a', 'b', 'c'}) {
                before = tested.size();
                try {
                    tested.add(text + letter);
                } catch (std::bad_alloc const&) {
                    sound = sound && tested.size() == before;
                }
                sound = sound && tested.is_sound();
            }
            tarn::unwatched_scope const allowed;
            EXPECT_TRUE(sound);
        },
        [](tarn::failure_run const& run) {
            EXPECT_EQ(run.counts.live_blocks(), 0) << "when allocation " << run.nth << " fails";
        });
    EXPECT_GE(failures, 10U);
}

}  // namespace

// NOLINTEND(clang-analyzer-unix.Malloc,clang-analyzer-cplusplus.NewDeleteLeaks)
