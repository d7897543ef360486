// tarn/detail/single_blocks.hpp - single_blocks: blocks of a pool that come from its upstream one
// by one, for tools that look at memory.
//
// Threads    one at a time
// Always     knows which blocks are allocated. Under Valgrind's memcheck the last blocks that came
//            back are held and may not be touched, and it is told of each block; else they go
//            upstream at once.
// Cost       the upstream's, and a hash set's
#pragma once

#include <array>
#include <cstddef>
#include <memory_resource>
#include <unordered_set>
#include <utility>

#include <tarn/detail/poison.hpp>

namespace tarn::detail {

class single_blocks {
public:
    single_blocks(std::size_t bytes, std::size_t alignment, std::pmr::memory_resource* upstream)
        : bytes_{bytes}, alignment_{alignment}, upstream_{upstream}, allocated_(upstream) {
        begin_watched_pool(this);
    }

    single_blocks(single_blocks const&) = delete;
    single_blocks& operator=(single_blocks const&) = delete;

    ~single_blocks() {
        clear();
        end_watched_pool(this);
    }

    /// Errors: what the upstream throws.
    [[nodiscard]] void* allocate() {
        void* const block = upstream_->allocate(bytes_, alignment_);
        try {
            allocated_.insert(block);
        } catch (...) {
            upstream_->deallocate(block, bytes_, alignment_);
            throw;
        }
        watch_allocated(this, block, bytes_);
        return block;
    }

    [[nodiscard]] bool contains(void const* ptr) const noexcept {
        return allocated_.contains(const_cast<void*>(ptr));
    }

    /// `block`: is allocated.
    void release(void* block) noexcept {
        allocated_.erase(block);
        watch_freed(this, block);
        if (is_watched_) {
            block = std::exchange(held_[next_held_], block);
            next_held_ = (next_held_ + 1) % held_.size();
        }
        give_back(block);
    }

    void clear() noexcept {
        for (void* const each : allocated_) {
            watch_freed(this, each);
            give_back(each);
        }
        allocated_.clear();
        for (void*& each : held_) {
            give_back(std::exchange(each, nullptr));
        }
    }

    /// Number of allocated blocks.
    [[nodiscard]] std::size_t size() const noexcept { return allocated_.size(); }

    template <class Visit>
    void for_each(Visit visit) const {
        for (void* const each : allocated_) {
            visit(each);
        }
    }

private:
    void give_back(void* block) noexcept {
        if (block != nullptr) {
            unpoison_if_watched(block);
            upstream_->deallocate(block, bytes_, alignment_);
        }
    }

    void unpoison_if_watched(void* block) const noexcept {
        if (is_watched_) {
            unpoison(block, bytes_);
        }
    }

    std::size_t bytes_;
    std::size_t alignment_;
    std::pmr::memory_resource* upstream_;
    bool is_watched_ = is_under_memcheck();
    std::pmr::unordered_set<void*> allocated_;
    std::array<void*, 256> held_{};  // a ring; null: none
    std::size_t next_held_ = 0;
};

}  // namespace tarn::detail
