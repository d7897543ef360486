#include "platform/linux/linux_os.hpp"

#include <elf.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string_view>

#include "base/attributes.hpp"
#include "base/bits.hpp"
#include "base/units.hpp"
#include "platform/watching_tool.hpp"

// Set by the dynamic loader (and by static start-up code) before anything can allocate: the stack
// pointer at process entry, where argc, argv, envp and auxv lie. Weak: other C libraries lack it.
extern "C" {
// NOLINTNEXTLINE(bugprone-reserved-identifier): glibc's name
extern void* __libc_stack_end __attribute__((weak));
extern char** environ;
}

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace tarn::impl::platform {

namespace {

constexpr int reserve_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

// libc's open, read, write, close and getrandom are cancellation points, which malloc and free must
// not be: a thread cancelled inside them would leave locks behind. Hence syscall().
int open_file(char const* path, int flags) noexcept {
    return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600));
}

void close_file_descriptor(int fd) noexcept { ::syscall(SYS_close, fd); }

// Straight to the kernel also for memory: tools wrap libc's functions, and their wrappers allocate.
// Sanitizers must see these calls.
#if TARN_SANITIZED
int unmap(void* base, std::size_t bytes) noexcept { return ::munmap(base, bytes); }

int protect(void* base, std::size_t bytes, int how) noexcept {
    return ::mprotect(base, bytes, how);
}

int advise(void* base, std::size_t bytes, int how) noexcept { return ::madvise(base, bytes, how); }

void* map(void* hint, std::size_t bytes, int protection, int flags) noexcept {
    void* const base = ::mmap(hint, bytes, protection, flags, -1, 0);
    return base == MAP_FAILED ? nullptr : base;
}
#else
int unmap(void* base, std::size_t bytes) noexcept {
    return static_cast<int>(::syscall(SYS_munmap, base, bytes));
}

int protect(void* base, std::size_t bytes, int how) noexcept {
    return static_cast<int>(::syscall(SYS_mprotect, base, bytes, how));
}

int advise(void* base, std::size_t bytes, int how) noexcept {
    return static_cast<int>(::syscall(SYS_madvise, base, bytes, how));
}

void* map(void* hint, std::size_t bytes, int protection, int flags) noexcept {
    long const base = ::syscall(SYS_mmap, hint, bytes, protection, flags, -1, 0L);
    return base == -1 ? nullptr : base::pointer_to(static_cast<std::uintptr_t>(base));
}
#endif

/// Cuts the aligned part out of a range that is `alignment` longer than wanted.
void* trim_to_alignment(void* base, std::size_t bytes, std::size_t alignment) noexcept {
    auto const start = base::address_of(base);
    auto const aligned = base::align_up(start, alignment);
    std::size_t const before = aligned - start;
    std::size_t const after = alignment - before;
    if (before != 0) {
        unmap(base, before);
    }
    if (after != 0) {
        unmap(base::pointer_to(aligned + bytes), after);
    }
    return base::pointer_to(aligned);
}

/// Names a range in /proc/PID/maps. Neighbours become one mapping only when they agree in this and
/// in what is left out of core dumps. Best effort: kernels without the option answer EINVAL.
void name(void* base, std::size_t bytes) noexcept {
    static constinit std::atomic<bool> is_refused{false};  // a hint: any order will do
    if (!is_refused.load(std::memory_order_relaxed) &&
        ::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, base, bytes, "tarn") != 0 && errno == EINVAL) {
        is_refused.store(true, std::memory_order_relaxed);
    }
}

void mark_reserved(void* base, std::size_t bytes) noexcept {
    advise(base, bytes, MADV_DONTDUMP);
    name(base, bytes);
}

