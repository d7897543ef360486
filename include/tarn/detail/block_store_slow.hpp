// tarn/detail/block_store_slow.hpp - block_store: what its first allocations and frees, and every
// few hundred of them later, lead to. Included by block_store.hpp.
//
// Threads    as block_store.hpp
// Cost       as block_store.hpp
#pragma once

namespace tarn::detail {

inline block_store::block_store(block_shape shape, std::pmr::memory_resource* upstream)
    : upstream_{upstream}, chunks_{upstream} {
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
    block_bytes_ = block_bytes_for(shape);
    division_ = block_division{block_bytes_};
    key_offset_ = key_offset_for(block_bytes_);
    key_ = (address(this) * 0x9e37'79b9'7f4a'7c15) | 1;
    constexpr std::size_t blocks_least = 16;
    std::size_t const header = header_bytes();
    chunk_bytes_ = std::bit_ceil(std::max(granule_bytes, header + blocks_least * block_bytes_));
    chunk_blocks_ = (chunk_bytes_ - header) / block_bytes_;
    begin_batch({});
}

inline block_store::block_store(block_shape shape, std::span<std::byte> buffer)
    : block_store{shape, std::pmr::null_memory_resource()} {
    std::uintptr_t const head = align_up(address(buffer.data()), alignof(chunk));
    std::uintptr_t const begin = align_up(head + sizeof(chunk), alignment_);
    std::uintptr_t const end = address(buffer.data()) + buffer.size();
    if (begin > end || end - begin < block_bytes_) {
        throw std::invalid_argument{buffer_too_small};
    }
    blocks_most_ = (end - begin) / block_bytes_;
    own_ = ::new (pointer(head)) chunk{};
    own_->begin = begin;
    own_->blocks = blocks_most_;
    blocks_made_ = blocks_most_;
    chunk_blocks_ = unbounded;  // a batch never ends: nothing can go back
    enter(*own_);
    begin_batch({});
}

inline block_store::~block_store() {
    clear();
    if (singles_ != nullptr) {
        std::pmr::polymorphic_allocator<>{upstream_}.delete_object(singles_);
    }
    drop_ranges();
}

/// Null: no chunk that holds `ptr`.
inline block_store::chunk* block_store::chunk_of(void const* ptr) const noexcept {
    if (own_ != nullptr) {
        return own_;
    }
    std::uintptr_t const base = base_of(ptr);
    return chunks_.contains(base) ? static_cast<chunk*>(pointer(base)) : nullptr;
}

/// Makes the chunk of a block the one that accepts() looks at. False: no block was ever there.
inline bool block_store::find(void const* ptr) const noexcept {
    chunk const* const home = singles_ != nullptr ? nullptr : chunk_of(ptr);
    if (home == nullptr) {
        return false;
    }
    std::size_t const blocks = home == newest_ ? made_ : home->blocks;
    if (address(ptr) - home->begin >= blocks * block_bytes_) {
        return false;
    }
    near_range(ptr) = {home->begin, blocks};
    return true;
}

[[gnu::noinline]] inline block_verdict block_store::judge(void const* ptr) const noexcept {
    if (singles_ != nullptr && singles_->contains(ptr)) {
        return block_verdict::fine;
    }
    if (!find(ptr)) {
        return block_verdict::foreign;
    }
    block_range const& near = near_range(ptr);
    if (division_.quotient(address(ptr) - near.begin) >= near.blocks) {
        return block_verdict::misaligned;
    }
    return looks_free(ptr, fixed_shape<>{}) ? judge_marked(ptr) : block_verdict::fine;
}

/// Whether the block is in a list, or the program has but written the key.
inline block_verdict block_store::judge_marked(void const* ptr) const noexcept {
    bool is_free = contains(free_, ptr) || contains(chunk_of(ptr)->free, ptr);
    for (std::size_t i = 0; i < batches_; ++i) {
        is_free = is_free || contains(waiting_[i].list, ptr);
    }
    return is_free ? block_verdict::returned_twice : block_verdict::fine;
}

inline bool block_store::contains(free_block const* list, void const* ptr) noexcept {
    while (list != nullptr && list != ptr) {
        list = next_of(list);
    }
    return list != nullptr;
}

[[gnu::noinline]] inline void* block_store::allocate_slow() {
    if (singles_ != nullptr) {
        void* const block = singles_->size() < blocks_most_ ? singles_->allocate() : nullptr;
        tell_owner();
        return block;
    }
    if (batches_ != 0) {
        begin_batch(waiting_[--batches_]);
        return allocate();
    }
    if (partial_ != nullptr) {
        chunk& from = *partial_;
        unlink(from);
        empty_ -= from.outside == 0 && own_ == nullptr ? 1 : 0;
        listed_ -= from.blocks - from.outside;
        begin_batch({std::exchange(from.free, nullptr), from.blocks - from.outside});
        from.outside = from.blocks;
        tell_owner();
        return allocate();
    }
    begin_batch({});
    if (made_ == room_) {
        if (blocks_made_ >= blocks_most_) {
            return nullptr;
        }
        enter(add_chunk());
        tell_owner();
    }
    return make();
}

inline void* block_store::make() noexcept {
    void* const fresh = pointer(begin_ + made_ * block_bytes_);
    ++made_;
    if constexpr (is_asan_build) {
        unpoison(fresh, block_bytes_);
    }
    key_of(fresh, fixed_shape<>{}) = 0;  // the chunk may have been one before
    return fresh;
}

inline void block_store::enter(chunk& fresh) noexcept {
    newest_ = &fresh;
    fresh.outside = fresh.blocks;
    begin_ = fresh.begin;
    made_ = 0;
    room_ = fresh.blocks;
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

/// From here on `from` is the list that allocations take from, until the next count of frees ends:
/// one chunk's worth, 256 blocks of up to 256 bytes, or a 32nd of all blocks.
inline void block_store::begin_batch(batch const& from) noexcept {
    free_ = from.list;
    begun_length_ = from.length_most;
    std::size_t const few = std::min<std::size_t>(256, 64 * 1024 / block_bytes_);
    frees_in_batch_ = std::max({chunk_blocks_, few, blocks_made_ / 32});
    frees_left_ = frees_in_batch_;
}

[[gnu::noinline]] inline void block_store::end_batch() noexcept {
    std::size_t length_most = begun_length_ + frees_in_batch_;
    if (length_most > 2 * frees_in_batch_) {
        length_most = frees_in_batch_;
        return_list(cut_after(free_, length_most));
    }
    if (batches_ == batches_most) {
        free_block* const oldest = waiting_[0].list;
        std::move(waiting_.begin() + 1, waiting_.end(), waiting_.begin());
        --batches_;
        return_list(oldest);
    }
    waiting_[batches_] = {free_, length_most};
    ++batches_;
    begin_batch({});
    tell_owner();
}

/// Tells the owner's figures how what the store holds has changed.
inline void block_store::tell_owner() noexcept {
    if (owner_ == nullptr) {
        return;
    }
    std::size_t const held = own_ != nullptr ? own_->blocks * block_bytes_ : held_bytes();
    std::size_t const live =
        singles_ != nullptr ? held : (blocks_made_ - (room_ - made_) - listed_) * block_bytes_;
    tarn_owner_add(owner_, static_cast<std::int64_t>(held - told_held_bytes_),
                   static_cast<std::int64_t>(live - told_live_bytes_));
    told_held_bytes_ = held;
    told_live_bytes_ = live;
}

/// Leaves `length` blocks, at least one, in the list, and returns the rest.
inline free_block* block_store::cut_after(free_block* list, std::size_t length) noexcept {
    for (std::size_t i = 1; i < length && list != nullptr; ++i) {
        list = next_of(list);
    }
    if (list == nullptr) {
        return nullptr;
    }
    free_block* const rest = next_of(list);
    set_next(list, nullptr);
    return rest;
}

/// Gives blocks of the cache to the lists of their chunks.
inline void block_store::return_list(free_block* list) noexcept {
    constexpr std::size_t empty_least = 2;
    while (list != nullptr) {
        free_block* const each = std::exchange(list, next_of(list));
        chunk& home = own_ != nullptr ? *own_ : *static_cast<chunk*>(pointer(base_of(each)));
        if (home.free == nullptr) {
            link(home);
        }
        set_next(each, home.free);
        home.free = each;
        ++listed_;
        if (--home.outside == 0 && own_ == nullptr) {
            ++empty_;
            if (empty_ > empty_least + chunks_.size() / 8) {
                remove(home);
            }
        }
    }
}

inline void block_store::return_cached() noexcept {
    free_block* const current = free_;
    begin_batch({});
    return_list(current);
    while (batches_ != 0) {
        return_list(waiting_[--batches_].list);
    }
}

inline block_store::chunk& block_store::add_chunk() {
    chunks_.reserve_one();
    reserve_ranges();
    void* const memory = upstream_->allocate(chunk_bytes_, chunk_bytes_);
    auto* const fresh = ::new (memory) chunk{};
    fresh->begin = address(memory) + header_bytes();
    fresh->blocks = std::min(chunk_blocks_, blocks_most_ - blocks_made_);
    blocks_made_ += fresh->blocks;
    chunks_.insert(address(fresh));
    if constexpr (is_asan_build) {
        poison(pointer(fresh->begin), chunk_bytes_ - (fresh->begin - address(fresh)));
    }
    return *fresh;
}

/// Makes ranges_ long enough for one chunk more: twice the stretches of 16 KiB that blocks begin
/// in.
inline void block_store::reserve_ranges() {
    std::size_t const of_chunk = std::min(chunk_bytes_ / granule_bytes, chunk_blocks_);
    std::size_t const wanted = std::bit_ceil(2 * (chunks_.size() + 1) * of_chunk);
    if (wanted <= range_count()) {
        return;
    }
    auto* const longer =
        std::pmr::polymorphic_allocator<>{upstream_}.allocate_object<block_range>(wanted);
    std::uninitialized_fill_n(longer, wanted, block_range{});
    drop_ranges();
    ranges_ = longer;
    range_mask_ = (wanted - 1) * sizeof(block_range);
}

inline void block_store::drop_ranges() noexcept {
    if (ranges_ != &first_range_) {
        std::pmr::polymorphic_allocator<>{upstream_}.deallocate_object(ranges_, range_count());
    }
}

/// Gives a chunk back that has all its blocks in its list.
inline void block_store::remove(chunk& empty) noexcept {
    unlink(empty);
    --empty_;
    listed_ -= newest_ == &empty ? made_ : empty.blocks;
    if (newest_ == &empty) {
        newest_ = nullptr;
        made_ = room_ = 0;
    }
    std::size_t const granules = std::min(chunk_bytes_ / granule_bytes, range_count());
    for (std::size_t i = 0; i < granules; ++i) {
        block_range& near = near_range(pointer(address(&empty) + i * granule_bytes));
        if (near.begin == empty.begin) {
            near = {};
        }
    }
    chunks_.erase(address(&empty));
    blocks_made_ -= empty.blocks;
    give_back(empty);
}

inline void block_store::give_back(chunk& gone) noexcept {
    if constexpr (is_asan_build) {
        unpoison(&gone, chunk_bytes_);
    }
    upstream_->deallocate(&gone, chunk_bytes_, chunk_bytes_);
}

inline void block_store::give_all_back() noexcept {
    chunks_.for_each(
        [this](std::uintptr_t each) { give_back(*static_cast<chunk*>(pointer(each))); });
    chunks_.clear();
    if (singles_ != nullptr) {
        singles_->clear();
    }
    if (is_asan_build && own_ != nullptr) {
        unpoison(pointer(own_->begin), own_->blocks * block_bytes_);
    }
}

inline std::size_t block_store::live() const noexcept {
    if (singles_ != nullptr) {
        return singles_->size();
    }
    std::size_t count = own_ != nullptr ? own_->outside : 0;
    chunks_.for_each([&count](std::uintptr_t each) {
        count += static_cast<chunk const*>(pointer(each))->outside;
    });
    count -= length(free_) + (room_ - made_);
    for (std::size_t i = 0; i < batches_; ++i) {
        count -= length(waiting_[i].list);
    }
    return count;
}

inline std::size_t block_store::length(free_block const* list) noexcept {
    std::size_t count = 0;
    for (; list != nullptr; list = next_of(list)) {
        ++count;
    }
    return count;
}

inline std::size_t block_store::trim() noexcept {
    std::size_t const before = chunks_.size();
    return_cached();
    if (newest_ != nullptr && own_ == nullptr && newest_->outside == room_ - made_ &&
        made_ != room_) {
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
    tell_owner();
    return (before - chunks_.size()) * chunk_bytes_;
}

inline void block_store::clear() noexcept {
    give_all_back();
    partial_ = nullptr;
    empty_ = 0;
    batches_ = 0;
    listed_ = 0;
    newest_ = nullptr;
    made_ = room_ = 0;
    std::fill_n(ranges_, range_count(), block_range{});
    blocks_made_ = 0;
    if (own_ != nullptr) {
        own_->free = nullptr;
        blocks_made_ = own_->blocks;
        enter(*own_);
    }
    begin_batch({});
    tell_owner();
}

/// Merge sort by address, in place.
inline free_block* block_store::sorted(free_block* list, std::size_t length) noexcept {
    if (length < 2) {
        return list;
    }
    free_block* second = sorted(cut_after(list, length / 2), length - length / 2);
    free_block* first = sorted(list, length / 2);
    free_block* result = nullptr;
    free_block* last = nullptr;
    while (first != nullptr && second != nullptr) {
        free_block*& lower = first < second ? first : second;
        free_block* const taken = std::exchange(lower, next_of(lower));
        last != nullptr ? set_next(last, taken) : static_cast<void>(result = taken);
        last = taken;
    }
    free_block* const rest = first != nullptr ? first : second;
    last != nullptr ? set_next(last, rest) : static_cast<void>(result = rest);
    return result;
}

template <class Visit>
void block_store::visit_chunk(chunk& of, Visit& visit) {
    std::size_t const blocks = &of == newest_ ? made_ : of.blocks;
    of.free = sorted(of.free, of.blocks - of.outside);
    free_block const* next = of.free;
    for (std::size_t i = 0; i < blocks; ++i) {
        void* const block = pointer(of.begin + i * block_bytes_);
        if (block == next) {
            next = next_of(next);
        } else {
            visit(block);
        }
    }
}

template <class Visit>
void block_store::for_each(Visit visit) {
    if (singles_ != nullptr) {
        return singles_->for_each(visit);
    }
    return_cached();
    if (own_ != nullptr) {
        visit_chunk(*own_, visit);
    }
    chunks_.for_each(
        [&](std::uintptr_t each) { visit_chunk(*static_cast<chunk*>(pointer(each)), visit); });
}

}  // namespace tarn::detail
