#include "debug/debug_mode.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "heap/process.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;

int findings = 0;

/// Runs body() in a child where the debug mode answers for a new thread: it can't be ended. What
/// is wrong is told by the status.
template <class Body>
void in_debug_mode(Body body) {
    static_cast<void>(heap::start_process());
    int const status = tarn::test::run_in_child(20, [&body] {
        check_options wanted;
        wanted.handler = [](finding const& /*found*/) noexcept { ++findings; };
        program_heap.configure(wanted);
        heap::process_state::options.answers = &program_stand_in();
        std::thread{body}.join();
        return ::testing::Test::HasFailure() ? 1 : 0;
    });
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(debug_mode, blocks_are_as_large_as_was_asked_for) {
    in_debug_mode([] {
        for (std::size_t bytes : {0UL, 1UL, 13UL, 4000UL, 1'000'000UL}) {
            auto* const block = static_cast<char*>(tarn_malloc(bytes));
            ASSERT_NE(block, nullptr);
            EXPECT_EQ(tarn_malloc_usable_size(block), bytes);
            std::memset(block, 1, bytes);
            void* start = nullptr;
            EXPECT_EQ(tarn_find_block(block + bytes / 2, &start), bytes);
            EXPECT_EQ(start, block);
            EXPECT_EQ(tarn_find_block(block + bytes + 20, &start), 0U) << "guards are no block";
            tarn_free(block);
        }
        EXPECT_EQ(findings, 0);
        EXPECT_EQ(program_heap.figures().live_blocks, 0U);
    });
}

TEST(debug_mode, older_blocks_stay_the_heaps) {
    std::vector<void*> older;
    for (std::size_t bytes : {10UL, 5000UL, 300'000UL}) {
        older.push_back(tarn_malloc(bytes));
    }
    in_debug_mode([&older] {
        for (void* const block : older) {
            EXPECT_GE(tarn_malloc_usable_size(block), 10U);
            void* const grown = tarn_realloc(block, 400'000);
            EXPECT_NE(grown, nullptr);
            tarn_free(grown);
        }
        EXPECT_EQ(findings, 0);
        EXPECT_EQ(program_heap.figures().allocations, 0U);
    });
    for (void* const block : older) {
        tarn_free(block);
    }
}

TEST(debug_mode, misuse_is_found_through_the_library) {
    in_debug_mode([] {
        auto* const block = static_cast<char*>(tarn_malloc(24));
        block[24] = 1;
        tarn_free(block);
        EXPECT_EQ(findings, 1);
        tarn_free(block);
        EXPECT_EQ(findings, 2);
        EXPECT_EQ(tarn_realloc(block, 100), nullptr);
        EXPECT_EQ(findings, 3);
        tarn_free_sized(tarn_malloc(24), 25);
        EXPECT_EQ(findings, 4);
    });
}

}  // namespace
