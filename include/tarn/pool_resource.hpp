// tarn/pool_resource.hpp - pool_resource: a std::pmr::memory_resource of pools, one for each size.
//
// Threads    one at a time
// Always     requests of up to 512 bytes are served by pools for each multiple of 8 bytes, others
//            by the upstream. Memory goes back as in block_pool. release() and the end give
//            everything back, what is still allocated too: the larger blocks are linked for that,
//            which costs 32 bytes or their alignment each.
// Errors     std::bad_alloc; std::invalid_argument where an alignment is no power of two. What is
//            given back with another size than it was asked for, or is not of this resource, is
//            reported (option on_misuse: abort), as far as its size leads to a pool
// Cost       a virtual call and a pool's few instructions
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
#include <stdexcept>

#include <tarn/detail/block_store.hpp>
#include <tarn/detail/listed_owner.hpp>
#include <tarn/detail/misuse.hpp>
#include <tarn/memory_resource.hpp>

namespace tarn {

class pool_resource final : public std::pmr::memory_resource {
public:
    /// `name`: for statistics and reports; must outlive the resource.
    explicit pool_resource(std::pmr::memory_resource* upstream = malloc_resource(),
                           char const* name = "") noexcept
        : owner_{"pool_resource", name}, upstream_{upstream}, none_{upstream} {
        pools_.fill(&none_);
    }

    pool_resource(pool_resource const&) = delete;
    pool_resource& operator=(pool_resource const&) = delete;

    ~pool_resource() override { release(); }

    /// Gives everything back, also what is still allocated.
    void release() noexcept {
        for (detail::block_store*& each : pools_) {
            if (each != &none_) {
                std::destroy_at(each);
                upstream_->deallocate(each, sizeof(detail::block_store), store_alignment);
                each = &none_;
            }
        }
        while (large_ != nullptr) {
            give_back(*large_);
        }
    }

    /// Gives chunks without blocks back. Returns their bytes.
    std::size_t trim() noexcept {
        std::size_t bytes = 0;
        for (detail::block_store* const each : pools_) {
            bytes += each->trim();
        }
        return bytes;
    }

    [[nodiscard]] std::pmr::memory_resource* upstream() const noexcept { return upstream_; }

private:
    static constexpr std::size_t step = 8;
    static constexpr std::size_t bytes_most = 512;
    static constexpr std::size_t pool_count = bytes_most / step;
    static constexpr std::size_t store_alignment = 64;  // a line

    /// In front of a block of the upstream's.
    struct large_block {
        large_block* next;
        large_block* previous;
        std::size_t bytes;  // with this
        std::size_t alignment;
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        std::size_t const index = index_of(bytes, alignment);
        if (index >= pools_.size()) [[unlikely]] {
            return allocate_large(bytes, alignment);
        }
        void* const block = pools_[index]->allocate();
        return block != nullptr ? block : allocate_first(index);
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
        std::size_t const index = index_of(bytes, alignment);
        if (index >= pools_.size()) [[unlikely]] {
            return deallocate_large(block, alignment);
        }
        detail::block_store& pool = *pools_[index];
        if (!pool.accepts(block)) [[unlikely]] {
            return deallocate_slow(pool, block);
        }
        pool.release(block);
    }

    [[nodiscard]] bool do_is_equal(memory_resource const& other) const noexcept override {
        return this == &other;
    }

    /// Of a pool; beyond all of them: the request is none's.
    static std::size_t index_of(std::size_t bytes, std::size_t alignment) noexcept {
        if (alignment - 1 >= step || (alignment & (alignment - 1)) != 0 || bytes == 0)
            [[unlikely]] {
            return index_of_aligned(bytes, alignment);
        }
        return (bytes - 1) / step;
    }

    [[gnu::noinline]] static std::size_t index_of_aligned(std::size_t bytes,
                                                          std::size_t alignment) noexcept {
        if (bytes > bytes_most || alignment > bytes_most || !std::has_single_bit(alignment)) {
            return pool_count;
        }
        std::size_t const to = std::max(alignment, step);
        return (std::max<std::size_t>(bytes, 1) + to - 1) / to * to / step - 1;
    }

    [[gnu::noinline]] void* allocate_first(std::size_t index) {
        std::size_t const bytes = (index + 1) * step;
        std::size_t const alignment = bytes & (~bytes + 1);  // whatever a block of it may ask for
        void* const memory = upstream_->allocate(sizeof(detail::block_store), store_alignment);
        try {
            pools_[index] = ::new (memory)
                detail::block_store{{bytes, alignment}, detail::block_store::unbounded, upstream_};
        } catch (...) {
            upstream_->deallocate(memory, sizeof(detail::block_store), store_alignment);
            throw;
        }
        pools_[index]->tell(owner_.get());
        return pools_[index]->allocate();
    }

    [[gnu::noinline]] void deallocate_slow(detail::block_store& pool, void* block) const noexcept {
        detail::block_verdict const verdict = pool.judge(block);
        if (verdict != detail::block_verdict::fine) {
            return report(block, verdict);
        }
        pool.release_judged(block);
    }

    static std::size_t offset_for(std::size_t alignment) noexcept {
        return (sizeof(large_block) + alignment - 1) & ~(alignment - 1);
    }

    [[gnu::noinline]] void* allocate_large(std::size_t bytes, std::size_t alignment) {
        if (!std::has_single_bit(alignment)) {
            throw std::invalid_argument{"tarn::pool_resource: alignment is no power of two"};
        }
        alignment = alignment < alignof(large_block) ? alignof(large_block) : alignment;
        std::size_t const offset = offset_for(alignment);
        if (bytes > std::numeric_limits<std::size_t>::max() - offset) {
            throw std::bad_alloc{};
        }
        void* const memory = upstream_->allocate(bytes + offset, alignment);
        auto* const made = ::new (memory) large_block{large_, nullptr, bytes + offset, alignment};
        if (large_ != nullptr) {
            large_->previous = made;
        }
        large_ = made;
        tell_of_large(static_cast<std::int64_t>(made->bytes));
        return static_cast<std::byte*>(memory) + offset;
    }

    [[gnu::noinline]] void deallocate_large(void* block, std::size_t alignment) noexcept {
        if (block == nullptr) {
            return;
        }
        alignment = alignment < alignof(large_block) ? alignof(large_block) : alignment;
        give_back(*reinterpret_cast<large_block*>(static_cast<std::byte*>(block) -
                                                  offset_for(alignment)));
    }

    void give_back(large_block& gone) noexcept {
        (gone.previous != nullptr ? gone.previous->next : large_) = gone.next;
        if (gone.next != nullptr) {
            gone.next->previous = gone.previous;
        }
        tell_of_large(-static_cast<std::int64_t>(gone.bytes));
        upstream_->deallocate(&gone, gone.bytes, gone.alignment);
    }

    void tell_of_large(std::int64_t bytes) noexcept { tarn_owner_add(owner_.get(), bytes, bytes); }

    [[gnu::cold, gnu::noinline]] void report(void const* block,
                                             detail::block_verdict verdict) const noexcept {
        if (block != nullptr) {
            detail::report(
                {owner_.kind(), owner_.name(), "deallocate", block, detail::reason(verdict)});
        }
    }

    detail::listed_owner owner_;
    std::pmr::memory_resource* upstream_;
    large_block* large_ = nullptr;
    detail::block_store none_;                            // without a block
    std::array<detail::block_store*, pool_count> pools_;  // those not used yet: none_
};

}  // namespace tarn
