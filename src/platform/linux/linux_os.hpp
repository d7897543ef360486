// platform/linux/linux_os.hpp - linux_os: memory, clock, randomness, futex and limits on Linux.
//
// Contract   platform/os_memory.hpp
// Always     works before libc's constructors; needs neither /proc nor a writable file system
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "platform/os_memory.hpp"

namespace tarn::impl::platform {

struct linux_os {
    /// Bits of a user-space address that mmap hands out unasked.
#if defined(__x86_64__)
    static constexpr unsigned address_bits = 47;
#else
    static constexpr unsigned address_bits = 48;
#endif

    static std::size_t page_bytes() noexcept;
    static void* reserve(std::size_t bytes, placement where) noexcept;
    static void* reserve_zeros(std::size_t bytes) noexcept;
    static bool commit(void* base, std::size_t bytes) noexcept;
    static bool purge(void* base, std::size_t bytes) noexcept;
    static bool renew(void* base, std::size_t bytes) noexcept;
    static bool decommit(void* base, std::size_t bytes) noexcept;
    static void release(void* base, std::size_t bytes) noexcept;
    static bool populate_huge(void* base, std::size_t bytes) noexcept;
    static bool move_pages(void* from, void* to, std::size_t bytes, std::size_t room) noexcept;
    static bool guard(void* base, std::size_t bytes) noexcept;
    static bool unguard(void* base, std::size_t bytes) noexcept;
    static guard_method guards_by() noexcept;
    /// In place of what the system offers best, from here on. For tests, and for programs that run
    /// under something that knows no markers though the kernel does.
    static void guard_by(guard_method chosen) noexcept;
    static bool prefer_node(void* base, std::size_t bytes, int node) noexcept;

    static std::size_t address_space_limit() noexcept;
    static std::uint64_t monotonic_ms() noexcept;
    static std::uint64_t random_bits() noexcept;
    static char** initial_environment() noexcept;
    static bool is_secure() noexcept;
    static std::uint64_t resident_bytes() noexcept;
    static std::uint64_t peak_resident_bytes() noexcept;
    static std::uint64_t page_faults() noexcept;
    static std::uint32_t process_id() noexcept;
    static bool is_confined() noexcept;
    static std::uint32_t thread_id() noexcept;
    static std::size_t read_memory(void const* from, void* to, std::size_t bytes) noexcept;
    static std::uint32_t cpus_allowed() noexcept;
    static void write_all(int fd, char const* text, std::size_t bytes) noexcept;
    /// Opens `path` for appending, creating it with mode 0600; -1 when that fails.
    static int open_append(char const* path) noexcept;
    static int open_read(char const* path) noexcept;
    static std::ptrdiff_t read_some(int fd, char* to, std::size_t bytes) noexcept;
    static void close_file(int fd) noexcept;
    static void wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept;
    static void wait_for(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                         std::uint32_t most_ms) noexcept;
    static void wake_one(std::atomic<std::uint32_t>& word) noexcept;
    static void wake_all(std::atomic<std::uint32_t>& word) noexcept;
    static bool wait_for_either(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                                std::uint32_t& shared, std::uint32_t shared_expected,
                                std::uint32_t most_ms) noexcept;
    static void wake_all_sharers(std::uint32_t& shared) noexcept;
};

static_assert(os_memory<linux_os>);
static_assert(os_process<linux_os>);

}  // namespace tarn::impl::platform
