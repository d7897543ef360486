// The pool of tarn/mp.h over a system that refuses memory at any call.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include <tarn/mp.h>

#include "platform/fake/fake_os.hpp"
#include "support/build.hpp"
#include "support/process.hpp"

namespace {

using tarn::impl::platform::fake_os;

void ignore(char const*, size_t, void*) {}

/// A life of the pool. Blocks that there is no memory for are null, with ENOMEM; the others are
/// good. Returns how many there were.
std::size_t live_once() {
    mp_options options = MP_OPTIONS_DEFAULT;
    options.report_to = TARN_MP_CALL;
    options.report_call = &ignore;
    EXPECT_EQ(mp_init(&options), 0);
    std::vector<std::pair<unsigned char*, std::size_t>> blocks;
    for (std::size_t bytes : {1UL, 40UL, 100UL, 4000UL, 5000UL, 200'000UL}) {
        errno = 0;
        auto* const block =
            static_cast<unsigned char*>(bytes == 100 ? mp_calloc(1, bytes) : mp_alloc(bytes));
        if (block == nullptr) {
            EXPECT_EQ(errno, ENOMEM);
            continue;
        }
        std::memset(block, static_cast<int>(bytes % 251), bytes);
        blocks.emplace_back(block, bytes);
    }
    if (!blocks.empty()) {
        auto& [block, bytes] = blocks.front();
        if (void* const grown = mp_realloc(block, 300'000)) {
            block = static_cast<unsigned char*>(grown);
        } else {
            EXPECT_EQ(errno, ENOMEM);
        }
    }
    EXPECT_EQ(mp_check_all(), 0U);
    for (auto const& [block, bytes] : blocks) {
        EXPECT_TRUE(std::all_of(block, block + bytes, [bytes = bytes](unsigned char each) {
            return each == bytes % 251;
        }));
        mp_free(block);
    }
    EXPECT_EQ(mp_destroy(), 0);
    return blocks.size();
}

/// The status of a child in which the n-th call of the system fails, and `more` after it.
int run_with_failure(std::uint64_t nth, std::uint64_t more, bool& was_refused) {
    int const status = tarn::test::run_in_child(60, [&] {
        fake_os::control().fail_after = nth;
        fake_os::control().failures_max = more;
        std::size_t const got = live_once();
        bool const refused = fake_os::count().failures != 0;
        fake_os::control().fail_after = fake_os::never;
        bool const recovers = live_once() == 6;
        return ::testing::Test::HasFailure() || !recovers || (got != 6 && !refused) ? 1
               : refused                                                            ? 2
                                                                                    : 0;
    });
    EXPECT_TRUE(WIFEXITED(status));
    was_refused = WEXITSTATUS(status) == 2;
    return WEXITSTATUS(status);
}

TEST(mp_fake, says_no_at_each_refusal_and_stays_whole) {
    if (tarn::test::under_tsan) {
        GTEST_SKIP() << "TSan takes minutes to unmap what is reserved";
    }
    for (std::uint64_t const more : {std::uint64_t{1}, fake_os::never}) {
        bool was_refused = true;
        std::uint64_t nth = 0;
        for (; was_refused && nth < 1000; ++nth) {
            ASSERT_NE(run_with_failure(nth, more, was_refused), 1) << "call " << nth;
        }
        EXPECT_GT(nth, 10U);
        EXPECT_FALSE(was_refused) << "there are no more than " << nth << " calls";
    }
}

}  // namespace