void* reserve_anywhere(std::size_t bytes, std::size_t alignment) noexcept {
    void* base = map(nullptr, bytes, PROT_NONE, reserve_flags);
    if (base == nullptr || alignment <= linux_os::page_bytes() ||
        base::is_aligned(base::address_of(base), alignment)) {
        return base;
    }
    unmap(base, bytes);
    if (bytes > std::numeric_limits<std::size_t>::max() - alignment) {
        return nullptr;
    }
    base = map(nullptr, bytes + alignment, PROT_NONE, reserve_flags);
    return base == nullptr ? nullptr : trim_to_alignment(base, bytes, alignment);
}

/// Tries hints from the top of [ceiling/4, ceiling) downwards in steps of the size: the kernel
/// takes a hint that is free, and answers elsewhere when it is not.
void* reserve_below(std::size_t bytes, placement where) noexcept {
    constexpr int tries_max = 1024;
    std::size_t const alignment = std::max<std::size_t>(where.alignment, linux_os::page_bytes());
    if (bytes >= where.ceiling / 2) {
        return nullptr;
    }
    std::uintptr_t hint = base::align_down(where.ceiling - bytes, alignment);
    std::size_t const step = base::align_up(bytes, alignment);
    for (int attempt = 0; attempt < tries_max && hint >= where.ceiling / 4; ++attempt) {
        void* const base = map(base::pointer_to(hint), bytes, PROT_NONE, reserve_flags);
        if (base == nullptr) {
            return nullptr;
        }
        auto const start = base::address_of(base);
        if (base::is_aligned(start, alignment) && start + bytes <= where.ceiling) {
            return base;
        }
        unmap(base, bytes);
        if (hint < step) {
            return nullptr;
        }
        hint -= step;
    }
    return nullptr;
}

/// The first number behind `key` in a file of /proc; 0 when there is no such file or key.
std::uint64_t number_behind(char const* path, std::string_view key) noexcept {
    int const fd = open_file(path, O_RDONLY);
    if (fd < 0) {
        return 0;
    }
    std::array<char, 512> text{};
    std::size_t matched = 0;  // characters of the key
    bool in_number = false;
    bool done = false;
    std::uint64_t number = 0;
    // Bounded by the file: its longest line lists at most 65536 groups.
    for (ssize_t got = 1; !done && got > 0;) {
        got = linux_os::read_some(fd, text.data(), text.size());
        for (ssize_t i = 0; i < got && !done; ++i) {
            char const character = text[static_cast<std::size_t>(i)];
            if (matched < key.size()) {
                matched = character == key[matched] ? matched + 1 : character == key[0] ? 1 : 0;
            } else if (character >= '0' && character <= '9') {
                number = number * 10 + static_cast<std::uint64_t>(character - '0');
                in_number = true;
            } else {
                done = in_number;
            }
        }
    }
    close_file_descriptor(fd);
    return number;
}

/// A free place of `bytes` whose start lies in a huge page where `like` does, so that huge pages
/// can move there whole. Only a hint: another thread may take it.
void* free_place_like(void const* like, std::size_t bytes) noexcept {
    if (bytes < huge_page_bytes) {
        return nullptr;
    }
    void* const probe = map(nullptr, bytes + huge_page_bytes, PROT_NONE, reserve_flags);
    if (probe == nullptr) {
        return nullptr;
    }
    unmap(probe, bytes + huge_page_bytes);
    auto const start = base::address_of(probe);
    return base::pointer_to(start + (base::address_of(like) - start) % huge_page_bytes);
}

// Linux 6.13, and for locked memory 5.18; not in the headers of 2022.
constexpr int advice_guard_install = 102;
constexpr int advice_guard_remove = 103;
constexpr int advice_purge_locked = 24;

struct guard_state {
    std::atomic<int> method{-1};        // a guard_method; -1: not known yet
    std::atomic<bool> protects{false};  // some range was guarded by protection
    std::atomic<bool> lacks{false};     // though markers were chosen: they were refused for it
};

constinit guard_state guards{};  // relaxed: each is right by itself

