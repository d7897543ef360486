// The annotations compile on both compilers; what they find is clang's -Wthread-safety to say.
#include "base/thread_annotations.hpp"

#include <gtest/gtest.h>

namespace {

class TARN_CAPABILITY("mutex") pretended_lock {
public:
    void lock() TARN_ACQUIRE() TARN_NO_THREAD_SAFETY_ANALYSIS { ++held_; }

    void unlock() TARN_RELEASE() TARN_NO_THREAD_SAFETY_ANALYSIS { --held_; }

    [[nodiscard]] int held() const { return held_; }

private:
    int held_ = 0;
};

class counter {
public:
    int next() {
        lock_.lock();
        int const number = next_locked();
        lock_.unlock();
        return number;
    }

    [[nodiscard]] int held() const { return lock_.held(); }

private:
    int next_locked() TARN_REQUIRES(lock_) { return ++count_; }

    pretended_lock lock_;
    int count_ TARN_GUARDED_BY(lock_) = 0;
};

TEST(thread_annotations, change_nothing_at_run_time) {
    counter numbers;
    EXPECT_EQ(numbers.next(), 1);
    EXPECT_EQ(numbers.next(), 2);
    EXPECT_EQ(numbers.held(), 0);
}

}  // namespace
