// debug/mp_pool.hpp - mp_pool: the checking pool of tarn/mp.h: eight slabs beneath a checked heap,
// with a beginning and an end.
//
// Threads    any. No lock is common to all calls: a call counts in one of 16 lines while it runs,
//            takes its slab's lock around the slab's list and the quarantine's around that.
// Always     Blocks up to 4 KiB lie in the smallest slab that fits, others are the ordinary heap's.
//            While end() runs and after it calls do nothing and are reported; it waits for those
//            that are under way. Until start() the first call starts the pool as configured by
//            default. Reports of calls outside of that time go to standard error as text.
// Fork       hold_for_fork() and release_after_fork(); in the child calls of other threads, which
//            are gone, count no more, and their blocks in hand are lost
// Cost       beside checked_heap's: two atomic additions on a line that threads seldom share
// Source     docs/design/mp.md
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "heap/host.hpp"
#include "debug/checked_heap.hpp"
#include "debug/fork.hpp"
#include "debug/mp_output.hpp"
#include "debug/slab.hpp"

namespace tarn::impl::debug {

inline constexpr std::size_t mp_slab_count = 8;
inline constexpr std::size_t mp_slab_bytes_min = 32;
inline constexpr std::size_t mp_slab_bytes_max = mp_slab_bytes_min << (mp_slab_count - 1);
static_assert(mp_slab_bytes_max == 4096);

/// What lies before a block beside its guard bytes: what leads to its record.
inline constexpr std::size_t mp_tag_bytes = 16;

struct mp_settings {
    std::size_t guard_before_bytes = 16;
    std::size_t guard_after_bytes = 16;
    guard_pattern guards{};
    std::size_t fill_bytes_max = 64 * KiB;
    std::size_t stack_frames = 10;
    platform::walk_method walk = platform::walk_method::tables;
    std::size_t quarantine_bytes = 256 * KiB;
    bool use_slabs = true;
    bool aborts = false;  // after a report of misuse
    mp_destination destination{};
};

/// Blocks of one slab, or those that are larger.
struct mp_row {
    std::uint64_t block_bytes = 0;  // 0: larger ones
    std::uint64_t slots = 0;
    std::uint64_t live = 0;
    std::uint64_t held = 0;  // freed, not to be used again yet
    std::uint64_t peak = 0;  // of both
    std::uint64_t chunks = 0;
    std::uint64_t chunk_bytes = 0;
    std::uint64_t allocations = 0;
};

struct mp_figures {
    check_figures all;
    std::array<mp_row, mp_slab_count + 1> rows{};  // the last: larger blocks
};

class mp_pool {
public:
    constexpr mp_pool() noexcept = default;
    mp_pool(mp_pool const&) = delete;
    mp_pool& operator=(mp_pool const&) = delete;

    /// 0; EALREADY: it is started; EBUSY: end() runs.
    int start(mp_settings const& wanted) noexcept;

    /// Checks all blocks, writes statistics and live blocks, gives all memory back. 0; EALREADY:
    /// there is nothing to end, and that is reported; EDEADLK: a report's receiver calls.
    int end(void const* caller) noexcept;

    [[nodiscard]] void* allocate(heap::operation const& asked) noexcept;
    [[nodiscard]] void* reallocate(heap::operation const& asked) noexcept;
    void deallocate(heap::operation const& asked) noexcept;

    /// As asked for; 0 after a report where `block` is no live block of the pool.
    [[nodiscard]] std::size_t usable_bytes(void* block, void const* caller) noexcept;

    /// How many blocks are damaged; reports what was not reported before.
    std::size_t check_all(void const* caller) noexcept;

    void dump_stats(void const* caller) noexcept;

    /// Returns the number of live blocks.
    std::size_t dump_leaks(void const* caller) noexcept;

    [[nodiscard]] mp_figures figures(void const* caller) noexcept;

    /// Reports what the ordinary heap finds wrong with a pointer if that leads to a block of the
    /// pool. False: it does not.
    [[nodiscard]] bool report_for_heap(heap::misuse const& event) noexcept;

    /// Null with ENOMEM after a report: no block can be so large.
    void* refuse(char const* operation, std::size_t count, std::size_t bytes,
                 void const* caller) noexcept;

    void hold_for_fork() noexcept;
    void release_after_fork(fork_side side) noexcept;

private:
    enum phase : std::uint32_t { never, starting, ready, ending, ended };

    struct alignas(128) call_count {
        std::atomic<std::int32_t> calls{0};  // under way
    };

    class call;

    [[nodiscard]] static std::byte* allocate_memory(block_source::request& wanted) noexcept;
    [[nodiscard]] static std::size_t deallocate_memory(block_record const& of) noexcept;
    [[nodiscard]] static std::size_t room(block_record const& of) noexcept;
    static void handle(finding const& found) noexcept;

    void configure(mp_settings const& wanted) noexcept;
    [[nodiscard]] bool open_slow(char const* operation, void const* block,
                                 void const* caller) noexcept;
    [[nodiscard]] bool describe(void* ptr, finding& found) noexcept;
    void report_misuse(char const* operation, std::string_view text, void const* block,
                       void const* caller) noexcept;
    void report_foreign(char const* operation, void* ptr, void const* caller) noexcept;

    [[nodiscard]] std::size_t front_bytes() const noexcept { return heap_.options().front_bytes; }

    [[nodiscard]] mp_figures measure() noexcept;
    void write_stats() noexcept;
    std::size_t write_leaks() noexcept;

    checked_heap heap_{heap_number::mp,
                       {.allocate = &allocate_memory,
                        .deallocate = &deallocate_memory,
                        .room = &room,
                        .pages = nullptr,
                        .keeps_records = true}};
    std::array<slab, mp_slab_count> slabs_{};
    std::array<call_count, 16> calls_{};
    std::atomic<std::uint32_t> phase_{never};
    bool use_slabs_ = true;
    std::atomic<bool> aborts_{false};
    mp_output output_;
    std::atomic<std::uint64_t> larger_taken_{0};
    std::atomic<std::uint64_t> larger_peak_{0};
    std::atomic<std::uint64_t> larger_takes_{0};
};

/// The process's.
TARN_HIDDEN extern constinit mp_pool mp;

}  // namespace tarn::impl::debug