guard_method find_guard_method() noexcept {
    // Emulators answer 0 to all advice that they don't know, as if they had taken it.
    constexpr int no_advice = 0x7ffe;
    int const kept = errno;
    std::size_t const bytes = linux_os::page_bytes();
    auto method = guard_method::protection;
    if (void* const probe = map(nullptr, bytes, PROT_READ | PROT_WRITE, reserve_flags)) {
        if (advise(probe, bytes, no_advice) != 0 &&
            advise(probe, bytes, advice_guard_install) == 0) {
            method = guard_method::markers;
        }
        unmap(probe, bytes);
    }
    errno = kept;
    return method;
}

bool guard_by_protection(void* base, std::size_t bytes) noexcept {
    guards.protects.store(true, std::memory_order_relaxed);
    if (protect(base, bytes, PROT_NONE) != 0) {
        return false;
    }
    // Best effort: contents that nobody can read are only memory.
    if (advise(base, bytes, MADV_DONTNEED) != 0) {
        advise(base, bytes, advice_purge_locked);
    }
    return true;
}

/// For single ranges that markers are refused for: locked ones.
bool protect_unmarkable(void* base, std::size_t bytes) noexcept {
    guards.lacks.store(true, std::memory_order_relaxed);
    return guard_by_protection(base, bytes);
}

guard_method chosen_guard_method() noexcept {
    int known = guards.method.load(std::memory_order_relaxed);
    if (known < 0) {
        int const found = static_cast<int>(find_guard_method());
        // Somebody may have chosen meanwhile.
        if (guards.method.compare_exchange_strong(known, found, std::memory_order_relaxed)) {
            known = found;
        }
    }
    return static_cast<guard_method>(known);
}

rusage usage() noexcept {
    rusage result{};
    ::getrusage(RUSAGE_SELF, &result);
    return result;
}

}  // namespace

std::size_t linux_os::page_bytes() noexcept {
    static constinit std::atomic<std::size_t> cached{0};
    std::size_t bytes = cached.load(std::memory_order_relaxed);  // a constant: any order will do
    if (bytes == 0) {
        bytes = ::getauxval(AT_PAGESZ);
        bytes = bytes == 0 ? 4 * KiB : bytes;
        cached.store(bytes, std::memory_order_relaxed);
    }
    return bytes;
}

void* linux_os::reserve(std::size_t bytes, placement where) noexcept {
    void* base = reserve_anywhere(bytes, where.alignment);
    if (base != nullptr && where.ceiling != 0 && base::address_of(base) + bytes > where.ceiling) {
        unmap(base, bytes);
        base = reserve_below(bytes, where);
    }
    if (base != nullptr) {
        mark_reserved(base, bytes);
    }
    return base;
}

void* linux_os::reserve_zeros(std::size_t bytes) noexcept {
    // Not readable at once: in a program that locks all it maps, mmap would enter a zero page at
    // every place, 64 GiB of them in 12 s. One that locks later enters huge ones, 512 times fewer.
    void* const base = map(nullptr, bytes, PROT_NONE, reserve_flags);
    if (base == nullptr) {
        return nullptr;
    }
    advise(base, bytes, MADV_HUGEPAGE);
    // Readable but not writable: not charged as memory even under strict overcommit.
    if (protect(base, bytes, PROT_READ) != 0) {
        unmap(base, bytes);
        return nullptr;
    }
    mark_reserved(base, bytes);
    return base;
}

bool linux_os::commit(void* base, std::size_t bytes) noexcept {
    if (protect(base, bytes, PROT_READ | PROT_WRITE) != 0) {
        return false;
    }
    advise(base, bytes, MADV_DODUMP);
    return true;
}

bool linux_os::purge(void* base, std::size_t bytes) noexcept {
    return advise(base, bytes, MADV_DONTNEED) == 0;
}

bool linux_os::renew(void* base, std::size_t bytes) noexcept {
    if (map(base, bytes, PROT_READ | PROT_WRITE, reserve_flags | MAP_FIXED) == nullptr) {
        return false;
    }
    name(base, bytes);
    return true;
}

