// checking/checking.hpp - what the tests of mode debug share.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "support/random.hpp"

namespace tarn::test {

inline tarn_checks checks_now() {
    tarn_checks checks{};
    checks.size = sizeof checks;
    EXPECT_EQ(tarn_checks_get(&checks), 0) << "to be run with TARN_OPTIONS=mode=debug";
    return checks;
}

/// Threads that allocate and free until the end of the scope; each has begun at its start.
class busy_threads {
public:
    explicit busy_threads(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            threads_.emplace_back([this, i] { run(i); });
        }
        while (started_.load() < count) {
            std::this_thread::yield();
        }
    }

    ~busy_threads() {
        is_over_.store(true);
        for (std::thread& each : threads_) {
            each.join();
        }
    }

    busy_threads(busy_threads const&) = delete;
    busy_threads& operator=(busy_threads const&) = delete;

private:
    void run(std::size_t seed) {
        random_stream random{seed + 1};
        std::vector<void*> blocks(100);
        do {
            void*& slot = blocks[random.below(blocks.size())];
            slot = tarn_realloc(slot, 1 + random.below(300));
            tarn_free(tarn_malloc(random.below(5000)));
            if (!is_counted_) {
                started_.fetch_add(1);
                is_counted_ = true;
            }
        } while (!is_over_.load());
        for (void* const each : blocks) {
            tarn_free(each);
        }
    }

    static inline thread_local bool is_counted_ = false;
    std::atomic<std::size_t> started_{0};
    std::atomic<bool> is_over_{false};
    std::vector<std::thread> threads_;
};

}  // namespace tarn::test
