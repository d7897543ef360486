// What fake_os does beyond tests/contract/os_memory_test.cpp: failing on demand, and counting.
#include "platform/fake/fake_os.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/bits.hpp"
#include "base/units.hpp"
#include "support/fatal_text.hpp"

namespace {

using namespace tarn::impl;
using platform::fake_os;

constexpr std::size_t page = 4 * KiB;

class fake_os_switches : public testing::Test {
protected:
    void SetUp() override {
        fake_os::reset();
        before_ = fake_os::count();
    }

    void TearDown() override {
        fake_os::reset();
        EXPECT_EQ(fake_os::count().reserved_bytes, before_.reserved_bytes) << "test leaks";
        EXPECT_EQ(fake_os::count().committed_bytes, before_.committed_bytes);
    }

    [[nodiscard]] std::size_t committed() const {
        return fake_os::count().committed_bytes - before_.committed_bytes;
    }

    [[nodiscard]] std::size_t reserved() const {
        return fake_os::count().reserved_bytes - before_.reserved_bytes;
    }

private:
    fake_os::counts before_{};
};

/// Calls each function that may fail once; its answers, as bits.
unsigned walk() {
    unsigned answers = 0;
    void* const base = fake_os::reserve(4 * page, {});  // bit 0
    answers |= base != nullptr ? 1U : 0U;
    if (base == nullptr) {
        return answers;
    }
    auto* const bytes = static_cast<std::byte*>(base);
    answers |= fake_os::commit(base, 2 * page) ? 2U : 0U;
    if ((answers & 2U) != 0) {
        answers |= fake_os::purge(base, page) ? 4U : 0U;
        answers |= fake_os::move_pages(base, bytes + page, page, page) ? 8U : 0U;
        answers |= fake_os::decommit(base, page) ? 16U : 0U;
    }
    fake_os::release(base, 4 * page);
    void* const zeros = fake_os::reserve_zeros(page);
    answers |= zeros != nullptr ? 32U : 0U;
    if (zeros != nullptr) {
        fake_os::release(zeros, page);
    }
    return answers;
}

TEST_F(fake_os_switches, fails_the_nth_call) {
    unsigned const untouched = walk();
    std::uint64_t const calls = fake_os::count().calls;
    EXPECT_EQ(calls, 6U);
    for (std::uint64_t n = 0; n < calls; ++n) {
        fake_os::reset();
        fake_os::control().fail_after = n;
        fake_os::control().failures_max = 1;
        unsigned const answers = walk();
        EXPECT_NE(answers, untouched) << n;
        EXPECT_EQ(answers & ((1U << n) - 1), untouched & ((1U << n) - 1)) << n;
        EXPECT_EQ(answers & (1U << n), 0U) << n;
        EXPECT_EQ(fake_os::count().failures, 1U);
    }
    fake_os::reset();
    fake_os::control().fail_after = calls;
    EXPECT_EQ(walk(), untouched);
    EXPECT_EQ(fake_os::count().failures, 0U);
}

TEST_F(fake_os_switches, fails_for_ever_by_default) {
    fake_os::control().fail_after = 1;
    void* const base = fake_os::reserve(page, {});
    ASSERT_NE(base, nullptr);
    for (int i = 0; i < 5; ++i) {
        EXPECT_FALSE(fake_os::commit(base, page));
    }
    EXPECT_EQ(fake_os::count().failures, 5U);
    fake_os::release(base, page);
}

TEST_F(fake_os_switches, limits_address_space) {
    fake_os::control().reserve_limit_bytes =
        reserved() + fake_os::count().reserved_bytes + 8 * page;
    EXPECT_EQ(fake_os::address_space_limit(), fake_os::control().reserve_limit_bytes);
    void* const base = fake_os::reserve(5 * page, {});
    ASSERT_NE(base, nullptr);
    EXPECT_EQ(fake_os::reserve(4 * page, {}), nullptr);
    EXPECT_EQ(fake_os::reserve_zeros(4 * page), nullptr);
    void* const rest = fake_os::reserve_zeros(3 * page);
    EXPECT_NE(rest, nullptr);
    EXPECT_EQ(reserved(), 8 * page);
    fake_os::release(rest, 3 * page);
    fake_os::release(base, 5 * page);
    void* const again = fake_os::reserve(8 * page, {});
    ASSERT_NE(again, nullptr);
    fake_os::release(again, 8 * page);
}

TEST_F(fake_os_switches, limits_committed_memory) {
    fake_os::control().commit_limit_bytes = fake_os::count().committed_bytes + 4 * page;
    auto* const base = static_cast<std::byte*>(fake_os::reserve(16 * page, {}));
    ASSERT_NE(base, nullptr);
    EXPECT_TRUE(fake_os::commit(base, 3 * page));
    EXPECT_FALSE(fake_os::commit(base + 4 * page, 2 * page));
    EXPECT_TRUE(fake_os::commit(base, 3 * page));  // again: costs nothing
    EXPECT_TRUE(fake_os::commit(base, 4 * page));  // one page of it is new
    EXPECT_EQ(committed(), 4 * page);
    EXPECT_TRUE(fake_os::decommit(base + page, 15 * page));  // reserved pages cost nothing
    EXPECT_EQ(committed(), page);
    EXPECT_TRUE(fake_os::commit(base + 8 * page, 3 * page));
    EXPECT_EQ(committed(), 4 * page);
    EXPECT_TRUE(fake_os::purge(base, page));  // gives memory back, not the charge
    EXPECT_EQ(committed(), 4 * page);
    fake_os::release(base, 16 * page);
    EXPECT_EQ(committed(), 0U);
}

TEST_F(fake_os_switches, counts_concurrent_commits_once) {
    constexpr std::size_t pages = 256;
    auto* const base = static_cast<std::byte*>(fake_os::reserve(pages * page, {}));
    ASSERT_NE(base, nullptr);
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([base] {
            for (std::size_t at = 0; at < pages; ++at) {
                EXPECT_TRUE(fake_os::commit(base + at * page, page));
            }
        });
    }
    for (std::thread& each : threads) {
        each.join();
    }
    EXPECT_EQ(committed(), pages * page);
    fake_os::release(base, pages * page);
}

