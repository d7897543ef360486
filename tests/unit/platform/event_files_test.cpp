#include "platform/event_files.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <thread>

#include "support/file_tree.hpp"

namespace {

using namespace tarn::impl::platform;

constexpr int long_ms = 100'000;

std::size_t descriptor_count() {
    std::size_t count = 0;
    for (auto const& each : std::filesystem::directory_iterator{"/proc/self/fd"}) {
        static_cast<void>(each);
        ++count;
    }
    return count;
}

/// Runs body(files) in a thread whose table of descriptors is its own. False: refused here.
/// gtest's assertions print, so that they have no place in there.
bool with_event_files(std::function<void(event_files&)> const& body) {
    bool opened = false;
    std::thread{[&] {
        event_files files;
        opened = files.open();
        if (opened) {
            body(files);
        }
    }}.join();
    return opened;
}

TEST(event_files, waits_no_longer_than_asked) {
    std::uint32_t told = event_files::failed;
    if (!with_event_files([&](event_files& files) { told = files.wait(1); })) {
        GTEST_SKIP() << "no table of descriptors for one thread here";
    }
    EXPECT_EQ(told, 0U);
}

TEST(event_files, are_woken_from_another_thread) {
    std::atomic<bool> ready{false};
    event_waker waker;
    std::thread stopper{[&] {
        ready.wait(false);
        wake_event_files(waker);
    }};
    std::uint32_t told = event_files::failed;
    bool const opened = with_event_files([&](event_files& files) {
        waker = files.waker();
        ready = true;
        ready.notify_one();
        told = files.wait(long_ms);
    });
    ready = true;
    ready.notify_one();
    stopper.join();
    if (!opened) {
        GTEST_SKIP() << "no table of descriptors for one thread here";
    }
    EXPECT_EQ(told, 0U);
    std::size_t const before = descriptor_count();
    wake_event_files(waker);  // it has ended
    wake_event_files({});
    EXPECT_EQ(descriptor_count(), before);
}

TEST(event_files, wake_comes_before_the_wait) {
    std::uint32_t told = event_files::failed;
    if (!with_event_files([&](event_files& files) {
            wake_event_files(files.waker());
            files.pause(long_ms);
            told = files.wait(long_ms);
        })) {
        GTEST_SKIP() << "no table of descriptors for one thread here";
    }
    EXPECT_EQ(told, 0U);
}

TEST(event_files, program_keeps_its_descriptors_and_sees_no_others) {
    std::size_t const before = descriptor_count();
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    std::size_t during = 0;
    bool writer_is_alone = false;
    bool const opened =
        with_event_files([&](event_files&) { std::thread{[&] { during = 0; }}.join(); });
    if (!opened) {
        GTEST_SKIP() << "no table of descriptors for one thread here";
    }
    std::atomic<bool> ready{false};
    std::atomic<bool> done{false};
    std::thread waiting{[&] {
        event_files files;
        static_cast<void>(files.open());
        ready = true;
        ready.notify_one();
        done.wait(false);
    }};
    ready.wait(false);
    during = descriptor_count();
    ::close(ends[1]);
    pollfd hung{.fd = ends[0], .events = POLLIN, .revents = 0};
    writer_is_alone = ::poll(&hung, 1, 0) == 1 && (hung.revents & POLLHUP) != 0;
    done = true;
    done.notify_one();
    waiting.join();
    ::close(ends[0]);
    EXPECT_EQ(during, before + 2);
    EXPECT_TRUE(writer_is_alone) << "a copy of the closed end lives on";
    EXPECT_EQ(descriptor_count(), before);
}

TEST(event_files, absent_files_are_refused) {
    tarn::test::file_tree tree;
    tree.write("/control", "").write("/file", "");
    std::string const file = tree.root() + "/file";
    std::string const control = tree.root() + "/control";
    std::string const absent = tree.root() + "/absent";
    std::array<int, 5> refused{};
    std::array<int, 2> taken{};
    std::size_t more = 0;
    bool const opened = with_event_files([&](event_files& files) {
        refused = {files.add_file(absent.c_str(), {}), files.add_file(absent.c_str(), "some 1 2"),
                   files.add_registered(absent.c_str(), file.c_str(), "medium"),
                   files.add_registered(control.c_str(), absent.c_str(), "medium"),
                   files.add_registered(control.c_str(), file.c_str(), std::string(500, 'x'))};
        taken = {files.add_file(file.c_str(), {}), files.add_file(file.c_str(), "some 1 2")};
        while (more < 100 && files.add_file(file.c_str(), {}) != event_files::refused) {
            ++more;
        }
    });
    if (!opened) {
        GTEST_SKIP() << "no table of descriptors for one thread here";
    }
    for (int const each : refused) {
        EXPECT_EQ(each, event_files::refused);
    }
    EXPECT_EQ(taken, (std::array{0, 1}));
    EXPECT_EQ(more + 2, event_files::sources_max);
}

// A stand-in for a counter that the kernel rings: it writes to the descriptor it was told.
TEST(event_files, hears_a_registered_event) {
    tarn::test::file_tree tree;
    tree.write("/control", "").write("/file", "");
    std::string const file = tree.root() + "/file";
    std::string const control = tree.root() + "/control";
    std::uint32_t told = 0;
    std::uint32_t after = event_files::failed;
    std::string argument;
    bool const opened = with_event_files([&](event_files& files) {
        if (files.add_registered(control.c_str(), file.c_str(), "medium") != 0) {
            return;
        }
        int const text = ::open(control.c_str(), O_RDONLY);
        std::array<char, 64> room{};
        ssize_t const got = ::read(text, room.data(), room.size());
        ::close(text);
        argument.assign(room.data(), got < 0 ? 0 : static_cast<std::size_t>(got));
        std::uint64_t const one = 1;
        static_cast<void>(::write(std::stoi(argument), &one, sizeof one));
        told = files.wait(long_ms);
        after = files.wait(1);
    });
    if (!opened) {
        GTEST_SKIP() << "no table of descriptors for one thread here";
    }
    EXPECT_TRUE(argument.ends_with(" medium")) << argument;
    EXPECT_EQ(told, 1U);
    EXPECT_EQ(after, 0U);
}

}  // namespace
