// platform/os_memory.hpp - what the allocator asks of an operating system, as two concepts.
//
// Threads    every function: any thread, no lock of ours
// Errors     out of memory is a value (null, false); errno may change
// Always     no function is a cancellation point or allocates
// Cost       a few system calls each unless said otherwise
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "base/units.hpp"

namespace tarn::impl::platform {

/// Where a reservation may lie. `ceiling`: the whole range below that address; 0: anywhere.
struct placement {
    std::size_t alignment = 0;  // bytes, a power of two; 0: one OS page
    std::uintptr_t ceiling = 0;
};

inline constexpr std::size_t os_page_bytes_min = 4 * KiB;

/// What a huge page holds where OS pages have 4 KiB; elsewhere there are none for us.
inline constexpr std::size_t huge_page_bytes = 2 * MiB;

/// How pages are made inaccessible.
///   markers     marks in the page tables (Linux 6.13): a mapping stays one mapping
///   protection  an access right of the range: it becomes a mapping of its own, and a process has
///               only so many
///   nothing     it is refused
enum class guard_method : std::uint8_t { nothing, markers, protection };

/// All ranges start and end on OS pages, except where a function says it rounds.
///   page_bytes     size of an OS page, known at run time: 4 KiB to 64 KiB
///   reserve        address space without memory; access faults; left out of core dumps
///   reserve_zeros  the same, but readable: every byte is 0 and costs no memory
///   commit         makes a part of a reservation readable and writable, zero at first
///   purge          gives the memory of a committed range back; reads as zero, stays committed
///   renew          as purge; also makes the range one mapping with its neighbours again, where
///                  move_pages had cut it off
///   decommit       gives memory and commit charge back; the range is reserved again
///   release        gives address space back
///   populate_huge  backs a committed range of whole huge_page_bytes, whose first byte nobody else
///                  uses yet and which is mostly untouched, with huge pages; false: refused, and
///                  it costs memory where it is touched. Contents stay as they are.
///   move_pages     moves memory between committed ranges without copying: bytes of `from` to the
///                  first of the room bytes at `to`, which become one mapping, the rest zero;
///                  `from` reads as zero afterwards; false: refused, `from` is as it was and both
///                  stay committed
///   guard          gives the memory of a committed range back and makes every access fault, also
///   of
///                  a child after fork; a system call that is handed such memory answers EFAULT.
///                  False: refused, and all is as it was. What is guarded already stays so.
///   unguard        ends that: reads as zero, but for memory that is locked on Linux before 5.18.
///                  False: refused, and it may be so for a part only. What is not guarded stays as
///                  it is, contents too.
///   guards_by      how that is done here; protection also where it had to be for a single range
///   prefer_node    asks for memory of a NUMA node, what is there already too; -1: any; false: the
///                  system can't
// clang-format off
template <class P>
concept os_memory = requires(void* base, std::size_t bytes, placement where, int node) {
    { P::page_bytes() } noexcept -> std::same_as<std::size_t>;
    { P::reserve(bytes, where) } noexcept -> std::same_as<void*>;
    { P::reserve_zeros(bytes) } noexcept -> std::same_as<void*>;
    { P::commit(base, bytes) } noexcept -> std::same_as<bool>;
    { P::purge(base, bytes) } noexcept -> std::same_as<bool>;
    { P::renew(base, bytes) } noexcept -> std::same_as<bool>;
    { P::decommit(base, bytes) } noexcept -> std::same_as<bool>;
    { P::release(base, bytes) } noexcept;
    { P::populate_huge(base, bytes) } noexcept -> std::same_as<bool>;
    { P::move_pages(base, base, bytes, bytes) } noexcept -> std::same_as<bool>;
    { P::guard(base, bytes) } noexcept -> std::same_as<bool>;
    { P::unguard(base, bytes) } noexcept -> std::same_as<bool>;
    { P::guards_by() } noexcept -> std::same_as<guard_method>;
    { P::prefer_node(base, bytes, node) } noexcept -> std::same_as<bool>;
};

// clang-format on

inline constexpr std::uint32_t forever_ms = ~std::uint32_t{0};

/// The parts of a process that are not memory.
///   address_space_limit  bytes of address space this process may use (RLIMIT_AS, RLIMIT_DATA),
///                        or should; SIZE_MAX when unlimited
///   monotonic_ms         milliseconds of a clock that never goes back; no system call
///   random_bits          64 unpredictable bits, weaker ones when the system has none yet
///   initial_environment  environ as the kernel passed it, before libc is ready; may be null
///   is_secure            the process runs with rights its caller lacks (set-user-id and the like)
///   resident_bytes       0 when the system does not tell (no /proc)
///   cpus_allowed         CPUs the calling thread may run on; 1 when the system does not tell
///   open_read            a descriptor that exec closes; -1: there is no such file, or not for us
///   read_some            the next bytes, `bytes` at most; 0 at the end, negative after an error
///   wait_for_either      as wait_for, and for a word that other processes change; false: the
///                        system can't wait for both (Linux before 5.16), and it did not wait
///   wake_all_sharers     wakes all who wait for such a word, in other processes too
///   wait_for             as wait, for so many milliseconds at most; forever_ms: as wait
///   is_confined          a filter of system calls (seccomp) is in force
///   thread_id            the calling thread's, unique in the system while it lives
///   read_memory          copies bytes of this process, as many as are mapped readable, and returns
///                        their number: no fault where nothing is, no data race where somebody
///                        writes; 0 also where the system does not offer it
///   write_all            best effort, async-signal-safe, retries short writes
// clang-format off
template <class P>
concept os_process = requires(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                              char const* text, char* to, std::size_t bytes, int fd,
                              void const* from, std::uint32_t& shared) {
    { P::address_space_limit() } noexcept -> std::same_as<std::size_t>;
    { P::monotonic_ms() } noexcept -> std::same_as<std::uint64_t>;
    { P::random_bits() } noexcept -> std::same_as<std::uint64_t>;
    { P::initial_environment() } noexcept -> std::same_as<char**>;
    { P::is_secure() } noexcept -> std::same_as<bool>;
    { P::resident_bytes() } noexcept -> std::same_as<std::uint64_t>;
    { P::peak_resident_bytes() } noexcept -> std::same_as<std::uint64_t>;
    { P::page_faults() } noexcept -> std::same_as<std::uint64_t>;
    { P::process_id() } noexcept -> std::same_as<std::uint32_t>;
    { P::is_confined() } noexcept -> std::same_as<bool>;
    { P::thread_id() } noexcept -> std::same_as<std::uint32_t>;
    { P::read_memory(from, to, bytes) } noexcept -> std::same_as<std::size_t>;
    { P::cpus_allowed() } noexcept -> std::same_as<std::uint32_t>;
    { P::write_all(fd, text, bytes) } noexcept;
    { P::open_read(text) } noexcept -> std::same_as<int>;
    { P::read_some(fd, to, bytes) } noexcept -> std::same_as<std::ptrdiff_t>;
    { P::close_file(fd) } noexcept;
    { P::wait(word, expected) } noexcept;
    { P::wait_for(word, expected, expected) } noexcept;
    { P::wake_one(word) } noexcept;
    { P::wake_all(word) } noexcept;
    { P::wait_for_either(word, expected, shared, expected, expected) } noexcept -> std::same_as<bool>;
    { P::wake_all_sharers(shared) } noexcept;
};

// clang-format on

}  // namespace tarn::impl::platform
