#include "platform/shared_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <set>
#include <string>
#include <thread>

#include "support/process.hpp"
#include "support/shm_folder.hpp"

namespace {

using namespace tarn::impl::platform;

constexpr std::uint64_t a_lock = std::uint64_t{1} << 60;

class folder_of_files : public testing::Test {
public:
    void SetUp() override { ASSERT_EQ(directory.open_directory(folder.path()), 0); }

    /// A file of 64 KiB with a name.
    void make(char const* name) {
        shared_file file;
        ASSERT_EQ(file.make_unnamed(directory, 0600), 0);
        ASSERT_EQ(file.set_length(file_bytes), 0);
        ASSERT_EQ(file.link(directory, name), 0);
    }

    static constexpr std::uint64_t file_bytes = 65536;
    tarn::test::shm_folder folder;
    shared_file directory;
};

using shared_file_test = folder_of_files;

TEST_F(shared_file_test, is_not_seen_until_it_has_a_name) {
    shared_file file;
    ASSERT_EQ(file.make_unnamed(directory, 0600), 0);
    EXPECT_EQ(folder.files(), 0U);
    ASSERT_EQ(file.link(directory, "one"), 0);
    EXPECT_EQ(file.link(directory, "one"), EEXIST);
    ASSERT_EQ(file.link(directory, "two"), 0);
    file_status status;
    ASSERT_EQ(file.status(status), 0);
    EXPECT_EQ(status.links, 2U);
    EXPECT_EQ(status.mode, 0600U);
    EXPECT_TRUE(status.is_regular);
    ASSERT_EQ(unlink_in(directory, "one"), 0);
    EXPECT_EQ(unlink_in(directory, "one"), ENOENT);
    file_status named;
    ASSERT_EQ(status_in(directory, "two", named), 0);
    EXPECT_EQ(named.inode, status.inode);
}

TEST_F(shared_file_test, does_not_follow_a_symbolic_link) {
    make("file");
    ASSERT_EQ(::symlinkat("file", directory.descriptor(), "link"), 0);
    shared_file file;
    EXPECT_EQ(file.open(directory, "link", file_access::read_write), ELOOP);
    EXPECT_EQ(file.open(directory, "file", file_access::read_write), 0);
    ASSERT_EQ(::symlinkat(folder.path(), directory.descriptor(), "folder"), 0);
    shared_file other;
    EXPECT_NE(other.open_directory((std::string{folder.path()} + "/folder").c_str()), 0);
}

TEST_F(shared_file_test, locks_belong_to_the_open_file) {
    make("file");
    shared_file one;
    shared_file two;
    ASSERT_EQ(one.open(directory, "file", file_access::read_write), 0);
    ASSERT_EQ(two.open(directory, "file", file_access::read_write), 0);
    ASSERT_EQ(one.try_lock(a_lock, lock_kind::exclusive), 0);
    EXPECT_EQ(two.try_lock(a_lock, lock_kind::exclusive), EAGAIN);
    EXPECT_EQ(two.try_lock(a_lock, lock_kind::shared), EAGAIN);
    EXPECT_EQ(two.try_lock(a_lock + 1, lock_kind::exclusive), 0);
    EXPECT_TRUE(two.is_locked(a_lock));
    EXPECT_FALSE(two.is_locked(a_lock + 2));
    one.close();
    EXPECT_FALSE(two.is_locked(a_lock));
    EXPECT_EQ(two.try_lock(a_lock, lock_kind::exclusive), 0);
}

TEST_F(shared_file_test, a_folder_is_locked_until_it_is_closed) {
    shared_file again;
    ASSERT_EQ(again.open_directory(folder.path()), 0);
    ASSERT_EQ(directory.try_lock_directory(), 0);
    EXPECT_EQ(again.try_lock_directory(), EAGAIN);
    directory.close();
    EXPECT_EQ(again.try_lock_directory(), 0);
}

TEST_F(shared_file_test, a_lock_ends_with_its_process) {
    make("file");
    std::array<int, 2> told{};
    ASSERT_EQ(::pipe(told.data()), 0);
    pid_t const child = tarn::test::start_child(60, [&] {
        shared_file file;
        if (file.open(directory, "file", file_access::read_write) != 0 ||
            file.try_lock(a_lock, lock_kind::exclusive) != 0) {
            return 1;
        }
        static_cast<void>(::write(told[1], "l", 1) == 1);
        ::pause();
        return 0;
    });
    char letter = 0;
    ASSERT_EQ(::read(told[0], &letter, 1), 1);
    shared_file file;
    ASSERT_EQ(file.open(directory, "file", file_access::read_write), 0);
    EXPECT_EQ(file.try_lock(a_lock, lock_kind::exclusive), EAGAIN);
    ::kill(child, SIGKILL);
    tarn::test::wait_for(child);
    EXPECT_EQ(file.try_lock(a_lock, lock_kind::exclusive), 0);
    ::close(told[0]);
    ::close(told[1]);
}

TEST_F(shared_file_test, maps_the_same_memory_twice) {
    make("file");
    shared_file file;
    ASSERT_EQ(file.open(directory, "file", file_access::read_write), 0);
    ASSERT_EQ(file.reserve(0, file_bytes), 0);
    void* one = nullptr;
    void* two = nullptr;
    void* none = nullptr;
    ASSERT_EQ(file.map(file_bytes, 0, file_access::read_write, nullptr, one), 0);
    ASSERT_EQ(file.map(file_bytes, 0, file_access::read_only, nullptr, two), 0);
    EXPECT_EQ(file.map(file_bytes, 0, file_access::read_write, one, none), EEXIST);
    EXPECT_EQ(none, nullptr);
    static_cast<char*>(one)[77] = 'x';
    EXPECT_EQ(static_cast<char*>(two)[77], 'x');
    unmap_shared(one, file_bytes);
    unmap_shared(two, file_bytes);
}

TEST_F(shared_file_test, sealed_memory_keeps_its_length) {
    shared_file file;
    ASSERT_EQ(file.make_sealable("tarn-test"), 0);
    ASSERT_EQ(file.set_length(file_bytes), 0);
    EXPECT_FALSE(file.is_sealed());
    ASSERT_EQ(file.seal(), 0);
    EXPECT_TRUE(file.is_sealed());
    EXPECT_EQ(file.set_length(1), EPERM);
    EXPECT_EQ(file.set_length(2 * file_bytes), EPERM);
    shared_file again;
    ASSERT_EQ(again.reopen(file.descriptor(), file_access::read_write), 0);
    ASSERT_EQ(file.try_lock(a_lock, lock_kind::exclusive), 0);
    EXPECT_EQ(again.try_lock(a_lock, lock_kind::exclusive), EAGAIN);
}

TEST_F(shared_file_test, lists_a_folder_and_stops_when_told) {
    make("a");
    make("b");
    std::set<std::string> names;
    int stopped = 0;
    ASSERT_EQ(list_directory(
                  directory,
                  [](void* to, char const* name) {
                      static_cast<std::set<std::string>*>(to)->insert(name);
                      return 0;
                  },
                  &names, stopped),
              0);
    EXPECT_EQ(names, (std::set<std::string>{".", "..", "a", "b"}));
    ASSERT_EQ(list_directory(
                  directory, [](void*, char const*) { return 7; }, nullptr, stopped),
              0);
    EXPECT_EQ(stopped, 7);
}

TEST_F(shared_file_test, maps_at_an_alignment) {
    make("file");
    shared_file file;
    ASSERT_EQ(file.open(directory, "file", file_access::read_write), 0);
    ASSERT_EQ(file.reserve(0, file_bytes), 0);
    constexpr std::uint64_t alignment = 2U << 20;
    std::array<void*, 5> mapped{};
    for (void*& each : mapped) {
        ASSERT_EQ(file.map(file_bytes, alignment, file_access::read_write, nullptr, each), 0);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(each) % alignment, 0U);
        static_cast<char*>(each)[file_bytes - 1] = 'x';
    }
    for (void* const each : mapped) {
        unmap_shared(each, file_bytes);
    }
}

