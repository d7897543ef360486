// space/record_table.hpp - record_table<T, Os, Rank, Where>: records of one type in memory that
// stays theirs.
//
// Threads    any thread: allocate(), deallocate(), at(), for_each()
// Always     type-stable: once a T, always a T, never unmapped; a stale pointer to a record reads a
//            record. Records lie apart from blocks, so an overflow of a block can't reach them.
//            T has `std::atomic<base::node_index> node_link` and `base::node_index self_index`, and
//            is all zero but for the latter when first handed out; deallocated records are handed
//            out again as they are.
// Cost       allocate(): one compare-exchange from the free list, else a short lock; a system call
//            per commit_bytes of new records. Memory: committed as used, never returned. The first
//            MiB of records may lie inside of the table: a static one then costs a starting
//            process no system call, and only the memory it touches.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/bits.hpp"
#include "base/ranked_mutex.hpp"
#include "base/tagged_stack.hpp"
#include "base/units.hpp"
#include "platform/os_memory.hpp"

namespace tarn::impl::space {

enum class first_records : std::uint8_t { outside, inside };

template <class T, class Os, base::lock_rank Rank, first_records Where = first_records::outside>
class record_table {
public:
    /// A new or recycled record; null: out of memory.
    T* allocate() noexcept {
        base::node_index const recycled = pop(free_);
        return recycled != base::node_index::none ? at(recycled) : allocate_new();
    }

    /// Gives a record back. Its contents stay readable.
    void deallocate(T& record) noexcept { push(free_, record); }

    /// Stacks of records: the free list, and others that the caller keeps.
    void push(base::tagged_stack& stack, T& record) const noexcept {
        stack.push(record.self_index, link_of());
    }

    [[nodiscard]] base::node_index pop(base::tagged_stack& stack) const noexcept {
        return stack.pop(link_of());
    }

    [[nodiscard]] T* at(base::node_index index) const noexcept {
        auto const number = static_cast<std::size_t>(index);
        return chunks_[number / chunk_records].load(std::memory_order_acquire) +
               number % chunk_records;
    }

    /// Whether at() may be asked: such a record was handed out once.
    [[nodiscard]] bool has(base::node_index index) const noexcept {
        auto const number = static_cast<std::size_t>(index);
        // acquire: as in for_each()
        return number != 0 && number <= used_.load(std::memory_order_acquire);
    }

    /// Calls `visit(T&)` for every record ever handed out, free ones too.
    template <class Visit>
    void for_each(Visit visit) const noexcept {
        // acquire: pairs with the release in allocate_new(); the records below it exist.
        std::size_t const end = used_.load(std::memory_order_acquire);
        for (std::size_t number = 1; number <= end; ++number) {
            visit(*at(static_cast<base::node_index>(number)));
        }
    }

    /// Around fork: no record is half handed out while this is held. Out of rank, since nobody who
    /// holds it waits for another lock.
    void lock_for_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS { mutex_.lock_unranked(); }

    void unlock_after_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS { mutex_.unlock_unranked(); }

    [[nodiscard]] std::size_t committed_bytes() const noexcept {
        return committed_bytes_.load(std::memory_order_relaxed);
    }

    [[nodiscard]] std::size_t reserved_bytes() const noexcept {
        return reserved_chunks_.load(std::memory_order_relaxed) * chunk_bytes;
    }

private:
    static constexpr std::size_t chunk_bytes = 1 * MiB;
    static constexpr std::size_t commit_bytes = 64 * KiB;
    static constexpr std::size_t chunk_records = chunk_bytes / sizeof(T);
    // As many as there are indices, of small records; 16 GiB of others.
    static constexpr std::size_t chunks_max =
        std::min(std::size_t{16} * 1024, (std::size_t{1} << base::node_index_bits) / chunk_records);

    static constexpr bool is_inside(std::size_t chunk) noexcept {
        return Where == first_records::inside && chunk == 0;
    }

    TARN_COLD T* allocate_new() noexcept {
        for (;;) {
            mutex_.lock();
            std::size_t const number = used_.load(std::memory_order_relaxed) + 1;
            std::size_t const chunk = number / chunk_records;
            if (chunk >= chunks_max) {
                mutex_.unlock();
                return nullptr;
            }
            T* const base = chunks_[chunk].load(std::memory_order_relaxed);
            std::size_t const needed = (number % chunk_records + 1) * sizeof(T);
            if (base != nullptr && needed <= chunk_committed_) {
                T* const record = base + number % chunk_records;
                record->self_index = static_cast<base::node_index>(number);
                // release: pairs with the acquire in for_each().
                used_.store(number, std::memory_order_release);
                mutex_.unlock();
                return record;
            }
            std::size_t const committed = base == nullptr ? 0 : chunk_committed_;
            mutex_.unlock();
            if (!grow(chunk, base, committed)) {
                return nullptr;
            }
        }
    }

    /// One step of growth, its system calls outside the lock. Two threads may do the same step;
    /// the second one's is dropped.
    bool grow(std::size_t chunk, T* base, std::size_t committed) noexcept {
        if (base == nullptr) {
            void* const fresh =
                is_inside(chunk) ? first_chunk_.data() : Os::reserve(chunk_bytes, {});
            if (fresh == nullptr) {
                return false;
            }
            mutex_.lock();
            bool const first = chunks_[chunk].load(std::memory_order_relaxed) == nullptr;
            if (first) {
                // release: pairs with the acquire in at().
                chunks_[chunk].store(static_cast<T*>(fresh), std::memory_order_release);
                reserved_chunks_.fetch_add(1, std::memory_order_relaxed);
                chunk_committed_ = 0;
            }
            mutex_.unlock();
            if (!first && !is_inside(chunk)) {
                Os::release(fresh, chunk_bytes);
            }
            return true;
        }
        std::size_t const step =
            chunk_bytes - committed < commit_bytes ? chunk_bytes - committed : commit_bytes;
        if (!is_inside(chunk) &&
            !Os::commit(reinterpret_cast<std::byte*>(base) + committed, step)) {
            return false;
        }
        base::lock_guard const guard{mutex_};
        std::size_t const current = (used_.load(std::memory_order_relaxed) + 1) / chunk_records;
        if (current == chunk && chunk_committed_ == committed) {
            chunk_committed_ = committed + step;
            committed_bytes_.fetch_add(step, std::memory_order_relaxed);
        }
        return true;
    }

    [[nodiscard]] auto link_of() const noexcept {
        return [this](base::node_index index) -> std::atomic<base::node_index>& {
            return at(index)->node_link;
        };
    }

    base::ranked_mutex<Rank, Os> mutex_;
    std::atomic<std::size_t> used_{0};  // records; they are numbered from 1, since 0 is "none"
    std::size_t chunk_committed_ TARN_GUARDED_BY(mutex_) = 0;  // of the newest chunk
    std::array<std::atomic<T*>, chunks_max> chunks_{};
    std::atomic<std::size_t> committed_bytes_{0};
    std::atomic<std::size_t> reserved_chunks_{0};
    base::tagged_stack free_;
    alignas(T) std::array<std::byte, is_inside(0) ? chunk_bytes : 0> first_chunk_{};
};

}  // namespace tarn::impl::space
