// tarn/detail/block_store.hpp - block_store: equal blocks from chunks, for pools.
//
// Threads    one at a time
// Always     What is freed is the next to be handed out, from a list that mixes the blocks of all
//            chunks: the cache. Now and then, by a count of frees, it is cut to one chunk's worth,
//            and the rest goes to the lists of its chunks; a chunk that has all its blocks goes
//            back, but for four. New blocks come from the start of the newest chunk to its end.
//            A free block begins with the link of its list and, from 16 bytes on, a key that tells
//            a second return; an allocated block does not have it unless the program writes it.
// Cost       constant, but for what the upstream takes; destruction: O(chunks). A pointer is looked
//            up in a table of chunks, and before that in the chunk of the last one. A header of 64
//            bytes for each chunk of 16 KiB, or 16 blocks
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory_resource>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <unordered_set>
#include <utility>
#include <vector>

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

class block_store {
public:
    static constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

    /// At most `blocks_most` blocks, in chunks from `upstream`.
    block_store(block_shape shape, std::size_t blocks_most, std::pmr::memory_resource* upstream)
        : block_store{shape, upstream} {
        blocks_most_ = blocks_most;
        if (tarn_pools_are_plain() != 0) {
            plain_.emplace();
        }
    }

    /// In `buffer` alone.
    block_store(block_shape shape, std::span<std::byte> buffer)
        : block_store{shape, std::pmr::null_memory_resource()} {
        std::uintptr_t const head = align_up(address(buffer.data()), alignof(chunk));
        std::uintptr_t const begin = align_up(head + sizeof(chunk), alignment_);
        std::uintptr_t const end = address(buffer.data()) + buffer.size();
        if (begin > end || end - begin < block_bytes_) {
            throw std::invalid_argument{buffer_too_small};
        }
        blocks_most_ = (end - begin) / block_bytes_;
        if (end - begin > std::numeric_limits<std::uint32_t>::max()) {
            divisor_ = 0;
        }
        own_ = ::new (pointer(head)) chunk{};
        own_->begin = begin;
        own_->blocks = blocks_most_;
        blocks_made_ = blocks_most_;
        enter(*own_);
    }

    block_store(block_store const&) = delete;
    block_store& operator=(block_store const&) = delete;

    ~block_store() { give_all_back(); }

    /// Null: the bound is met. std::bad_alloc of the upstream's passes through.
    [[nodiscard]] void* allocate() {
        free_block* const block = free_;
        if (block == nullptr) [[unlikely]] {
            return made_ != room_ ? make() : allocate_slow();
        }
        free_ = block->next;
        if (has_key_) [[likely]] {
            static_cast<marked_block*>(block)->key = 0;
        }
        return block;
    }

    /// Looks at a pointer that may be any.
    [[nodiscard]] block_verdict judge(void const* ptr) const noexcept {
        if (address(ptr) - near_begin_ >= near_bytes_ && !find(ptr)) [[unlikely]] {
            return plain_ && plain_->contains(const_cast<void*>(ptr)) ? block_verdict::fine
                                                                      : block_verdict::foreign;
        }
        std::uintptr_t const offset = address(ptr) - near_begin_;
        if (!is_start(offset)) [[unlikely]] {
            return block_verdict::misaligned;
        }
        if (ptr == free_ || (has_key_ && static_cast<marked_block const*>(ptr)->key == key_))
            [[unlikely]] {
            return judge_marked(ptr);
        }
        return block_verdict::fine;
    }

    /// `ptr`: judge() found it fine, and nothing has happened to the store since.
    void release(void* ptr) noexcept {
        if (plain_) [[unlikely]] {
            release_plain(ptr);
            return;
        }
        push(free_, ptr);
        if (--frees_left_ == 0) [[unlikely]] {
            return_cached(cached_most_);
        }
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
        return plain_ ? plain_->size() * block_bytes_ : chunks_.size() * chunk_bytes_;
    }

    /// Calls visit(void*) for each allocated block, which may not use the store. Allocates nothing.
    /// Cost: O(blocks), and sorting the lists of free ones.
    template <class Visit>
    void for_each(Visit visit);

private:
    struct free_block {
        free_block* next;
    };

