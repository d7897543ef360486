#include "platform/event_files.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.hpp"
#include "platform/linux/linux_os.hpp"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

namespace tarn::impl::platform {

namespace {

// By syscall(): libc's functions are wrapped by sanitizers and tools, which keep a record of the
// process's descriptors, and these are not in its table.

/// Leaves the process's table of descriptors and starts an empty one; empties it when there is one.
bool empty_own_table() noexcept {
    constexpr unsigned close_range_unshare = 1U << 1;
    return ::syscall(SYS_close_range, 0U, ~0U, close_range_unshare) == 0;
}

int open_special(char const* path, int flags) noexcept {
    return static_cast<int>(
        ::syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC | O_NONBLOCK, 0));
}

bool write_whole(int fd, std::string_view text) noexcept {
    return ::syscall(SYS_write, fd, text.data(), text.size()) == static_cast<long>(text.size());
}

bool poll_for(pollfd* polled, std::size_t count, int most_ms) noexcept {
    timespec const most{.tv_sec = most_ms / 1000,
                        .tv_nsec = static_cast<long>(most_ms % 1000) * 1'000'000};
    return ::syscall(SYS_ppoll, polled, count, &most, nullptr, 0) >= 0 || errno == EINTR;
}

/// Reads all there is. False: the file is gone.
bool drain(int fd) noexcept {
    std::array<char, 512> text;
    constexpr int reads_most = 64;
    ::syscall(SYS_lseek, fd, 0L, SEEK_SET);  // a pipe or counter refuses, and has none
    for (int i = 0; i < reads_most; ++i) {
        std::ptrdiff_t const got = linux_os::read_some(fd, text.data(), text.size());
        if (got <= 0) {
            return got == 0 || errno == EAGAIN;
        }
    }
    return true;
}

/// Of a pipe, which no other has while this one is open; 0: not a pipe.
std::uint64_t pipe_inode(int fd) noexcept {
    struct stat about {};

    return ::fstat(fd, &about) == 0 && S_ISFIFO(about.st_mode) ? about.st_ino : 0;
}

}  // namespace

bool event_files::open() noexcept {
    if (!empty_own_table()) {
        return false;
    }
    is_open_ = true;
    std::array<int, 2> ends{-1, -1};
    if (::syscall(SYS_pipe2, ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
        return false;
    }
    wake_fd_ = ends[0];
    // Whatever else writes to stderr in this thread must not write into a source.
    ::syscall(SYS_dup, ends[0]);
    waker_ = {.thread = static_cast<std::uint32_t>(::syscall(SYS_gettid)),
              .fd = ends[1],
              .inode = pipe_inode(ends[1])};
    return true;
}

event_files::~event_files() {
    if (is_open_) {
        empty_own_table();
    }
}

int event_files::add(source added) noexcept {
    if (added.fd < 0 || count_ == sources_.size()) {
        linux_os::close_file(added.fd);
        return refused;
    }
    sources_[count_] = added;
    return static_cast<int>(count_++);
}

int event_files::add_file(char const* path, std::string_view trigger) noexcept {
    int const fd = open_special(path, trigger.empty() ? O_RDONLY : O_RDWR);
    // The kernel takes a trigger with its terminator.
    base::text_buffer<64> terminated;
    terminated << trigger << '\0';
    if (fd >= 0 && !trigger.empty() && !write_whole(fd, terminated.view())) {
        linux_os::close_file(fd);
        return refused;
    }
    // Not POLLIN: such files are always readable.
    int const added = add({.fd = fd, .interest = POLLPRI});
    if (added != refused) {
        drain(fd);  // arms memory.events
    }
    return added;
}

int event_files::add_registered(char const* control, char const* path,
                                std::string_view argument) noexcept {
    int const events = static_cast<int>(::syscall(SYS_eventfd2, 0, O_CLOEXEC | O_NONBLOCK));
    int const watched = open_special(path, O_RDONLY);
    int const registry = open_special(control, O_WRONLY);
    base::text_buffer<128> text;
    text << events << ' ' << watched << ' ' << argument;
    bool const done = events >= 0 && watched >= 0 && registry >= 0 && !text.truncated() &&
                      write_whole(registry, text.view());
    linux_os::close_file(registry);
    linux_os::close_file(watched);
    if (!done) {
        linux_os::close_file(events);
        return refused;
    }
    return add({.fd = events, .interest = POLLIN});
}

void event_files::settle(source& told) noexcept {
    if (!drain(told.fd)) {
        linux_os::close_file(told.fd);
        told.fd = -1;  // poll leaves it out
    }
}

std::uint32_t event_files::wait(int most_ms) noexcept {
    std::array<pollfd, sources_max + 1> polled{};
    for (std::size_t i = 0; i < count_; ++i) {
        polled[i] = {.fd = sources_[i].fd, .events = sources_[i].interest, .revents = 0};
    }
    polled[count_] = {.fd = wake_fd_, .events = POLLIN, .revents = 0};
    if (!poll_for(polled.data(), count_ + 1, most_ms)) {
        return failed;
    }
    std::uint32_t told = 0;
    for (std::size_t i = 0; i < count_; ++i) {
        if (polled[i].revents != 0) {
            told |= std::uint32_t{1} << i;
            settle(sources_[i]);
        }
    }
    if (polled[count_].revents != 0) {
        drain(wake_fd_);
    }
    return told;
}

void event_files::pause(int most_ms) noexcept {
    pollfd polled{.fd = wake_fd_, .events = POLLIN, .revents = 0};
    poll_for(&polled, 1, most_ms);
}

void wake_event_files(event_waker const& waker) noexcept {
    if (waker.inode == 0) {
        return;
    }
    // Its table is not ours: /proc is the door to it. A thread may open another of its process.
    base::text_buffer<96> path;
    path << "/proc/self/task/" << waker.thread << "/fd/" << waker.fd << '\0';
    // For reading, too: should the thread close its ends now, the write must not raise SIGPIPE.
    int const fd = open_special(path.view().data(), O_RDWR);
    // Another thread may have got the number of one that has ended.
    if (fd >= 0 && pipe_inode(fd) == waker.inode) {
        write_whole(fd, "w");
    }
    linux_os::close_file(fd);
}

}  // namespace tarn::impl::platform
