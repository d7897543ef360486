#include "platform/shown_memory.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/errno_keeper.hpp"

namespace tarn::impl::platform {

namespace {

struct identity {
    std::uint64_t inode = 0;
    std::uint64_t device = 0;
};

identity identity_of(int fd) noexcept {
    struct stat status {};

    return ::fstat(fd, &status) == 0 ? identity{.inode = status.st_ino, .device = status.st_dev}
                                     : identity{};
}

/// A file longer than this limit would be answered with a signal that ends the process.
bool may_be_so_long(std::size_t bytes) noexcept {
    rlimit limit{};
    return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur >= bytes;
}

int duplicate_high(int fd) noexcept {
    constexpr rlim_t highest = 960;  // the system's table of descriptors grows in powers of two
    rlimit limit{};
    rlim_t const room =
        ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? std::min(limit.rlim_cur, highest) : 0;
    return ::fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(room / 8 * 7));
}

}  // namespace

bool shown_memory::is_open() const noexcept {
    base::errno_keeper const keeper;
    identity const found = identity_of(fd_);
    return fd_ >= 0 && found.inode == inode_ && found.device == device_;
}

bool shown_memory::show(char const* name, std::size_t bytes) noexcept {
    base::errno_keeper const keeper;
    if (!may_be_so_long(bytes)) {
        return false;
    }
    auto const low =
        static_cast<int>(::syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (low < 0) {
        return false;
    }
    int made = -1;
    void* fresh = MAP_FAILED;
    if (::fchmod(low, S_IRUSR | S_IWUSR) == 0 && ::ftruncate(low, static_cast<off_t>(bytes)) == 0 &&
        ::fcntl(low, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
        // Where the last one was, if it still is: a child thus closes its parent's.
        made = is_open() ? ::dup3(low, fd_, O_CLOEXEC) : duplicate_high(low);
    }
    if (made >= 0) {
        fresh = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
    }
    ::syscall(SYS_close, low);
    if (fresh == MAP_FAILED) {
        if (made >= 0) {
            ::syscall(SYS_close, made);
        }
        return false;
    }
    memory_ = fresh;  // what was there stays mapped: somebody may be reading it
    fd_ = made;
    identity const own = identity_of(made);
    inode_ = own.inode;
    device_ = own.device;
    return true;
}

}  // namespace tarn::impl::platform
