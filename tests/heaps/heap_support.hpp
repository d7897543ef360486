// heaps/heap_support.hpp - heaps that end with their scope, and what they hold.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "tarn/tarn.h"

namespace tarn::test {

/// A heap of the C interface.
class c_heap {
public:
    explicit c_heap(char const* name = nullptr, std::uint64_t limit_bytes = 0) {
        tarn_heap_options options{};
        options.size = sizeof options;
        options.name = name;
        options.limit_bytes = limit_bytes;
        heap_ = tarn_heap_create(&options);
        EXPECT_NE(heap_.id, 0U);
    }

    c_heap(c_heap const&) = delete;
    c_heap& operator=(c_heap const&) = delete;

    ~c_heap() {
        if (heap_.id != 0) {
            destroy();
        }
    }

    void destroy() { EXPECT_EQ(tarn_heap_destroy(std::exchange(heap_, {})), 0); }

    [[nodiscard]] tarn_heap handle() const { return heap_; }

    [[nodiscard]] void* allocate(std::size_t bytes) const { return tarn_heap_malloc(heap_, bytes); }

    [[nodiscard]] tarn_heap_stats stats() const {
        tarn_heap_stats result{};
        result.size = sizeof result;
        EXPECT_EQ(tarn_heap_stats_get(heap_, &result), 0);
        return result;
    }

private:
    tarn_heap heap_{};
};

struct live_block {
    void* start;
    std::size_t bytes;

    friend bool operator==(live_block const&, live_block const&) = default;
    friend auto operator<=>(live_block const&, live_block const&) = default;
};

/// What tarn_heap_walk() finds.
inline std::vector<live_block> walk(tarn_heap heap) {
    std::vector<live_block> found;
    auto const visit = [](void* start, std::size_t bytes, void* context) {
        static_cast<std::vector<live_block>*>(context)->push_back({start, bytes});
        return 0;
    };
    EXPECT_EQ(tarn_heap_walk(heap, visit, &found), 0);
    return found;
}

}  // namespace tarn::test
