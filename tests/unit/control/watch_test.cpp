#include "control/watch.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/units.hpp"
#include "heap/diversion.hpp"
#include "control/statistics.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::control;

tarn_watch watch_of(tarn_watch_decide decide = nullptr, void* context = nullptr) {
    tarn_watch watch{};
    watch.size = sizeof watch;
    watch.decide = decide;
    watch.context = context;
    return watch;
}

TEST(watch, counts_blocks_and_their_bytes) {
    tarn_watch watch = watch_of();
    ASSERT_EQ(tarn_watch_begin(&watch), 0);
    void* plain = tarn_malloc(100);
    void* const zeroed = tarn_calloc(3, 7);
    void* const aligned = tarn_aligned_alloc(512, 300 * KiB);
    plain = tarn_realloc(plain, 10'000);
    std::uint64_t const live = tarn_malloc_usable_size(plain) + tarn_malloc_usable_size(zeroed) +
                               tarn_malloc_usable_size(aligned);
    EXPECT_EQ(watch.allocations, 3U);
    EXPECT_EQ(watch.reallocations, 1U);
    EXPECT_EQ(watch.frees, 0U);
    EXPECT_EQ(watch.requested_bytes, 100 + 21 + 300 * KiB + 10'000);
    EXPECT_EQ(watch.allocated_bytes - watch.freed_bytes, live);
    EXPECT_EQ(watch.peak_live_bytes, static_cast<std::int64_t>(live));
    tarn_free(nullptr);
    tarn_free(zeroed);
    tarn_free_sized(aligned, 300 * KiB);
    EXPECT_EQ(tarn_realloc(plain, 0), nullptr);
    EXPECT_EQ(watch.frees, 3U);
    EXPECT_EQ(watch.failures, 0U);
    EXPECT_EQ(watch.allocated_bytes, watch.freed_bytes);
    EXPECT_EQ(watch.peak_live_bytes, static_cast<std::int64_t>(live));
    ASSERT_EQ(tarn_watch_end(&watch), 0);
    tarn_free(tarn_malloc(10));
    EXPECT_EQ(watch.allocations, 3U) << "the counts stay";
}

TEST(watch, counts_what_fails_whoever_refused_it) {
    tarn_watch watch = watch_of();
    ASSERT_EQ(tarn_watch_begin(&watch), 0);
    void* const block = tarn_malloc(10);
    EXPECT_EQ(tarn_malloc(std::size_t{1} << 60), nullptr);
    EXPECT_EQ(tarn_realloc(block, std::size_t{1} << 60), nullptr);
    EXPECT_EQ(watch.failures, 2U);
    EXPECT_EQ(watch.allocations, 1U);
    tarn_free(block);
    EXPECT_EQ(watch.allocated_bytes, watch.freed_bytes);
    ASSERT_EQ(tarn_watch_end(&watch), 0);
}

struct notes {
    std::vector<tarn_operation> seen;
    int verdict = 0;
};

int note(tarn_operation const* asked, void* context) {
    auto& to = *static_cast<notes*>(context);
    void* const own = tarn_malloc(50);  // seen by nobody, and always served
    EXPECT_NE(own, nullptr);
    tarn_free(own);
    to.seen.push_back(*asked);
    errno = EDOM;
    return to.verdict;
}

TEST(watch, tells_what_is_asked_before_it_is_done) {
    notes told;
    tarn_watch watch = watch_of(&note, &told);
    ASSERT_EQ(tarn_watch_begin(&watch), 0);
    errno = ERANGE;
    void* const plain = tarn_malloc(100);
    void* const zeroed = tarn_calloc(3, 7);
    void* aligned = nullptr;
    EXPECT_EQ(tarn_posix_memalign(&aligned, 128, 30), 0);
    void* const moved = tarn_realloc(plain, 4000);
    tarn_free(zeroed);
    EXPECT_EQ(errno, ERANGE);
    ASSERT_EQ(tarn_watch_end(&watch), 0);

    struct expected {
        int kind;
        char const* name;
        void* block;
        std::size_t bytes;
        std::size_t alignment;
    };

    std::vector<expected> const all = {{TARN_ALLOCATE, "malloc", nullptr, 100, 0},
                                       {TARN_ALLOCATE, "calloc", nullptr, 21, 0},
                                       {TARN_ALLOCATE, "memalign", nullptr, 30, 128},
                                       {TARN_RESIZE, "realloc", plain, 4000, 0},
                                       {TARN_FREE, "free", zeroed, 0, 0}};
    ASSERT_EQ(told.seen.size(), all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ(told.seen[i].kind, all[i].kind) << i;
        EXPECT_STREQ(told.seen[i].name, all[i].name) << i;
        EXPECT_EQ(told.seen[i].block, all[i].block) << i;
        EXPECT_EQ(told.seen[i].bytes, all[i].bytes) << i;
        EXPECT_EQ(told.seen[i].alignment, all[i].alignment) << i;
        EXPECT_NE(told.seen[i].caller, nullptr) << i;
    }
    EXPECT_EQ(watch.allocations, 3U);
    tarn_free(moved);
    tarn_free(aligned);
}

TEST(watch, refuses_with_enomem_and_leaves_blocks_as_they_were) {
    auto* const block = static_cast<char*>(tarn_malloc(20));
    std::memcpy(block, "still here", sizeof "still here");
    notes told{.seen = {}, .verdict = 1};
    tarn_watch watch = watch_of(&note, &told);
    ASSERT_EQ(tarn_watch_begin(&watch), 0);
    errno = 0;
    EXPECT_EQ(tarn_malloc(1), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(tarn_calloc(1, 1), nullptr);
    EXPECT_EQ(tarn_aligned_alloc(64, 1), nullptr);
    EXPECT_EQ(tarn_realloc(block, 100 * KiB), nullptr);
    EXPECT_STREQ(block, "still here");
    tarn_free(block);
    ASSERT_EQ(tarn_watch_end(&watch), 0);
    EXPECT_EQ(watch.failures, 4U);
    EXPECT_EQ(watch.frees, 1U) << "a free can't be refused";
}

TEST(watch, nested_in_another_asks_it_unless_it_is_alone) {
    notes outer_told;
    notes inner_told;
    tarn_watch outer = watch_of(&note, &outer_told);
    tarn_watch inner = watch_of(&note, &inner_told);
    ASSERT_EQ(tarn_watch_begin(&outer), 0);
    ASSERT_EQ(tarn_watch_begin(&inner), 0);
    tarn_free(tarn_malloc(10));
    EXPECT_EQ(outer.allocations, 1U);
    EXPECT_EQ(inner.allocations, 1U);
    inner_told.verdict = 1;
    EXPECT_EQ(tarn_malloc(10), nullptr);
    EXPECT_EQ(outer_told.seen.size(), 2U) << "what the inner one refuses the outer does not see";
    inner_told.verdict = 0;
    outer_told.verdict = 1;
    EXPECT_EQ(tarn_malloc(10), nullptr);
    EXPECT_EQ(inner.failures, 2U);
    EXPECT_EQ(outer.failures, 1U);
    ASSERT_EQ(tarn_watch_end(&inner), 0);
    inner.flags = TARN_WATCH_ALONE;
    ASSERT_EQ(tarn_watch_begin(&inner), 0);
    void* const block = tarn_malloc(10);
    EXPECT_NE(block, nullptr);
    ASSERT_EQ(tarn_watch_end(&inner), 0);
    EXPECT_EQ(outer.failures, 1U);
    EXPECT_EQ(inner.allocations, 2U);
    tarn_free(block);
    EXPECT_EQ(outer.frees, 2U);
    ASSERT_EQ(tarn_watch_end(&outer), 0);
}

TEST(watch, that_is_wrong_is_refused) {
    EXPECT_EQ(tarn_watch_begin(nullptr), EINVAL);
    EXPECT_EQ(tarn_watch_end(nullptr), EINVAL);
    tarn_watch watch = watch_of();
    EXPECT_EQ(tarn_watch_end(&watch), EINVAL) << "not on";
    watch.flags = 2;
    EXPECT_EQ(tarn_watch_begin(&watch), EINVAL);
    watch = watch_of();
    watch.size = 8;
    EXPECT_EQ(tarn_watch_begin(&watch), EINVAL);
    watch = watch_of();
    ASSERT_EQ(tarn_watch_begin(&watch), 0);
    EXPECT_EQ(tarn_watch_begin(&watch), EINVAL) << "on already";
    tarn_watch copy = watch;
    EXPECT_EQ(tarn_watch_end(&copy), EINVAL);
    std::thread{[&watch] { EXPECT_EQ(tarn_watch_end(&watch), EINVAL); }}.join();
    EXPECT_EQ(tarn_watch_end(&watch), 0);
    EXPECT_EQ(tarn_watch_end(&watch), EINVAL);
    EXPECT_EQ(tarn_watch_begin(&watch), 0) << "it may be used again";
    EXPECT_EQ(tarn_watch_end(&watch), 0);
}

TEST(watch, leaves_statistics_exact) {
    std::thread{[] {
        std::vector<void*> blocks(100);
        for (void*& block : blocks) {
            block = tarn_malloc(200);
        }
        for (std::size_t i = 0; i < 50; ++i) {
            tarn_free(blocks[i]);
        }
        statistics const before = collect_statistics();
        tarn_watch watch = watch_of();
        ASSERT_EQ(tarn_watch_begin(&watch), 0);
        statistics const during = collect_statistics();
        void* const more = tarn_malloc(200);
        statistics const after = collect_statistics();
        EXPECT_EQ(during.live_blocks, before.live_blocks);
        EXPECT_EQ(during.live_bytes, before.live_bytes);
        EXPECT_EQ(during.threads_unread, before.threads_unread);
        EXPECT_EQ(after.live_blocks, before.live_blocks + 1);
        tarn_free(more);
        ASSERT_EQ(tarn_watch_end(&watch), 0);
        for (std::size_t i = 50; i < blocks.size(); ++i) {
            tarn_free(blocks[i]);
        }
    }}.join();
}

TEST(watch, ends_with_its_thread) {
    statistics const before = collect_statistics();
    static tarn_watch watch = watch_of();
    std::thread{[] {
        tarn_free(tarn_malloc(100));
        EXPECT_EQ(tarn_watch_begin(&watch), 0);
        tarn_free(tarn_malloc(100));
    }}.join();
    EXPECT_EQ(watch.allocations, 1U);
    EXPECT_EQ(collect_statistics().threads, before.threads) << "its heap was given back";
}

TEST(watch, lines_are_reported_as_they_are_and_cut_where_they_are_long) {
    int channel[2];
    ASSERT_EQ(::pipe(channel), 0);
    int const status = tarn::test::run_in_child(20, [&channel] {
        ::dup2(channel[1], STDERR_FILENO);
        tarn_report_line("a line");
        tarn_report_line(nullptr);
        tarn_report_line(std::string(1000, 'x').c_str());
        return 0;
    });
    ::close(channel[1]);
    std::string text(2000, '\0');
    ssize_t const got = ::read(channel[0], text.data(), text.size());
    ::close(channel[0]);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_GT(got, 0);
    text.resize(static_cast<std::size_t>(got));
    std::string const begin = "tarn: a line\ntarn: \ntarn: xxx";
    EXPECT_EQ(text.substr(0, begin.size()), begin);
    EXPECT_EQ(text.back(), '\n');
    EXPECT_LT(text.size(), 400U);
}

}  // namespace
