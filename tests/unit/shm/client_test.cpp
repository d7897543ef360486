// Segments and their clients, through the C functions: within one process. tests/shm has several.
#include "shm/client.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tarn/shm.h"

#include "support/build.hpp"
#include "support/process.hpp"
#include "support/shm_folder.hpp"

namespace {

std::set<int> descriptors() {
    std::set<int> open;
    for (int fd = 0; fd < 1024; ++fd) {
        if (::fcntl(fd, F_GETFD) >= 0) {
            open.insert(fd);
        }
    }
    return open;
}

class segments : public testing::Test {
public:
    segments() {
        pools[0].chunk_bytes = 100;
        pools[0].count = 10;
        pools[1].chunk_bytes = 4000;
        pools[1].count = 4;
        pools[1].count_most = 10;
        pools[1].user_header_bytes = 16;
        config.pools = pools.data();
        config.pool_count = pools.size();
        config.domain = folder.path();
        attaching.domain = folder.path();
    }

    void create(char const* name = "one") {
        ASSERT_EQ(tarn_shm_create(name, &config, &failure), 0) << failure.text;
    }

    tarn_shm* attach(char const* name = "one") {
        tarn_shm* const client = tarn_shm_attach(name, &attaching, &failure);
        EXPECT_NE(client, nullptr) << failure.text;
        return client;
    }

    static std::uint32_t free_chunks(tarn_shm* client, std::uint32_t pool) {
        tarn_shm_pool_info info{};
        EXPECT_EQ(tarn_shm_pool_info_get(client, pool, &info), 0);
        return info.free;
    }

