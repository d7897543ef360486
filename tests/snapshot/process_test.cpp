// process_test - snapshots in forked children and in other processes.
#include "support/process.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <memory_resource>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "tarn/region.hpp"
#include "tarn/snapshot.hpp"

#include "snapshot/paged_model.hpp"

namespace {

using tarn::test::generations;
using tarn::test::paged_model;

constexpr unsigned child_seconds = 60;

std::size_t page_bytes() { return tarn::detail::os_page_bytes(); }

/// Two pipes: each side waits for the other.
class turns {
public:
    turns() {
        if (::pipe(to_child) != 0 || ::pipe(to_parent) != 0) {
            throw std::system_error{errno, std::generic_category()};
        }
    }

    turns(turns const&) = delete;
    turns& operator=(turns const&) = delete;

    ~turns() {
        for (int const fd : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) {
            ::close(fd);
        }
    }

    void tell_child() const { tell(to_child[1]); }

    void tell_parent() const { tell(to_parent[1]); }

    void wait_for_child() const { wait(to_parent[0]); }

    void wait_for_parent() const { wait(to_child[0]); }

    int to_child[2];
    int to_parent[2];

private:
    static void tell(int fd) {
        if (::write(fd, "\n", 1) != 1) {
            ::abort();
        }
    }

    static void wait(int fd) {
        char got = 0;
        if (::read(fd, &got, 1) != 1) {
            ::abort();
        }
    }
};

using numbers = std::pmr::list<std::uint64_t>;

std::uint64_t sum_of(numbers const& list) {
    std::uint64_t sum = 0;
    for (std::uint64_t const each : list) {
        sum += each;
    }
    return sum;
}

void fill(numbers& list, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
        list.push_back(i * i);
    }
}

TEST(snapshot_process, a_forked_child_follows_pointers_where_they_are) {
    tarn::snapshot_memory memory;
    tarn::region region{&memory};
    auto* const list = region.make<numbers>(region.resource());
    fill(*list, 5000);
    std::uint64_t const wanted = sum_of(*list);
    memory.set_root(list);
    tarn::snapshot const frozen = memory.take();
    turns const both;
    pid_t const child = tarn::test::start_child(child_seconds, [&] {
        tarn::snapshot_view const view = frozen.map_in_place();
        bool const right = view.is_in_place() && sum_of(*list) == wanted;
        both.tell_parent();
        both.wait_for_parent();
        return right && sum_of(*list) == wanted && view.root<numbers>() == list ? 0 : 1;
    });
    both.wait_for_child();
    for (std::uint64_t& each : *list) {
        each += 7;
    }
    tarn::snapshot const later = memory.take();
    memory.trim();
    for (std::uint64_t& each : *list) {
        each += 7;
    }
    tarn::snapshot const last = memory.take();
    both.tell_child();
    EXPECT_EQ(tarn::test::wait_for(child), 0);
}

TEST(snapshot_process, a_forked_child_has_the_views_of_its_parent) {
    tarn::snapshot_memory memory;
    paged_model model{memory, 40};
    for (std::size_t page = 0; page < 40; ++page) {
        model.write(page);
    }
    std::optional<tarn::snapshot_view> view{memory.take().map()};
    generations const then = model.now();
    turns const both;
    pid_t const child = tarn::test::start_child(child_seconds, [&] {
        both.tell_parent();
        both.wait_for_parent();
        return shows(*view, model, then) ? 0 : 1;
    });
    both.wait_for_child();
    view.reset();  // the child's alone now
    for (int round = 0; round < 3; ++round) {
        for (std::size_t page = 0; page < 40; ++page) {
            model.write(page);
        }
        static_cast<void>(memory.take());
        memory.trim();
    }
    EXPECT_EQ(memory.statistics().snapshots, 1U);
    both.tell_child();
    EXPECT_EQ(tarn::test::wait_for(child), 0);
    memory.trim();
    EXPECT_EQ(memory.statistics().snapshots, 0U);
}

TEST(snapshot_process, a_child_that_is_killed_lets_go) {
    tarn::snapshot_memory memory;
    paged_model model{memory, 40};
    model.write(3);
    std::optional<tarn::snapshot> held{memory.take()};
    turns const both;
    pid_t const child = tarn::test::start_child(child_seconds, [&] {
        both.tell_parent();
        both.wait_for_parent();  // forever
        return 0;
    });
    both.wait_for_child();
    held.reset();
    memory.trim();
    EXPECT_EQ(memory.statistics().snapshots, 1U);
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    static_cast<void>(tarn::test::wait_for(child));
    memory.trim();
    EXPECT_EQ(memory.statistics().snapshots, 0U);
}

