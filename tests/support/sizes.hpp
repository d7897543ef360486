// support/sizes.hpp - sizes worth testing: the neighbours of every block size Tarn promises.
//
// The promise is written down here once more, apart from src/sizing: 16-byte steps to 256 bytes,
// eight steps per doubling to 128 KiB, slices beyond.
#pragma once

#include <cstddef>
#include <set>
#include <vector>

namespace tarn::test {

inline constexpr std::size_t kib = 1024;
inline constexpr std::size_t mib = 1024 * kib;
inline constexpr std::size_t gib = 1024 * mib;
inline constexpr std::size_t quantum = 16;
inline constexpr std::size_t linear_max = 256;
inline constexpr std::size_t small_max = 128 * kib;
#if defined(__x86_64__)
inline constexpr std::size_t slice_bytes = 16 * kib;
#else
inline constexpr std::size_t slice_bytes = 64 * kib;
#endif

/// Every block size up to small_max, then whole slices up to `max`.
inline std::vector<std::size_t> block_sizes(std::size_t max) {
    std::vector<std::size_t> sizes;
    for (std::size_t size = quantum; size <= linear_max; size += quantum) {
        sizes.push_back(size);
    }
    for (std::size_t low = linear_max; low < small_max; low *= 2) {
        for (std::size_t step = 1; step <= 8; ++step) {
            sizes.push_back(low + low / 8 * step);
        }
    }
    for (std::size_t size = small_max + slice_bytes; size <= max; size += slice_bytes) {
        sizes.push_back(size);
    }
    while (!sizes.empty() && sizes.back() > max) {
        sizes.pop_back();
    }
    return sizes;
}

/// 0, the smallest, and each block size up to `max` with the sizes one below and one above.
inline std::vector<std::size_t> edge_sizes(std::size_t max) {
    std::set<std::size_t> edges{0, 1, 2, 3, 7, 8, 9};
    for (std::size_t const size : block_sizes(max)) {
        edges.insert({size - 1, size, size + 1});
    }
    return {edges.begin(), edges.end()};
}

}  // namespace tarn::test
