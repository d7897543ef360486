// What linux_os does beyond tests/contract/os_memory_test.cpp: limits, start-up, files, mappings.
#include "platform/linux/linux_os.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>

#include "base/bits.hpp"
#include "base/units.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::impl;
using platform::linux_os;

/// Exit status of `body` in a child process; 1000 + signal when one killed it.
int status_in_child(std::function<int()> const& body) {
    pid_t const child = ::fork();
    if (child == 0) {
        ::_exit(body());
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/// Mappings of this process that begin in the range; -1 without /proc.
int mappings_in(void const* base, std::size_t bytes) {
    std::ifstream maps{"/proc/self/maps"};
    int count = maps ? 0 : -1;
    for (std::string line; std::getline(maps, line);) {
        auto const start = static_cast<std::uintptr_t>(std::stoull(line, nullptr, 16));
        if (start >= base::address_of(base) && start < base::address_of(base) + bytes) {
            ++count;
        }
    }
    return count;
}

TEST(linux_os, page_size_is_the_systems) {
    EXPECT_EQ(linux_os::page_bytes(), static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
}

TEST(linux_os, reserves_below_many_ceilings) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "a sanitizer holds the low addresses";
    }
    for (unsigned bits = 33; bits <= linux_os::address_bits; ++bits) {
        platform::placement const where{.alignment = 2 * MiB, .ceiling = std::uintptr_t{1} << bits};
        void* const base = linux_os::reserve(16 * MiB, where);
        ASSERT_NE(base, nullptr) << bits;
        EXPECT_LE(base::address_of(base) + 16 * MiB, where.ceiling);
        EXPECT_TRUE(base::is_aligned(base::address_of(base), where.alignment));
        linux_os::release(base, 16 * MiB);
    }
}

TEST(linux_os, fills_the_room_below_a_ceiling) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "a sanitizer holds the low addresses";
    }
    constexpr std::size_t count = 200;
    platform::placement const where{.alignment = 2 * MiB, .ceiling = std::uintptr_t{1} << 33};
    std::array<void*, count> ranges{};
    for (void*& each : ranges) {
        each = linux_os::reserve(4 * MiB, where);
        ASSERT_NE(each, nullptr);
    }
    for (void* const each : ranges) {
        linux_os::release(each, 4 * MiB);
    }
}

TEST(linux_os, decommitted_memory_joins_its_reservation_again) {
    std::size_t const page = linux_os::page_bytes();
    void* const base = linux_os::reserve(64 * page, {});
    ASSERT_NE(base, nullptr);
    auto* const bytes = static_cast<std::byte*>(base);
    // One mapping, or none when it grew a neighbour.
    int const before = mappings_in(base, 64 * page);
    EXPECT_LE(before, 1);
    for (std::size_t i = 8; i < 56; i += 2) {
        ASSERT_TRUE(linux_os::commit(bytes + i * page, page));
        bytes[i * page] = std::byte{1};
    }
    for (std::size_t i = 8; i < 56; i += 2) {
        ASSERT_TRUE(linux_os::decommit(bytes + i * page, page));
    }
    EXPECT_EQ(mappings_in(base, 64 * page), before);
    linux_os::release(base, 64 * page);
}

constexpr int skipped = 77;

/// Limits this process. False: the system keeps no such limit (user-mode emulation).
bool limit_to(int resource, std::size_t bytes) {
    rlimit limit{};
    ::getrlimit(static_cast<__rlimit_resource>(resource), &limit);
    limit.rlim_cur = bytes;
    ::setrlimit(static_cast<__rlimit_resource>(resource), &limit);
    ::getrlimit(static_cast<__rlimit_resource>(resource), &limit);
    return limit.rlim_cur == bytes;
}

TEST(linux_os, address_space_limit_follows_the_resource_limits) {
    for (int const resource : {RLIMIT_AS, RLIMIT_DATA}) {
        int const status = status_in_child([resource] {
            if (!limit_to(resource, 8 * GiB)) {
                return skipped;
            }
            return linux_os::address_space_limit() == 8 * GiB ? 0 : 1;
        });
        if (status == skipped) {
            GTEST_SKIP() << "limits are not kept here";
        }
        EXPECT_EQ(status, 0);
    }
}

