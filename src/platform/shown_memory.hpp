// platform/shown_memory.hpp - shown_memory: memory of this process that tools of the same user can
// map, too.
//
// Threads    one at a time
// Always     a file in memory (memfd_create) of fixed length, sealed, with mode 0600; found by its
//            name among the links in /proc/PID/fd. The descriptor has a high number, out of the way
//            of programs that count theirs, and is closed by exec. After fork both are the child's,
//            too, until it shows memory of its own. Keeps errno.
// Tests      unit/control/live_stats_test.cpp
// Errors     false: the system refuses (no memfd_create, no descriptor left, RLIMIT_FSIZE)
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn::impl::platform {

class shown_memory {
public:
    constexpr shown_memory() noexcept = default;

    /// Zeros at first; what was shown before is not any more.
    [[nodiscard]] bool show(char const* name, std::size_t bytes) noexcept;

    /// Whether the descriptor is still there: the program may have closed it.
    [[nodiscard]] bool is_open() const noexcept;

    [[nodiscard]] void* memory() const noexcept { return memory_; }

private:
    void* memory_ = nullptr;
    int fd_ = -1;
    std::uint64_t inode_ = 0;
    std::uint64_t device_ = 0;
};

}  // namespace tarn::impl::platform
