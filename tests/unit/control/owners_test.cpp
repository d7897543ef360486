#include "control/owners.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "support/build.hpp"

namespace {

using tarn::impl::control::add_to_owner;
using tarn::impl::control::enter_owner;
using tarn::impl::control::leave_owner;
using tarn::impl::control::list_owners;

/// The row of a kind and name; without owners where there is none.
tarn_owner_stats row_of(std::string const& kind, std::string const& name) {
    std::array<tarn_owner_stats, 64> rows{};
    std::size_t const count = list_owners(rows);
    for (std::size_t i = 0; i < count; ++i) {
        if (rows[i].kind == kind && rows[i].name == name) {
            return rows[i];
        }
    }
    return {};
}

TEST(owners, are_listed_from_enter_to_leave) {
    tarn_owner owner;
    enter_owner(owner, "kind", "one");
    EXPECT_EQ(row_of("kind", "one").owners, 1U);
    EXPECT_EQ(row_of("kind", "one").held_bytes, 0U);
    add_to_owner(owner, 1000, 100);
    add_to_owner(owner, -300, -30);
    EXPECT_EQ(row_of("kind", "one").held_bytes, 700U);
    EXPECT_EQ(row_of("kind", "one").live_bytes, 70U);
    leave_owner(owner);
    EXPECT_EQ(row_of("kind", "one").owners, 0U);
}

TEST(owners, of_one_kind_and_name_share_a_row) {
    std::array<tarn_owner, 5> owners;
    for (std::size_t i = 0; i < owners.size(); ++i) {
        enter_owner(owners[i], "kind", i < 3 ? "a" : nullptr);
        add_to_owner(owners[i], 10, 1);
    }
    EXPECT_EQ(row_of("kind", "a").owners, 3U);
    EXPECT_EQ(row_of("kind", "a").held_bytes, 30U);
    EXPECT_EQ(row_of("kind", "").owners, 2U);
    leave_owner(owners[1]);
    leave_owner(owners[0]);
    leave_owner(owners[4]);
    EXPECT_EQ(row_of("kind", "a").live_bytes, 1U);
    EXPECT_EQ(row_of("kind", "").owners, 1U);
    leave_owner(owners[2]);
    leave_owner(owners[3]);
}

TEST(owners, without_room_of_their_own_are_added_up) {
    std::array<tarn_owner, 6> owners;
    std::array<std::string, 6> const names{"a", "b", "c", "d", "e", std::string(60, 'f')};
    for (std::size_t i = 0; i < owners.size(); ++i) {
        enter_owner(owners[i], "kind", names[i].c_str());
        add_to_owner(owners[i], static_cast<std::int64_t>(i + 1), 1);
    }
    EXPECT_EQ(row_of("kind", std::string(39, 'f')).held_bytes, 6U);
    std::array<tarn_owner_stats, 3> rows{};
    ASSERT_EQ(list_owners(rows), 3U);
    EXPECT_STREQ(rows[0].kind, "others");  // four of them hold most
    EXPECT_EQ(rows[0].owners + rows[1].owners + rows[2].owners, 6U);
    EXPECT_EQ(rows[0].held_bytes + rows[1].held_bytes + rows[2].held_bytes, 21U);
    EXPECT_GE(rows[1].held_bytes, rows[2].held_bytes);
    EXPECT_EQ(list_owners({}), 0U);
    EXPECT_EQ(tarn_owners_get(nullptr, 3), 0U);
    for (tarn_owner& each : owners) {
        leave_owner(each);
    }
}

TEST(owners, come_and_go_while_others_look_and_fork) {
    std::atomic<bool> ends{false};
    std::vector<std::thread> threads;
    threads.reserve(2);
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&ends] {
            while (!ends.load(std::memory_order_relaxed)) {
                tarn_owner owner;
                tarn_owner_enter(&owner, "busy", "one");
                tarn_owner_add(&owner, 3, 2);
                tarn_owner_add(&owner, -3, -2);
                tarn_owner_leave(&owner);
                std::this_thread::yield();  // else the lock is hardly ever free
            }
        });
    }
    for (std::uint64_t i = 0; i < tarn::test::scaled(50); ++i) {
        EXPECT_LE(row_of("busy", "one").owners, 3U);
        EXPECT_LE(row_of("busy", "one").held_bytes, 9U);
    }
    // The emulator's own locks may be held by the other threads when it forks.
    bool const forks = !tarn::test::under_tsan && !tarn::test::under_emulation;
    for (int i = 0; i < 5 && forks; ++i) {
        pid_t const child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            tarn_owner owner;
            tarn_owner_enter(&owner, "busy", "child");
            bool const is_listed = row_of("busy", "child").owners == 1;
            tarn_owner_leave(&owner);
            _exit(is_listed ? 0 : 1);
        }
        int status = 1;
        EXPECT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
    }
    ends = true;
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace
