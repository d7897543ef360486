// platform/shared_file.hpp - files in memory that processes share: their making, locks, mappings,
// and what the system knows of other processes.
//
// Threads    any; a shared_file belongs to one thread at a time
// Always     all descriptors are close-on-exec. A lock belongs to the open file: the kernel takes
//            it back when its last descriptor is closed and its last mapping is gone, in whatever
//            process, by whatever death.
// Errors     errno's values, 0 for success; never a signal: room is reserved before it is used
// Tests      unit/platform/shared_file_test.cpp
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tarn::impl::platform {

struct file_status {
    std::uint64_t inode = 0;
    std::uint64_t device = 0;
    std::uint64_t bytes = 0;
    std::uint32_t links = 0;
    std::uint32_t owner = 0;
    std::uint32_t mode = 0;  // access rights alone
    bool is_regular = false;
};

enum class file_access : bool { read_only, read_write };
enum class lock_kind : bool { shared, exclusive };

class shared_file {
public:
    shared_file() noexcept = default;

    explicit shared_file(int descriptor) noexcept : fd_{descriptor} {}

    ~shared_file() { close(); }

    shared_file(shared_file const&) = delete;
    shared_file& operator=(shared_file const&) = delete;

    [[nodiscard]] int descriptor() const noexcept { return fd_; }

    [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }

    void close() noexcept;

    /// The descriptor is the caller's, and this object has none.
    int release() noexcept;

    void take(shared_file& from) noexcept;

    /// ELOOP: `path` is a symbolic link.
    [[nodiscard]] int open_directory(char const* path) noexcept;

    [[nodiscard]] int open(shared_file const& directory, char const* name,
                           file_access access) noexcept;

    /// The same file, opened anew: with locks of its own. Needs /proc.
    [[nodiscard]] int reopen(int descriptor, file_access access) noexcept;

    /// Another descriptor of the same open file, with the same locks.
    [[nodiscard]] int duplicate(int descriptor) noexcept;

    /// Without a name, in this directory's file system.
    [[nodiscard]] int make_unnamed(shared_file const& directory, std::uint32_t mode) noexcept;

    /// Without a name or directory; seal() keeps its length.
    [[nodiscard]] int make_sealable(char const* shown_name) noexcept;

    [[nodiscard]] int seal() noexcept;

    [[nodiscard]] bool is_sealed() const noexcept;

    /// Its mode, whatever the process masks.
    [[nodiscard]] int set_mode(std::uint32_t mode) noexcept;

    /// Its length; what lies behind the old end takes no memory until it is used. EFBIG: the
    /// process may not make such long files.
    [[nodiscard]] int set_length(std::uint64_t bytes) noexcept;

    /// Takes the memory for a part of it. ENOSPC: there is none.
    [[nodiscard]] int reserve(std::uint64_t from, std::uint64_t bytes) noexcept;

    [[nodiscard]] int status(file_status& found) const noexcept;

    [[nodiscard]] int read(std::uint64_t from, void* to, std::size_t bytes) const noexcept;

    [[nodiscard]] int write(std::uint64_t at, void const* from, std::size_t bytes) const noexcept;

    /// EEXIST: the name is taken.
    [[nodiscard]] int link(shared_file const& directory, char const* name) const noexcept;

    /// A byte's lock, which may lie beyond the end. EAGAIN: somebody has it.
    [[nodiscard]] int try_lock(std::uint64_t byte, lock_kind kind) noexcept;
    void unlock(std::uint64_t byte) noexcept;

    /// The directory itself, until it is closed. EAGAIN: somebody has it.
    [[nodiscard]] int try_lock_directory() const noexcept;

    /// By another open file, exclusively. True also where that can't be known.
    [[nodiscard]] bool is_locked(std::uint64_t byte) const noexcept;

    /// Somewhere, aligned to a power of two, or exactly at `where`. `result` is null on failure.
    [[nodiscard]] int map(std::uint64_t bytes, std::uint64_t alignment, file_access access,
                          void* where, void*& result) const noexcept;

private:
    int fd_ = -1;
};

[[nodiscard]] int unlink_in(shared_file const& directory, char const* name) noexcept;

/// Of a name in a directory; symbolic links are not followed.
[[nodiscard]] int status_in(shared_file const& directory, char const* name,
                            file_status& found) noexcept;

/// 0 or EEXIST, or why not.
[[nodiscard]] int make_directory(char const* path, std::uint32_t mode) noexcept;

/// Calls `visit(context, name)` for each name, until it returns other than 0; returns that in
/// `stopped`. Uses 4 KiB of stack.
[[nodiscard]] int list_directory(shared_file const& directory,
                                 int (*visit)(void* context, char const* name), void* context,
                                 int& stopped) noexcept;

/// The access to a part of a mapping: starts and ends of OS pages.
[[nodiscard]] int protect_mapping(void* start, std::uint64_t bytes, file_access access) noexcept;
void unmap_shared(void* start, std::uint64_t bytes) noexcept;

/// A forked child does not get this part of a mapping, which would keep the open file, and so its
/// locks, as long as the child lives.
[[nodiscard]] int keep_from_children(void* start, std::uint64_t bytes) noexcept;

/// Zeroed memory of this process alone, in pages; null: there is none.
void* map_private(std::size_t bytes) noexcept;

[[nodiscard]] std::size_t shared_page_bytes() noexcept;

/// Sleeps until a wake_shared(), at most so long, unless the word is not `expected` any more. For
/// words that processes share.
void wait_shared(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                 std::uint32_t most_ms) noexcept;
void wake_shared(std::atomic<std::uint32_t>& word) noexcept;

/// For base::ranked_mutex, within a process.
struct private_futex {
    static void wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept;
    static void wake_one(std::atomic<std::uint32_t>& word) noexcept;
};

/// CLOCK_MONOTONIC.
[[nodiscard]] std::uint64_t monotonic_ms() noexcept;

[[nodiscard]] bool fill_random(void* to, std::size_t bytes) noexcept;

/// 16 bytes that are others after each start of the machine; zeros: unknown.
void read_boot_id(unsigned char (&id)[16]) noexcept;

struct process_identity {
    std::int32_t process_id = 0;
    std::uint32_t user_id = 0;
    std::uint64_t namespace_id = 0;  // of its process ids; 0: unknown
    std::uint64_t started = 0;       // in clock ticks since the machine's start; 0: unknown
};

[[nodiscard]] process_identity this_process() noexcept;

/// Of another one that is seen from here; its user is not asked for.
[[nodiscard]] process_identity process_of(std::int32_t process_id) noexcept;

/// Its effective user id.
[[nodiscard]] std::uint32_t this_user() noexcept;

/// Lets another thread have the processor.
void let_others_run() noexcept;

/// The program's name: its command's first 15 characters.
void read_program_name(char* to, std::size_t capacity) noexcept;

/// Waits for the end of processes.
class process_watch {
public:
    static constexpr std::size_t processes_most = 64;

    process_watch() noexcept = default;
    ~process_watch();
    process_watch(process_watch const&) = delete;
    process_watch& operator=(process_watch const&) = delete;

    /// False: it is gone, not seen from here, or one too many; or the system is Linux before 5.3.
    bool add(process_identity const& process) noexcept;

    /// Until one of them has ended, at most so long. False: none has.
    [[nodiscard]] bool wait(std::uint32_t most_ms) const noexcept;

private:
    std::array<int, processes_most> descriptors_{};
    std::size_t count_ = 0;
};

/// Over a connected UNIX socket. `user`: the other side's, as the kernel knows it.
[[nodiscard]] int send_descriptor(int socket, int descriptor) noexcept;
[[nodiscard]] int receive_descriptor(int socket, int& descriptor, std::uint32_t& user) noexcept;

}  // namespace tarn::impl::platform