TEST(linux_os, clock_does_not_go_back_and_goes_on) {
    std::uint64_t const start = linux_os::monotonic_ms();
    std::uint64_t last = start;
    for (int i = 0; i < 1000; ++i) {
        std::uint64_t const now = linux_os::monotonic_ms();
        ASSERT_GE(now, last);
        last = now;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
    std::uint64_t const slept = linux_os::monotonic_ms() - start;
    EXPECT_GE(slept, 30U);  // the coarse clock ticks every 1 to 10 ms
}

TEST(linux_os, random_bits_differ) {
    std::uint64_t const first = linux_os::random_bits();
    EXPECT_NE(first, linux_os::random_bits());
    EXPECT_NE(linux_os::random_bits(), 0U);
}

TEST(linux_os, environment_is_found_without_libc) {
    ASSERT_NE(linux_os::initial_environment(), nullptr);
    // As before libc's start: environ is null, and the stack at process entry has to do.
    EXPECT_EQ(status_in_child([] {
                  char const* const path = tarn::test::environment("PATH");
                  std::string const expected = path == nullptr ? "" : std::string{"PATH="} + path;
                  environ = nullptr;
                  char** const found = linux_os::initial_environment();
                  if (found == nullptr) {
                      return 1;
                  }
                  for (char** each = found; *each != nullptr; ++each) {
                      if (expected == *each) {
                          return 0;
                      }
                  }
                  return expected.empty() ? 0 : 2;
              }),
              0);
}

TEST(linux_os, tests_are_not_secure_processes) { EXPECT_FALSE(linux_os::is_secure()); }

TEST(linux_os, resident_memory_follows_use) {
    constexpr std::size_t bytes = 32 * MiB;
    std::uint64_t const before = linux_os::resident_bytes();
    if (before == 0) {
        GTEST_SKIP() << "no /proc";
    }
    std::uint64_t const faults = linux_os::page_faults();
    void* const base = linux_os::reserve(bytes, {});
    ASSERT_NE(base, nullptr);
    ASSERT_TRUE(linux_os::commit(base, bytes));
    std::memset(base, 1, bytes);
    std::uint64_t const during = linux_os::resident_bytes();
    EXPECT_GE(during, before + bytes / 2);
    EXPECT_GE(linux_os::peak_resident_bytes(), before + bytes / 2);
    EXPECT_GT(linux_os::page_faults(), faults);
    linux_os::release(base, bytes);
    EXPECT_LE(linux_os::resident_bytes(), during - bytes / 2);
}

TEST(linux_os, reads_memory_as_far_as_it_is_there) {
    std::size_t const page = linux_os::page_bytes();
    auto* const base = static_cast<std::byte*>(linux_os::reserve(2 * page, {}));
    ASSERT_NE(base, nullptr);
    ASSERT_TRUE(linux_os::commit(base, page));
    std::memset(base, 7, page);
    std::vector<std::byte> copy(2 * page);
    errno = 0;
    std::size_t const got = linux_os::read_memory(base, copy.data(), copy.size());
    if (got == 0) {
        GTEST_SKIP() << "process_vm_readv is refused";
    }
    EXPECT_EQ(got, page);
    EXPECT_EQ(std::memcmp(copy.data(), base, page), 0);
    EXPECT_EQ(linux_os::read_memory(base + page, copy.data(), page), 0U);
    EXPECT_EQ(linux_os::read_memory(nullptr, copy.data(), page), 0U);
    EXPECT_EQ(errno, 0);
    linux_os::release(base, 2 * page);
}

TEST(linux_os, writes_all_through_a_full_pipe) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    std::string const text(1 * MiB, 'x');  // more than a pipe holds
    std::string seen;
    std::thread reader{[&] {
        std::array<char, 4096> part{};
        for (ssize_t got = 1; got > 0;) {
            got = ::read(ends[0], part.data(), part.size());
            seen.append(part.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
        }
    }};
    linux_os::write_all(ends[1], text.data(), text.size());
    ::close(ends[1]);
    reader.join();
    ::close(ends[0]);
    EXPECT_EQ(seen, text);
}

TEST(linux_os, gives_up_writing_where_nobody_listens) {
    linux_os::write_all(-1, "x", 1);
    int const full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (full >= 0) {
        linux_os::write_all(full, "x", 1);
        ::close(full);
    }
}

TEST(linux_os, appends_to_files_but_not_through_links) {
    std::string const folder = testing::TempDir() + "tarn_linux_os_" + std::to_string(::getpid());
    ASSERT_EQ(::mkdir(folder.c_str(), 0700), 0);
    std::string const path = folder + "/report";
    for (int round = 0; round < 2; ++round) {
        int const fd = linux_os::open_append(path.c_str());
        ASSERT_GE(fd, 0);
        EXPECT_EQ(::fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        linux_os::write_all(fd, "line\n", 5);
        linux_os::close_file(fd);
    }
    std::ifstream file{path};
    std::string const content{std::istreambuf_iterator<char>{file}, {}};
    EXPECT_EQ(content, "line\nline\n");
    struct stat info = {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 077U, 0U);
    std::string const link = folder + "/link";
    ASSERT_EQ(::symlink(path.c_str(), link.c_str()), 0);
    EXPECT_EQ(linux_os::open_append(link.c_str()), -1);
    EXPECT_EQ(linux_os::open_append((folder + "/no/such").c_str()), -1);
    ::unlink(link.c_str());
    ::unlink(path.c_str());
    ::rmdir(folder.c_str());
}

TEST(linux_os, futex_sleeps_only_on_the_expected_value) {
    std::atomic<std::uint32_t> word{1};
    linux_os::wait(word, 0);  // returns at once
    std::atomic<bool> awake{false};
    std::thread sleeper{[&] {
        while (word.load() == 1) {
            linux_os::wait(word, 1);
        }
        awake = true;
    }};
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    EXPECT_FALSE(awake);
    word = 2;
    linux_os::wake_one(word);
    sleeper.join();
    EXPECT_TRUE(awake);
}

// malloc and free must not be where a cancelled thread ends.
TEST(linux_os, nothing_is_a_cancellation_point) {
    static std::atomic<bool> passed{false};
    static std::atomic<bool> cancelled{false};
    passed = false;
    cancelled = false;
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    static int write_end;
    write_end = ends[1];
    pthread_t thread{};
    ASSERT_EQ(::pthread_create(
                  &thread, nullptr,
                  [](void*) -> void* {
                      while (!cancelled) {
                      }
                      linux_os::write_all(write_end, "x", 1);
                      linux_os::close_file(linux_os::open_append("/dev/null"));
                      static_cast<void>(linux_os::resident_bytes());
                      static_cast<void>(linux_os::peak_resident_bytes());
                      static_cast<void>(linux_os::random_bits());
                      static_cast<void>(linux_os::monotonic_ms());
                      void* const base = linux_os::reserve(64 * KiB, {});
                      static_cast<void>(linux_os::commit(base, 64 * KiB));
                      linux_os::release(base, 64 * KiB);
                      passed = true;
                      ::pthread_testcancel();
                      return nullptr;
                  },
                  nullptr),
              0);
    ASSERT_EQ(::pthread_cancel(thread), 0);
    cancelled = true;
    void* result = nullptr;
    ASSERT_EQ(::pthread_join(thread, &result), 0);
    EXPECT_TRUE(passed);
    EXPECT_EQ(result, PTHREAD_CANCELED);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(linux_os, refuses_under_an_address_space_limit) {
    int const status = status_in_child([] {
        if (!limit_to(RLIMIT_AS, 1 * MiB)) {  // less than is in use: nothing new
            return skipped;
        }
        bool const refused = linux_os::reserve(1 * GiB, {}) == nullptr &&
                             linux_os::reserve_zeros(1 * GiB) == nullptr;
        return refused && errno == ENOMEM ? 0 : 1;
    });
    if (status == skipped) {
        GTEST_SKIP() << "limits are not kept here";
    }
    EXPECT_EQ(status, 0);
}

}  // namespace
