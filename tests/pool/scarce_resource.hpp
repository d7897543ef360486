// pool/scarce_resource.hpp - an upstream with a limit, that fails for some calls or for all after
// one.
#pragma once

#include <cstddef>
#include <limits>
#include <memory_resource>
#include <new>

namespace tarn::test {

class scarce_resource final : public std::pmr::memory_resource {
public:
    static constexpr std::size_t never = std::numeric_limits<std::size_t>::max();

    std::size_t live_blocks = 0;
    std::size_t live_bytes = 0;
    std::size_t peak_bytes = 0;
    std::size_t calls = 0;           // allocations asked for
    std::size_t fail_at = never;     // this call fails, counted from 0,
    std::size_t fail_until = never;  // and those after it before that one
    std::size_t bytes_most = never;  // what would exceed it fails

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        std::size_t const call = calls++;
        if ((call >= fail_at && call < fail_until) || bytes > bytes_most - live_bytes) {
            throw std::bad_alloc{};
        }
        void* const block = std::pmr::new_delete_resource()->allocate(bytes, alignment);
        ++live_blocks;
        live_bytes += bytes;
        peak_bytes = live_bytes > peak_bytes ? live_bytes : peak_bytes;
        return block;
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
        --live_blocks;
        live_bytes -= bytes;
        std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
    }

    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }
};

}  // namespace tarn::test