bool linux_os::decommit(void* base, std::size_t bytes) noexcept {
    if (map(base, bytes, PROT_NONE, reserve_flags | MAP_FIXED) == nullptr) {
        return false;
    }
    mark_reserved(base, bytes);
    return true;
}

void linux_os::release(void* base, std::size_t bytes) noexcept { unmap(base, bytes); }

bool linux_os::populate_huge(void* base, std::size_t bytes) noexcept {
    constexpr int collapse = 25;  // MADV_COLLAPSE of Linux 6.1; not in the headers of 2022
    if (page_bytes() != 4 * KiB) {
        return false;
    }
    // Not MADV_HUGEPAGE: it would cut the mapping, and after a purge one byte would bring 2 MiB
    // back. Collapsing wants a page to start from.
    auto* const start = static_cast<std::byte*>(base);
    for (std::size_t at = 0; at < bytes; at += huge_page_bytes) {
        auto volatile& first = start[at];
        first = first;
    }
    return advise(base, bytes, collapse) == 0;
}

bool linux_os::move_pages(void* from, void* to, std::size_t bytes, std::size_t room) noexcept {
    // Not straight to `to`: the kernel unmaps that first and may refuse only then (`from` can be
    // several mappings), which would leave a hole for any thread's mmap. Refused here, nothing has
    // happened. What arrives grows to `room` and is one mapping, which a second move cannot tear.
    void* const hint = free_place_like(from, bytes);
    long const moved =
        ::syscall(SYS_mremap, from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, hint);
    if (moved == -1) {
        return false;
    }
    void* const between = base::pointer_to(static_cast<std::uintptr_t>(moved));
    if (::mremap(between, bytes, room, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to) {
        // Changes nothing on Linux; user-mode emulation (qemu 7.2) takes `from` for unmapped.
        protect(from, bytes, PROT_READ | PROT_WRITE);
        return true;
    }
    // The kernel itself is out of memory. Put the contents back and close the hole, if there is
    // one.
    std::memcpy(from, between, bytes);
    unmap(between, bytes);
    map(to, room, PROT_READ | PROT_WRITE, reserve_flags | MAP_FIXED_NOREPLACE);
    return false;
}

guard_method linux_os::guards_by() noexcept {
    guard_method const chosen = chosen_guard_method();
    return chosen == guard_method::markers && guards.lacks.load(std::memory_order_relaxed)
               ? guard_method::protection
               : chosen;
}

void linux_os::guard_by(guard_method chosen) noexcept {
    guards.lacks.store(false, std::memory_order_relaxed);
    guards.method.store(static_cast<int>(chosen), std::memory_order_relaxed);
}

bool linux_os::guard(void* base, std::size_t bytes) noexcept {
    switch (chosen_guard_method()) {
        case guard_method::markers:
            return advise(base, bytes, advice_guard_install) == 0 ||
                   protect_unmarkable(base, bytes);
        case guard_method::protection:
            return guard_by_protection(base, bytes);
        default:
            return false;
    }
}

bool linux_os::unguard(void* base, std::size_t bytes) noexcept {
    if (guards.protects.load(std::memory_order_relaxed) &&
        protect(base, bytes, PROT_READ | PROT_WRITE) != 0) {
        return false;
    }
    // Where a method was chosen there may be markers all the same; kernels without refuse it.
    int const kept = errno;
    if (advise(base, bytes, advice_guard_remove) == 0) {
        return true;
    }
    errno = kept;
    return chosen_guard_method() != guard_method::markers;
}

bool linux_os::prefer_node(void* base, std::size_t bytes, int node) noexcept {
    // By number: libc has no mbind, and <numaif.h> belongs to a library.
    constexpr long policy_default = 0;
    constexpr long policy_preferred = 1;
    constexpr long move_what_is_there = 2;
    constexpr int nodes_max = 1024;
    constexpr int word_bits = 64;
    if (node < 0) {
        return ::syscall(SYS_mbind, base, bytes, policy_default, nullptr, 0, 0) == 0;
    }
    if (node >= nodes_max) {
        return false;
    }
    std::array<std::uint64_t, nodes_max / word_bits> mask{};
    mask[static_cast<std::size_t>(node / word_bits)] = std::uint64_t{1} << (node % word_bits);
    return ::syscall(SYS_mbind, base, bytes, policy_preferred, mask.data(), nodes_max + 1,
                     move_what_is_there) == 0;
}

std::size_t linux_os::address_space_limit() noexcept {
    std::size_t limit = std::numeric_limits<std::size_t>::max();
    for (auto const resource : {RLIMIT_AS, RLIMIT_DATA}) {
        rlimit value{};
        if (::getrlimit(resource, &value) == 0 && value.rlim_cur != RLIM_INFINITY) {
            limit = std::min<std::size_t>(limit, value.rlim_cur);
        }
    }
    // Valgrind keeps books on what is reserved, too: minutes for the 64 GiB of a whole page map.
    constexpr std::size_t valgrind_limit = 2 * GiB;
    return find_watching_tool() == watching_tool::valgrind ? std::min(limit, valgrind_limit)
                                                           : limit;
}

std::uint64_t linux_os::monotonic_ms() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

std::uint64_t linux_os::random_bits() noexcept {
    std::uint64_t bits = 0;
    if (::syscall(SYS_getrandom, &bits, sizeof bits, GRND_NONBLOCK) ==
        static_cast<long>(sizeof bits)) {
        return bits;
    }
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    bits = static_cast<std::uint64_t>(now.tv_nsec) ^ base::address_of(&bits);
    return bits * 0x9e37'79b9'7f4a'7c15;  // Fibonacci hashing: spreads the low bits
}

char** linux_os::initial_environment() noexcept {
    if (environ != nullptr) {
        return environ;
    }
    if (&__libc_stack_end == nullptr || __libc_stack_end == nullptr) {
        return nullptr;
    }
    auto* const stack = static_cast<std::uintptr_t*>(__libc_stack_end);
    std::uintptr_t const argument_count = stack[0];
    // argc, argv[0..argc), null, then envp.
    bool const plausible = argument_count < 1 * MiB && stack[1 + argument_count] == 0;
    return plausible ? reinterpret_cast<char**>(stack + 1 + argument_count + 1) : nullptr;
}

bool linux_os::is_secure() noexcept { return ::getauxval(AT_SECURE) != 0; }

std::uint64_t linux_os::resident_bytes() noexcept {
    return number_behind("/proc/self/status", "VmRSS:") * KiB;
}

std::uint64_t linux_os::peak_resident_bytes() noexcept {
    // Not getrusage() where it can be helped: that includes what the process was before exec.
    std::uint64_t const bytes = number_behind("/proc/self/status", "VmHWM:") * KiB;
    return bytes != 0 ? bytes : static_cast<std::uint64_t>(usage().ru_maxrss) * KiB;
}

std::uint64_t linux_os::page_faults() noexcept {
    rusage const used = usage();
    return static_cast<std::uint64_t>(used.ru_minflt) + static_cast<std::uint64_t>(used.ru_majflt);
}

std::uint32_t linux_os::process_id() noexcept { return static_cast<std::uint32_t>(::getpid()); }

bool linux_os::is_confined() noexcept {
    int const kept = errno;
    bool const found = ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) > 0;
    errno = kept;
    return found;
}

