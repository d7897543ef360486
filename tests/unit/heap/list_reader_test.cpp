// Runs on Linux, and in unit_heap_fake on the fake, which can refuse to read memory.
#include "heap/list_reader.hpp"

#include <gtest/gtest.h>

#include <semaphore>
#include <thread>
#include <vector>

#include "tarn/tarn.h"

#include "platform/os.hpp"
#if TARN_PLATFORM_FAKE
#include "platform/fake/fake_os.hpp"
#endif

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;

/// A thread with free blocks of many classes in its lists, at rest.
class resting_thread {
public:
    resting_thread() : thread_{[this] { live(); }} { rests_.acquire(); }

    ~resting_thread() {
        ends_.release();
        thread_.join();
    }

    [[nodiscard]] thread_heap const& heap() const { return *heap_; }

private:
    void live() {
        std::vector<void*> blocks;
        for (std::size_t bytes = 1; bytes < 100'000; bytes = bytes * 4 / 3 + 1) {
            for (int i = 0; i < 5; ++i) {
                blocks.push_back(tarn_malloc(bytes));
            }
        }
        for (std::size_t i = 0; i < blocks.size(); i += 2) {
            tarn_free(blocks[i]);
        }
        heap_ = this_thread;
        rests_.release();
        ends_.acquire();
        for (std::size_t i = 1; i < blocks.size(); i += 2) {
            tarn_free(blocks[i]);
        }
    }

    std::binary_semaphore rests_{0};
    std::binary_semaphore ends_{0};
    thread_heap const* heap_ = nullptr;
    std::thread thread_;
};

TEST(list_reader, finds_what_the_owner_would) {
    resting_thread const other;
    list_reader reader;
    list_lengths lengths{};
    std::byte probe{};
    if (platform::os::read_memory(&lengths, &probe, 1) == 0) {
        GTEST_SKIP() << "process_vm_readv is refused";
    }
    ASSERT_TRUE(reader.measure(other.heap(), lengths));
    std::uint64_t sum = 0;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        EXPECT_EQ(lengths[size_class], other.heap().listed(size_class)) << size_class;
        sum += lengths[size_class];
    }
    EXPECT_GT(sum, 100U);
}

TEST(list_reader, finds_nothing_in_a_heap_that_was_never_used) {
    static constinit thread_heap unused;
    list_reader reader;
    list_lengths lengths{};
    lengths.fill(9);
    if (reader.measure(unused, lengths)) {
        for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
            EXPECT_EQ(lengths[size_class], 0U);
        }
    }
}

#if TARN_PLATFORM_FAKE
TEST(list_reader, says_where_the_system_refuses) {
    resting_thread const other;
    list_reader reader;
    list_lengths lengths{};
    platform::fake_os::control().read_memory_works = false;
    EXPECT_FALSE(reader.measure(other.heap(), lengths));
    platform::fake_os::control().read_memory_works = true;
    platform::fake_os::control().fail_after = 0;  // no memory for a copy
    EXPECT_FALSE(reader.measure(other.heap(), lengths));
    platform::fake_os::reset();
    std::byte probe{};
    EXPECT_EQ(reader.measure(other.heap(), lengths),
              platform::os::read_memory(&lengths, &probe, 1) == 1);
}
#endif

}  // namespace
