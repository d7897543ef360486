// heap/user_lanes.hpp - the lanes of user heaps, for what changes them.
//
// Threads    see each function
// Always     heap/user_heap.hpp
// Tests      heaps/heap_threads_test.cpp
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bits.hpp"
#include "heap/page_life.hpp"
#include "heap/process.hpp"
#include "heap/user_heap.hpp"

namespace tarn::impl::heap {

/// What a page, or the block that fills it, takes of its heap's limit.
[[nodiscard]] inline std::size_t held_bytes_of(page const& home) noexcept {
    return home.size_class != 0 ? home.bytes()
                                : base::align_up(home.block_bytes.get(), sizing::slice_bytes);
}

using sighting = page_life::sighting<heap_lane, heap_id>;

/// A look at a page that serves user heaps, by anybody at any time.
[[nodiscard]] sighting look_at(page const& home) noexcept;

/// The record that a heap with this id is, or was, in.
[[nodiscard]] user_heap* heap_record(heap_id id) noexcept;

/// The lane that the calling thread should use, unless others do. Null: the heap is not, or no
/// more.
[[nodiscard]] inline heap_lane* lane_of(user_heap const& of, thread_heap const& caller) noexcept {
    // acquire: pairs with the release in add_lane().
    std::uint32_t const count = of.lane_count.load(std::memory_order_acquire);
    std::uint32_t const mine =
        count > 1 ? static_cast<std::uint32_t>(caller.self_index) % count : 0;
    return count == 0 ? nullptr : of.lanes[mine].load(std::memory_order_relaxed);
}

/// Some lane of a heap, locked: the calling thread's, or a new one where others hold that.
class locked_lane {
public:
    locked_lane(user_heap& of, heap_id id,
                thread_heap const& caller) noexcept TARN_NO_THREAD_SAFETY_ANALYSIS;
    ~locked_lane() TARN_NO_THREAD_SAFETY_ANALYSIS;
    locked_lane(locked_lane const&) = delete;
    locked_lane& operator=(locked_lane const&) = delete;

    /// False: the heap was destroyed, and nothing is locked.
    explicit operator bool() const noexcept { return lane_ != nullptr; }

    heap_lane& operator*() const noexcept { return *lane_; }

    heap_lane* operator->() const noexcept { return lane_; }

private:
    heap_lane* lane_ = nullptr;
};

/// Of small blocks, since this was asked last. The caller has locked the lane and tells the
/// process, of what was allocated without the lock.
[[nodiscard]] heap_growth untold_growth(heap_lane& lane) noexcept;

/// Its bytes alone; what was allocated stays untold.
[[nodiscard]] std::int64_t untold_bytes(heap_lane& lane) noexcept;

/// A page that nobody else knows becomes part of the lane, which the caller has locked.
void enter_lane(heap_lane& lane, page& fresh, page_kind kind) noexcept;

/// A page without live blocks leaves it, and its heap has so much less.
void leave_lane(heap_lane& lane, page& gone) noexcept;

/// Gives the memory and the descriptor of a page back that is in no lane and was of this kind.
void return_page(page& gone, page_kind kind) noexcept;

}  // namespace tarn::impl::heap
