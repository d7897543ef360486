// platform/event_files.hpp - event_files: waits for what the kernel says through files.
//
// Threads    All of an event_files is one thread's, and that thread does nothing else: open() gives
//            it a table of descriptors of its own, empty at first, until it ends.
//            wake_event_files() is for any thread.
// Always     The program sees none of these descriptors, can't close them by closing all, does not
//            hand them to children, and ours are never mistaken for one it has opened since. What
//            the program closes is closed: the table holds no copies. Allocates nothing.
// Errors     open() says false where the system can't do that (Linux before 5.9) or does not allow
//            it; the caller does without events
// Tests      unit/platform/event_files_test.cpp
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tarn::impl::platform {

/// Where a waiting thread can be woken; thread 0: nowhere.
struct event_waker {
    std::uint32_t thread = 0;
    int fd = -1;              // of that thread
    std::uint64_t inode = 0;  // that fd must have
};

class event_files {
public:
    static constexpr std::size_t sources_max = 8;
    static constexpr int refused = -1;
    static constexpr std::uint32_t failed = ~std::uint32_t{0};

    event_files() noexcept = default;
    ~event_files();
    event_files(event_files const&) = delete;
    event_files& operator=(event_files const&) = delete;

    [[nodiscard]] bool open() noexcept;

    [[nodiscard]] event_waker const& waker() const noexcept { return waker_; }

    /// The number of the source, or `refused`. The kernel's word for "something happened" in a file
    /// it makes up: memory.events; with a text that sets it up, /proc/pressure/memory.
    [[nodiscard]] int add_file(char const* path, std::string_view trigger) noexcept;

    /// As add_file(), for cgroup version 1: `path` is registered in `control`, a
    /// cgroup.event_control, with `argument`.
    [[nodiscard]] int add_registered(char const* control, char const* path,
                                     std::string_view argument) noexcept;

    /// Waits for events or a call of wake_event_files(). A bit per source, the first is bit 0.
    /// A source that is gone (its cgroup was removed) says so once and then nothing. `failed`:
    /// waiting is impossible.
    [[nodiscard]] std::uint32_t wait(int most_ms) noexcept;

    /// Waits for a call of wake_event_files() alone.
    void pause(int most_ms) noexcept;

private:
    struct source {
        int fd = -1;
        short interest = 0;
    };

    int add(source added) noexcept;
    void settle(source& told) noexcept;

    std::array<source, sources_max> sources_{};
    std::size_t count_ = 0;
    int wake_fd_ = -1;
    bool is_open_ = false;
    event_waker waker_{};
};

/// Ends a wait() or pause() of that thread, or its next one. Best effort: needs /proc. Does nothing
/// when the thread has ended.
void wake_event_files(event_waker const& waker) noexcept;

}  // namespace tarn::impl::platform