TEST_F(shared_file_test, passes_a_descriptor_on) {
    make("file");
    shared_file file;
    ASSERT_EQ(file.open(directory, "file", file_access::read_write), 0);
    std::array<int, 2> sockets{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
    ASSERT_EQ(send_descriptor(sockets[0], file.descriptor()), 0);
    int received = -1;
    std::uint32_t user = 0;
    ASSERT_EQ(receive_descriptor(sockets[1], received, user), 0);
    EXPECT_EQ(user, this_user());
    shared_file const other{received};
    file_status one;
    file_status two;
    ASSERT_EQ(file.status(one), 0);
    ASSERT_EQ(other.status(two), 0);
    EXPECT_EQ(one.inode, two.inode);
    // Two at once: none is kept.
    std::array<int, 2> both{file.descriptor(), directory.descriptor()};
    char letter = 'x';
    iovec content{.iov_base = &letter, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof both)> control{};
    msghdr message{};
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof both);
    std::memcpy(CMSG_DATA(head), both.data(), sizeof both);
    ASSERT_EQ(::sendmsg(sockets[0], &message, 0), 1);
    int const next = ::dup(0);
    ::close(next);
    EXPECT_EQ(receive_descriptor(sockets[1], received, user), ENODATA);
    EXPECT_EQ(received, -1);
    int const same = ::dup(0);
    EXPECT_EQ(same, next);
    ::close(same);
    ASSERT_EQ(::send(sockets[0], "x", 1, 0), 1);
    EXPECT_EQ(receive_descriptor(sockets[1], received, user), ENODATA);
    ::close(sockets[0]);
    EXPECT_EQ(receive_descriptor(sockets[1], received, user), ENODATA);
    ::close(sockets[1]);
}

