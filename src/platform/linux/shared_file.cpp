// A 32-bit off_t can neither lock where the layout says nor see files above 2 GiB.
#ifndef _FILE_OFFSET_BITS
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): glibc's
#define _FILE_OFFSET_BITS 64
#endif

#include "platform/shared_file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include "base/errno_keeper.hpp"
#include "base/text.hpp"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

namespace tarn::impl::platform {

namespace {

static_assert(sizeof(off_t) == sizeof(std::uint64_t));

/// What errno says, or that nothing went wrong.
int error_of(long result) noexcept { return result < 0 ? errno : 0; }

int flags_of(file_access access) noexcept {
    return access == file_access::read_write ? O_RDWR : O_RDONLY;
}

int protection_of(file_access access) noexcept {
    return access == file_access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
}

file_status status_of(struct stat const& found) noexcept {
    constexpr mode_t rights = 07777;
    return {.inode = found.st_ino,
            .device = found.st_dev,
            .bytes = static_cast<std::uint64_t>(found.st_size),
            .links = static_cast<std::uint32_t>(found.st_nlink),
            .owner = found.st_uid,
            .mode = found.st_mode & rights,
            .is_regular = S_ISREG(found.st_mode)};
}

/// Of a descriptor, as /proc/thread-self/fd/N.
class descriptor_path {
public:
    explicit descriptor_path(int fd) noexcept {
        base::text_sink text{path_.data(), path_.size() - 1};
        text << "/proc/thread-self/fd/" << fd;
    }