    struct marked_block : free_block {
        std::uintptr_t key;
    };

    struct chunk {
        chunk* next = nullptr;  // in the list of chunks with free blocks
        chunk* previous = nullptr;
        free_block* free = nullptr;
        std::uintptr_t begin = 0;  // of the first block
        std::size_t blocks = 0;    // that fit
        std::size_t outside = 0;   // not in the chunk's list: allocated, cached or not made yet
        std::size_t place = 0;     // in chunks_
    };

    block_store(block_shape shape, std::pmr::memory_resource* upstream);

    static std::uintptr_t address(void const* ptr) noexcept {
        return reinterpret_cast<std::uintptr_t>(ptr);
    }

    static void* pointer(std::uintptr_t at) noexcept { return reinterpret_cast<void*>(at); }

    static constexpr std::uintptr_t align_up(std::uintptr_t at, std::size_t to) noexcept {
        return (at + to - 1) & ~(std::uintptr_t{to} - 1);
    }

    [[nodiscard]] bool is_start(std::uintptr_t offset) const noexcept {
        // n * ceil(2^64 / d) wraps to less than that exactly for multiples of d (D. Lemire et al.,
        // "Faster remainder by direct computation", 2019), for offsets below 2^32.
        return offset * divisor_ < divisor_ || (divisor_ == 0 && offset % block_bytes_ == 0);
    }

    void push(free_block*& list, void* ptr) const noexcept {
        if (has_key_) [[likely]] {
            list = ::new (ptr) marked_block{{list}, key_};
        } else {
            list = ::new (ptr) free_block{list};
        }
    }

    [[nodiscard]] void* make() noexcept {
        void* const fresh = pointer(begin_ + made_);
        made_ += block_bytes_;
        if (has_key_) [[likely]] {
            ::new (fresh) marked_block{{nullptr}, 0};  // the chunk may have been one before
        }
        return fresh;
    }

    [[nodiscard]] bool find(void const* ptr) const noexcept;
    [[nodiscard]] block_verdict judge_marked(void const* ptr) const noexcept;
    [[nodiscard]] void* allocate_slow();
    [[nodiscard]] void* allocate_plain();
    void release_plain(void* ptr) noexcept;
    [[nodiscard]] static free_block* sorted(free_block* list, std::size_t length) noexcept;
    void return_cached(std::size_t left) noexcept;
    [[nodiscard]] chunk& add_chunk();
    void enter(chunk& fresh) noexcept;
    void link(chunk& partial) noexcept;
    void unlink(chunk& partial) noexcept;
    void remove(chunk& empty) noexcept;
    void give_back(chunk& gone) noexcept;
    void give_all_back() noexcept;
    [[nodiscard]] chunk* chunk_of(void const* ptr) const noexcept;
    [[nodiscard]] std::size_t slot_of(std::uintptr_t base) const noexcept;
    void rebuild_table();

    // What every call uses.
    free_block* free_ = nullptr;             // the cache
    std::size_t frees_left_ = 0;             // until a look at its length
    mutable std::uintptr_t near_begin_ = 0;  // the blocks of a chunk that were made
    mutable std::size_t near_bytes_ = 0;
    std::uint64_t divisor_ = 0;
    std::uintptr_t key_ = 0;
    bool has_key_ = false;
    std::size_t block_bytes_ = 0;
    std::uintptr_t begin_ = 0;  // of the newest chunk's first block
    std::size_t made_ = 0;      // bytes of it that were handed out at least once
    std::size_t room_ = 0;      // bytes of it that blocks fill

    std::optional<std::unordered_set<void*>> plain_;  // with pools=plain: what is allocated
    std::size_t cached_most_ = 0;                     // after a look
    std::size_t alignment_ = 0;
    std::size_t chunk_bytes_ = 0;  // also their alignment
    std::size_t blocks_most_ = 0;
    std::size_t blocks_made_ = 0;  // that fit in all chunks
    std::pmr::memory_resource* upstream_ = nullptr;
    chunk* newest_ = nullptr;   // while it has blocks not made yet; the user's buffer always
    chunk* partial_ = nullptr;  // with blocks in their lists
    std::size_t empty_ = 0;     // of those: with all blocks
    chunk* own_ = nullptr;      // in the user's buffer
    std::pmr::vector<chunk*> chunks_;
    std::pmr::vector<chunk*> table_;  // by address, open addressing; a power of two
};

