// tarn/detail/lock_free_chunks.hpp - lock_free_chunks: numbered blocks in chunks that only grow.
//
// Threads    any, without a lock; but for grow(), one at a time, and clear(), alone
// Always     Chunks stay until clear() or the end. Four have the same number of blocks, the next
//            four twice as many: so a number leads to its block by arithmetic, and some hundred
//            chunks are all there can be. Behind a chunk's blocks lies a link for each, which is an
//            atomic from when its block is made, whatever the block is used for.
// Cost       Memory: 4 bytes a block, and at most a quarter of the blocks not made yet. A number
//            to a block: some ten instructions. A pointer to its chunk: a look at each, the newest
//            first, of which the last four have half of all blocks
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <memory_resource>
#include <new>

#include <tarn/detail/atomic_policy.hpp>

namespace tarn::detail {

/// Number of a block, from 1; 0 is none.
enum class block_number : std::uint32_t { none = 0 };

inline constexpr std::uint64_t numbered_blocks_most = 0xffff'fffe;

template <atomic_policy Atomics>
class lock_free_chunks {
public:
    using link = typename Atomics::template atomic<block_number>;

    /// `block_bytes`: a multiple of `alignment`, which is at least that of a link.
    lock_free_chunks(std::size_t block_bytes, std::size_t alignment, std::uint64_t blocks_most,
                     std::pmr::memory_resource* upstream)
        : block_bytes_{block_bytes},
          alignment_{alignment},
          blocks_most_{std::min(blocks_most, numbered_blocks_most)},
          divisor_{~std::uint64_t{0} / block_bytes + 1},
          upstream_{upstream} {
        constexpr std::size_t bytes_wanted = std::size_t{16} * 1024;
        constexpr std::size_t blocks_least = 16;
        first_shift_ = static_cast<unsigned>(
            std::bit_width(std::max(bytes_wanted / block_bytes, blocks_least)) - 1);
    }

    lock_free_chunks(lock_free_chunks const&) = delete;
    lock_free_chunks& operator=(lock_free_chunks const&) = delete;

    ~lock_free_chunks() { clear(); }

    /// Where a block lies: its chunk, and its place among the chunk's blocks.
    struct place {
        unsigned chunk;
        std::uint64_t slot;
    };

    /// Of the block made after so many others.
    [[nodiscard]] place place_of(std::uint64_t index) const noexcept {
        std::uint64_t const unit = (index >> first_shift_) + per_size;
        auto const doublings = (static_cast<unsigned>(std::bit_width(unit)) - 3) % 64;
        auto const chunk = per_size * doublings + ((unit >> doublings) & (per_size - 1));
        return {static_cast<unsigned>(chunk), index - start_of(static_cast<unsigned>(chunk))};
    }

    [[nodiscard]] bool has(unsigned chunk) const noexcept {
        return chunk < chunks_.load(std::memory_order_acquire);  // pairs with the release in grow()
    }

    /// Number of blocks that a chunk is for.
    [[nodiscard]] std::uint64_t room(unsigned chunk) const noexcept {
        std::uint64_t const full = std::uint64_t{1} << (first_shift_ + chunk / per_size);
        return std::min(full, blocks_most_ - start_of(chunk));
    }

    /// Takes the memory of the next chunk, `chunk`. Errors: the upstream's; bad_array_new_length.
    void grow(unsigned chunk) {
        void* const memory = upstream_->allocate(chunk_bytes(chunk), alignment_);
        begins_[chunk].store(reinterpret_cast<std::uintptr_t>(memory), std::memory_order_relaxed);
        // release: pairs with the acquire in has() and find(). One word says that a chunk is there,
        // for those who make blocks of it and for those who look where a block lies.
        chunks_.store(chunk + 1, std::memory_order_release);
    }

    /// Makes the link of a block that was never used; gives the block.
    void* make(place const& at) noexcept {
        ::new (static_cast<void*>(link_at(at))) link{block_number::none};
        return block_at(at);
    }

    [[nodiscard]] void* block_of(block_number number) const noexcept {
        return block_at(place_of(static_cast<std::uint64_t>(number) - 1));
    }

    [[nodiscard]] link& link_of(block_number number) const noexcept {
        return *link_at(place_of(static_cast<std::uint64_t>(number) - 1));
    }

    /// `block`: one that was made.
    [[nodiscard]] block_number number_of(void const* block) const noexcept {
        range const home = find(block, numbered_blocks_most);
        std::uint64_t const slot = (address(block) - home.begin) / block_bytes_;
        return static_cast<block_number>(start_of(home.chunk) + slot + 1);
    }

    /// The blocks of a chunk that were made, and which chunk.
    struct range {
        std::uintptr_t begin = 0;
        std::size_t bytes = 0;
        unsigned chunk = 0;
    };

