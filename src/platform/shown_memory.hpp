// platform/shown_memory.hpp - shown_memory: memory of this process that tools of the same user can
// map, too.
//
// Threads    one at a time
// Always     a file in memory (memfd_create) of fixed length, sealed, with mode 0600; found by its
//            name among the links in /proc/PID/fd. The descriptor has a high number, out of the way
//            of programs that count theirs, and is closed by exec. The mapping is not the child's
//            after fork; the descriptor is, until the child shows memory of its own. Keeps errno.
// Errors     false: the system refuses (no memfd_create, no descriptor left)
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

    /// In the child of a fork.
    void forget_mapping() noexcept { memory_ = nullptr; }

private:
    void* memory_ = nullptr;
    std::size_t bytes_ = 0;
    int fd_ = -1;
    std::uint64_t inode_ = 0;
};

}  // namespace tarn::impl::platform
