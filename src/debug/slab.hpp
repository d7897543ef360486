// debug/slab.hpp - slab: slots of one size over chunks of the ordinary heap, in four lanes.
//
// Threads    any. A thread uses the lane its number leads to, behind that lane's lock, held for a
//            few instructions and over no allocation; so two threads seldom meet. A lane that has
//            run dry takes all free slots of another one before it takes a chunk.
// Always     Chunks are blocks of the ordinary heap and stay until release(). A free slot's first
//            word leads to the next one, all else stays as it was: what lies there in use is a
//            guard, far from what a late write through the program's pointer meets first.
// Errors     out of memory: null, with errno set
// Cost       take(), give(): a lock and a load. Memory: chunk_bytes_min a lane at a time, touched
//            as it is used
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/ranked_mutex.hpp"
#include "base/units.hpp"
#include "platform/os.hpp"

namespace tarn::impl::debug {

/// Numbers of a slab at one moment.
struct slab_figures {
    std::uint64_t slots = 0;
    std::uint64_t taken = 0;
    std::uint64_t taken_peak = 0;  // exact for one thread; else within some dozens a lane
    std::uint64_t chunks = 0;
    std::uint64_t chunk_bytes = 0;
    std::uint64_t takes = 0;  // so far
};

class slab {
public:
    static constexpr std::size_t lane_count = 4;
    static constexpr std::size_t chunk_bytes_min = 64 * KiB;
    static constexpr std::size_t chunk_slots_min = 4;

    constexpr slab() noexcept = default;
    slab(slab const&) = delete;
    slab& operator=(slab const&) = delete;

    /// Of a slab without chunks: all its slots will have so many bytes, a multiple of 16.
    void configure(std::size_t slot_bytes) noexcept { slot_bytes_ = slot_bytes; }

    [[nodiscard]] std::size_t slot_bytes() const noexcept { return slot_bytes_; }

    struct slot {
        std::byte* start = nullptr;  // aligned to 16
        bool is_recycled = false;    // but for its first word as give() got it; else any bytes
    };

    /// `thread`: any number that is the thread's own.
    [[nodiscard]] slot take(std::uint32_t thread, void const* caller) noexcept;

    void give(std::byte* given, std::uint32_t thread) noexcept;

    /// The slot that holds `ptr`, which may be any address; null: none. Cost: a walk over chunks.
    [[nodiscard]] std::byte const* slot_around(void const* ptr) noexcept;

    /// Gives all chunks back. Nobody uses a slot, or the slab, any more.
    void release() noexcept;

    [[nodiscard]] slab_figures figures() noexcept;

    void lock_for_fork() noexcept;
    void unlock_after_fork() noexcept;

private:
    struct free_slot {
        free_slot* next;
    };

    struct free_list {
        free_slot* first = nullptr;
        free_slot* last = nullptr;
    };

    struct alignas(16) chunk {
        chunk* next;
        std::size_t bytes;
    };

    using mutex = base::ranked_mutex<base::lock_rank::slab, platform::os>;

    struct alignas(128) lane {
        mutex lock;
        free_list free TARN_GUARDED_BY(lock);
        std::byte* fresh TARN_GUARDED_BY(lock) = nullptr;  // of the newest chunk: never taken
        std::size_t fresh_slots TARN_GUARDED_BY(lock) = 0;
        chunk* chunks TARN_GUARDED_BY(lock) = nullptr;
        std::uint64_t takes TARN_GUARDED_BY(lock) = 0;
        // Since they were last added to the slab's: taken less given, and its peak.
        std::int64_t more TARN_GUARDED_BY(lock) = 0;
        std::int64_t more_peak TARN_GUARDED_BY(lock) = 0;
    };

    // A lane's difference is added when it is so large.
    static constexpr std::int64_t more_max = 64;

    [[nodiscard]] std::size_t next_chunk_bytes() const noexcept {
        return std::max(chunk_bytes_min, sizeof(chunk) + chunk_slots_min * slot_bytes_);
    }

    [[nodiscard]] std::size_t slots_in(chunk const& in) const noexcept {
        return (in.bytes - sizeof(chunk)) / slot_bytes_;
    }

    [[nodiscard]] slot take_from(lane& own) noexcept;
    [[nodiscard]] bool take_over(lane& own) noexcept;
    [[nodiscard]] bool add(lane& own, chunk* fresh, std::size_t bytes) noexcept;
    void settle(lane& own) noexcept TARN_REQUIRES(own.lock);

    std::array<lane, lane_count> lanes_{};
    std::size_t slot_bytes_ = 0;
    std::atomic<std::int64_t> taken_{0};
    std::atomic<std::int64_t> taken_peak_{0};
};

}  // namespace tarn::impl::debug