std::uint32_t linux_os::thread_id() noexcept {
    return static_cast<std::uint32_t>(::syscall(SYS_gettid));
}

std::size_t linux_os::read_memory(void const* from, void* to, std::size_t bytes) noexcept {
    iovec const target{.iov_base = to, .iov_len = bytes};
    iovec const source{.iov_base = const_cast<void*>(from), .iov_len = bytes};
    int const kept = errno;
    auto const got = ::syscall(SYS_process_vm_readv, ::getpid(), &target, 1UL, &source, 1UL, 0UL);
    errno = kept;
    return got < 0 ? 0 : static_cast<std::size_t>(got);
}

std::uint32_t linux_os::cpus_allowed() noexcept {
    // The kernel refuses a mask with less room than the machine may have CPUs; 8192 is its largest.
    std::array<std::uint64_t, 8192 / 64> mask{};
    long const bytes = ::syscall(SYS_sched_getaffinity, 0, sizeof mask, mask.data());
    std::uint32_t cpus = 0;
    for (std::size_t i = 0; bytes > 0 && i < static_cast<std::size_t>(bytes) / 8; ++i) {
        cpus += static_cast<std::uint32_t>(std::popcount(mask[i]));
    }
    return std::max<std::uint32_t>(cpus, 1);
}

void linux_os::write_all(int fd, char const* text, std::size_t bytes) noexcept {
    while (bytes != 0) {
        auto const written = ::syscall(SYS_write, fd, text, bytes);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return;
        }
        text += written;
        bytes -= static_cast<std::size_t>(written);
    }
}

