#include "debug/slab.hpp"

#include <new>

#include "base/bits.hpp"
#include "heap/diversion.hpp"

namespace tarn::impl::debug {

void slab::settle(lane& own) noexcept {
    std::int64_t const before = taken_.fetch_add(own.more, std::memory_order_relaxed);
    std::int64_t const highest = before + own.more_peak;
    std::int64_t peak = taken_peak_.load(std::memory_order_relaxed);
    while (peak < highest &&
           !taken_peak_.compare_exchange_weak(peak, highest, std::memory_order_relaxed)) {
    }
    own.more = 0;
    own.more_peak = 0;
}

slab::slot slab::take_from(lane& own) noexcept {
    base::lock_guard const guard{own.lock};
    slot got;
    if (own.free.first != nullptr) {
        got = {.start = reinterpret_cast<std::byte*>(own.free.first), .is_recycled = true};
        own.free.first = own.free.first->next;
    } else if (own.fresh_slots != 0) {
        got.start = own.fresh;
        own.fresh += slot_bytes_;
        --own.fresh_slots;
    } else {
        return got;
    }
    ++own.takes;
    ++own.more;
    own.more_peak = std::max(own.more_peak, own.more);
    if (own.more >= more_max) {
        settle(own);
    }
    return got;
}

/// Moves another lane's free slots here. False: there are none.
bool slab::take_over(lane& own) noexcept {
    for (lane& other : lanes_) {
        if (&other == &own) {
            continue;
        }
        free_list moved;
        {
            base::lock_guard const guard{other.lock};
            moved = other.free;
            other.free = {};
        }
        if (moved.first != nullptr) {
            base::lock_guard const guard{own.lock};
            moved.last->next = own.free.first;
            own.free.last = own.free.first == nullptr ? moved.last : own.free.last;
            own.free.first = moved.first;
            return true;
        }
    }
    return false;
}

bool slab::add(lane& own, chunk* fresh, std::size_t bytes) noexcept {
    base::lock_guard const guard{own.lock};
    if (own.free.first != nullptr || own.fresh_slots != 0) {
        return false;
    }
    own.chunks = ::new (fresh) chunk{.next = own.chunks, .bytes = bytes};
    own.fresh = reinterpret_cast<std::byte*>(fresh + 1);
    own.fresh_slots = slots_in(*fresh);
    return true;
}

slab::slot slab::take(std::uint32_t thread, void const* caller) noexcept {
    lane& own = lanes_[thread % lane_count];
    for (;;) {  // each round but the last brings slots, which others then use up
        slot const got = take_from(own);
        if (got.start != nullptr) [[likely]] {
            return got;
        }
        if (take_over(own)) {
            continue;
        }
        std::size_t const bytes = next_chunk_bytes();
        void* const fresh = heap::perform_in_heap(
            {.kind = heap::operation_kind::allocate, .bytes = bytes, .caller = caller});
        if (fresh == nullptr) {
            return {};
        }
        if (!add(own, static_cast<chunk*>(fresh), bytes)) {  // others brought some meanwhile
            static_cast<void>(heap::perform_in_heap(
                {.kind = heap::operation_kind::deallocate, .block = fresh, .caller = caller}));
        }
    }
}

void slab::give(std::byte* given, std::uint32_t thread) noexcept {
    lane& own = lanes_[thread % lane_count];
    base::lock_guard const guard{own.lock};
    auto* const added = ::new (given) free_slot{own.free.first};
    own.free.last = own.free.first == nullptr ? added : own.free.last;
    own.free.first = added;
    --own.more;
    if (own.more <= -more_max) {
        settle(own);
    }
}

std::byte const* slab::slot_around(void const* ptr) noexcept {
    for (lane& each : lanes_) {
        base::lock_guard const guard{each.lock};
        for (chunk const* in = each.chunks; in != nullptr; in = in->next) {
            auto const* const first = reinterpret_cast<std::byte const*>(in + 1);
            std::size_t const offset = base::address_of(ptr) - base::address_of(first);  // or huge
            if (offset < slots_in(*in) * slot_bytes_) {
                return first + offset / slot_bytes_ * slot_bytes_;
            }
        }
    }
    return nullptr;
}

void slab::release() noexcept {
    for (lane& each : lanes_) {
        chunk* first = nullptr;
        {
            base::lock_guard const guard{each.lock};
            first = each.chunks;
            each.chunks = nullptr;
            each.free = {};
            each.fresh = nullptr;
            each.fresh_slots = 0;
            each.takes = 0;
            each.more = 0;
            each.more_peak = 0;
        }
        while (first != nullptr) {
            chunk* const gone = first;
            first = first->next;
            static_cast<void>(
                heap::perform_in_heap({.kind = heap::operation_kind::deallocate, .block = gone}));
        }
    }
    taken_.store(0, std::memory_order_relaxed);
    taken_peak_.store(0, std::memory_order_relaxed);
}

slab_figures slab::figures() noexcept {
    slab_figures now;
    for (lane& each : lanes_) {
        base::lock_guard const guard{each.lock};
        settle(each);
        now.takes += each.takes;
        for (chunk const* in = each.chunks; in != nullptr; in = in->next) {
            now.slots += slots_in(*in);
            now.chunk_bytes += in->bytes;
            ++now.chunks;
        }
    }
    // Taken from one lane and given to another meanwhile, it may read below zero.
    now.taken = static_cast<std::uint64_t>(
        std::max<std::int64_t>(taken_.load(std::memory_order_relaxed), 0));
    now.taken = std::min(now.taken, now.slots);
    // What went from lane to lane in between counts twice in it.
    now.taken_peak = std::min(
        static_cast<std::uint64_t>(taken_peak_.load(std::memory_order_relaxed)), now.slots);
    return now;
}

void slab::lock_for_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    for (lane& each : lanes_) {
        each.lock.lock_unranked();
    }
}

void slab::unlock_after_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    for (lane& each : lanes_) {
        each.lock.unlock_unranked();
    }
}

}  // namespace tarn::impl::debug