    /// Those among which `ptr` lies, where so many blocks were made; without bytes: none.
    [[nodiscard]] range find(void const* ptr, std::uint64_t made) const noexcept {
        // acquire: pairs with the release in grow().
        for (unsigned chunk = chunks_.load(std::memory_order_acquire); chunk-- > 0;) {
            range const each = range_of(chunk, made);
            if (address(ptr) - each.begin < each.bytes) {
                return each;
            }
        }
        return {};
    }

    /// Whether a block starts so many bytes after the first of its chunk.
    [[nodiscard]] bool is_start(std::size_t offset) const noexcept {
        // n * ceil(2^64 / d) wraps to less than that exactly for multiples of d (D. Lemire et al.,
        // "Faster remainder by direct computation", 2019), for n below 2^32.
        return offset <= std::numeric_limits<std::uint32_t>::max() ? offset * divisor_ < divisor_
                                                                   : offset % block_bytes_ == 0;
    }

    /// Calls visit(void*) for each block, where so many were made.
    template <class Visit>
    void for_each(std::uint64_t made, Visit visit) const {
        for (unsigned chunk = 0; chunk < chunks_.load(std::memory_order_acquire); ++chunk) {
            range const each = range_of(chunk, made);
            for (std::size_t offset = 0; offset != each.bytes; offset += block_bytes_) {
                visit(reinterpret_cast<void*>(each.begin + offset));
            }
        }
    }

    [[nodiscard]] std::size_t held_bytes() const noexcept {
        std::size_t bytes = 0;
        for (unsigned chunk = 0; chunk < chunks_.load(std::memory_order_acquire); ++chunk) {
            bytes += room(chunk) * (block_bytes_ + sizeof(link));
        }
        return bytes;
    }

    void clear() noexcept {
        for (unsigned chunk = chunks_.load(std::memory_order_relaxed); chunk-- > 0;) {
            std::uintptr_t const begin = begins_[chunk].load(std::memory_order_relaxed);
            begins_[chunk].store(0, std::memory_order_relaxed);
            upstream_->deallocate(reinterpret_cast<void*>(begin),
                                  room(chunk) * (block_bytes_ + sizeof(link)), alignment_);
        }
        chunks_.store(0, std::memory_order_relaxed);
    }

    [[nodiscard]] std::size_t block_bytes() const noexcept { return block_bytes_; }

    [[nodiscard]] std::uint64_t blocks_most() const noexcept { return blocks_most_; }

private:
    static constexpr unsigned per_size = 4;
    static constexpr unsigned chunks_most = per_size * 27;  // with 16 blocks in the first

    static std::uintptr_t address(void const* ptr) noexcept {
        return reinterpret_cast<std::uintptr_t>(ptr);
    }

    [[nodiscard]] std::uint64_t start_of(unsigned chunk) const noexcept {
        std::uint64_t const units = (std::uint64_t{per_size} + chunk % per_size)
                                    << (chunk / per_size);
        return (units - per_size) << first_shift_;
    }

    [[nodiscard]] std::size_t chunk_bytes(unsigned chunk) const {
        std::uint64_t const blocks = room(chunk);
        std::size_t const each = block_bytes_ + sizeof(link);
        if (blocks > std::numeric_limits<std::ptrdiff_t>::max() / each) {
            throw std::bad_array_new_length{};
        }
        return blocks * each;
    }

    [[nodiscard]] std::uintptr_t begin_of(unsigned chunk) const noexcept {
        // relaxed: the caller has seen chunks_, or got a block from somebody who had.
        return begins_[chunk].load(std::memory_order_relaxed);
    }

    [[nodiscard]] range range_of(unsigned chunk, std::uint64_t made) const noexcept {
        std::uint64_t const start = start_of(chunk);
        std::uint64_t const blocks = made <= start ? 0 : std::min(made - start, room(chunk));
        return {begin_of(chunk), blocks * block_bytes_, chunk};
    }

    [[nodiscard]] void* block_at(place const& at) const noexcept {
        return reinterpret_cast<void*>(begin_of(at.chunk) + at.slot * block_bytes_);
    }

    [[nodiscard]] link* link_at(place const& at) const noexcept {
        std::uintptr_t const links = begin_of(at.chunk) + room(at.chunk) * block_bytes_;
        return reinterpret_cast<link*>(links + at.slot * sizeof(link));
    }

    std::size_t block_bytes_;
    std::size_t alignment_;
    std::uint64_t blocks_most_;
    std::uint64_t divisor_;
    unsigned first_shift_ = 0;  // 2^this blocks in the first chunk
    std::pmr::memory_resource* upstream_;
    typename Atomics::template atomic<unsigned> chunks_{0};
    std::array<typename Atomics::template atomic<std::uintptr_t>, chunks_most> begins_{};
};

}  // namespace tarn::detail
