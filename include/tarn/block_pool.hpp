// tarn/block_pool.hpp - block_pool: blocks of one size, from chunks of their own or a buffer.
//
// Threads    one at a time
// Always     Blocks are aligned, uninitialised, and stay where they are. A pool over a buffer holds
//            nothing outside of it. Memory that no block has used stays untouched. A chunk whose
//            blocks all came back goes upstream, but for a few. A pool may move: blocks,
//            allocators and resources that point at it stay valid. Its end gives all blocks back;
//            no destructor runs. With option pools=plain, and under Valgrind's memcheck, each block
//            comes from the upstream itself; AddressSanitizer sees free blocks as poisoned.
//            Statistics list the pool by its name.
// Errors     std::bad_alloc: out of memory, or the bound is met; try_allocate() returns null.
//            deallocate() of what is no block of this pool, points into one, or was returned
//            before: a report (option on_misuse: abort), and the pool stays as it was;
//            deallocate_checked(): std::invalid_argument. A second return is seen where the block
//            has not been allocated again, and has 16 bytes or is the last one returned.
//            std::invalid_argument: no bytes, an alignment that is no power of two, a buffer too
//            small for one block; std::bad_array_new_length: a size beyond 2^46
// Cost       allocate(), deallocate(): a few instructions, no lock; the end: a free for each chunk
#pragma once

#include <cstddef>
#include <memory>
#include <memory_resource>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>

#include <tarn/detail/block_store.hpp>
#include <tarn/detail/pool_core.hpp>
#include <tarn/memory_resource.hpp>

namespace tarn {

struct block_pool_options {
    std::size_t block_bytes = 0;  // at least 1; rounded up to the alignment, and to 8
    std::size_t alignment = 16;   // in bytes, a power of two
    std::size_t blocks_most = detail::block_store::unbounded;
    char const* name = "";  // for reports and statistics; must outlive the pool
    std::pmr::memory_resource* upstream = malloc_resource();
};

class block_pool {
public:
    using options = block_pool_options;

    explicit block_pool(options const& wanted) : core_{make(wanted)} {}

    /// In `buffer` alone, which must outlive the pool; of `wanted`, upstream and blocks_most mean
    /// nothing here.
    block_pool(std::span<std::byte> buffer, options const& wanted) : core_{make(buffer, wanted)} {}

    block_pool(block_pool&& other) noexcept : core_{std::exchange(other.core_, nullptr)} {}

    block_pool& operator=(block_pool&& other) noexcept {
        std::swap(core_, other.core_);
        return *this;
    }

    block_pool(block_pool const&) = delete;
    block_pool& operator=(block_pool const&) = delete;

    ~block_pool() { detail::destroy_core(core_); }

    [[nodiscard]] void* allocate() {
        void* const block = core_->store.allocate();
        if (block == nullptr) [[unlikely]] {
            throw std::bad_alloc{};
        }
        return block;
    }

    /// Null where allocate() throws.
    [[nodiscard]] void* try_allocate() noexcept {
        try {
            return core_->store.allocate();
        } catch (...) {
            return nullptr;
        }
    }

    /// Null is allowed.
    void deallocate(void* block) noexcept {
        if (core_->store.accepts(block)) [[likely]] {
            return core_->store.release(block);
        }
        deallocate_slow(block);
    }

    /// Null is allowed.
    void deallocate_checked(void* block) {
        if (core_->store.accepts(block)) [[likely]] {
            return core_->store.release(block);
        }
        if (core_->demand("deallocate_checked", block, core_->store.judge(block))) {
            core_->store.release_judged(block);
        }
    }

    /// All blocks come back at once.
    void clear() noexcept { core_->store.clear(); }

    /// Gives all chunks back in which no block is allocated. Returns the bytes given back. Cost:
    /// the number of chunks, and of free blocks.
    std::size_t trim() noexcept { return core_->store.trim(); }

    /// Whether `ptr` is a block of this pool that may be given back.
    [[nodiscard]] bool owns(void const* ptr) const noexcept {
        return core_->store.judge(ptr) == detail::block_verdict::fine;
    }

    [[nodiscard]] std::size_t block_bytes() const noexcept { return core_->store.block_bytes(); }

    [[nodiscard]] std::size_t alignment() const noexcept { return core_->store.alignment(); }

    [[nodiscard]] std::size_t blocks_most() const noexcept { return core_->store.blocks_most(); }

    /// Number of allocated blocks. Cost: the number of chunks, and of blocks freed last.
    [[nodiscard]] std::size_t size() const noexcept { return core_->store.live(); }

    /// Bytes of its chunks.
    [[nodiscard]] std::size_t held_bytes() const noexcept { return core_->store.held_bytes(); }

    [[nodiscard]] char const* name() const noexcept { return core_->owner.name(); }

    /// Calls visit(void*) for each allocated block, in no order. It must not use the pool. Cost:
    /// all blocks.
    template <class Visit>
    void for_each(Visit visit) {
        core_->store.for_each(visit);
    }

private:
    using core = detail::pool_core<>;

    static detail::pool_names names(options const& wanted) noexcept {
        return {"block_pool", wanted.name};
    }

    static core* make(options const& wanted) {
        return detail::make_core<core>(wanted.upstream, names(wanted), shape(wanted),
                                       wanted.blocks_most);
    }

    static core* make(std::span<std::byte> buffer, options const& wanted) {
        void* start = buffer.data();
        std::size_t room = buffer.size();
        if (std::align(alignof(core), sizeof(core), start, room) == nullptr) {
            throw std::invalid_argument{detail::buffer_too_small};
        }
        auto* const behind = static_cast<std::byte*>(start) + sizeof(core);
        return ::new (start)
            core{names(wanted), shape(wanted), std::span{behind, room - sizeof(core)}};
    }

    static detail::block_shape shape(options const& wanted) noexcept {
        return {wanted.block_bytes, wanted.alignment};
    }

    [[gnu::cold, gnu::noinline]] void deallocate_slow(void* block) noexcept {
        if (core_->confirm("deallocate", block, core_->store.judge(block))) {
            core_->store.release_judged(block);
        }
    }

    core* core_;
};

}  // namespace tarn
