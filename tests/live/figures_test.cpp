#include "live/figures.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace {

using namespace tarn::live;

tarn_live good_start() {
    tarn_live start{};
    start.magic = TARN_LIVE_MAGIC;
    start.version = TARN_STATS_VERSION;
    start.process_id = 7;
    return start;
}

/// A file of a library whose tarn_stats is `more` bytes longer than ours.
std::vector<std::byte> good_file(std::size_t more = 0) {
    std::vector<std::byte> file(TARN_LIVE_BYTES);
    tarn_live live = good_start();
    live.taken_ms = 1234;
    live.answered = 5;
    live.stats.size = sizeof(tarn_stats) + more;
    live.stats.live_bytes = 99;
    live.stats.class_count = 2;
    live.stats.thread_count = 1;
    live.classes[1].block_bytes = 48;
    live.threads[0].thread_id = 12;
    std::size_t const head = offsetof(tarn_live, classes);
    std::memcpy(file.data(), &live, head);
    std::memcpy(file.data() + head + more, reinterpret_cast<std::byte const*>(&live) + head,
                sizeof live - head);
    return file;
}

/// What is wrong with `file` once `field` of its statistics is `value`.
std::string complaint(std::size_t field, std::uint64_t value) {
    std::vector<std::byte> file = good_file();
    std::memcpy(file.data() + offsetof(tarn_live, stats) + field, &value, sizeof value);
    try {
        parse(file);
    } catch (unavailable const& error) {
        EXPECT_EQ(error.why(), reason::unusable);
        return error.what();
    }
    return {};
}

TEST(figures, of_a_good_file) {
    EXPECT_EQ(defect_of(good_start(), 7), "");
    for (std::size_t const more : {0U, 8U, 160U}) {
        figures const found = parse(good_file(more));
        EXPECT_EQ(found.taken_ms, 1234U);
        EXPECT_EQ(found.answered, 5U);
        EXPECT_EQ(found.stats.size, sizeof(tarn_stats));
        EXPECT_EQ(found.stats.live_bytes, 99U);
        ASSERT_EQ(found.classes.size(), 2U);
        EXPECT_EQ(found.classes[1].block_bytes, 48U);
        ASSERT_EQ(found.threads.size(), 1U);
        EXPECT_EQ(found.threads[0].thread_id, 12U);
        EXPECT_EQ(found.stats.by_class, nullptr);
    }
}

TEST(figures, of_a_file_not_to_read) {
    tarn_live start = good_start();
    EXPECT_NE(defect_of(start, 8).find("process 7"), std::string::npos);
    start.version = 99;
    EXPECT_NE(defect_of(start, 7).find("version 99"), std::string::npos);
    start.magic = 0xa5;
    EXPECT_NE(defect_of(start, 7).find("0x000000a5"), std::string::npos);
    start.magic = 0;
    EXPECT_NE(defect_of(start, 7).find("empty as yet"), std::string::npos);
}

TEST(figures, never_reach_beyond_the_file) {
    std::uint64_t const most = ~std::uint64_t{0};
    for (std::uint64_t const size : {std::uint64_t{0}, std::uint64_t{8}, sizeof(tarn_stats) + 1,
                                     std::uint64_t{TARN_LIVE_BYTES}, most - 7}) {
        EXPECT_NE(complaint(offsetof(tarn_stats, size), size), "") << size;
    }
    std::size_t const classes = offsetof(tarn_stats, class_count);
    std::size_t const threads = offsetof(tarn_stats, thread_count);
    EXPECT_EQ(complaint(classes, TARN_CLASSES_MAX), "");
    EXPECT_NE(complaint(classes, TARN_CLASSES_MAX + 1), "");
    EXPECT_NE(complaint(classes, most), "");
    EXPECT_EQ(complaint(threads, TARN_LIVE_THREADS), "");
    EXPECT_NE(complaint(threads, TARN_LIVE_BYTES / sizeof(tarn_thread_stats)), "");
    EXPECT_NE(complaint(threads, most), "");
    EXPECT_THROW(parse(std::vector<std::byte>(16)), unavailable);
}

TEST(figures, answer_a_request_that_wraps) {
    EXPECT_TRUE(has_reached(5, 5));
    EXPECT_TRUE(has_reached(6, 5));
    EXPECT_FALSE(has_reached(4, 5));
    EXPECT_TRUE(has_reached(2, UINT32_MAX));
    EXPECT_FALSE(has_reached(UINT32_MAX, 0));
}

}  // namespace