inline block_store::block_store(block_shape shape, std::pmr::memory_resource* upstream)
    : upstream_{upstream}, chunks_{upstream}, table_{upstream} {
    if (shape.bytes == 0) {
        throw std::invalid_argument{"tarn: a pool of blocks without bytes"};
    }
    if (!std::has_single_bit(shape.alignment)) {
        throw std::invalid_argument{"tarn: a pool's alignment is no power of two"};
    }
    constexpr std::size_t most = std::size_t{1} << 46;
    if (shape.bytes > most || shape.alignment > most) {
        throw std::bad_array_new_length{};
    }
    alignment_ = std::max(shape.alignment, alignof(free_block));
    block_bytes_ = align_up(std::max(shape.bytes, sizeof(free_block)), alignment_);
    has_key_ = block_bytes_ >= 2 * sizeof(free_block);
    divisor_ = ~std::uint64_t{0} / block_bytes_ + 1;
    key_ = (address(this) * 0x9e37'79b9'7f4a'7c15) | 1;
    constexpr std::size_t blocks_least = 16;
    constexpr std::size_t bytes_least = std::size_t{16} * 1024;
    chunk_bytes_ = std::bit_ceil(
        std::max(bytes_least, align_up(sizeof(chunk), alignment_) + blocks_least * block_bytes_));
    cached_most_ = chunk_bytes_ / block_bytes_;
    frees_left_ = cached_most_;
}

inline std::size_t block_store::slot_of(std::uintptr_t base) const noexcept {
    std::uint64_t const mixed = (base / chunk_bytes_) * 0x9e37'79b9'7f4a'7c15;
    return static_cast<std::size_t>(mixed >> 32) & (table_.size() - 1);
}

inline block_store::chunk* block_store::chunk_of(void const* ptr) const noexcept {
    if (own_ != nullptr) {
        return own_;
    }
    if (table_.empty()) {
        return nullptr;
    }
    std::uintptr_t const base = address(ptr) & ~(std::uintptr_t{chunk_bytes_} - 1);
    for (std::size_t i = slot_of(base);; i = (i + 1) & (table_.size() - 1)) {
        if (table_[i] == nullptr || address(table_[i]) == base) {
            return table_[i];
        }
    }
}

/// Makes the chunk of a block the one that judge() looks at first. False: no block was ever there.
[[gnu::noinline]] inline bool block_store::find(void const* ptr) const noexcept {
    chunk const* const home = plain_ ? nullptr : chunk_of(ptr);
    if (home == nullptr) {
        return false;
    }
    std::size_t const bytes = home == newest_ ? made_ : home->blocks * block_bytes_;
    if (address(ptr) - home->begin >= bytes) {
        return false;
    }
    near_begin_ = home->begin;
    near_bytes_ = bytes;
    return true;
}

/// Whether the block is in a list, or the program has but written the key.
[[gnu::noinline]] inline block_verdict block_store::judge_marked(void const* ptr) const noexcept {
    for (free_block const* list : {static_cast<free_block const*>(free_),
                                   static_cast<free_block const*>(chunk_of(ptr)->free)}) {
        for (; list != nullptr; list = list->next) {
            if (list == ptr) {
                return block_verdict::returned_twice;
            }
        }
    }
    return block_verdict::fine;
}

[[gnu::noinline]] inline void block_store::release_plain(void* ptr) noexcept {
    plain_->erase(ptr);
    upstream_->deallocate(ptr, block_bytes_, alignment_);
}

/// Leaves so many blocks in the cache, those freed last.
[[gnu::noinline]] inline void block_store::return_cached(std::size_t left) noexcept {
    frees_left_ = cached_most_;
    free_block** link_to_rest = &free_;
    for (std::size_t i = 0; i < left && *link_to_rest != nullptr; ++i) {
        link_to_rest = &(*link_to_rest)->next;
    }
    free_block* rest = std::exchange(*link_to_rest, nullptr);
    constexpr std::size_t empty_most = 4;
    while (rest != nullptr) {
        free_block* const each = std::exchange(rest, rest->next);
        chunk& home = *chunk_of(each);
        if (home.free == nullptr) {
            link(home);
        }
        push(home.free, each);
        if (--home.outside == 0 && own_ == nullptr) {
            ++empty_;
            if (empty_ > empty_most) {
                remove(home);
            }
        }
    }
}

[[gnu::noinline]] inline void* block_store::allocate_plain() {
    if (plain_->size() >= blocks_most_) {
        return nullptr;
    }
    void* const block = upstream_->allocate(block_bytes_, alignment_);
    try {
        plain_->insert(block);
    } catch (...) {
        upstream_->deallocate(block, block_bytes_, alignment_);
        throw;
    }
    return block;
}

[[gnu::noinline]] inline void* block_store::allocate_slow() {
    if (plain_) {
        return allocate_plain();
    }
    if (partial_ != nullptr) {
        chunk& from = *partial_;
        unlink(from);
        free_ = std::exchange(from.free, nullptr);
        empty_ -= from.outside == 0 && own_ == nullptr ? 1 : 0;
        from.outside = from.blocks;
    } else if (blocks_made_ < blocks_most_) {
        enter(add_chunk());
    } else {
        return nullptr;
    }
    return allocate();
}

inline void block_store::enter(chunk& fresh) noexcept {
    newest_ = &fresh;
    fresh.outside = fresh.blocks;
    begin_ = fresh.begin;
    made_ = 0;
    room_ = fresh.blocks * block_bytes_;
}

inline void block_store::link(chunk& partial) noexcept {
    partial.previous = nullptr;
    partial.next = partial_;
    if (partial_ != nullptr) {
        partial_->previous = &partial;
    }
    partial_ = &partial;
}

inline void block_store::unlink(chunk& partial) noexcept {
    (partial.previous != nullptr ? partial.previous->next : partial_) = partial.next;
    if (partial.next != nullptr) {
        partial.next->previous = partial.previous;
    }
}

inline block_store::chunk& block_store::add_chunk() {
    std::size_t const header = align_up(sizeof(chunk), alignment_);
    if (2 * (chunks_.size() + 1) > table_.size()) {
        rebuild_table();
    }
    if (chunks_.size() == chunks_.capacity()) {
        chunks_.reserve(std::max<std::size_t>(8, 2 * chunks_.size()));
    }
    void* const memory = upstream_->allocate(chunk_bytes_, chunk_bytes_);
    auto* const fresh = ::new (memory) chunk{};
    fresh->begin = address(memory) + header;
    fresh->blocks = std::min((chunk_bytes_ - header) / block_bytes_, blocks_most_ - blocks_made_);
    fresh->place = chunks_.size();
    blocks_made_ += fresh->blocks;
    chunks_.push_back(fresh);
    std::size_t slot = slot_of(address(fresh));
    while (table_[slot] != nullptr) {
        slot = (slot + 1) & (table_.size() - 1);
    }
    table_[slot] = fresh;
    return *fresh;
}

inline void block_store::rebuild_table() {
    std::pmr::vector<chunk*> larger{std::max<std::size_t>(8, 2 * table_.size()), upstream_};
    table_.swap(larger);
    for (chunk* const each : chunks_) {
        std::size_t slot = slot_of(address(each));
        while (table_[slot] != nullptr) {
            slot = (slot + 1) & (table_.size() - 1);
        }
        table_[slot] = each;
    }
}

/// Gives a chunk back that has all its blocks in its list.
inline void block_store::remove(chunk& empty) noexcept {
    unlink(empty);
    --empty_;
    if (newest_ == &empty) {
        newest_ = nullptr;
        made_ = room_ = 0;
    }
    if (near_begin_ == empty.begin) {
        near_bytes_ = 0;
    }
    std::size_t slot = slot_of(address(&empty));
    while (table_[slot] != &empty) {
        slot = (slot + 1) & (table_.size() - 1);
    }
    // What follows may have been pushed on by this entry.
    std::size_t hole = slot;
    table_[hole] = nullptr;
    for (std::size_t i = (hole + 1) & (table_.size() - 1); table_[i] != nullptr;
         i = (i + 1) & (table_.size() - 1)) {
        std::size_t const wanted = slot_of(address(table_[i]));
        if (((i - wanted) & (table_.size() - 1)) >= ((i - hole) & (table_.size() - 1))) {
            table_[hole] = table_[i];
            table_[i] = nullptr;
            hole = i;
        }
    }
    chunks_[empty.place] = chunks_.back();
    chunks_[empty.place]->place = empty.place;
    chunks_.pop_back();
    blocks_made_ -= empty.blocks;
    give_back(empty);
}

inline void block_store::give_back(chunk& gone) noexcept {
    upstream_->deallocate(&gone, chunk_bytes_, chunk_bytes_);
}

inline void block_store::give_all_back() noexcept {
    for (chunk* const each : chunks_) {
        give_back(*each);
    }
    if (plain_) {
        for (void* const each : *plain_) {
            upstream_->deallocate(each, block_bytes_, alignment_);
        }
        plain_->clear();
    }
}

inline std::size_t block_store::live() const noexcept {
    if (plain_) {
        return plain_->size();
    }
    std::size_t count = 0;
    for (chunk const* const each : chunks_) {
        count += each->outside;
    }
    count += own_ != nullptr ? own_->outside : 0;
    for (free_block const* each = free_; each != nullptr; each = each->next) {
        --count;
    }
    return count - (room_ - made_) / block_bytes_;
}

inline std::size_t block_store::trim() noexcept {
    std::size_t const before = chunks_.size();
    return_cached(0);
    if (newest_ != nullptr && own_ == nullptr &&
        newest_->outside == (room_ - made_) / block_bytes_ && made_ != room_) {
        newest_->outside = 0;  // all that was made is back
        ++empty_;
    }
    chunk* next = nullptr;
    for (chunk* each = own_ == nullptr ? partial_ : nullptr; each != nullptr; each = next) {
        next = each->next;
        if (each->outside == 0) {
            remove(*each);
        }
    }
    return (before - chunks_.size()) * chunk_bytes_;
}

inline void block_store::clear() noexcept {
    free_ = nullptr;
    near_bytes_ = 0;
    partial_ = nullptr;
    empty_ = 0;
    newest_ = nullptr;
    made_ = room_ = 0;
    if (own_ != nullptr) {
        own_->free = nullptr;
        enter(*own_);
        return;
    }
    give_all_back();
    chunks_.clear();
    std::fill(table_.begin(), table_.end(), nullptr);
    blocks_made_ = 0;
}

/// Merge sort by address, in place.
inline block_store::free_block* block_store::sorted(free_block* list, std::size_t length) noexcept {
    if (length < 2) {
        return list;
    }
    free_block* middle = list;
    for (std::size_t i = 1; i < length / 2; ++i) {
        middle = middle->next;
    }
    free_block* second = sorted(std::exchange(middle->next, nullptr), length - length / 2);
    free_block* first = sorted(list, length / 2);
    free_block* result = nullptr;
    free_block** end = &result;
    while (first != nullptr && second != nullptr) {
        free_block*& lower = first < second ? first : second;
        *end = lower;
        end = &lower->next;
        lower = lower->next;
    }
    *end = first != nullptr ? first : second;
    return result;
}

template <class Visit>
void block_store::for_each(Visit visit) {
    if (plain_) {
        for (void* const each : *plain_) {
            visit(each);
        }
        return;
    }
    return_cached(0);
    auto const walk = [&](chunk& each) {
        bool const is_newest = &each == newest_;
        std::uintptr_t const end = each.begin + (is_newest ? made_ : each.blocks * block_bytes_);
        each.free = sorted(each.free, each.blocks - each.outside);
        free_block const* next = each.free;
        for (std::uintptr_t at = each.begin; at != end; at += block_bytes_) {
            if (at == address(next)) {
                next = next->next;
            } else {
                visit(pointer(at));
            }
        }
    };
    if (own_ != nullptr) {
        walk(*own_);
    }
    for (chunk* const each : chunks_) {
        walk(*each);
    }
}

}  // namespace tarn::detail
