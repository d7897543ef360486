// shm/shm_support.hpp - segments and domains for tests, which leave nothing behind.
#pragma once

#include <dirent.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <tarn/shm/pool_manager.hpp>
#include <tarn/shm/segment.hpp>

#include "support/process.hpp"

namespace tarn::test {

/// A directory of its own in memory, which is a domain; removed with what is in it.
class own_domain {
public:
    own_domain() {
        std::string name = "/dev/shm/tarn-test-cpp.XXXXXX";
        if (::mkdtemp(name.data()) != nullptr) {
            path_ = name;
        }
    }

    own_domain(own_domain const&) = delete;
    own_domain& operator=(own_domain const&) = delete;

    ~own_domain() {
        for (std::string const& name : files()) {
            ::unlink((path_ + '/' + name).c_str());
        }
        ::rmdir(path_.c_str());
    }

    [[nodiscard]] std::string const& path() const noexcept { return path_; }

    /// All that is in it, segments or not.
    [[nodiscard]] std::vector<std::string> files() const {
        std::vector<std::string> names;
        DIR* const folder = ::opendir(path_.c_str());
        if (folder == nullptr) {
            return names;
        }
        // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else reads this stream
        while (dirent const* const entry = ::readdir(folder)) {
            std::string name = entry->d_name;
            if (name != "." && name != "..") {
                names.push_back(std::move(name));
            }
        }
        ::closedir(folder);
        return names;
    }

private:
    std::string path_;
};

inline shm::segment_config one_pool(std::uint64_t chunk_bytes, std::uint32_t count) {
    return shm::segment_config{}.add_pool({.chunk_bytes = chunk_bytes, .count = count});
}

/// An anonymous segment with one pool; throws where there can be none.
inline shm::segment small_segment(std::uint64_t chunk_bytes, std::uint32_t count) {
    return shm::segment::create_anonymous(one_pool(chunk_bytes, count)).value();
}

/// A connected pair of sockets: words between a process and its child.
class two_ends {
public:
    two_ends() {
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_.data()) != 0) {
            std::abort();
        }
    }

    two_ends(two_ends const&) = delete;
    two_ends& operator=(two_ends const&) = delete;

    ~two_ends() {
        for (int const end : ends_) {
            ::close(end);
        }
    }

    /// Once. Each side has its own end alone then, so that it hears of the other's.
    template <class Body>
    pid_t start(Body body) {
        pid_t const child = start_child(60, [&] {
            ::close(std::exchange(ends_[0], -1));
            return body();
        });
        ::close(std::exchange(ends_[1], -1));
        return child;
    }

    [[nodiscard]] int mine() const noexcept { return ends_[0]; }

    [[nodiscard]] int childs() const noexcept { return ends_[1]; }

    static bool tell(int end, std::uint64_t word) {
        return ::send(end, &word, sizeof word, MSG_NOSIGNAL) == sizeof word;
    }

    /// 0: the other side is gone.
    static std::uint64_t hear(int end) {
        std::uint64_t word = 0;
        return ::read(end, &word, sizeof word) == sizeof word ? word : 0;
    }

private:
    std::array<int, 2> ends_{};
};

/// The exit status of a child that ended by itself; else minus its signal.
inline int ending(int status) {
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace tarn::test