    [[nodiscard]] char const* get() const noexcept { return path_.data(); }

private:
    std::array<char, 48> path_{};
};

/// The beginning of a small file; what was read ends with a zero byte.
std::size_t read_text(char const* path, char* to, std::size_t capacity) noexcept {
    base::errno_keeper const keeper;
    to[0] = '\0';
    int const fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t const got = ::read(fd, to, capacity - 1);
    ::close(fd);
    auto const bytes = got > 0 ? static_cast<std::size_t>(got) : 0;
    to[bytes] = '\0';
    return bytes;
}

std::uint64_t number_at(char const* text) noexcept {
    std::uint64_t number = 0;
    for (; *text >= '0' && *text <= '9'; ++text) {
        number = number * 10 + static_cast<std::uint64_t>(*text - '0');
    }
    return number;
}

/// Field 22 of a process's stat: the name before it may hold anything, but for its end.
std::uint64_t start_of(char const* stat_path) noexcept {
    std::array<char, 1024> text;
    if (read_text(stat_path, text.data(), text.size()) == 0) {
        return 0;
    }
    char const* at = std::strrchr(text.data(), ')');
    constexpr int fields_after_name = 20;
    for (int i = 0; at != nullptr && i < fields_after_name; ++i) {
        at = std::strchr(at + 1, ' ');
    }
    return at == nullptr ? 0 : number_at(at + 1);
}

/// Under its number: not another that came after it.
bool is_running(process_identity const& process) noexcept {
    std::array<char, 64> path{};
    base::text_sink text{path.data(), path.size() - 1};
    text << "/proc/" << process.process_id << "/stat";
    return process.process_id > 0 && start_of(path.data()) == process.started;
}

std::uint64_t own_namespace() noexcept {
    struct stat found {};

    return ::stat("/proc/self/ns/pid", &found) == 0 ? found.st_ino : 0;
}

timespec span_of(std::uint32_t milliseconds) noexcept {
    return {.tv_sec = static_cast<time_t>(milliseconds / 1000),
            .tv_nsec = static_cast<long>(milliseconds % 1000) * 1'000'000};
}

int lock_byte(int fd, std::uint64_t byte, short kind) noexcept {
    struct flock range {};

    range.l_type = kind;
    range.l_whence = SEEK_SET;
    range.l_start = static_cast<off_t>(byte);
    range.l_len = 1;
    return error_of(::fcntl(fd, F_OFD_SETLK, &range));
}

bool is_hexadecimal(char digit) noexcept {
    return (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f');
}

unsigned value_of(char digit) noexcept {
    return digit <= '9' ? static_cast<unsigned>(digit - '0')
                        : static_cast<unsigned>(digit - 'a' + 10);
}

}  // namespace

void shared_file::close() noexcept {
    if (fd_ >= 0) {
        base::errno_keeper const keeper;
        ::close(fd_);
        fd_ = -1;
    }
}

int shared_file::release() noexcept {
    int const fd = fd_;
    fd_ = -1;
    return fd;
}

void shared_file::take(shared_file& from) noexcept {
    close();
    fd_ = from.release();
}

int shared_file::open_directory(char const* path) noexcept {
    close();
    fd_ = ::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int const error = error_of(fd_);

    struct stat found {};

    // With O_DIRECTORY a link is first of all no directory.
    return error == ENOTDIR && ::lstat(path, &found) == 0 && S_ISLNK(found.st_mode) ? ELOOP : error;
}

int shared_file::open(shared_file const& directory, char const* name, file_access access) noexcept {
    close();
    // O_NONBLOCK: what lies there may be a pipe.
    fd_ = ::openat(directory.fd_, name,
                   flags_of(access) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return error_of(fd_);
}

int shared_file::reopen(int descriptor, file_access access) noexcept {
    close();
    fd_ = ::open(descriptor_path{descriptor}.get(), flags_of(access) | O_CLOEXEC | O_NONBLOCK);
    return error_of(fd_);
}

int shared_file::duplicate(int descriptor) noexcept {
    close();
    fd_ = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    return error_of(fd_);
}

int shared_file::make_unnamed(shared_file const& directory, std::uint32_t mode) noexcept {
    close();
    fd_ = ::openat(directory.fd_, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
    return error_of(fd_);
}

int shared_file::make_sealable(char const* shown_name) noexcept {
    close();
    fd_ =
        static_cast<int>(::syscall(SYS_memfd_create, shown_name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    return error_of(fd_);
}

int shared_file::seal() noexcept {
    return error_of(::fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
}

bool shared_file::is_sealed() const noexcept {
    int const seals = ::fcntl(fd_, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}

int shared_file::set_mode(std::uint32_t mode) noexcept { return error_of(::fchmod(fd_, mode)); }

int shared_file::set_length(std::uint64_t bytes) noexcept {
    // Beyond this limit the system sends a signal, too, which ends the process.
    rlimit most{};
    if (::getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur != RLIM_INFINITY &&
        bytes > most.rlim_cur) {
        return EFBIG;
    }
    return error_of(::ftruncate64(fd_, static_cast<off64_t>(bytes)));
}

int shared_file::reserve(std::uint64_t from, std::uint64_t bytes) noexcept {
    // In pieces: a signal that comes meanwhile undoes the whole of a call.
    constexpr std::uint64_t piece_most = std::uint64_t{16} << 20;
    for (std::uint64_t done = 0; done < bytes;) {
        std::uint64_t const piece = std::min(bytes - done, piece_most);
        int const error = error_of(
            ::fallocate64(fd_, 0, static_cast<off64_t>(from + done), static_cast<off64_t>(piece)));
        if (error != 0 && error != EINTR) {
            return error;
        }
        done += error == 0 ? piece : 0;
    }
    return 0;
}

int shared_file::status(file_status& found) const noexcept {
    struct stat status {};

    int const error = error_of(::fstat(fd_, &status));
    found = error == 0 ? status_of(status) : file_status{};
    return error;
}

int shared_file::read(std::uint64_t from, void* to, std::size_t bytes) const noexcept {
    ssize_t const got = ::pread64(fd_, to, bytes, static_cast<off64_t>(from));
    return got < 0 ? errno : static_cast<std::size_t>(got) == bytes ? 0 : ENODATA;
}

int shared_file::write(std::uint64_t at, void const* from, std::size_t bytes) const noexcept {
    ssize_t const done = ::pwrite64(fd_, from, bytes, static_cast<off64_t>(at));
    return done < 0 ? errno : static_cast<std::size_t>(done) == bytes ? 0 : ENOSPC;
}

int shared_file::link(shared_file const& directory, char const* name) const noexcept {
    return error_of(
        ::linkat(AT_FDCWD, descriptor_path{fd_}.get(), directory.fd_, name, AT_SYMLINK_FOLLOW));
}

int shared_file::try_lock(std::uint64_t byte, lock_kind kind) noexcept {
    int const error = lock_byte(fd_, byte, kind == lock_kind::shared ? F_RDLCK : F_WRLCK);
    return error == EACCES ? EAGAIN : error;
}

void shared_file::unlock(std::uint64_t byte) noexcept {
    static_cast<void>(lock_byte(fd_, byte, F_UNLCK));
}

int shared_file::try_lock_directory() const noexcept {
    int const error = error_of(::flock(fd_, LOCK_EX | LOCK_NB));
    return error == EWOULDBLOCK ? EAGAIN : error;
}

bool shared_file::is_locked(std::uint64_t byte) const noexcept {
    struct flock range {};

    range.l_type = F_RDLCK;
    range.l_whence = SEEK_SET;
    range.l_start = static_cast<off_t>(byte);
    range.l_len = 1;
    return ::fcntl(fd_, F_OFD_GETLK, &range) != 0 || range.l_type != F_UNLCK;
}

int shared_file::map(std::uint64_t bytes, std::uint64_t alignment, file_access access, void* where,
                     void*& result) const noexcept {
    result = nullptr;
    std::size_t const slack = where == nullptr && alignment > shared_page_bytes()
                                  ? static_cast<std::size_t>(alignment)
                                  : 0;
    if (bytes > std::size_t(PTRDIFF_MAX) - slack) {
        return ENOMEM;
    }
    auto const length = static_cast<std::size_t>(bytes);
    int flags = MAP_SHARED | (where == nullptr ? 0 : MAP_FIXED_NOREPLACE);
    void* room = nullptr;
    if (slack != 0) {
        // More than is needed, of which the file takes an aligned part.
        room = ::mmap(nullptr, length + slack, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED) {
            return errno;
        }
        auto const start = reinterpret_cast<std::uintptr_t>(room);
        where = static_cast<std::byte*>(room) + (slack - start % slack) % slack;
        flags = MAP_SHARED | MAP_FIXED;
    }
    void* const got = ::mmap(where, length, protection_of(access), flags, fd_, 0);
    int const error = got == MAP_FAILED ? errno : 0;
    if (slack != 0) {
        auto* const from = static_cast<std::byte*>(room);
        auto* const used = static_cast<std::byte*>(where);
        auto const before = static_cast<std::size_t>(used - from);
        unmap_shared(from, error == 0 ? before : length + slack);
        unmap_shared(used + length, error == 0 ? slack - before : 0);
    }
    if (error != 0) {
        return error;
    }
    if (where != nullptr && got != where) {  // Linux before 4.17 takes the flag for a wish
        ::munmap(got, length);
        return EEXIST;
    }
    result = got;
    return 0;
}

int unlink_in(shared_file const& directory, char const* name) noexcept {
    return error_of(::unlinkat(directory.descriptor(), name, 0));
}

int status_in(shared_file const& directory, char const* name, file_status& found) noexcept {
    struct stat status {};

    int const error =
        error_of(::fstatat(directory.descriptor(), name, &status, AT_SYMLINK_NOFOLLOW));
    found = error == 0 ? status_of(status) : file_status{};
    return error;
}

int make_directory(char const* path, std::uint32_t mode) noexcept {
    return error_of(::mkdir(path, mode));
}

int list_directory(shared_file const& directory, int (*visit)(void* context, char const* name),
                   void* context, int& stopped) noexcept {
    stopped = 0;
    shared_file again;  // with a place of its own to read from
    if (int const error = again.open(directory, ".", file_access::read_only); error != 0) {
        return error;
    }
    alignas(dirent64) std::array<char, 4096> entries;
    for (;;) {
        long const got =
            ::syscall(SYS_getdents64, again.descriptor(), entries.data(), entries.size());
        if (got <= 0) {
            return error_of(got);
        }
        for (long at = 0; at < got;) {
            auto const* const entry = reinterpret_cast<dirent64 const*>(entries.data() + at);
            at += entry->d_reclen;
            stopped = visit(context, entry->d_name);
            if (stopped != 0) {
                return 0;
            }
        }
    }
}

int protect_mapping(void* start, std::uint64_t bytes, file_access access) noexcept {
    return error_of(::mprotect(start, static_cast<std::size_t>(bytes), protection_of(access)));
}

void unmap_shared(void* start, std::uint64_t bytes) noexcept {
    base::errno_keeper const keeper;
    if (bytes != 0) {
        ::munmap(start, static_cast<std::size_t>(bytes));
    }
}

int keep_from_children(void* start, std::uint64_t bytes) noexcept {
    return error_of(::madvise(start, static_cast<std::size_t>(bytes), MADV_DONTFORK));
}

void* map_private(std::size_t bytes) noexcept {
    void* const got = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return got == MAP_FAILED ? nullptr : got;
}

std::size_t shared_page_bytes() noexcept {
    return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

void wait_shared(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                 std::uint32_t most_ms) noexcept {
    base::errno_keeper const keeper;
    timespec const most = span_of(most_ms);
    ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &most, nullptr, 0);
}

void wake_shared(std::atomic<std::uint32_t>& word) noexcept {
    base::errno_keeper const keeper;
    ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void private_futex::wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept {
    base::errno_keeper const keeper;
    ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void private_futex::wake_one(std::atomic<std::uint32_t>& word) noexcept {
    base::errno_keeper const keeper;
    ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

std::uint64_t monotonic_ms() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

bool fill_random(void* to, std::size_t bytes) noexcept {
    return ::getrandom(to, bytes, 0) == static_cast<ssize_t>(bytes);
}

void read_boot_id(unsigned char (&id)[16]) noexcept {
    std::array<char, 64> text;
    read_text("/proc/sys/kernel/random/boot_id", text.data(), text.size());
    std::size_t digits = 0;
    for (unsigned char& byte : id) {
        byte = 0;
    }
    for (char const* at = text.data(); *at != '\0' && digits < 2 * sizeof id; ++at) {
        if (is_hexadecimal(*at)) {
            unsigned char& byte = id[digits / 2];
            byte = static_cast<unsigned char>(byte * 16 + value_of(*at));
            ++digits;
        }
    }
}

process_identity this_process() noexcept {
    base::errno_keeper const keeper;
    return {.process_id = static_cast<std::int32_t>(::getpid()),
            .user_id = ::geteuid(),
            .namespace_id = own_namespace(),
            .started = start_of("/proc/self/stat")};
}

process_identity process_of(std::int32_t process_id) noexcept {
    base::errno_keeper const keeper;
    std::array<char, 64> path{};
    base::text_sink text{path.data(), path.size() - 1};
    text << "/proc/" << process_id << "/stat";
    return {.process_id = process_id,
            .user_id = 0,
            .namespace_id = own_namespace(),
            .started = start_of(path.data())};
}

std::uint32_t this_user() noexcept { return ::geteuid(); }

void let_others_run() noexcept { ::sched_yield(); }

void read_program_name(char* to, std::size_t capacity) noexcept {
    std::size_t const bytes = read_text("/proc/self/comm", to, capacity);
    if (bytes != 0 && to[bytes - 1] == '\n') {
        to[bytes - 1] = '\0';
    }
}

process_watch::~process_watch() {
    base::errno_keeper const keeper;
    for (std::size_t i = 0; i < count_; ++i) {
        ::close(descriptors_[i]);
    }
}

bool process_watch::add(process_identity const& process) noexcept {
    base::errno_keeper const keeper;
    if (count_ == processes_most || process.process_id <= 0 ||
        process.namespace_id != own_namespace()) {
        return false;
    }
    auto const fd = static_cast<int>(::syscall(SYS_pidfd_open, process.process_id, 0U));
    if (fd < 0) {
        return false;
    }
    // Only now is it known that no other gets its number.
    if (!is_running(process)) {
        ::close(fd);
        return false;
    }
    descriptors_[count_] = fd;
    ++count_;
    return true;
}

bool process_watch::wait(std::uint32_t most_ms) const noexcept {
    base::errno_keeper const keeper;
    std::array<pollfd, processes_most> polled{};
    for (std::size_t i = 0; i < count_; ++i) {
        polled[i] = {.fd = descriptors_[i], .events = POLLIN, .revents = 0};
    }
    constexpr std::uint32_t longest = INT_MAX;
    return ::poll(polled.data(), count_, static_cast<int>(std::min(most_ms, longest))) > 0;
}

int send_descriptor(int socket, int descriptor) noexcept {
    char byte = 'T';
    iovec content{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    ssize_t sent = -1;
    do {
        sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return error_of(sent);
}

int receive_descriptor(int socket, int& descriptor, std::uint32_t& user) noexcept {
    descriptor = -1;
    ucred peer{};
    socklen_t peer_bytes = sizeof peer;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) != 0) {
        return errno;
    }
    user = peer.uid;
    char byte = 0;
    iovec content{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = -1;
    do {
        got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno;
    }
    int received = 0;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= header->cmsg_len;
             at += sizeof(int)) {
            // Of several all but the first would be nobody's.
            int each = -1;
            std::memcpy(&each, reinterpret_cast<char*>(header) + at, sizeof each);
            if (received++ == 0) {
                descriptor = each;
            } else {
                ::close(each);
            }
        }
    }
    if (received == 1) {
        return 0;
    }
    if (received > 1) {
        ::close(descriptor);
        descriptor = -1;
    }
    return ENODATA;
}

}  // namespace tarn::impl::platform
