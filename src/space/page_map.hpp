// space/page_map.hpp - page_map<Entry, Os>: which entry, if any, owns an address.
//
// Threads    find(), find_interior(): any thread, any 64-bit value, no lock. assign(), clear(): the
//            holder of the range, which nobody else assigns or clears at the same time.
// Always     an entry changes only while no live block lies in its range, so find() on a block
//            that is alive never races with assign(). Entries are relaxed atomics: whoever has a
//            block has it from its allocation, and that hand-over orders the entry before it.
// Layout     one flat array with a pointer per slice of the address space, reserved readable and
//            all zero: 64 GiB of addresses (x86-64), of which only touched pages cost memory.
//            Where that much address space is refused the window shrinks to the low part of it
//            (ceiling()), and all reservations must then be placed below.
//            Runs of coarse_slices or more enter whole coarse units once in a second, much
//            smaller array, and only their first and ragged slices in the first.
// Cost       find(): one load, one compare. assign(), resize(): a store per slice or coarse unit; a
//            system call per 8,192 slices of address space when first used.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/attributes.hpp"
#include "base/bits.hpp"
#include "base/check.hpp"
#include "base/units.hpp"
#include "platform/os_memory.hpp"
#include "sizing/size_class.hpp"

namespace tarn::impl::space {

template <class Entry, class Os>
class page_map {
public:
    constexpr page_map() noexcept = default;
    page_map(page_map const&) = delete;
    page_map& operator=(page_map const&) = delete;

    /// Reserves the window. False: not even the smallest was granted; find() then says no to all.
    [[nodiscard]] bool initialize() noexcept {
        std::size_t const limit = Os::address_space_limit();
        for (unsigned bits = Os::address_bits; bits >= window_bits_min; --bits) {
            std::size_t const slices = std::size_t{1} << (bits - sizing::slice_shift);
            // Under a limit the map may take 1/32 of what the process has.
            if (slices * sizeof(Entry*) > limit / 32 && bits > window_bits_min) {
                continue;
            }
            if (reserve_window(slices)) {
                return true;
            }
        }
        return false;
    }

    /// Highest address the window covers, or 0 where it covers all that the system hands out.
    [[nodiscard]] std::uintptr_t ceiling() const noexcept {
        std::size_t const count = count_.load(std::memory_order_acquire);
        return count == slices_max ? 0 : std::uintptr_t{count} << sizing::slice_shift;
    }

    /// The entry of the slice that holds `ptr`; null for addresses without one. For an address
    /// inside a very large run, after its first slice, see find_interior().
    [[nodiscard]] TARN_HOT Entry* find(void const* ptr) const noexcept {
        std::uintptr_t const slice = base::address_of(ptr) >> sizing::slice_shift;
        return is_covered(slice) ? entries()[slice].load(std::memory_order_relaxed) : nullptr;
    }

    [[nodiscard]] Entry* find_interior(void const* ptr) const noexcept {
        std::uintptr_t const slice = base::address_of(ptr) >> sizing::slice_shift;
        if (!is_covered(slice)) {
            return nullptr;
        }
        Entry* const entry = entries()[slice].load(std::memory_order_relaxed);
        return entry != nullptr ? entry
                                : coarse_[slice / coarse_slices].load(std::memory_order_relaxed);
    }

    /// Enters `entry` for `slices` slices from `start`. False: the map's own memory is refused,
    /// and nothing is entered.
    [[nodiscard]] bool assign(std::byte* start, std::size_t slices, Entry* entry) noexcept {
        shape const wanted = shape_of(start, slices);
        std::size_t const count = count_.load(std::memory_order_relaxed);
        if (count == 0) {
            return false;  // initialize() was refused
        }
        TARN_CHECK(wanted.end <= count);
        if (!commit(wanted)) {
            return false;
        }
        store(wanted, entry);
        return true;
    }

    /// Makes the range of `entry`, `before` slices from `start`, `after` slices long. False: the
    /// map's own memory is refused, and nothing has changed. find(start) says `entry` throughout.
    [[nodiscard]] bool resize(std::byte* start, std::size_t before, std::size_t after,
                              Entry* entry) noexcept {
        if (!assign(start, after, entry)) {
            return false;
        }
        shape const old = shape_of(start, before);
        shape const now = shape_of(start, after);
        // Slices that were entered one by one and no longer are, then such coarse units.
        clear_fine(old.first, old.coarse_first, now);
        clear_fine(old.coarse_last, old.end, now);
        for (std::size_t at = old.coarse_first; at < old.coarse_last; at += coarse_slices) {
            if (at < now.coarse_first || at >= now.coarse_last) {
                coarse_[at / coarse_slices].store(nullptr, std::memory_order_relaxed);
            }
        }
        return true;
    }

    /// Takes the entries of an assigned range out again.
    void clear(std::byte* start, std::size_t slices) noexcept {
        store(shape_of(start, slices), nullptr);
    }

    /// Committed for the map itself.
    [[nodiscard]] std::size_t committed_bytes() const noexcept {
        return committed_chunks_.load(std::memory_order_relaxed) * chunk_bytes;
    }

    [[nodiscard]] std::size_t reserved_bytes() const noexcept {
        std::size_t const count = count_.load(std::memory_order_relaxed);
        return (count + count / coarse_slices) * sizeof(Entry*);
    }

    static constexpr std::size_t coarse_slices = 64 * MiB / sizing::slice_bytes;

private:
    static constexpr unsigned window_bits_min = 33;       // 8 GiB of addresses
    static constexpr std::size_t chunk_bytes = 64 * KiB;  // committed at a time; any OS page fits
    static constexpr std::size_t chunk_entries = chunk_bytes / sizeof(Entry*);
    static constexpr std::size_t slices_max = std::size_t{1}
                                              << (Os::address_bits - sizing::slice_shift);

