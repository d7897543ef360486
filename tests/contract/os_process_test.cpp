// What an os_process must do with files and CPUs: platform/os_memory.hpp. The rest is tested where
// it is used.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "platform/fake/fake_os.hpp"
#include "platform/linux/linux_os.hpp"
#include "support/file_tree.hpp"

namespace {

using namespace tarn::impl;
using platform::fake_os;
using platform::linux_os;

/// The fake, whose files come a byte at a time.
struct fake_short_reads : fake_os {};

template <class Os>
class os_process_contract : public testing::Test {
protected:
    os_process_contract() {
        fake_os::reset();
        if constexpr (std::is_same_v<Os, fake_short_reads>) {
            fake_os::control().read_bytes_max = 1;
        }
    }

    ~os_process_contract() override { fake_os::reset(); }

    static std::string contents(std::string const& path, std::size_t room) {
        std::string all;
        std::vector<char> piece(room);
        int const fd = Os::open_read(path.c_str());
        EXPECT_GE(fd, 0) << path;
        for (std::ptrdiff_t got = 1; got > 0;) {
            got = Os::read_some(fd, piece.data(), piece.size());
            EXPECT_GE(got, 0);
            EXPECT_LE(got, static_cast<std::ptrdiff_t>(room));
            all.append(piece.data(), static_cast<std::size_t>(got));
        }
        Os::close_file(fd);
        return all;
    }

    tarn::test::file_tree tree_;
};

using systems = testing::Types<linux_os, fake_os, fake_short_reads>;
TYPED_TEST_SUITE(os_process_contract, systems, );

TYPED_TEST(os_process_contract, reads_files_in_pieces) {
    std::string const text(1000, 'x');
    this->tree_.write("/full", text).write("/empty", "");
    for (std::size_t const room : {1U, 7U, 1000U, 4096U}) {
        EXPECT_EQ(this->contents(this->tree_.root() + "/full", room), text);
        EXPECT_EQ(this->contents(this->tree_.root() + "/empty", room), "");
    }
    EXPECT_NE(this->contents("/proc/self/stat", 100), "");
}

TYPED_TEST(os_process_contract, says_what_it_cannot_read) {
    EXPECT_EQ(TypeParam::open_read((this->tree_.root() + "/absent").c_str()), -1);
    char room = 0;
    EXPECT_LT(TypeParam::read_some(-1, &room, 1), 0);
    int const folder = TypeParam::open_read(this->tree_.root().c_str());
    EXPECT_LT(TypeParam::read_some(folder, &room, 1), 0);
    TypeParam::close_file(folder);
    TypeParam::close_file(-1);
}

TYPED_TEST(os_process_contract, exec_closes_files) {
    int const fd = TypeParam::open_read("/proc/version");  // no emulator makes this one up
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    TypeParam::close_file(fd);
    EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
}

TYPED_TEST(os_process_contract, wakes_all_who_wait) {
    std::atomic<std::uint32_t> word{0};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            while (word.load() == 0) {
                TypeParam::wait(word, 0);
            }
        });
    }
    word.store(1);
    TypeParam::wake_all(word);
    for (std::thread& each : threads) {
        each.join();
    }
}

TYPED_TEST(os_process_contract, counts_the_cpus_of_the_thread) {
    EXPECT_GE(TypeParam::cpus_allowed(), 1U);
    if constexpr (std::is_same_v<TypeParam, linux_os>) {
        cpu_set_t before;
        ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
        EXPECT_EQ(TypeParam::cpus_allowed(), static_cast<std::uint32_t>(CPU_COUNT(&before)));
        int first = 0;
        while (!CPU_ISSET(first, &before)) {
            ++first;
        }
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(first, &one);
        ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
        EXPECT_EQ(TypeParam::cpus_allowed(), 1U);
        EXPECT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
    } else {
        fake_os::control().cpus = 96;
        EXPECT_EQ(TypeParam::cpus_allowed(), 96U);
    }
}

}  // namespace