    tarn::test::shm_folder folder;
    std::array<tarn_shm_pool, 2> pools{};
    tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
    tarn_shm_attaching attaching = TARN_SHM_ATTACHING_DEFAULT;
    tarn_shm_failure failure{};
};

TEST_F(segments, a_chunk_goes_from_one_client_to_another) {
    create();
    tarn_shm* const one = attach();
    tarn_shm* const two = attach();
    tarn_shm_chunk sent;
    ASSERT_EQ(tarn_shm_allocate(one, 90, 0, nullptr, &sent), 0);
    EXPECT_EQ(sent.payload_bytes, 90U);
    EXPECT_EQ(sent.chunk_bytes, 100U);
    EXPECT_EQ(sent.sequence, 1U);
    EXPECT_EQ(sent.origin, 0U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(sent.payload) % 64, 0U);
    std::memset(sent.payload, 0x5a, 90);
    tarn_shm_chunk got;
    ASSERT_EQ(tarn_shm_hold(two, sent.reference, &got), 0);
    EXPECT_NE(got.payload, sent.payload);
    EXPECT_EQ(std::memcmp(got.payload, sent.payload, 90), 0);
    EXPECT_EQ(got.payload_bytes, 90U);
    EXPECT_EQ(got.sequence, 1U);
    EXPECT_EQ(tarn_shm_release(one, sent.reference), 0);
    EXPECT_EQ(free_chunks(one, 0), 9U);
    EXPECT_EQ(tarn_shm_release(two, sent.reference), 0);
    EXPECT_EQ(free_chunks(one, 0), 10U);
    EXPECT_EQ(tarn_shm_release(two, sent.reference), TARN_SHM_NOT_HELD);
    EXPECT_EQ(tarn_shm_hold(one, sent.reference, &got), TARN_SHM_STALE);
    tarn_shm_detach(one);
    tarn_shm_detach(two);
    EXPECT_EQ(tarn_shm_remove("one", folder.path(), 0, &failure), 0) << failure.text;
    EXPECT_EQ(folder.files(), 0U);
}

TEST_F(segments, one_client_holds_as_often_as_it_likes) {
    create();
    tarn_shm* const one = attach();
    tarn_shm_chunk chunk;
    ASSERT_EQ(tarn_shm_allocate(one, 1, 0, nullptr, &chunk), 0);
    for (int i = 0; i < 5; ++i) {
        ASSERT_EQ(tarn_shm_hold(one, chunk.reference, &chunk), 0);
    }
    for (int i = 0; i < 6; ++i) {
        ASSERT_EQ(free_chunks(one, 0), 9U);
        ASSERT_EQ(tarn_shm_release(one, chunk.reference), 0);
    }
    EXPECT_EQ(free_chunks(one, 0), 10U);
    EXPECT_EQ(tarn_shm_release(one, chunk.reference), TARN_SHM_NOT_HELD);
    tarn_shm_detach(one);
}

TEST_F(segments, exclusive_chunks_are_shared_or_given_back) {
    create();
    tarn_shm* const one = attach();
    tarn_shm* const two = attach();
    std::array<tarn_shm_chunk, 64> taken;
    EXPECT_EQ(tarn_shm_take(one, 0, 3, taken.data()), 3U);
    EXPECT_EQ(tarn_shm_take(one, 0, 64, &taken[3]), 7U);
    EXPECT_EQ(tarn_shm_take(one, 0, 64, &taken[10]), 0U);
    EXPECT_EQ(tarn_shm_take(one, 2, 1, &taken[10]), 0U);
    EXPECT_EQ(tarn_shm_release(one, taken[0].reference), TARN_SHM_NOT_HELD);
    EXPECT_EQ(tarn_shm_share(one, taken[0].reference, 50), 0);
    tarn_shm_chunk held;
    ASSERT_EQ(tarn_shm_hold(two, taken[0].reference, &held), 0);
    EXPECT_EQ(held.payload_bytes, 50U);
    EXPECT_EQ(held.sequence, 1U);
    tarn_shm_give(one, &taken[0].reference, 1);  // not any more
    EXPECT_EQ(tarn_shm_release(one, taken[0].reference), 0);
    EXPECT_EQ(tarn_shm_release(two, taken[0].reference), 0);
    EXPECT_EQ(free_chunks(one, 0), 1U);
    for (int i = 1; i < 10; ++i) {
        tarn_shm_give(one, &taken[static_cast<std::size_t>(i)].reference, 1);
        tarn_shm_give(one, &taken[static_cast<std::size_t>(i)].reference, 1);
    }
    EXPECT_EQ(free_chunks(one, 0), 10U);
    EXPECT_EQ(tarn_shm_share(one, taken[1].reference, 1), TARN_SHM_NOT_HELD);
    tarn_shm_detach(one);
    tarn_shm_detach(two);
}

TEST_F(segments, larger_chunks_serve_and_pools_grow) {
    pools[1].chunk_bytes = 400;
    create();
    tarn_shm* const one = attach();
    std::set<std::uint64_t> seen;
    tarn_shm_chunk chunk;
    for (int i = 0; i < 20; ++i) {
        ASSERT_EQ(tarn_shm_allocate(one, 80, 0, nullptr, &chunk), 0) << i;
        ASSERT_TRUE(seen.insert(chunk.reference).second);
        std::memset(chunk.payload, i, static_cast<std::size_t>(chunk.chunk_bytes));
    }
    EXPECT_EQ(tarn_shm_allocate(one, 80, 0, nullptr, &chunk), TARN_SHM_EXHAUSTED);
    tarn_shm_pool_info info{};
    ASSERT_EQ(tarn_shm_pool_info_get(one, 1, &info), 0);
    EXPECT_EQ(info.ready, 10U);
    tarn_shm_asking const exact{.larger_most = 1, .wait_ms = 0};
    for (std::uint64_t const each : seen) {
        if (tarn_shm_reference_pool(each) == 1) {
            EXPECT_EQ(tarn_shm_release(one, each), 0);
        }
    }
    EXPECT_EQ(tarn_shm_allocate(one, 80, 0, &exact, &chunk), TARN_SHM_EXHAUSTED);
    EXPECT_EQ(tarn_shm_allocate(one, 80, 0, nullptr, &chunk), 0);
    EXPECT_EQ(tarn_shm_allocate(one, 385, 0, nullptr, &chunk), TARN_SHM_TOO_LARGE);
    EXPECT_EQ(tarn_shm_allocate(one, 384, 0, nullptr, &chunk), 0);
    EXPECT_NE(chunk.user_header, nullptr);
    EXPECT_EQ(tarn_shm_allocate(one, 1, 128, nullptr, &chunk), TARN_SHM_TOO_LARGE);
    EXPECT_EQ(tarn_shm_allocate(one, 1, 3, nullptr, &chunk), TARN_SHM_INVALID);
    tarn_shm_detach(one);
}

TEST_F(segments, waits_for_a_chunk_until_it_comes_or_time_is_up) {
    pools[1].count_most = 0;
    create();
    tarn_shm* const one = attach();
    tarn_shm* const two = attach();
    std::array<tarn_shm_chunk, 4> all{};
    for (tarn_shm_chunk& each : all) {
        ASSERT_EQ(tarn_shm_allocate(one, 3000, 0, nullptr, &each), 0);
    }
    tarn_shm_chunk chunk;
    tarn_shm_asking asking{.larger_most = 4, .wait_ms = 5};
    EXPECT_EQ(tarn_shm_allocate(two, 3000, 0, &asking, &chunk), TARN_SHM_EXHAUSTED);
    asking.wait_ms = TARN_SHM_WAIT_FOR_EVER;
    std::thread waiting{[&] { EXPECT_EQ(tarn_shm_allocate(two, 3000, 0, &asking, &chunk), 0); }};
    EXPECT_EQ(tarn_shm_release(one, all[2].reference), 0);
    waiting.join();
    EXPECT_EQ(tarn_shm_reference_number(chunk.reference),
              tarn_shm_reference_number(all[2].reference));
    tarn_shm_detach(one);
    tarn_shm_detach(two);
}

TEST_F(segments, detaching_gives_everything_back) {
    create();
    tarn_shm* const one = attach();
    tarn_shm* const two = attach();
    tarn_shm_chunk chunk;
    for (int i = 0; i < 10; ++i) {
        ASSERT_EQ(tarn_shm_allocate(two, 10, 0, nullptr, &chunk), 0);
    }
    EXPECT_EQ(free_chunks(one, 0), 0U);
    tarn_shm_detach(two);
    EXPECT_EQ(free_chunks(one, 0), 10U);
    EXPECT_EQ(tarn_shm_audit(one, nullptr, nullptr), 0);
    tarn_shm_detach(one);
}

TEST_F(segments, names_are_checked_and_taken_once) {
    create();
    EXPECT_EQ(tarn_shm_create("one", &config, &failure), TARN_SHM_EXISTS);
    EXPECT_NE(std::string{failure.text}.find("segment one"), std::string::npos) << failure.text;
    for (char const* const bad :
         {"", ".", ".x", "a/b", "#0001", "a b",
          "0123456789012345678901234567890123456789012345678901234567890123"}) {
        EXPECT_EQ(tarn_shm_create(bad, &config, &failure), TARN_SHM_INVALID) << bad;
    }
    EXPECT_EQ(tarn_shm_create(nullptr, &config, &failure), TARN_SHM_INVALID);
    EXPECT_EQ(tarn_shm_attach("two", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_NOT_FOUND);
    EXPECT_EQ(tarn_shm_remove("two", folder.path(), 0, &failure), TARN_SHM_NOT_FOUND);
    EXPECT_EQ(folder.files(), 2U);
}

TEST_F(segments, removal_waits_for_nobody_and_harms_nobody) {
    create();
    tarn_shm* const one = attach();
    EXPECT_EQ(tarn_shm_remove("one", folder.path(), 0, &failure), TARN_SHM_IN_USE);
    EXPECT_EQ(tarn_shm_remove("one", folder.path(), 1, &failure), 0);
    EXPECT_EQ(tarn_shm_attach("one", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_NOT_FOUND);
    tarn_shm_chunk chunk;
    EXPECT_EQ(tarn_shm_allocate(one, 10, 0, nullptr, &chunk), 0);
    EXPECT_EQ(tarn_shm_clean(folder.path(), &failure), 0);  // it is in use
    create();
    EXPECT_EQ(folder.files(), 3U);
    tarn_shm_detach(one);
    EXPECT_EQ(folder.files(), 2U);
}

TEST_F(segments, clean_removes_what_a_killed_creation_left) {
    create();
    ASSERT_EQ(::unlink((std::string{folder.path()} + "/one").c_str()), 0);
    EXPECT_EQ(folder.files(), 1U);
    EXPECT_EQ(tarn_shm_clean(folder.path(), &failure), 1);
    EXPECT_EQ(folder.files(), 0U);
}

TEST_F(segments, refuses_files_and_folders_of_others) {
    create();
    std::string const file = std::string{folder.path()} + "/one";
    ASSERT_EQ(::chmod(file.c_str(), 0666), 0);
    EXPECT_EQ(tarn_shm_attach("one", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_DENIED) << failure.text;
    ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
    ASSERT_EQ(::symlink("one", (std::string{folder.path()} + "/link").c_str()), 0);
    EXPECT_EQ(tarn_shm_attach("link", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_DENIED) << failure.text;
    ASSERT_EQ(::mkfifo((std::string{folder.path()} + "/pipe").c_str(), 0600), 0);
    EXPECT_EQ(tarn_shm_attach("pipe", &attaching, &failure), nullptr);
    ASSERT_EQ(::chmod(folder.path(), 0777), 0);
    EXPECT_EQ(tarn_shm_attach("one", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_DENIED) << failure.text;
    EXPECT_EQ(tarn_shm_create("two", &config, &failure), TARN_SHM_DENIED);
    ASSERT_EQ(::chmod(folder.path(), 0700), 0);
    tarn_shm* const client = attach();
    tarn_shm_detach(client);
}

TEST_F(segments, refuses_files_that_are_none) {
    std::string const file = std::string{folder.path()} + "/text";
    int const fd = ::open(file.c_str(), O_CREAT | O_RDWR, 0600);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(tarn_shm_attach("text", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_INCOMPATIBLE) << failure.text;
    ASSERT_EQ(::ftruncate(fd, 100'000), 0);
    EXPECT_EQ(tarn_shm_attach("text", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_INCOMPATIBLE) << failure.text;
    EXPECT_NE(std::string{failure.text}.find("text"), std::string::npos);
    ::close(fd);
    create();
    ASSERT_EQ(::truncate((std::string{folder.path()} + "/one").c_str(), 8192), 0);
    EXPECT_EQ(tarn_shm_attach("one", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_DAMAGED) << failure.text;
}

TEST_F(segments, have_so_many_clients_and_no_more) {
    create();
    std::vector<tarn_shm*> clients;
    clients.reserve(TARN_SHM_CLIENTS_MAX);
    for (int i = 0; i < TARN_SHM_CLIENTS_MAX; ++i) {
        clients.push_back(attach());
    }
    EXPECT_EQ(tarn_shm_attach("one", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_TOO_MANY);
    EXPECT_NE(std::string{failure.text}.find("48"), std::string::npos) << failure.text;
    tarn_shm_detach(clients.back());
    clients.back() = attach();
    tarn_shm_info info{};
    info.size = sizeof info;
    ASSERT_EQ(tarn_shm_info_get(clients.back(), &info), 0);
    EXPECT_EQ(info.clients, 48U);
    EXPECT_EQ(info.client, 47U);
    for (tarn_shm* const each : clients) {
        tarn_shm_detach(each);
    }
}

TEST_F(segments, the_dead_are_found_by_who_misses_a_chunk) {
    create();
    tarn_shm* const one = attach();
    int const status = tarn::test::run_in_child(60, [&] {
        tarn_shm* const mine = tarn_shm_attach("one", &attaching, nullptr);
        tarn_shm_chunk chunk;
        for (int i = 0; i < 10; ++i) {
            if (tarn_shm_allocate(mine, 10, 0, nullptr, &chunk) != 0) {
                return 1;
            }
        }
        return tarn_shm_allocate(one, 10, 0, nullptr, &chunk) == TARN_SHM_FORKED ? 0 : 2;
    });
    ASSERT_EQ(status, 0);
    EXPECT_EQ(free_chunks(one, 0), 0U);
    EXPECT_EQ(tarn_shm_audit(one, nullptr, nullptr), 10);
    tarn_shm_client_info info{};
    ASSERT_EQ(tarn_shm_client_info_get(one, 1, &info), 0);
    EXPECT_EQ(info.state, 2);
    EXPECT_EQ(info.held, 10U);
    tarn_shm_chunk chunk;
    EXPECT_EQ(tarn_shm_allocate(one, 10, 0, nullptr, &chunk), 0);
    EXPECT_EQ(free_chunks(one, 0), 9U);
    EXPECT_EQ(tarn_shm_audit(one, nullptr, nullptr), 0);
    EXPECT_EQ(tarn_shm_recover(one), 0);
    tarn_shm_detach(one);
}

TEST_F(segments, a_housekeeper_is_told_of_a_death) {
    create();
    tarn_shm* const one = attach();
    EXPECT_EQ(tarn_shm_housekeep(one, 0), 0);
    std::array<int, 2> ready{};
    ASSERT_EQ(::pipe(ready.data()), 0);
    pid_t const child = tarn::test::start_child(60, [&] {
        tarn_shm* const mine = tarn_shm_attach("one", &attaching, nullptr);
        tarn_shm_chunk chunk;
        bool const has_one = tarn_shm_allocate(mine, 10, 0, nullptr, &chunk) == 0;
        static_cast<void>(::write(ready[1], "r", 1) == 1);
        ::pause();
        return has_one ? 0 : 1;
    });
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    EXPECT_EQ(free_chunks(one, 0), 9U);
    std::thread keeping{[&] { EXPECT_EQ(tarn_shm_housekeep(one, TARN_SHM_WAIT_FOR_EVER), 1); }};
    ::kill(child, SIGKILL);
    tarn::test::wait_for(child);
    keeping.join();
    EXPECT_EQ(free_chunks(one, 0), 10U);
    ::close(ready[0]);
    ::close(ready[1]);
    tarn_shm_detach(one);
}

/// A program closes what is not its own, and opens something that gets the number.
TEST_F(segments, another_file_under_its_number_stays_what_it_was) {
    create();
    tarn_shm* const other = attach();
    std::set<int> const before = descriptors();
    tarn_shm* const one = attach();
    std::set<int> added = descriptors();
    for (int const each : before) {
        added.erase(each);
    }
    ASSERT_EQ(added.size(), 1U);
    int const number = *added.begin();
    std::string const path = std::string{folder.path()} + "/users";
    int const fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::dup2(fd, number), number);
    ::close(fd);
    tarn_shm_chunk chunk;
    for (int i = 0; i < 10; ++i) {
        ASSERT_EQ(tarn_shm_allocate(one, 90, 0, nullptr, &chunk), 0);
    }
    for (int i = 0; i < 4; ++i) {
        ASSERT_EQ(tarn_shm_allocate(one, 3000, 0, nullptr, &chunk), 0);
    }
    EXPECT_EQ(tarn_shm_allocate(one, 3000, 0, nullptr, &chunk), TARN_SHM_SYSTEM);  // can't grow
    EXPECT_LT(tarn_shm_recover(one), 0);
    EXPECT_EQ(tarn_shm_recover(other), 0);  // it lives
    EXPECT_EQ(free_chunks(other, 0), 0U);
    tarn_shm_detach(one);
    EXPECT_EQ(free_chunks(other, 0), 10U);

    struct stat users {};

    ASSERT_EQ(::fstat(number, &users), 0);
    EXPECT_EQ(users.st_size, 0);
    ::close(number);
    tarn_shm* const again = attach();
    tarn_shm_detach(again);
    tarn_shm_detach(other);
}

TEST_F(segments, payloads_are_aligned_as_their_pool_says) {
    constexpr std::uint32_t alignment = 2U << 20;
    pools[1].alignment = alignment;
    pools[1].count = 1;
    pools[1].count_most = 0;
    create();
    for (int i = 0; i < 4; ++i) {
        tarn_shm* const one = attach();
        tarn_shm_chunk chunk;
        ASSERT_EQ(tarn_shm_allocate(one, 90, alignment, nullptr, &chunk), 0);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(chunk.payload) % alignment, 0U);
        tarn_shm_detach(one);
    }
    attaching.address = reinterpret_cast<void*>(std::uintptr_t{0x100000000000} + 4096);
    EXPECT_EQ(tarn_shm_attach("one", &attaching, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_INVALID) << failure.text;
}

TEST_F(segments, only_what_nobody_else_has_is_shared_anew) {
    create();
    tarn_shm* const one = attach();
    attaching.payload_read_only = 1;
    tarn_shm* const reader = attach();
    tarn_shm_chunk chunk;
    tarn_shm_chunk held;
    ASSERT_EQ(tarn_shm_allocate(one, 90, 0, nullptr, &chunk), 0);
    EXPECT_EQ(tarn_shm_share(one, chunk.reference, 80), 0);
    EXPECT_EQ(tarn_shm_share(one, chunk.reference, 101), TARN_SHM_TOO_LARGE);
    ASSERT_EQ(tarn_shm_hold(reader, chunk.reference, &held), 0);
    EXPECT_EQ(held.payload_bytes, 80U);
    EXPECT_EQ(tarn_shm_share(reader, chunk.reference, 70), TARN_SHM_READ_ONLY);
    EXPECT_EQ(tarn_shm_share(one, chunk.reference, 70), TARN_SHM_INVALID);
    EXPECT_EQ(tarn_shm_release(reader, chunk.reference), 0);
    ASSERT_EQ(tarn_shm_hold(one, chunk.reference, &held), 0);
    EXPECT_EQ(tarn_shm_share(one, chunk.reference, 70), TARN_SHM_INVALID);
    tarn_shm_detach(reader);
    tarn_shm_detach(one);
}

TEST_F(segments, threads_may_unmap_what_was_mapped_on_demand_at_once) {
    create();
    tarn_shm* const one = attach();
    tarn_shm_chunk chunk;
    ASSERT_EQ(tarn_shm_allocate(one, 90, 0, nullptr, &chunk), 0);
    std::uint64_t const relative = tarn_shm_relative(chunk.payload);
    tarn_shm_detach(one);
    ASSERT_EQ(tarn_shm_map_on_demand(folder.path(), &failure), 0);
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (std::uint64_t round = 0; round < tarn::test::scaled(200); ++round) {
                static_cast<void>(tarn_shm_absolute(relative, 8, 8));
                tarn_shm_unmap_all();
            }
        });
    }
    for (std::thread& each : threads) {
        each.join();
    }
    EXPECT_EQ(tarn_shm_remove("one", folder.path(), 0, &failure), 0) << failure.text;
}

TEST_F(segments, an_observer_takes_no_slot_and_changes_nothing) {
    create();
    tarn_shm* const one = attach();
    tarn_shm* const seen = tarn_shm_observe("one", folder.path(), &failure);
    ASSERT_NE(seen, nullptr) << failure.text;
    tarn_shm_info info{};
    info.size = sizeof info;
    ASSERT_EQ(tarn_shm_info_get(seen, &info), 0);
    EXPECT_EQ(info.clients, 1U);
    EXPECT_EQ(info.client, 48U);
    EXPECT_STREQ(info.name, "one");
    tarn_shm_chunk chunk;
    EXPECT_EQ(tarn_shm_allocate(seen, 1, 0, nullptr, &chunk), TARN_SHM_READ_ONLY);
    ASSERT_EQ(tarn_shm_allocate(one, 1, 0, nullptr, &chunk), 0);
    EXPECT_EQ(tarn_shm_hold(seen, chunk.reference, &chunk), TARN_SHM_READ_ONLY);
    tarn_shm_chunk_info about{};
    ASSERT_EQ(tarn_shm_chunk_info_get(seen, 0, tarn_shm_reference_number(chunk.reference), &about),
              0);
    EXPECT_EQ(about.holders, 1U);
    EXPECT_EQ(tarn_shm_recover(seen), 0);
    tarn_shm_detach(seen);
    tarn_shm_detach(one);
}

TEST_F(segments, anonymous_ones_go_by_their_descriptor) {
    tarn_shm* const one = tarn_shm_create_anonymous(&config, nullptr, &failure);
    ASSERT_NE(one, nullptr) << failure.text;
    ASSERT_GE(tarn_shm_descriptor(one), 0);
    tarn_shm* const two = tarn_shm_attach_descriptor(tarn_shm_descriptor(one), nullptr, &failure);
    ASSERT_NE(two, nullptr) << failure.text;
    tarn_shm_chunk chunk;
    ASSERT_EQ(tarn_shm_allocate(one, 100, 0, nullptr, &chunk), 0);
    EXPECT_EQ(tarn_shm_hold(two, chunk.reference, &chunk), 0);
    EXPECT_EQ(::ftruncate(tarn_shm_descriptor(one), 0), -1);
    tarn_shm_detach(one);
    EXPECT_EQ(tarn_shm_release(two, chunk.reference), 0);
    EXPECT_EQ(free_chunks(two, 0), 10U);
    tarn_shm_detach(two);
    int const fd = ::open(folder.path(), O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(tarn_shm_attach_descriptor(fd, nullptr, &failure), nullptr);
    EXPECT_EQ(tarn_shm_attach_descriptor(-1, nullptr, &failure), nullptr);
    ::close(fd);
}

TEST_F(segments, relative_pointers_lead_to_the_same_from_everywhere) {
    create("one");
    create("two");
    tarn_shm* const one = attach("one");
    tarn_shm* const two = attach("two");
    tarn_shm_chunk chunk;
    ASSERT_EQ(tarn_shm_allocate(one, 100, 0, nullptr, &chunk), 0);
    auto* const number = static_cast<std::uint64_t*>(chunk.payload);
    *number = 42;
    std::uint64_t const relative = tarn_shm_relative(number);
    ASSERT_NE(relative, 0U);
    EXPECT_EQ(tarn_shm_absolute(relative, 8, 8), number);
    EXPECT_EQ(tarn_shm_absolute(relative + 1, 8, 8), nullptr);
    EXPECT_EQ(tarn_shm_absolute(relative, std::uint64_t{1} << 40, 8), nullptr);
    EXPECT_EQ(tarn_shm_absolute(relative | 0x0000ffffffffffff, 1, 1), nullptr);
    EXPECT_EQ(tarn_shm_absolute(0, 1, 1), nullptr);
    EXPECT_EQ(tarn_shm_relative(nullptr), 0U);
    EXPECT_EQ(tarn_shm_relative(&failure), 0U);
    tarn_shm_detach(two);
    tarn_shm_detach(one);
    EXPECT_EQ(tarn_shm_absolute(relative, 8, 8), nullptr);
    ASSERT_EQ(tarn_shm_map_on_demand(folder.path(), &failure), 0) << failure.text;
    auto const* const again = static_cast<std::uint64_t*>(tarn_shm_absolute(relative, 8, 8));
    ASSERT_NE(again, nullptr);
    EXPECT_EQ(*again, 42U);
    tarn_shm_unmap_all();
    EXPECT_EQ(tarn_shm_remove("one", folder.path(), 0, &failure), 0) << failure.text;
    EXPECT_EQ(tarn_shm_absolute(relative, 8, 8), nullptr);
}

TEST_F(segments, threads_of_one_client_share_what_it_holds) {
    create();
    tarn_shm* const one = attach();
    tarn_shm* const two = attach();
    std::atomic<std::uint64_t> posted{0};
    std::atomic<unsigned> wrong{0};
    std::atomic<bool> is_over{false};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&, by = i == 0 ? one : two] {
            tarn_shm_chunk chunk;
            while (!is_over.load(std::memory_order_acquire)) {
                std::uint64_t const reference = posted.load(std::memory_order_acquire);
                if (reference == 0 || tarn_shm_hold(by, reference, &chunk) != 0) {
                    std::this_thread::yield();
                    continue;
                }
                auto const* const words = static_cast<std::uint64_t const*>(chunk.payload);
                wrong += words[0] == words[9] && words[0] == chunk.sequence ? 0 : 1;
                wrong += tarn_shm_release(by, reference) == 0 ? 0 : 1;
            }
        });
    }
    for (std::uint64_t i = 0; i < tarn::test::scaled(1000); ++i) {
        tarn_shm_chunk chunk;
        if (tarn_shm_allocate(one, 80, 0, nullptr, &chunk) != 0) {
            std::this_thread::yield();
            continue;
        }
        auto* const words = static_cast<std::uint64_t*>(chunk.payload);
        words[0] = chunk.sequence;
        words[9] = chunk.sequence;
        posted.store(chunk.reference, std::memory_order_release);
        std::this_thread::yield();
        posted.store(0, std::memory_order_release);
        wrong += tarn_shm_release(one, chunk.reference) == 0 ? 0 : 1;
    }
    is_over.store(true, std::memory_order_release);
    for (std::thread& each : threads) {
        each.join();
    }
    EXPECT_EQ(wrong, 0U);
    EXPECT_EQ(free_chunks(one, 0), 10U);
    EXPECT_EQ(tarn_shm_audit(one, nullptr, nullptr), 0);
    tarn_shm_detach(one);
    tarn_shm_detach(two);
}

TEST(shm_error_text, is_there_for_each_error) {
    std::set<std::string> texts;
    for (int i = 0; i <= TARN_SHM_SYSTEM; ++i) {
        texts.insert(tarn_shm_error_text(i));
    }
    EXPECT_EQ(texts.size(), TARN_SHM_SYSTEM + 1U);
    EXPECT_STREQ(tarn_shm_error_text(99), "unknown error");
}

}  // namespace