    template <std::size_t Entries>
    using chunk_set = std::atomic<std::uint64_t>[(Entries / chunk_entries + 63) / 64];

    /// How a range is entered: whole units [coarse_first, coarse_last) of long ones in coarse_, all
    /// other slices and the first in entries_. Slice numbers.
    struct shape {
        std::size_t first;
        std::size_t coarse_first;
        std::size_t coarse_last;
        std::size_t end;

        [[nodiscard]] bool is_fine(std::size_t slice) const noexcept {
            return slice == first || (slice >= first && slice < coarse_first) ||
                   (slice >= coarse_last && slice < end);
        }
    };

    static shape shape_of(std::byte const* start, std::size_t slices) noexcept {
        std::size_t const first = base::address_of(start) >> sizing::slice_shift;
        std::size_t const end = first + slices;
        std::size_t const coarse_first = base::align_up(first, coarse_slices);
        std::size_t const coarse_last = base::align_down(end, coarse_slices);
        return slices >= coarse_slices && coarse_first < coarse_last
                   ? shape{first, coarse_first, coarse_last, end}
                   : shape{first, end, end, end};
    }

    bool reserve_window(std::size_t slices) noexcept {
        // Fine and coarse part in one reservation; both multiples of any OS page size.
        std::size_t const bytes = (slices + slices / coarse_slices) * sizeof(Entry*);
        std::size_t const rounded = base::align_up(bytes, chunk_bytes);
        void* const base = Os::reserve_zeros(rounded);
        if (base == nullptr) {
            return false;
        }
        auto* const entries = static_cast<std::atomic<Entry*>*>(base);
        coarse_ = entries + slices;
        entries_.store(entries, std::memory_order_relaxed);
        // release: pairs with is_covered(), for a thread that frees what it never allocated.
        count_.store(slices, std::memory_order_release);
        return true;
    }

    [[nodiscard]] TARN_HOT bool is_covered(std::uintptr_t slice) const noexcept {
#if defined(__x86_64__) && !TARN_THREAD_SANITIZER
        // An acquire load and a compare in one instruction, which GCC 12 makes two of.
        bool is_below = false;
        __asm__("cmpq %1, %2" : "=@ccb"(is_below) : "m"(count_), "r"(slice) : "cc", "memory");
        return is_below;
#else
        return slice < count_.load(std::memory_order_acquire);
#endif
    }

    [[nodiscard]] TARN_HOT std::atomic<Entry*>* entries() const noexcept {
        return entries_.load(std::memory_order_relaxed);
    }

    /// Makes array[first, first + count) writable.
    template <std::size_t Words>
    bool commit(std::atomic<Entry*>* array, std::size_t first, std::size_t count,
                std::atomic<std::uint64_t> (&done)[Words]) noexcept {
        if (count == 0) {
            return true;
        }
        // Chunks are counted from the start of each array, which is aligned to OS pages.
        for (std::size_t chunk = first / chunk_entries;
             chunk <= (first + count - 1) / chunk_entries; ++chunk) {
            std::uint64_t const bit = std::uint64_t{1} << (chunk % 64);
            // acquire: pairs with the release below; the commit happened before the bit.
            if ((done[chunk / 64].load(std::memory_order_acquire) & bit) != 0) {
                continue;
            }
            if (!Os::commit(array + chunk * chunk_entries, chunk_bytes)) {
                return false;
            }
            if ((done[chunk / 64].fetch_or(bit, std::memory_order_release) & bit) == 0) {
                committed_chunks_.fetch_add(1, std::memory_order_relaxed);
            }
        }
        return true;
    }

    bool commit(shape const& range) noexcept {
        return commit(entries(), range.first, 1, committed_) &&
               commit(entries(), range.first, range.coarse_first - range.first, committed_) &&
               commit(entries(), range.coarse_last, range.end - range.coarse_last, committed_) &&
               commit(coarse_, range.coarse_first / coarse_slices,
                      (range.coarse_last - range.coarse_first) / coarse_slices, coarse_committed_);
    }

    void store(shape const& range, Entry* entry) noexcept {
        entries()[range.first].store(entry, std::memory_order_relaxed);
        store_fine(range.first, range.coarse_first, entry);
        store_fine(range.coarse_last, range.end, entry);
        for (std::size_t at = range.coarse_first; at < range.coarse_last; at += coarse_slices) {
            coarse_[at / coarse_slices].store(entry, std::memory_order_relaxed);
        }
    }

    void store_fine(std::size_t first, std::size_t end, Entry* entry) noexcept {
        for (std::size_t slice = first; slice < end; ++slice) {
            entries()[slice].store(entry, std::memory_order_relaxed);
        }
    }

    /// Clears the slices of [first, end) that `kept` does not enter one by one.
    void clear_fine(std::size_t first, std::size_t end, shape const& kept) noexcept {
        for (std::size_t slice = first; slice < end; ++slice) {
            if (!kept.is_fine(slice)) {
                entries()[slice].store(nullptr, std::memory_order_relaxed);
            }
        }
    }

    std::atomic<std::atomic<Entry*>*> entries_{nullptr};
    std::atomic<std::size_t> count_{0};  // slices in the window; 0 until initialize()
    std::atomic<Entry*>* coarse_ = nullptr;
    std::atomic<std::size_t> committed_chunks_{0};
    chunk_set<slices_max> committed_{};
    chunk_set<slices_max / coarse_slices> coarse_committed_{};
};

}  // namespace tarn::impl::space
