// tarn/detail/block_store.hpp - block_store: equal blocks from chunks, for pools.
//
// Threads    one at a time
// Always     What is freed is the next to be handed out, from a list that mixes the blocks of all
//            chunks. A count of frees cuts this list into batches that wait; where there are more
//            than a few, the oldest goes to the lists of its chunks, and a chunk that has all its
//            blocks goes back, but for a few. New blocks come from the start of the newest chunk to
//            its end, when nothing else is left.
//            A free block begins with the link of its list and, from 16 bytes on, has a key behind
//            it that tells a second return; an allocated block lacks it unless the program writes
//            it. accepts() is true for a block whose chunk was looked up before. Where a tool
//            watches, or with option pools=plain, it never is, and no list has blocks: all requests
//            then take the slow path.
// Cost       constant, but for what the upstream takes; destruction: O(chunks). allocate(): 7
//            instructions; accepts() and release(): 25, or
//            19 where the shape is known. A header of 64 bytes for each chunk of
//            16 KiB, or of 16 blocks, and 32 to 96 bytes of tables
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <memory_resource>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>

#include <tarn/detail/block_division.hpp>
#include <tarn/detail/chunk_table.hpp>
#include <tarn/detail/poison.hpp>
#include <tarn/detail/single_blocks.hpp>
#include <tarn/memory_resource.hpp>
#include <tarn/tarn.h>

namespace tarn::detail {

/// Whether a pointer may be given back.
enum class block_verdict : std::uint8_t { fine, foreign, misaligned, returned_twice };

[[nodiscard]] constexpr char const* reason(block_verdict verdict) noexcept {
    switch (verdict) {
        case block_verdict::foreign:
            return "not a block of this pool";
        case block_verdict::misaligned:
            return "not the start of a block of this pool";
        case block_verdict::returned_twice:
            return "returned before";
        default:
            return "fine";
    }
}

inline constexpr char const* buffer_too_small =
    "tarn: the buffer is too small for one block of a pool";

struct block_shape {
    std::size_t bytes = 0;      // of a block; made a multiple of the alignment
    std::size_t alignment = 8;  // a power of two
};

/// A free block. Programs put objects of any type there.
struct [[gnu::may_alias]] free_block {
    free_block* next;
};

/// The shape of a store, where it is known when the program is compiled: `Bytes` of a block. 0: the
/// store knows.
template <std::size_t Bytes = 0>
struct fixed_shape {};

class block_store {
public:
    static constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

    /// At most `blocks_most` blocks, in chunks from `upstream`.
    block_store(block_shape shape, std::size_t blocks_most, std::pmr::memory_resource* upstream)
        : block_store{shape, upstream} {
        blocks_most_ = blocks_most;
        if (tarn_pools_are_plain() != 0 || is_under_memcheck()) {
            singles_ = std::pmr::polymorphic_allocator<>{upstream}.new_object<single_blocks>(
                block_bytes_, alignment_, upstream);
        }
    }

    /// In `buffer` alone.
    block_store(block_shape shape, std::span<std::byte> buffer);

    /// For no blocks: allocate() is null.
    explicit block_store(std::pmr::memory_resource* upstream) noexcept
        : block_store{block_shape{8, 8}, upstream} {}

    block_store(block_store const&) = delete;
    block_store& operator=(block_store const&) = delete;

    ~block_store();

    /// The bytes of a block that `shape` asks for: what fixed_shape may say.
    [[nodiscard]] static constexpr std::size_t block_bytes_for(block_shape shape) noexcept {
        std::size_t const alignment = std::max(shape.alignment, alignof(free_block));
        return align_up(std::max(shape.bytes, sizeof(free_block)), alignment);
    }

    /// Null: the bound is met. std::bad_alloc of the upstream's passes through.
    template <std::size_t Bytes = 0>
    [[nodiscard]] void* allocate(fixed_shape<Bytes> shape = {}) {
        free_block* const block = free_;
        if (block == nullptr) [[unlikely]] {
            return allocate_slow();
        }
        if constexpr (is_asan_build) {
            unpoison(block, block_bytes_);
        }
        free_ = block->next;
        key_of(block, shape) = 0;
        return block;
    }

    /// Whether `ptr`, which may be any, is certainly a block to release(). If not, judge() knows.
    template <std::size_t Bytes = 0>
    [[nodiscard]] bool accepts(void const* ptr, fixed_shape<Bytes> shape = {}) const noexcept {
        block_range const& near = near_range(ptr);
        return division(shape).quotient(address(ptr) - near.begin) < near.blocks &&
               !looks_free(ptr, shape);
    }

    /// Says what `ptr` is, and makes accepts() true for the blocks beside it.
    [[nodiscard]] block_verdict judge(void const* ptr) const noexcept;

