// platform/fake/fake_os.hpp - fake_os: Linux memory behind switches that make it fail on demand.
//
// Contract   platform/os_memory.hpp; memory is real, so that everything above runs on it
// Threads    any for the operations; the switches only while nothing else runs
// Always     ranges are checked against the pretended page size and against what is reserved and
//            committed: a caller that rounds wrongly fails here, not on a machine with larger pages
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "platform/linux/linux_os.hpp"
#include "platform/os_memory.hpp"

namespace tarn::impl::platform {

struct fake_os {
    static constexpr unsigned address_bits = linux_os::address_bits;
    static constexpr std::uint64_t never = ~std::uint64_t{0};

    struct controls {
        std::size_t page_bytes = 4096;
        std::uint64_t fail_after = never;    // calls that may fail succeed this often, then fail
        std::uint64_t failures_max = never;  // and after so many failures they succeed again
        std::size_t reserve_limit_bytes = ~std::size_t{0};  // address space, as RLIMIT_AS
        std::size_t commit_limit_bytes = ~std::size_t{0};   // as overcommit_memory=2
        bool move_pages_works = true;
        bool read_memory_works = true;
        bool guard_works = true;
        std::uint64_t clock_ms = 1000;
        bool secure = false;
        char** environment = nullptr;
        bool files_open = true;                        // false: as without /proc
        std::size_t read_bytes_max = ~std::size_t{0};  // of one read; a file may come in any pieces
        std::uint32_t cpus = 4;
    };

    struct counts {
        std::uint64_t calls = 0;     // of functions that may fail
        std::uint64_t failures = 0;  // injected
        std::size_t reserved_bytes = 0;
        std::size_t committed_bytes = 0;
        std::uint64_t commits = 0;
        std::uint64_t purges = 0;
        std::uint64_t moves = 0;
        std::uint64_t guards = 0;
        std::uint64_t bindings = 0;  // to NUMA nodes, and their ends
    };

    /// Puts all switches and counts of calls back; memory stays as it is.
    static void reset() noexcept;
    static controls& control() noexcept;
    static counts count() noexcept;

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
    static bool prefer_node(void* base, std::size_t bytes, int node) noexcept;

    static std::size_t address_space_limit() noexcept;
    static std::uint64_t monotonic_ms() noexcept;
    static std::uint64_t random_bits() noexcept;
    static char** initial_environment() noexcept;
    static bool is_secure() noexcept;

    static std::uint32_t cpus_allowed() noexcept;
    static int open_read(char const* path) noexcept;
    static std::ptrdiff_t read_some(int fd, char* to, std::size_t bytes) noexcept;

    static std::uint64_t resident_bytes() noexcept { return linux_os::resident_bytes(); }

    static std::uint64_t peak_resident_bytes() noexcept { return linux_os::peak_resident_bytes(); }

    static std::uint64_t page_faults() noexcept { return linux_os::page_faults(); }

    static std::uint32_t process_id() noexcept { return linux_os::process_id(); }

    static bool is_confined() noexcept { return linux_os::is_confined(); }

    static std::uint32_t thread_id() noexcept { return linux_os::thread_id(); }

    static std::size_t read_memory(void const* from, void* to, std::size_t bytes) noexcept {
        return control().read_memory_works ? linux_os::read_memory(from, to, bytes) : 0;
    }

    static void write_all(int fd, char const* text, std::size_t bytes) noexcept {
        linux_os::write_all(fd, text, bytes);
    }

    static int open_append(char const* path) noexcept { return linux_os::open_append(path); }

    static void close_file(int fd) noexcept { linux_os::close_file(fd); }

    static void wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept {
        linux_os::wait(word, expected);
    }

    static void wait_for(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                         std::uint32_t most_ms) noexcept {
        linux_os::wait_for(word, expected, most_ms);
    }

    static void wake_one(std::atomic<std::uint32_t>& word) noexcept { linux_os::wake_one(word); }

    static void wake_all(std::atomic<std::uint32_t>& word) noexcept { linux_os::wake_all(word); }

    static bool wait_for_either(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                                std::uint32_t& shared, std::uint32_t shared_expected,
                                std::uint32_t most_ms) noexcept {
        return linux_os::wait_for_either(word, expected, shared, shared_expected, most_ms);
    }

    static void wake_all_sharers(std::uint32_t& shared) noexcept {
        linux_os::wake_all_sharers(shared);
    }
};

static_assert(os_memory<fake_os>);
static_assert(os_process<fake_os>);

}  // namespace tarn::impl::platform
