#include "platform/fake/fake_os.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "base/units.hpp"

namespace tarn::impl::platform {

namespace {

constinit fake_os::controls switches{};

struct atomic_counts {
    std::atomic<std::uint64_t> calls{0};
    std::atomic<std::uint64_t> failures{0};
    std::atomic<std::size_t> reserved_bytes{0};
    std::atomic<std::size_t> committed_bytes{0};
    std::atomic<std::uint64_t> commits{0};
    std::atomic<std::uint64_t> purges{0};
    std::atomic<std::uint64_t> moves{0};
    std::atomic<std::uint64_t> guards{0};
    std::atomic<std::uint64_t> bindings{0};
};

constinit atomic_counts seen{};  // relaxed throughout: statistics, read when threads are done

/// Counts a call that may fail and decides whether this one does.
bool fails_now() noexcept {
    if (seen.calls.fetch_add(1, std::memory_order_relaxed) < switches.fail_after) {
        return false;
    }
    if (seen.failures.load(std::memory_order_relaxed) >= switches.failures_max) {
        return false;
    }
    seen.failures.fetch_add(1, std::memory_order_relaxed);
    return true;
}

/// A bit for every 4 KiB that a process can address, in memory that exists only where a bit is set.
class ledger {
public:
    std::size_t absent_bytes(void const* base, std::size_t bytes) noexcept {
        std::size_t bits = 0;
        for_each_word(base, bytes, [&](word& in, std::uint64_t mask) {
            std::uint64_t const present = in.load(std::memory_order_relaxed);
            bits += static_cast<std::size_t>(std::popcount(~present & mask));
        });
        return bits * granule;
    }

    /// Returns the bytes that were absent.
    std::size_t insert(void const* base, std::size_t bytes) noexcept {
        std::size_t bits = 0;
        for_each_word(base, bytes, [&](word& in, std::uint64_t mask) {
            std::uint64_t const before = in.fetch_or(mask, std::memory_order_relaxed);
            bits += static_cast<std::size_t>(std::popcount(~before & mask));
        });
        return bits * granule;
    }

    /// Returns the bytes that were present.
    std::size_t remove(void const* base, std::size_t bytes) noexcept {
        std::size_t bits = 0;
        for_each_word(base, bytes, [&](word& in, std::uint64_t mask) {
            std::uint64_t const before = in.fetch_and(~mask, std::memory_order_relaxed);
            bits += static_cast<std::size_t>(std::popcount(before & mask));
        });
        return bits * granule;
    }

private:
    using word = std::atomic<std::uint64_t>;
    static constexpr std::size_t granule = 4 * KiB;
    static constexpr std::size_t map_bytes =
        (std::size_t{1} << fake_os::address_bits) / granule / 8;

