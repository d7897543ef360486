// heap/block_set.hpp - block_set: which blocks of a page are in its free lists.
//
// Threads    whoever holds the page
// Cost       512 bytes on the stack (2 KiB where slices have 64 KiB)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "sizing/size_class.hpp"
#include "heap/page.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

/// Which blocks of a page are free.
class block_set {
public:
    explicit block_set(page const& of) noexcept : of_{of} {}

    /// Adds a list as far as it makes sense: a list cut off by the death of its writer may run
    /// into a block that was just handed out.
    void add_list(block const* list) noexcept {
        while (list != nullptr && pages.find(list) == &of_ && of_.starts_block(list)) {
            std::size_t const index = of_.index_of(list);
            std::uint64_t const bit = std::uint64_t{1} << (index % 64);
            if (index >= static_cast<std::size_t>(of_.capacity.get()) ||
                (words_[index / 64] & bit) != 0) {
                return;
            }
            add(index);
            list = read_link(list);
        }
    }

    /// Adds what is free by its state.
    void add_free_states() noexcept {
        for (int index = 0; index < of_.capacity.get(); ++index) {
            if (of_.states.get()[index].load(std::memory_order_acquire) <= state_zero) {
                add(static_cast<std::size_t>(index));
            }
        }
    }

    /// Adds one, which is not there yet.
    void add(std::size_t index) noexcept {
        words_[index / 64] |= std::uint64_t{1} << (index % 64);
        ++size_;
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    [[nodiscard]] bool contains(std::size_t index) const noexcept {
        return (words_[index / 64] >> (index % 64) & 1) != 0;
    }

private:
    static constexpr std::size_t blocks_max = sizing::page_blocks(1, sizing::class_slices_max(1));

    page const& of_;
    std::array<std::uint64_t, blocks_max / 64> words_{};
    std::size_t size_ = 0;
};

}  // namespace tarn::impl::heap
