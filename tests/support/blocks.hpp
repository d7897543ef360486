// support/blocks.hpp - blocks of tests that pass them between threads: made with a pattern, checked
// when freed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tarn/tarn.h"

#include "support/pattern.hpp"
#include "support/random.hpp"

namespace tarn::test {

struct stamped_block {
    void* start = nullptr;
    std::size_t bytes = 0;
    std::uint64_t pattern = 0;
};

/// Ends the process: for threads and forked children, where an assertion of a framework has no
/// place.
[[noreturn]] inline void stop_on(stamped_block const& block, char const* what) {
    std::fprintf(stderr, "%s: block %p of %zu bytes\n", what, block.start, block.bytes);
    std::abort();
}

inline stamped_block make_block(std::size_t bytes, std::uint64_t pattern) {
    stamped_block const block{.start = tarn_malloc(bytes), .bytes = bytes, .pattern = pattern};
    if (block.start == nullptr) {
        stop_on(block, "out of memory");
    }
    fill(block.start, bytes, pattern);
    return block;
}

inline stamped_block make_block(random_stream& random, std::size_t bytes_max) {
    std::size_t const bytes = random.size_up_to(bytes_max);
    return make_block(bytes, random.next());
}

inline void check_block(stamped_block const& block) {
    if (first_wrong(block.start, block.bytes, block.pattern) != intact) {
        stop_on(block, "content changed");
    }
}

/// Checks and frees; an empty record is allowed.
inline void drop_block(stamped_block& block) {
    if (block.start != nullptr) {
        check_block(block);
        tarn_free(block.start);
        block = {};
    }
}

inline tarn_stats stats_now() {
    tarn_stats stats{};
    stats.size = sizeof stats;
    if (tarn_stats_get(&stats) != 0) {
        std::fputs("no statistics\n", stderr);
        std::abort();
    }
    return stats;
}

}  // namespace tarn::test
