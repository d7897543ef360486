// pool/counting_resource.hpp - an upstream that counts, checks sizes, and fails on demand.
#pragma once

#include <cstddef>
#include <map>
#include <memory_resource>
#include <new>
#include <utility>

namespace tarn::test {

class counting_resource final : public std::pmr::memory_resource {
public:
    /// The n-th allocation from the first fails.
    void fail_at(std::size_t nth) { fail_at_ = nth; }

    [[nodiscard]] bool has_failed() const { return allocations_ >= fail_at_; }

    /// Blocks that have not come back.
    [[nodiscard]] std::size_t live() const { return blocks_.size(); }

    [[nodiscard]] std::size_t live_bytes() const { return bytes_; }

    /// Deallocations with another size or alignment than the allocation's, or of no block.
    [[nodiscard]] std::size_t wrong() const { return wrong_; }

    [[nodiscard]] std::size_t allocations() const { return allocations_; }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        constexpr std::size_t most = std::size_t{1} << 40;  // a sanitizer's new would not throw
        if (++allocations_ == fail_at_ || bytes > most) {
            throw std::bad_alloc{};
        }
        void* const block = std::pmr::new_delete_resource()->allocate(bytes, alignment);
        blocks_[block] = {bytes, alignment};
        bytes_ += bytes;
        return block;
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
        auto const found = blocks_.find(block);
        if (found == blocks_.end() || found->second != std::pair{bytes, alignment}) {
            ++wrong_;
            return;
        }
        bytes_ -= bytes;
        blocks_.erase(found);
        std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
    }

    [[nodiscard]] bool do_is_equal(memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::map<void*, std::pair<std::size_t, std::size_t>> blocks_;
    std::size_t bytes_ = 0;
    std::size_t allocations_ = 0;
    std::size_t fail_at_ = static_cast<std::size_t>(-1);
    std::size_t wrong_ = 0;
};

}  // namespace tarn::test