TEST(process_watch_test, tells_the_end_of_a_process) {
    std::array<int, 2> until{};
    ASSERT_EQ(::pipe(until.data()), 0);
    pid_t const child = tarn::test::start_child(60, [&] {
        ::close(until[1]);
        char byte = 0;
        return ::read(until[0], &byte, 1) == 0 ? 0 : 1;
    });
    process_identity lives = this_process();
    process_watch watch;
    ASSERT_TRUE(watch.add(lives));
    EXPECT_FALSE(watch.wait(0));
    ++lives.started;
    EXPECT_FALSE(watch.add(lives));
    process_identity const ends = process_of(child);
    ASSERT_NE(ends.started, 0U);
    ASSERT_TRUE(watch.add(ends));
    EXPECT_FALSE(watch.wait(0));
    ::close(until[1]);
    EXPECT_TRUE(watch.wait(60'000));
    EXPECT_EQ(tarn::test::wait_for(child), 0);
    EXPECT_FALSE(watch.add(ends));
    ::close(until[0]);
}

TEST(shared_wait, ends_when_woken_and_at_once_for_another_value) {
    std::atomic<std::uint32_t> word{1};
    wait_shared(word, 2, 60'000);
    std::thread waking{[&] {
        word.store(2, std::memory_order_release);
        wake_shared(word);
    }};
    while (word.load(std::memory_order_acquire) == 1) {
        wait_shared(word, 1, 60'000);
    }
    waking.join();
    wait_shared(word, 2, 1);  // nobody wakes it
}

TEST(shared_facts, are_known) {
    unsigned char once[16];
    unsigned char twice[16];
    read_boot_id(once);
    read_boot_id(twice);
    EXPECT_EQ(std::memcmp(once, twice, sizeof once), 0);
    std::array<char, 16> name{};
    read_program_name(name.data(), name.size());
    EXPECT_GT(std::strlen(name.data()), 0U);
    EXPECT_EQ(std::strchr(name.data(), '\n'), nullptr);
    std::array<unsigned char, 16> random{};
    EXPECT_TRUE(fill_random(random.data(), random.size()));
}

}  // namespace
