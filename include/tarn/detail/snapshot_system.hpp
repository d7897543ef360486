// tarn/detail/snapshot_system.hpp - what snapshots ask of the system: descriptors, mappings, which
// pages were written, who still holds a snapshot.
//
// Threads    each object: one at a time
// Errors     std::system_error, which names what was refused and, where one is known, the limit
// Source     docs/design/snapshot.md
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <tarn/detail/poison.hpp>
#include <tarn/detail/snapshot_versions.hpp>

namespace tarn::detail {

[[noreturn, gnu::cold, gnu::noinline]] inline void refuse_snapshot(char const* what,
                                                                   int error = errno) {
    throw std::system_error{error, std::generic_category(), std::string{"tarn::snapshot: "} + what};
}

[[nodiscard]] inline std::size_t os_page_bytes() noexcept {
    return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// A page is copied and compared as a whole: also what regions and pools have marked, for
// AddressSanitizer, as nobody's to touch.
#if defined(TARN_DETAIL_ASAN)
using page_word [[gnu::may_alias]] = std::uint64_t;

[[gnu::no_sanitize_address]] inline void copy_page(std::byte* to, void const* from,
                                                   std::size_t bytes) noexcept {
    auto volatile* const target = reinterpret_cast<page_word volatile*>(to);
    auto const volatile* const source = static_cast<page_word const volatile*>(from);
    for (std::size_t i = 0; i < bytes / sizeof(page_word); ++i) {
        target[i] = source[i];
    }
}

[[nodiscard, gnu::no_sanitize_address]] inline bool is_same_page(std::byte const* left,
                                                                 std::byte const* right,
                                                                 std::size_t bytes) noexcept {
    auto const volatile* const one = reinterpret_cast<page_word const volatile*>(left);
    auto const volatile* const other = reinterpret_cast<page_word const volatile*>(right);
    std::size_t i = 0;
    while (i < bytes / sizeof(page_word) && one[i] == other[i]) {
        ++i;
    }
    return i == bytes / sizeof(page_word);
}
#else
inline void copy_page(std::byte* to, void const* from, std::size_t bytes) noexcept {
    std::memcpy(to, from, bytes);
}

[[nodiscard]] inline bool is_same_page(std::byte const* left, std::byte const* right,
                                       std::size_t bytes) noexcept {
    return std::memcmp(left, right, bytes) == 0;
}
#endif

class descriptor {
public:
    descriptor() noexcept = default;

    explicit descriptor(int fd) noexcept : fd_{fd} {}

    descriptor(descriptor&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}

    descriptor& operator=(descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }

    ~descriptor() { shut(); }

    [[nodiscard]] int get() const noexcept { return fd_; }

    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

    [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }

private:
    // Not inline: GCC 12 warns of an uninitialised member where it lies in a std::optional.
    [[gnu::noinline]] void shut() noexcept {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }

    int fd_ = -1;
};

class mapping {
public:
    mapping() noexcept = default;

    mapping(void* start, std::size_t bytes) noexcept
        : start_{static_cast<std::byte*>(start)}, bytes_{bytes} {}

    mapping(mapping&& other) noexcept
        : start_{std::exchange(other.start_, nullptr)}, bytes_{std::exchange(other.bytes_, 0)} {}

    mapping& operator=(mapping&& other) noexcept {
        std::swap(start_, other.start_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }

    ~mapping() {
        if (start_ != nullptr) {
            ::munmap(start_, bytes_);
        }
    }

    [[nodiscard]] std::byte* start() const noexcept { return start_; }

    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

    /// Somebody else unmaps it, or has done so.
    void forget() noexcept { start_ = nullptr; }

private:
    std::byte* start_ = nullptr;
    std::size_t bytes_ = 0;
};

/// Errors of mmap, with the limit that is mostly behind them.
[[noreturn, gnu::cold]] inline void refuse_mapping(int error) {
    switch (error) {
        case EEXIST:
            refuse_snapshot("the address range is in use in this process", error);
        case ENOMEM:
            refuse_snapshot("no room for the mapping, or too many of them (vm.max_map_count)",
                            error);
        case EAGAIN:
            refuse_snapshot("the mapping would be locked in memory beyond RLIMIT_MEMLOCK", error);
        case EBADF:
            refuse_snapshot("the descriptor is closed", error);
        default:
            refuse_snapshot("mmap", error);
    }
}

/// `where`: null, or exactly there, where nothing may be mapped yet.
[[nodiscard]] inline mapping map_pages(void* where, std::size_t bytes, int protection, int flags,
                                       int fd, std::size_t offset) {
    void* const start =
        ::mmap(where, bytes, protection, flags | (where == nullptr ? 0 : MAP_FIXED_NOREPLACE), fd,
               static_cast<off_t>(offset));
    if (start == MAP_FAILED) {
        refuse_mapping(errno);
    }
    mapping made{start, bytes};
    if (where != nullptr && start != where) {  // a system that does not know the flag
        refuse_mapping(EEXIST);
    }
    return made;
}

/// Over a part of a mapping.
inline void map_over(std::byte* where, std::size_t bytes, int protection, int flags, int fd,
                     std::size_t offset) {
    if (::mmap(where, bytes, protection, flags | MAP_FIXED, fd, static_cast<off_t>(offset)) ==
        MAP_FAILED) {
        refuse_mapping(errno);
    }
}

// --- who holds a snapshot ------------------------------------------------------------------------
// Each snapshot has an open file description of its own, with a lock on the byte of its number. The
// description, and with it the lock, lives as long as a descriptor or a mapping made by it, in
// whatever process.

[[nodiscard]] inline struct flock number_lock(snapshot_number number, short kind) noexcept {
    struct flock lock {};

    lock.l_type = kind;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(number);
    lock.l_len = 1;
    return lock;
}

/// A description for reading, locked; its position says where the snapshot's list lies.
[[nodiscard]] inline descriptor open_snapshot(int file, snapshot_number number,
                                              std::size_t position) {
    std::array<char, 32> path;
    std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", file);
    descriptor opened{::open(path.data(), O_RDONLY | O_CLOEXEC)};
    if (!opened.is_open()) {
        refuse_snapshot("a descriptor for it (/proc, RLIMIT_NOFILE)");
    }
    struct flock lock = number_lock(number, F_RDLCK);
    if (::fcntl(opened.get(), F_OFD_SETLK, &lock) != 0) {
        refuse_snapshot("a lock on its file");
    }
    if (::lseek(opened.get(), static_cast<off_t>(position), SEEK_SET) < 0) {
        refuse_snapshot("lseek");
    }
    return opened;
}

/// Whether somebody does. In doubt, yes.
[[nodiscard]] inline bool is_snapshot_held(int file, snapshot_number number) noexcept {
    struct flock lock = number_lock(number, F_WRLCK);
    return ::fcntl(file, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

// --- the file ------------------------------------------------------------------------------------

/// A file in memory, of pages; those nobody wrote cost nothing.
class page_file {
public:
    page_file(char const* name, std::size_t pages_max)
        : page_bytes_{os_page_bytes()}, fd_{make(name)} {
        window_ = map_pages(nullptr, pages_max * page_bytes_, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_NORESERVE, fd_.get(), 0);
        ::madvise(window_.start(), window_.bytes(), MADV_DONTFORK);
        // Where files in memory may lie in huge pages, one page written would cost all of one.
        ::madvise(window_.start(), window_.bytes(), MADV_NOHUGEPAGE);
    }

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

    [[nodiscard]] std::size_t page_bytes() const noexcept { return page_bytes_; }

    /// Makes the file as long as this.
    void extend(std::size_t pages) {
        if (pages <= pages_) {
            return;
        }
        std::size_t const bytes = pages * page_bytes_;
        rlimit limit{};
        // A longer file than that would end the process by a signal.
        if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes) {
            refuse_snapshot("its file would be longer than RLIMIT_FSIZE", EFBIG);
        }
        backed_.resize(pages);
        if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) {
            refuse_snapshot("a longer file");
        }
        pages_ = pages;
    }

    [[nodiscard]] std::size_t pages() const noexcept { return pages_; }

    [[nodiscard]] bool is_backed(page_number page) const noexcept { return backed_[page]; }

    /// Only where is_backed().
    [[nodiscard]] std::byte const* page(page_number page) const noexcept { return at(page); }

    /// Over what is_backed().
    void overwrite(page_number page, std::byte const* from) noexcept {
        copy_page(at(page), from, page_bytes_);
    }

    /// Asks for the memory of adjacent pages, within the file's length: where there is none, that
    /// is a value here, and no signal that a write to the mapping would get. True, and nothing
    /// done, on a system that cannot be asked (before Linux 5.14).
    [[nodiscard]] bool back(page_number first, std::size_t count) noexcept {
        constexpr int populate_write = 23;  // MADV_POPULATE_WRITE
        if (::madvise(at(first), count * page_bytes_, populate_write) != 0 && errno != EINVAL) {
            return false;
        }
        std::fill_n(backed_.begin() + first, count, true);
        return true;
    }

    /// Writes adjacent pages from wherever they are.
    void write(page_number first, std::span<iovec const> from) {
        if (!back(first, from.size())) {
            refuse_snapshot("memory for pages that have changed");
        }
        for (std::size_t i = 0; i < from.size(); ++i) {
            copy_page(at(first) + i * page_bytes_, from[i].iov_base, page_bytes_);
        }
    }

    /// In a child, which has no part in it.
    void forget() noexcept { window_.forget(); }

    /// Gives the memory of adjacent pages back; they read as zero.
    void punch(page_number first, std::size_t count) noexcept {
        if (::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
                        static_cast<off_t>(first * page_bytes_),
                        static_cast<off_t>(count * page_bytes_)) == 0) {
            std::fill_n(backed_.begin() + first, count, false);
        }
    }

    /// Memory that the file has.
    [[nodiscard]] std::size_t held_bytes() const noexcept {
        struct stat status {};

        constexpr std::size_t stat_block_bytes = 512;
        return ::fstat(fd_.get(), &status) == 0
                   ? static_cast<std::size_t>(status.st_blocks) * stat_block_bytes
                   : 0;
    }

private:
    static descriptor make(char const* name) {
        descriptor made{static_cast<int>(::syscall(SYS_memfd_create, name, 1U /* MFD_CLOEXEC */))};
        if (!made.is_open()) {
            refuse_snapshot("memfd_create");
        }
        return made;
    }

    [[nodiscard]] std::byte* at(page_number page) const noexcept {
        return window_.start() + page * page_bytes_;
    }

    std::size_t page_bytes_;
    descriptor fd_;
    mapping window_;
    std::size_t pages_ = 0;
    std::vector<bool> backed_;
};

/// Writes pages to the file, those without memory yet many at a time.
class page_writer {
public:
    explicit page_writer(page_file& file) noexcept : file_{file} {}

    void write(page_number place, std::byte const* from) {
        if (place < file_.pages() && file_.is_backed(place)) {
            file_.overwrite(place, from);
            return;
        }
        if (count_ == gather_most || (count_ != 0 && place != first_ + count_)) {
            finish();
        }
        if (count_ == 0) {
            first_ = place;
        }
        gathered_[count_++] = {const_cast<std::byte*>(from), file_.page_bytes()};
    }

    void finish() {
        if (count_ != 0) {
            file_.extend(first_ + count_);
            file_.write(first_, {gathered_.data(), std::exchange(count_, 0)});
        }
    }

private:
    static constexpr std::size_t gather_most = 512;  // pages in one system call

    page_file& file_;
    page_number first_ = 0;
    page_number count_ = 0;
    std::array<iovec, gather_most> gathered_;
};

// --- which pages were written --------------------------------------------------------------------

/// Adjacent pages of a region.
struct page_run {
    page_number first;
    page_number count;
};

/// ioctl PAGEMAP_SCAN (Linux 6.7), which older headers do not have.
struct pagemap_region {
    std::uint64_t start, end, categories;
};

struct pagemap_scan {
    std::uint64_t size, flags, start, end, walk_end, regions, regions_max, pages_max;
    std::uint64_t category_inverted, category_mask, category_any, return_mask;

    static constexpr std::uint64_t written = 1U << 1;
    static constexpr std::uint64_t protect_matching = 1U << 0;
    static constexpr std::uint64_t check_async = 1U << 1;

    [[nodiscard]] static unsigned long request() noexcept { return _IOWR('f', 16, pagemap_scan); }
};

/// Finds the pages of a range that were written. By write protection that the kernel takes off
/// itself (userfaultfd's asynchronous mode, Linux 6.7): the cost is that of the pages written. Else
/// by the bit of /proc/self/pagemap that says whether a private page is a copy: that of all pages,
/// and a page counts as written until its copy is dropped.
class write_finder {
public:
    enum class way : std::uint8_t { protection, copies };

    write_finder(std::byte* start, way wished)
        : start_{start},
          page_bytes_{os_page_bytes()},
          pagemap_{::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)} {
        if (!pagemap_.is_open()) {
            refuse_snapshot("/proc/self/pagemap, which tells what pages were written");
        }
        if (wished == way::protection) {
            open_protection();
        }
    }

    [[nodiscard]] way chosen() const noexcept {
        return faults_.is_open() ? way::protection : way::copies;
    }

    /// These pages are newly mapped from the file: from here on writes to them are found.
    void watch(page_run run) {
        if (faults_.is_open()) {
            uffdio_register range{};
            range.range = {address(run.first), run.count * page_bytes_};
            range.mode = UFFDIO_REGISTER_MODE_WP;
            if (::ioctl(faults_.get(), UFFDIO_REGISTER, &range) != 0) {
                refuse_snapshot("userfaultfd for its pages");
            }
            protect(run);
        }
    }

    /// Their private copies have been dropped.
    void dropped(page_run run) {
        if (faults_.is_open()) {
            protect(run);
        }
    }

    /// Appends what was written among the first `pages` since the last call, or, for copies, since
    /// dropped().
    void find(page_number pages, std::vector<page_run>& found) {
        if (faults_.is_open()) {
            scan(pages, found);
        } else {
            find_copies({0, pages}, found);
        }
    }

    /// Appends those of a run that have memory of their own: copies of file pages, or pages of no
    /// file.
    void find_copies(page_run run, std::vector<page_run>& found) {
        constexpr std::uint64_t present_or_swapped = std::uint64_t{3} << 62;
        constexpr std::uint64_t of_file = std::uint64_t{1} << 61;
        constexpr std::size_t entries_most = 4096;
        entries_.resize(std::min<std::size_t>(run.count, entries_most));
        page_number const end = run.first + run.count;
        for (page_number at = run.first; at < end;) {
            std::size_t const wanted = std::min<std::size_t>(end - at, entries_most);
            ssize_t const got =
                ::pread(pagemap_.get(), entries_.data(), wanted * sizeof(std::uint64_t),
                        static_cast<off_t>(address(at) / page_bytes_ * sizeof(std::uint64_t)));
            if (got < static_cast<ssize_t>(sizeof(std::uint64_t))) {
                refuse_snapshot("/proc/self/pagemap", got < 0 ? errno : EIO);
            }
            for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof(std::uint64_t);
                 ++i, ++at) {
                if ((entries_[i] & present_or_swapped) != 0 && (entries_[i] & of_file) == 0) {
                    append(found, at, at + 1);
                }
            }
        }
    }

private:
    // Features of userfaultfd that older headers do not have.
    static constexpr std::uint64_t protects_files = 1U << 12;      // WP_HUGETLBFS_SHMEM
    static constexpr std::uint64_t protects_untouched = 1U << 13;  // WP_UNPOPULATED
    static constexpr std::uint64_t protects_async = 1U << 15;      // WP_ASYNC
    static constexpr long for_user_mode_only = 1;