    /// `ptr`: accepts() was true, and nothing has happened to the store since that concerns it.
    template <std::size_t Bytes = 0>
    void release(void* ptr, fixed_shape<Bytes> shape = {}) noexcept {
        push(free_, ptr, shape);
        if (--frees_left_ == 0) [[unlikely]] {
            end_batch();
        }
    }

    /// `ptr`: judge() found it fine, likewise.
    void release_judged(void* ptr) noexcept {
        if (singles_ != nullptr) {
            singles_->release(ptr);
            tell_owner();
        } else {
            release(ptr);
        }
    }

    /// From here on the store's slow paths say there what it holds; until the store's end.
    void tell(tarn_owner* owner) noexcept {
        owner_ = owner;
        tell_owner();
    }

    /// Gives empty chunks back. Returns the bytes given back. Cost: O(chunks and cached blocks).
    std::size_t trim() noexcept;

    /// Gives all blocks back at once.
    void clear() noexcept;

    [[nodiscard]] std::size_t block_bytes() const noexcept { return block_bytes_; }

    [[nodiscard]] std::size_t alignment() const noexcept { return alignment_; }

    [[nodiscard]] std::size_t blocks_most() const noexcept { return blocks_most_; }

    /// Blocks that are allocated. Cost: O(chunks and cached blocks).
    [[nodiscard]] std::size_t live() const noexcept;

    /// From the upstream.
    [[nodiscard]] std::size_t held_bytes() const noexcept {
        return singles_ != nullptr ? singles_->size() * block_bytes_
                                   : chunks_.size() * chunk_bytes_;
    }

    /// Calls visit(void*) for each allocated block, which may not use the store. Allocates nothing.
    /// Cost: O(blocks), and sorting the lists of free ones.
    template <class Visit>
    void for_each(Visit visit);

private:
    struct chunk {
        chunk* next = nullptr;  // in the list of chunks with free blocks
        chunk* previous = nullptr;
        free_block* free = nullptr;
        std::uintptr_t begin = 0;  // of the first block
        std::size_t blocks = 0;    // that fit
        std::size_t outside = 0;   // not in the chunk's list: allocated, cached or not made yet
    };

    /// A chunk, or none: what accepts() looks at.
    struct block_range {
        std::uintptr_t begin = 0;
        std::size_t blocks = 0;  // made
    };

    struct [[gnu::may_alias]] key_word {
        std::uintptr_t value;
    };

    /// A list, part of the cache.
    struct batch {
        free_block* list = nullptr;
        std::size_t length_most = 0;
    };

    static constexpr std::size_t granule_bytes = std::size_t{16} * 1024;
    static constexpr std::size_t batches_most = 3;

    block_store(block_shape shape, std::pmr::memory_resource* upstream);

    static std::uintptr_t address(void const* ptr) noexcept {
        return reinterpret_cast<std::uintptr_t>(ptr);
    }

    static void* pointer(std::uintptr_t at) noexcept { return reinterpret_cast<void*>(at); }

    static constexpr std::uintptr_t align_up(std::uintptr_t at, std::size_t to) noexcept {
        return (at + to - 1) & ~(std::uintptr_t{to} - 1);
    }

    template <std::size_t Bytes>
    [[nodiscard]] block_division division(fixed_shape<Bytes> /*shape*/) const noexcept {
        if constexpr (Bytes == 0) {
            return division_;
        } else {
            constexpr block_division known{Bytes};
            return known;
        }
    }

    /// The second word; of a block of 8 bytes the first one, where the link then goes over it.
    static constexpr std::uint32_t key_offset_for(std::size_t bytes) noexcept {
        return bytes < 2 * sizeof(free_block) ? 0 : sizeof(free_block);
    }

    template <std::size_t Bytes>
    [[nodiscard]] std::uintptr_t& key_of(void* block, fixed_shape<Bytes> /*shape*/) const noexcept {
        std::size_t const offset = Bytes == 0 ? key_offset_ : key_offset_for(Bytes);
        return static_cast<key_word*>(pointer(address(block) + offset))->value;
    }

    /// `ptr`: a block. Whether it has the key, or is the one freed last.
    template <std::size_t Bytes>
    [[nodiscard]] TARN_DETAIL_READS_POISONED bool looks_free(
        void const* ptr, fixed_shape<Bytes> /*shape*/) const noexcept {
        std::size_t const offset = Bytes == 0 ? key_offset_ : key_offset_for(Bytes);
        bool const has_key =
            static_cast<key_word const*>(pointer(address(ptr) + offset))->value == key_;
        return has_key || (Bytes < 2 * sizeof(free_block) && ptr == free_);
    }

    [[nodiscard]] static TARN_DETAIL_READS_POISONED free_block* next_of(
        free_block const* block) noexcept {
        return block->next;
    }

