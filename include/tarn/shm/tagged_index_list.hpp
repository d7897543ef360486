// tarn/shm/tagged_index_list.hpp - tagged_index_list: a lock-free list of free numbers for memory
// that several threads or processes share.
//
// Role       As fast as a list can be, for memory of which no user dies: between taking a number
//            and writing down who has it, a death loses it. Pools that must survive that use
//            hint_bitmap.hpp.
// Threads    any thread of any process takes and gives back
// Always     The head is one 64-bit word, a number of 32 bits and a tag of 32 that each take()
//            advances: ABA needs exactly 2^32 of them, or a multiple, while one thread stalls.
//            No pointers inside: the links lie behind the head, wherever it is mapped.
// Cost       one compare-exchange per operation without contention
// Source     docs/design/lockfree.md; R. K. Treiber, IBM RJ 5118 (1986)
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include <tarn/detail/tagged_stack.hpp>

namespace tarn::shm {

/// Of the numbers 0 to count - 1. It lies in front of its links: bytes_for(count) in all, aligned
/// to 8.
template <tarn::detail::atomic_policy Atomics = tarn::detail::std_atomics>
class basic_tagged_index_list {
    using link = typename Atomics::template atomic<std::uint32_t>;

public:
    static constexpr std::uint32_t none = UINT32_MAX;

    static constexpr std::size_t bytes_for(std::uint32_t count) noexcept {
        return sizeof(basic_tagged_index_list) + std::size_t{count} * sizeof(link);
    }

    /// Makes one at `memory` with all numbers in it, the lowest first. count < 2^32 - 1.
    static basic_tagged_index_list* create(void* memory, std::uint32_t count) noexcept {
        auto* const list = ::new (memory) basic_tagged_index_list{count};
        for (std::uint32_t i = 0; i < count; ++i) {
            ::new (static_cast<void*>(list->links() + i)) link{0};
        }
        for (std::uint32_t i = count; i > 0; --i) {
            list->give(i - 1);
        }
        return list;
    }

    /// The number last given back, or none.
    std::uint32_t take() noexcept {
        std::uint32_t const node = free_.pop(link_of());
        return node == 0 || node > count_ ? none : node - 1;
    }

    /// `number` was taken, and is given back once.
    void give(std::uint32_t number) noexcept { free_.push(number + 1, link_of()); }

    [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

private:
    explicit basic_tagged_index_list(std::uint32_t count) noexcept : count_{count} {}

    link* links() noexcept { return reinterpret_cast<link*>(this + 1); }

    auto link_of() noexcept {
        // What was spoiled leads to the first link, not out of the array.
        return [this](std::uint32_t node) -> link& {
            return links()[node - 1 < count_ ? node - 1 : 0];
        };
    }

    tarn::detail::tagged_stack<Atomics, std::uint32_t, 32> free_;
    std::uint32_t count_;
    std::uint32_t unused_ = 0;
};

using tagged_index_list = basic_tagged_index_list<>;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace tarn::shm