    [[nodiscard]] std::uint64_t address(page_number page) const noexcept {
        return reinterpret_cast<std::uintptr_t>(start_) + page * page_bytes_;
    }

    static void append(std::vector<page_run>& to, page_number first, page_number end) {
        if (!to.empty() && to.back().first + to.back().count == first) {
            to.back().count += end - first;
        } else {
            to.push_back({first, end - first});
        }
    }

    void open_protection() {
        descriptor faults{
            static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | for_user_mode_only))};
        uffdio_api api{};
        api.api = UFFD_API;
        api.features = protects_files | protects_untouched | protects_async;
        if (!faults.is_open() || ::ioctl(faults.get(), UFFDIO_API, &api) != 0 ||
            (api.features & protects_async) == 0) {
            return;
        }
        pagemap_scan nothing{};
        nothing.size = sizeof nothing;
        nothing.start = nothing.end = reinterpret_cast<std::uintptr_t>(start_);
        nothing.category_mask = nothing.return_mask = pagemap_scan::written;
        if (::ioctl(pagemap_.get(), pagemap_scan::request(), &nothing) == 0) {
            faults_ = std::move(faults);
        }
    }

    void protect(page_run run) {
        uffdio_writeprotect range{};
        range.range = {address(run.first), run.count * page_bytes_};
        range.mode = UFFDIO_WRITEPROTECT_MODE_WP;
        if (::ioctl(faults_.get(), UFFDIO_WRITEPROTECT, &range) != 0) {
            refuse_snapshot("write protection for its pages");
        }
    }

    void scan(page_number pages, std::vector<page_run>& found) {
        regions_.resize(1024);
        pagemap_scan wanted{};
        wanted.size = sizeof wanted;
        wanted.flags = pagemap_scan::protect_matching | pagemap_scan::check_async;
        wanted.start = address(0);
        wanted.end = address(pages);
        wanted.regions = reinterpret_cast<std::uintptr_t>(regions_.data());
        wanted.regions_max = regions_.size();
        wanted.category_mask = wanted.return_mask = pagemap_scan::written;
        while (wanted.start < wanted.end) {
            // What has been found is protected again: there must be room to say so.
            found.reserve(found.size() + regions_.size());
            int const got = ::ioctl(pagemap_.get(), pagemap_scan::request(), &wanted);
            if (got < 0) {
                refuse_snapshot("ioctl PAGEMAP_SCAN");
            }
            for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
                append(found, page_at(regions_[i].start), page_at(regions_[i].end));
            }
            wanted.start = wanted.walk_end;
        }
    }

    [[nodiscard]] page_number page_at(std::uint64_t its_address) const noexcept {
        return static_cast<page_number>((its_address - address(0)) / page_bytes_);
    }

    std::byte* start_;
    std::size_t page_bytes_;
    descriptor pagemap_;
    descriptor faults_;
    std::vector<std::uint64_t> entries_;
    std::vector<pagemap_region> regions_;
};

}  // namespace tarn::detail