int linux_os::open_append(char const* path) noexcept {
    return open_file(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW);
}

int linux_os::open_read(char const* path) noexcept { return open_file(path, O_RDONLY); }

std::ptrdiff_t linux_os::read_some(int fd, char* to, std::size_t bytes) noexcept {
    for (;;) {
        std::ptrdiff_t const got = ::syscall(SYS_read, fd, to, bytes);
        if (got >= 0 || errno != EINTR) {
            return got;
        }
    }
}

void linux_os::close_file(int fd) noexcept { close_file_descriptor(fd); }

void linux_os::wait(std::atomic<std::uint32_t>& word, std::uint32_t expected) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void linux_os::wait_for(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                        std::uint32_t most_ms) noexcept {
    timespec const most{.tv_sec = most_ms / 1000,
                        .tv_nsec = static_cast<long>(most_ms % 1000) * 1'000'000};
    ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected,
              most_ms == forever_ms ? nullptr : &most, nullptr, 0);
}

void linux_os::wake_one(std::atomic<std::uint32_t>& word) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void linux_os::wake_all(std::atomic<std::uint32_t>& word) noexcept {
    ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, std::numeric_limits<int>::max(), nullptr,
              nullptr, 0);
}

bool linux_os::wait_for_either(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                               std::uint32_t& shared, std::uint32_t shared_expected,
                               std::uint32_t most_ms) noexcept {
#if defined(SYS_futex_waitv)
    std::array<futex_waitv, 2> const both{
        futex_waitv{.val = expected,
                    .uaddr = reinterpret_cast<std::uintptr_t>(&word),
                    .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG,
                    .__reserved = 0},
        futex_waitv{.val = shared_expected,
                    .uaddr = reinterpret_cast<std::uintptr_t>(&shared),
                    .flags = FUTEX_32,
                    .__reserved = 0}};
    timespec until{};
    ::clock_gettime(CLOCK_MONOTONIC, &until);
    std::uint64_t const nanoseconds =
        static_cast<std::uint64_t>(until.tv_nsec) + std::uint64_t{most_ms} * 1'000'000;
    until.tv_sec += static_cast<time_t>(nanoseconds / 1'000'000'000);
    until.tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000);
    long const done =
        ::syscall(SYS_futex_waitv, both.data(), both.size(), 0UL,
                  most_ms == forever_ms ? nullptr : &until, static_cast<long>(CLOCK_MONOTONIC));
    return done >= 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT;
#else
    return false;
#endif
}

void linux_os::wake_all_sharers(std::uint32_t& shared) noexcept {
    ::syscall(SYS_futex, &shared, FUTEX_WAKE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
}

}  // namespace tarn::impl::platform
