#include "control/live_stats.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "tarn/live.h"

#include "control/scavenger.hpp"
#include "support/build.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl::control;
namespace test = tarn::test;

constexpr std::size_t large = 1 << 20;
constexpr std::chrono::seconds patience{30};

/// The descriptor of this process's file; -1: there is none.
int find_file() {
    int found = -1;
    DIR* const folder = ::opendir("/proc/self/fd");
    while (dirent const* const entry = ::readdir(folder)) {
        std::array<char, 100> link{};
        if (::readlinkat(::dirfd(folder), entry->d_name, link.data(), link.size() - 1) > 0 &&
            std::strcmp(link.data(), TARN_LIVE_LINK) == 0) {
            found = std::atoi(entry->d_name);
        }
    }
    ::closedir(folder);
    return found;
}

/// Maps a file as a tool would.
class reader {
public:
    explicit reader(int fd) {
        std::string const path = "/proc/self/fd/" + std::to_string(fd);
        int const own = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
        EXPECT_GE(own, 0);
        file_ = static_cast<tarn_live*>(
            ::mmap(nullptr, TARN_LIVE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0));
        EXPECT_NE(file_, MAP_FAILED);
        ::close(own);
    }

    reader(reader const&) = delete;
    reader& operator=(reader const&) = delete;

    ~reader() { ::munmap(file_, TARN_LIVE_BYTES); }

    tarn_live* operator->() const { return file_; }

    /// Figures taken after this call.
    [[nodiscard]] tarn_stats ask() const {
        std::atomic_ref<std::uint32_t> sequence{file_->sequence};
        std::uint32_t const wanted =
            std::atomic_ref<std::uint32_t>{file_->requests}.fetch_add(1) + 1;
        ::syscall(SYS_futex, &file_->requests, FUTEX_WAKE, 1, nullptr, nullptr, 0);
        for (;;) {
            std::uint32_t const seen = sequence.load();
            tarn_stats copy{};
            std::memcpy(&copy, &file_->stats, sizeof copy);
            bool const answered = std::atomic_ref<std::uint32_t>{file_->answered}.load() == wanted;
            if (seen % 2 == 0 && answered && sequence.load() == seen) {
                return copy;
            }
            ::syscall(SYS_futex, &file_->sequence, FUTEX_WAIT, seen, nullptr, nullptr, 0);
        }
    }

private:
    tarn_live* file_;
};

/// Works until `done()`, as programs do: takes and gives back pages.
template <class Done>
bool work_until(Done done) {
    auto const end = std::chrono::steady_clock::now() + patience;
    while (!done()) {
        for (int i = 0; i < 10; ++i) {
            tarn_free(tarn_malloc(large));
        }
        if (std::chrono::steady_clock::now() > end) {
            return false;
        }
    }
    return true;
}

bool is_shown() { return find_file() >= 0; }

TEST(live_stats, appear_while_a_program_works) {
    ASSERT_TRUE(work_until(is_shown));
    int const fd = find_file();
    EXPECT_EQ(::fcntl(fd, F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(::fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);

    struct stat status {};

    ASSERT_EQ(::fstat(fd, &status), 0);
    EXPECT_EQ(status.st_size, TARN_LIVE_BYTES);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    reader const file{fd};
    EXPECT_EQ(file->magic, TARN_LIVE_MAGIC);
    EXPECT_EQ(file->version, std::uint32_t{TARN_STATS_VERSION});
    EXPECT_EQ(file->process_id, static_cast<std::uint32_t>(::getpid()));
    EXPECT_EQ(file->stats.process_id, file->process_id);
    EXPECT_GT(file->stats.mapped_bytes, 0U);
    EXPECT_GT(file->stats.resident_bytes, 0U);
    EXPECT_GE(file->stats.thread_count, 1U);
    EXPECT_EQ(file->classes[1].block_bytes, 16U);
}

TEST(live_stats, are_taken_when_asked_for_by_whoever_works) {
    ASSERT_TRUE(work_until(is_shown));
    std::atomic<bool> answered{false};
    tarn_stats said{};
    void* const block = tarn_malloc(3 * large);
    std::thread tool{[&] {
        said = reader{find_file()}.ask();
        answered = true;
    }};
    EXPECT_TRUE(work_until([&] { return answered.load(); }));
    tool.join();
    EXPECT_GE(said.live_bytes, 3 * large);
    tarn_free(block);
}

TEST(live_stats, are_taken_while_a_program_with_threads_idles) {
    if (test::under_emulation) {
        GTEST_SKIP() << "the emulator has no futex_waitv";
    }
    std::binary_semaphore ends{0};
    std::thread second{[&] {
        void* const block = tarn_malloc(1);
        ends.acquire();
        tarn_free(block);
    }};
    // The scavenger has come, and sleeps.
    ASSERT_TRUE(work_until([] { return scavenger() == scavenger_phase::awake; }));
    while (scavenger() != scavenger_phase::asleep || !is_shown()) {
        std::this_thread::yield();
    }
    void* const block = tarn_malloc(5 * large);
    tarn_stats const with = reader{find_file()}.ask();
    tarn_free(block);
    tarn_stats const without = reader{find_file()}.ask();
    EXPECT_EQ(with.live_bytes - without.live_bytes, 5 * large);
    ends.release();
    second.join();
}

TEST(live_stats, appear_again_after_a_program_has_closed_all_files) {
    if (test::under_emulation) {
        GTEST_SKIP() << "the folder of descriptors is the emulator's";
    }
    ASSERT_TRUE(work_until(is_shown));
    ::close(find_file());
    EXPECT_FALSE(is_shown());
    EXPECT_TRUE(work_until(is_shown));
    EXPECT_EQ(
        reader { find_file() } -> process_id, static_cast<std::uint32_t>(::getpid()));
}

TEST(live_stats, of_a_forked_child_are_its_own) {
    if (test::under_tsan) {
        GTEST_SKIP() << "a child of a process with threads may not start threads there";
    }
    ASSERT_TRUE(work_until(is_shown));
    int const status = test::run_in_child(60, [] {
        auto const is_own = [] {
            return reader { find_file() } -> process_id == static_cast<std::uint32_t>(::getpid());
        };
        if (is_own()) {
            return 1;  // the parent's is still there
        }
        return work_until(is_own) ? 0 : 2;
    });
    EXPECT_EQ(WEXITSTATUS(status), 0) << status;
    EXPECT_EQ(
        reader { find_file() } -> process_id, static_cast<std::uint32_t>(::getpid()));
}

}  // namespace
