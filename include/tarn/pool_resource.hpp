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

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory_resource>
#include <new>
#include <optional>
#include <stdexcept>

#include <tarn/detail/block_store.hpp>
#include <tarn/detail/misuse.hpp>
#include <tarn/memory_resource.hpp>

namespace tarn {

class pool_resource final : public std::pmr::memory_resource {
public:
    explicit pool_resource(std::pmr::memory_resource* upstream = malloc_resource()) noexcept
        : upstream_{upstream} {}

    pool_resource(pool_resource const&) = delete;
    pool_resource& operator=(pool_resource const&) = delete;

    ~pool_resource() override { release(); }

    /// Gives everything back, also what is still allocated.
    void release() noexcept {
        for (std::optional<detail::block_store>& each : pools_) {
            each.reset();
        }
        while (large_ != nullptr) {
            give_back(*large_);
        }
    }

    /// Gives chunks without blocks back. Returns their bytes.
    std::size_t trim() noexcept {
        std::size_t bytes = 0;
        for (std::optional<detail::block_store>& each : pools_) {
            bytes += each ? each->trim() : 0;
        }
        return bytes;
    }

    [[nodiscard]] std::pmr::memory_resource* upstream() const noexcept { return upstream_; }

private:
    static constexpr std::size_t step = 8;
    static constexpr std::size_t bytes_most = 512;

    /// In front of a block of the upstream's.
    struct large_block {
        large_block* next;
        large_block* previous;
        std::size_t bytes;  // with this
        std::size_t alignment;
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        std::size_t const rounded = round(bytes, alignment);
        if (rounded > bytes_most) [[unlikely]] {
            return allocate_large(bytes, alignment);
        }
        std::optional<detail::block_store>& pool = pools_[rounded / step - 1];
        if (!pool) [[unlikely]] {
            make(pool, rounded);
        }
        return pool->allocate();
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
        std::size_t const rounded = round(bytes, alignment);
        if (rounded > bytes_most) [[unlikely]] {
            return deallocate_large(block, alignment);
        }
        std::optional<detail::block_store>& pool = pools_[rounded / step - 1];
        detail::block_verdict const verdict =
            pool ? pool->judge(block) : detail::block_verdict::foreign;
        if (verdict != detail::block_verdict::fine) [[unlikely]] {
            return report(block, verdict);
        }
        pool->release(block);
    }

    [[nodiscard]] bool do_is_equal(memory_resource const& other) const noexcept override {
        return this == &other;
    }

    /// Above bytes_most: not a pool's.
    static constexpr std::size_t round(std::size_t bytes, std::size_t alignment) noexcept {
        if (bytes > bytes_most || alignment > bytes_most || !std::has_single_bit(alignment)) {
            return bytes_most + 1;
        }
        std::size_t const to = alignment < step ? step : alignment;
        return bytes == 0 ? to : (bytes + to - 1) & ~(to - 1);
    }

    [[gnu::noinline]] void make(std::optional<detail::block_store>& pool, std::size_t bytes) const {
        std::size_t const alignment = bytes & (~bytes + 1);  // whatever a block of it may ask for
        pool.emplace(detail::block_shape{bytes, alignment}, detail::block_store::unbounded,
                     upstream_);
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
        upstream_->deallocate(&gone, gone.bytes, gone.alignment);
    }

    [[gnu::cold, gnu::noinline]] static void report(void const* block,
                                                    detail::block_verdict verdict) noexcept {
        if (block != nullptr) {
            detail::report({"pool_resource", "", "deallocate", block, detail::reason(verdict)});
        }
    }

    std::pmr::memory_resource* upstream_;
    large_block* large_ = nullptr;
    std::array<std::optional<detail::block_store>, bytes_most / step> pools_;
};

}  // namespace tarn