    static TARN_DETAIL_READS_POISONED void set_next(free_block* block, free_block* next) noexcept {
        block->next = next;
    }

#pragma GCC diagnostic push
    // GCC 12 does not see that accepts() is false for what is no block, and warns of small objects.
#pragma GCC diagnostic ignored "-Warray-bounds"

    template <std::size_t Bytes = 0>
    void push(free_block*& list, void* ptr, fixed_shape<Bytes> shape = {}) const noexcept {
        key_of(ptr, shape) = key_;
        auto* const block = static_cast<free_block*>(ptr);
        block->next = list;
        list = block;
        if constexpr (is_asan_build) {
            poison(ptr, block_bytes_);
        }
    }

#pragma GCC diagnostic pop

    [[nodiscard]] block_range& near_range(void const* ptr) const noexcept {
        std::uintptr_t const at = address(ptr) / (granule_bytes / sizeof(block_range));
        return *static_cast<block_range*>(pointer(address(ranges_) + (at & range_mask_)));
    }

    [[nodiscard]] std::size_t range_count() const noexcept {
        return range_mask_ / sizeof(block_range) + 1;
    }

    /// From a chunk's start to its first block: blocks of whole lines begin at one.
    [[nodiscard]] std::size_t header_bytes() const noexcept {
        std::size_t const even_part = block_bytes_ & (~block_bytes_ + 1);
        return align_up(sizeof(chunk), std::max(alignment_, std::min<std::size_t>(64, even_part)));
    }

    /// The chunk's start, where a chunk of the store holds `ptr`.
    [[nodiscard]] std::uintptr_t base_of(void const* ptr) const noexcept {
        return address(ptr) & ~(std::uintptr_t{chunk_bytes_} - 1);
    }

    [[nodiscard]] chunk* chunk_of(void const* ptr) const noexcept;
    [[nodiscard]] bool find(void const* ptr) const noexcept;
    [[nodiscard]] block_verdict judge_marked(void const* ptr) const noexcept;
    [[nodiscard]] static bool contains(free_block const* list, void const* ptr) noexcept;
    [[nodiscard]] static std::size_t length(free_block const* list) noexcept;
    void* allocate_slow();
    [[nodiscard]] void* make() noexcept;
    void enter(chunk& fresh) noexcept;
    void link(chunk& partial) noexcept;
    void unlink(chunk& partial) noexcept;
    void end_batch() noexcept;
    void begin_batch(batch const& from) noexcept;
    [[nodiscard]] static free_block* cut_after(free_block* list, std::size_t length) noexcept;
    void return_list(free_block* list) noexcept;
    void return_cached() noexcept;
    void tell_owner() noexcept;
    chunk& add_chunk();
    void reserve_ranges();
    void drop_ranges() noexcept;
    void remove(chunk& empty) noexcept;
    void give_back(chunk& gone) noexcept;
    void give_all_back() noexcept;
    static free_block* sorted(free_block* list, std::size_t length) noexcept;
    template <class Visit>
    void visit_chunk(chunk& of, Visit& visit);

    // The first line: what each allocation and each free touch.
    free_block* free_ = nullptr;
    block_range* ranges_ = &first_range_;  // by address; each a chunk that is near, or none
    std::size_t range_mask_ = 0;           // in bytes
    std::uintptr_t key_ = 0;               // odd, so that it is no link
    block_division division_{8};
    std::uint32_t key_offset_ = 0;
    std::size_t frees_left_ = 0;  // until the batch ends

    std::size_t frees_in_batch_ = 0;
    std::size_t begun_length_ = 0;  // of free_ when the count of frees began, at most
    std::array<batch, batches_most> waiting_;
    std::size_t batches_ = 0;
    std::uintptr_t begin_ = 0;  // of the newest chunk's blocks
    std::size_t made_ = 0;      // their number
    std::size_t room_ = 0;      // made, and to be made
    std::size_t block_bytes_ = 0;
    std::size_t alignment_ = 0;
    std::size_t chunk_bytes_ = 0;   // also their alignment
    std::size_t chunk_blocks_ = 0;  // that fit in one
    std::size_t blocks_most_ = 0;
    std::size_t blocks_made_ = 0;  // that fit in all chunks
    std::pmr::memory_resource* upstream_ = nullptr;
    chunk* newest_ = nullptr;   // while it has blocks not made yet; the user's buffer always
    chunk* partial_ = nullptr;  // with blocks in their lists
    std::size_t empty_ = 0;     // of those: with all blocks
    chunk* own_ = nullptr;      // in the user's buffer
    single_blocks* singles_ = nullptr;
    std::size_t listed_ = 0;  // blocks in the lists of chunks
    tarn_owner* owner_ = nullptr;
    std::size_t told_held_bytes_ = 0;
    std::size_t told_live_bytes_ = 0;
    block_range first_range_;
    chunk_table chunks_;
};

}  // namespace tarn::detail

#include <tarn/detail/block_store_slow.hpp>
