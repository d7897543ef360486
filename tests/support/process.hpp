// support/process.hpp - child processes that cannot hang, and this process's resident memory.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace tarn::test {

/// Runs body() in a forked child, which ends with its result as exit status; the child is killed by
/// SIGALRM after `seconds`. Returns its process id; -1 when fork fails.
template <class Body>
pid_t start_child(unsigned seconds, Body body) {
    pid_t const child = ::fork();
    if (child == 0) {
        ::signal(SIGALRM, SIG_DFL);
        ::alarm(seconds);
        ::_exit(body());
    }
    return child;
}

/// The status of waitpid for `child`; -1 on failure.
inline int wait_for(pid_t child) {
    int status = -1;
    pid_t got = -1;
    do {
        got = ::waitpid(child, &status, 0);
    } while (got < 0 && errno == EINTR);
    return got == child ? status : -1;
}

template <class Body>
int run_in_child(unsigned seconds, Body body) {
    pid_t const child = start_child(seconds, body);
    return child < 0 ? -1 : wait_for(child);
}

/// Resident bytes of this process, without allocating; 0 without /proc.
inline std::size_t resident_bytes() noexcept {
    char text[128];
    int const fd = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t const got = fd < 0 ? -1 : ::read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        ::close(fd);
    }
    if (got <= 0) {
        return 0;
    }
    text[got] = '\0';
    char* end = nullptr;
    std::strtoul(text, &end, 10);  // the first number is the size, the second what is resident
    return std::strtoul(end, nullptr, 10) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace tarn::test