TEST(snapshot_process, a_child_has_no_part_in_the_memory) {
    tarn::snapshot_memory memory;
    paged_model model{memory, 10};
    model.write(3);
    int const status = tarn::test::run_in_child(child_seconds, [&] {
        try {
            static_cast<void>(memory.take());
        } catch (std::system_error const& refused) {
            return std::strstr(refused.what(), "the memory is the parent's") == nullptr ? 1 : 0;
        }
        return 2;
    });
    EXPECT_EQ(status, 0);
    // Its end in a child unmaps nothing that is somebody else's.
    auto* const own = new tarn::snapshot_memory;
    void* const block = own->allocate(page_bytes());
    std::memset(block, 1, page_bytes());
    tarn::snapshot const frozen = own->take();
    int const ended = tarn::test::run_in_child(child_seconds, [&] {
        tarn::snapshot_view const view = frozen.map_in_place();
        delete own;
        return static_cast<char const*>(block)[5] == 1 ? 0 : 1;
    });
    EXPECT_EQ(ended, 0);
    delete own;
}

TEST(snapshot_process, another_program_reads_by_descriptor) {
    tarn::snapshot_memory memory;
    tarn::region region{&memory};
    auto* const list = region.make<numbers>(region.resource());
    fill(*list, 3000);
    memory.set_root(list);
    tarn::snapshot const first = memory.take();
    for (std::uint64_t& each : *list) {  // so that the second has pages away from home
        each += 3;
    }
    tarn::snapshot const second = memory.take();
    std::string const wanted = std::to_string(sum_of(*list));
    turns const both;
    constexpr int passed = 100;
    std::string const number = std::to_string(passed);
    posix_spawn_file_actions_t actions;
    ASSERT_EQ(::posix_spawn_file_actions_init(&actions), 0);
    ::posix_spawn_file_actions_adddup2(&actions, second.descriptor(), passed);
    ::posix_spawn_file_actions_adddup2(&actions, both.to_child[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, both.to_parent[1], STDOUT_FILENO);
    std::string program = TARN_TEST_SNAPSHOT_READER;
    std::array<char*, 4> arguments = {program.data(), const_cast<char*>(number.c_str()),
                                      const_cast<char*>(wanted.c_str()), nullptr};
    pid_t child = -1;
    ASSERT_EQ(::posix_spawn(&child, program.c_str(), &actions, nullptr, arguments.data(), environ),
              0);
    ::posix_spawn_file_actions_destroy(&actions);
    char got = 0;
    while (got != '\n') {
        ASSERT_EQ(::read(both.to_parent[0], &got, 1), 1);
    }
    for (int round = 0; round < 2; ++round) {
        for (std::uint64_t& each : *list) {
            each += 1;
        }
        static_cast<void>(memory.take());
        memory.trim();
    }
    both.tell_child();
    EXPECT_EQ(tarn::test::wait_for(child), 0);
}

/// Over a socket, as between processes that know nothing else of each other.
TEST(snapshot_process, a_descriptor_travels_over_a_socket) {
    tarn::snapshot_memory memory;
    paged_model model{memory, 10};
    model.write(4);
    generations const then = model.now();
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    pid_t const child = tarn::test::start_child(child_seconds, [&] {
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
        char byte = 0;
        iovec data{&byte, 1};
        msghdr message{};
        message.msg_iov = &data;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        if (::recvmsg(ends[1], &message, 0) != 1 || CMSG_FIRSTHDR(&message) == nullptr) {
            return 2;
        }
        int received = -1;
        std::memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
        tarn::snapshot const shown = tarn::snapshot::adopt(received);
        return shows(shown.map(), model, then) ? 0 : 1;
    });
    tarn::snapshot const frozen = memory.take();  // after the fork
    model.write(4);
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
    char byte = 0;
    iovec data{&byte, 1};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    ASSERT_NE(header, nullptr);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    int const sent = frozen.descriptor();
    std::memcpy(CMSG_DATA(header), &sent, sizeof sent);
    ASSERT_EQ(::sendmsg(ends[0], &message, 0), 1);
    EXPECT_EQ(tarn::test::wait_for(child), 0);
    ::close(ends[0]);
    ::close(ends[1]);
}

}  // namespace