    word* words() noexcept {
        // acquire: pairs with the release below.
        word* bits = words_.load(std::memory_order_acquire);
        if (bits == nullptr) {
            void* const fresh = ::mmap(nullptr, map_bytes, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            TARN_CHECK(fresh != MAP_FAILED);
            auto* const ours = static_cast<word*>(fresh);
            if (words_.compare_exchange_strong(bits, ours, std::memory_order_acq_rel)) {
                return ours;
            }
            ::munmap(fresh, map_bytes);
        }
        return bits;
    }

    template <class Visit>
    void for_each_word(void const* base, std::size_t bytes, Visit visit) noexcept {
        std::size_t const first = base::address_of(base) / granule;
        std::size_t const end = first + bytes / granule;
        TARN_CHECK(end / 8 <= map_bytes);
        word* const bits = words();
        for (std::size_t at = first; at < end; at = (at / 64 + 1) * 64) {
            std::size_t const here = std::min<std::size_t>(end - at, 64 - at % 64);
            visit(bits[at / 64], (~std::uint64_t{0} >> (64 - here)) << (at % 64));
        }
    }

    std::atomic<word*> words_{nullptr};
};

constinit ledger reserved{};
constinit ledger committed{};

void check_pages(void const* base, std::size_t bytes) noexcept {
    TARN_CHECK(base::is_aligned(base::address_of(base), switches.page_bytes));
    TARN_CHECK(base::is_aligned(bytes, switches.page_bytes));
    TARN_CHECK(bytes != 0);
}

/// Whole pages, all of them in a reservation.
void check_reserved(void const* base, std::size_t bytes) noexcept {
    check_pages(base, bytes);
    TARN_CHECK(reserved.absent_bytes(base, bytes) == 0);
}

/// Whole pages, all of them committed.
void check_committed(void const* base, std::size_t bytes) noexcept {
    check_pages(base, bytes);
    TARN_CHECK(committed.absent_bytes(base, bytes) == 0);
}

/// Takes a range out of the committed ones and gives its charge back.
void forget_committed(void const* base, std::size_t bytes) noexcept {
    seen.committed_bytes.fetch_sub(committed.remove(base, bytes), std::memory_order_relaxed);
}

bool charge(std::atomic<std::size_t>& used, std::size_t bytes, std::size_t limit) noexcept {
    std::size_t const before = used.fetch_add(bytes, std::memory_order_relaxed);
    if (before > limit || bytes > limit - before) {
        used.fetch_sub(bytes, std::memory_order_relaxed);
        return false;
    }
    return true;
}

}  // namespace

void fake_os::reset() noexcept {
    switches = controls{};
    seen.calls.store(0, std::memory_order_relaxed);
    seen.failures.store(0, std::memory_order_relaxed);
    seen.commits.store(0, std::memory_order_relaxed);
    seen.purges.store(0, std::memory_order_relaxed);
    seen.moves.store(0, std::memory_order_relaxed);
    seen.guards.store(0, std::memory_order_relaxed);
    seen.bindings.store(0, std::memory_order_relaxed);
}

fake_os::controls& fake_os::control() noexcept { return switches; }

fake_os::counts fake_os::count() noexcept {
    return {.calls = seen.calls.load(std::memory_order_relaxed),
            .failures = seen.failures.load(std::memory_order_relaxed),
            .reserved_bytes = seen.reserved_bytes.load(std::memory_order_relaxed),
            .committed_bytes = seen.committed_bytes.load(std::memory_order_relaxed),
            .commits = seen.commits.load(std::memory_order_relaxed),
            .purges = seen.purges.load(std::memory_order_relaxed),
            .moves = seen.moves.load(std::memory_order_relaxed),
            .guards = seen.guards.load(std::memory_order_relaxed),
            .bindings = seen.bindings.load(std::memory_order_relaxed)};
}

std::size_t fake_os::page_bytes() noexcept { return switches.page_bytes; }

void* fake_os::reserve(std::size_t bytes, placement where) noexcept {
    check_pages(nullptr, bytes);
    if (fails_now() || !charge(seen.reserved_bytes, bytes, switches.reserve_limit_bytes)) {
        return nullptr;
    }
    if (where.alignment < switches.page_bytes) {
        where.alignment = switches.page_bytes;
    }
    void* const base = linux_os::reserve(bytes, where);
    if (base == nullptr) {
        seen.reserved_bytes.fetch_sub(bytes, std::memory_order_relaxed);
        return nullptr;
    }
    reserved.insert(base, bytes);
    return base;
}

void* fake_os::reserve_zeros(std::size_t bytes) noexcept {
    // Not linux_os::reserve_zeros(), which knows only the real page size.
    void* const base = reserve(bytes, {});
    if (base != nullptr && ::mprotect(base, bytes, PROT_READ) != 0) {
        release(base, bytes);
        return nullptr;
    }
    return base;
}

bool fake_os::commit(void* base, std::size_t bytes) noexcept {
    check_reserved(base, bytes);
    seen.commits.fetch_add(1, std::memory_order_relaxed);
    std::size_t const fresh = committed.absent_bytes(base, bytes);
    if (fails_now() || !charge(seen.committed_bytes, fresh, switches.commit_limit_bytes)) {
        return false;
    }
    if (!linux_os::commit(base, bytes)) {
        seen.committed_bytes.fetch_sub(fresh, std::memory_order_relaxed);
        return false;
    }
    // Two threads may commit the same page; one of them was charged for nothing.
    std::size_t const unneeded = fresh - committed.insert(base, bytes);
    seen.committed_bytes.fetch_sub(unneeded, std::memory_order_relaxed);
    return true;
}

bool fake_os::purge(void* base, std::size_t bytes) noexcept {
    check_committed(base, bytes);
    seen.purges.fetch_add(1, std::memory_order_relaxed);
    return !fails_now() && linux_os::purge(base, bytes);
}

bool fake_os::renew(void* base, std::size_t bytes) noexcept {
    check_committed(base, bytes);
    return !fails_now() && linux_os::renew(base, bytes);
}

bool fake_os::decommit(void* base, std::size_t bytes) noexcept {
    check_reserved(base, bytes);
    if (fails_now() || !linux_os::decommit(base, bytes)) {
        return false;
    }
    forget_committed(base, bytes);
    return true;
}

void fake_os::release(void* base, std::size_t bytes) noexcept {
    check_reserved(base, bytes);
    // Before the memory goes: afterwards another thread may get the same range.
    forget_committed(base, bytes);
    reserved.remove(base, bytes);
    seen.reserved_bytes.fetch_sub(bytes, std::memory_order_relaxed);
    linux_os::release(base, bytes);
}

bool fake_os::populate_huge(void* base, std::size_t bytes) noexcept {
    check_committed(base, bytes);
    return page_bytes() < huge_page_bytes && !fails_now() && linux_os::populate_huge(base, bytes);
}

bool fake_os::move_pages(void* from, void* to, std::size_t bytes, std::size_t room) noexcept {
    check_committed(from, bytes);
    check_committed(to, room);
    TARN_CHECK(bytes <= room);
    seen.moves.fetch_add(1, std::memory_order_relaxed);
    return switches.move_pages_works && !fails_now() && linux_os::move_pages(from, to, bytes, room);
}

bool fake_os::guard(void* base, std::size_t bytes) noexcept {
    check_committed(base, bytes);
    seen.guards.fetch_add(1, std::memory_order_relaxed);
    return switches.guard_works && !fails_now() && linux_os::guard(base, bytes);
}

bool fake_os::unguard(void* base, std::size_t bytes) noexcept {
    check_committed(base, bytes);
    return linux_os::unguard(base, bytes);
}

guard_method fake_os::guards_by() noexcept {
    return switches.guard_works ? linux_os::guards_by() : guard_method::nothing;
}

bool fake_os::prefer_node(void* base, std::size_t bytes, int node) noexcept {
    check_committed(base, bytes);
    seen.bindings.fetch_add(1, std::memory_order_relaxed);
    return !fails_now() && linux_os::prefer_node(base, bytes, node);
}

std::size_t fake_os::address_space_limit() noexcept { return switches.reserve_limit_bytes; }

std::uint64_t fake_os::monotonic_ms() noexcept { return switches.clock_ms; }

std::uint64_t fake_os::random_bits() noexcept {
    return seen.calls.load(std::memory_order_relaxed) * 0x9e37'79b9'7f4a'7c15;
}

char** fake_os::initial_environment() noexcept { return switches.environment; }

bool fake_os::is_secure() noexcept { return switches.secure; }

std::uint32_t fake_os::cpus_allowed() noexcept { return switches.cpus; }

int fake_os::open_read(char const* path) noexcept {
    return switches.files_open ? linux_os::open_read(path) : -1;
}

std::ptrdiff_t fake_os::read_some(int fd, char* to, std::size_t bytes) noexcept {
    return linux_os::read_some(fd, to, std::min(bytes, switches.read_bytes_max));
}

}  // namespace tarn::impl::platform