TEST_F(fake_os_switches, pretends_large_pages) {
    fake_os::control().page_bytes = 64 * KiB;
    EXPECT_EQ(fake_os::page_bytes(), 64 * KiB);
    for (int i = 0; i < 20; ++i) {
        void* const base = fake_os::reserve(64 * KiB, {});
        void* const zeros = fake_os::reserve_zeros(64 * KiB);
        EXPECT_TRUE(base::is_aligned(base::address_of(base), 64 * KiB));
        EXPECT_TRUE(base::is_aligned(base::address_of(zeros), 64 * KiB));
        fake_os::release(base, 64 * KiB);
        fake_os::release(zeros, 64 * KiB);
    }
}

TEST_F(fake_os_switches, can_do_without_moving) {
    fake_os::control().move_pages_works = false;
    auto* const base = static_cast<std::byte*>(fake_os::reserve(2 * page, {}));
    ASSERT_TRUE(fake_os::commit(base, 2 * page));
    EXPECT_FALSE(fake_os::move_pages(base, base + page, page, page));
    EXPECT_EQ(fake_os::count().moves, 1U);
    fake_os::release(base, 2 * page);
}

TEST_F(fake_os_switches, has_the_clock_and_process_it_is_told) {
    fake_os::control().clock_ms = 77;
    EXPECT_EQ(fake_os::monotonic_ms(), 77U);
    EXPECT_FALSE(fake_os::is_secure());
    fake_os::control().secure = true;
    EXPECT_TRUE(fake_os::is_secure());
    EXPECT_EQ(fake_os::initial_environment(), nullptr);
    std::array<char*, 1> environment{nullptr};
    fake_os::control().environment = environment.data();
    EXPECT_EQ(fake_os::initial_environment(), environment.data());
    fake_os::reset();
    EXPECT_EQ(fake_os::initial_environment(), nullptr);
}

TEST_F(fake_os_switches, counts_calls) {
    static_cast<void>(walk());
    fake_os::counts const seen = fake_os::count();
    EXPECT_EQ(seen.commits, 1U);
    EXPECT_EQ(seen.purges, 1U);
    EXPECT_EQ(seen.moves, 1U);
    EXPECT_EQ(seen.failures, 0U);
    EXPECT_EQ(reserved(), 0U);
}

class fake_os_death : public fake_os_switches {
protected:
    fake_os_death() { tarn::test::show_fatal_text(); }

    static constexpr char const* died = "internal check failed: .* at fake_os.cpp";
};

TEST_F(fake_os_death, dies_at_wrong_rounding) {
    auto* const base = static_cast<std::byte*>(fake_os::reserve(4 * page, {}));
    ASSERT_TRUE(fake_os::commit(base, 2 * page));
    EXPECT_DEATH(static_cast<void>(fake_os::reserve(page + 1, {})), died);
    EXPECT_DEATH(static_cast<void>(fake_os::reserve(0, {})), died);
    EXPECT_DEATH(static_cast<void>(fake_os::reserve_zeros(page / 2)), died);
    EXPECT_DEATH(static_cast<void>(fake_os::commit(base + 16, page)), died);
    EXPECT_DEATH(static_cast<void>(fake_os::commit(base, page - 16)), died);
    EXPECT_DEATH(static_cast<void>(fake_os::purge(base, 100)), died);
    EXPECT_DEATH(static_cast<void>(fake_os::decommit(base + 1, page)), died);
    EXPECT_DEATH(fake_os::release(base, 0), died);
    EXPECT_DEATH(static_cast<void>(fake_os::populate_huge(base + 8, page)), died);
    EXPECT_DEATH(static_cast<void>(fake_os::move_pages(base, base + page, 1, 1)), died);
    // Fine on a small page, wrong on the page that is pretended.
    fake_os::control().page_bytes = 64 * KiB;
    EXPECT_DEATH(static_cast<void>(fake_os::commit(base, page)), died);
    fake_os::control().page_bytes = page;
    fake_os::release(base, 4 * page);
}

TEST_F(fake_os_death, dies_at_memory_that_is_not_ours) {
    auto* const base = static_cast<std::byte*>(fake_os::reserve(4 * page, {}));
    ASSERT_TRUE(fake_os::commit(base, page));
    EXPECT_DEATH(static_cast<void>(fake_os::commit(base + 3 * page, 2 * page)), died);
    EXPECT_DEATH(static_cast<void>(fake_os::purge(base + page, page)), died);  // not committed
    EXPECT_DEATH(static_cast<void>(fake_os::move_pages(base, base + page, page, page)), died);
    EXPECT_DEATH(fake_os::release(base, 5 * page), died);
    fake_os::release(base + 2 * page, 2 * page);
    EXPECT_DEATH(fake_os::release(base, 4 * page), died);
    fake_os::release(base, 2 * page);
    EXPECT_DEATH(fake_os::release(base, 2 * page), died);
}

}  // namespace
