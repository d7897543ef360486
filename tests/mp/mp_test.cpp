// The interface of tarn/mp.h from C++: what misuse.c does not show.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <tarn/mp.h>

#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using tarn::test::mix;
using tarn::test::random_stream;
using tarn::test::scaled;

// Before main(), in an order that nobody has said.
struct early {
    void* block = mp_calloc(3, 100);
};

early const before_main;

std::mutex told_mutex;
std::string told;

void note(char const* text, size_t bytes, void*) {
    std::lock_guard const guard{told_mutex};
    told.append(text, bytes);
}

std::string what_was_told() {
    std::lock_guard const guard{told_mutex};
    return std::exchange(told, {});
}

mp_options noted() {
    mp_options options = MP_OPTIONS_DEFAULT;
    options.report_to = TARN_MP_CALL;
    options.report_call = &note;
    return options;
}

mp_stats stats() {
    mp_stats now;
    now.size = sizeof now;
    EXPECT_EQ(mp_get_stats(&now), 0);
    return now;
}

class mp : public ::testing::Test {
protected:
    void SetUp() override { start(noted()); }

    void TearDown() override {
        static_cast<void>(mp_destroy());
        what_was_told();
    }

    static void start(mp_options const& options) {
        if (int const error = mp_init(&options); error == EALREADY) {  // before_main was first
            mp_free(before_main.block);
            ASSERT_EQ(mp_destroy(), 0);
            ASSERT_EQ(mp_init(&options), 0);
        } else {
            ASSERT_EQ(error, 0);
        }
    }
};

TEST_F(mp, serves_static_constructors) { EXPECT_NE(before_main.block, nullptr); }

TEST_F(mp, takes_the_smallest_slab_that_fits) {
    std::array<std::pair<std::size_t, std::size_t>, 10> const cases{{{0, 32},
                                                                     {32, 32},
                                                                     {33, 64},
                                                                     {64, 64},
                                                                     {100, 128},
                                                                     {129, 256},
                                                                     {2048, 2048},
                                                                     {2049, 4096},
                                                                     {4096, 4096},
                                                                     {4097, 0}}};
    for (auto const& [bytes, slab] : cases) {
        mp_stats const before = stats();
        void* const block = mp_alloc(bytes);
        ASSERT_NE(block, nullptr);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 16, 0U);
        EXPECT_EQ(mp_usable_size(block), bytes);
        mp_stats const now = stats();
        for (std::size_t i = 0; i < TARN_MP_SLABS; ++i) {
            bool const is_it = now.slabs[i].block_bytes == slab;
            EXPECT_EQ(now.slabs[i].in_use, is_it ? 1U : 0U) << bytes;
            EXPECT_EQ(now.slabs[i].allocations - before.slabs[i].allocations, is_it ? 1U : 0U);
            EXPECT_EQ(now.slabs[i].total,
                      now.slabs[i].in_use + now.slabs[i].held + now.slabs[i].free);
        }
        EXPECT_EQ(now.larger.in_use, slab == 0 ? 1U : 0U);
        mp_free(block);
    }
    EXPECT_EQ(what_was_told(), "");
}

TEST_F(mp, has_sixteen_guard_bytes_on_both_sides) {
    for (std::size_t bytes : {1UL, 16UL, 100UL, 4096UL, 10'000UL}) {
        auto* const block = static_cast<unsigned char*>(mp_alloc(bytes));
        for (int i = 0; i < 16; ++i) {
            EXPECT_EQ(block[i - 32], 0xAB);
            EXPECT_EQ(block[bytes + static_cast<std::size_t>(i)], 0xAB);
        }
        mp_free(block);
    }
}

TEST_F(mp, guards_and_fill_are_as_wanted) {
    ASSERT_EQ(mp_destroy(), 0);
    mp_options options = noted();
    options.guard_before = 64;
    options.guard_after = 4096;
    options.guard_byte = 0x5C;
    options.fill_bytes = 0;
    ASSERT_EQ(mp_init(&options), 0);
    auto* block = static_cast<unsigned char*>(mp_alloc(40));
    EXPECT_EQ(block[-80], 0x5C);
    EXPECT_EQ(block[40 + 4095], 0x5C);
    block[40 + 4095] = 0;
    mp_free(block);
    EXPECT_NE(what_was_told().find("heap-buffer-overflow"), std::string::npos);
    ASSERT_EQ(mp_destroy(), 0);
    options.guard_byte = 0xAB;
    options.keyed_guards = 1;
    ASSERT_EQ(mp_init(&options), 0);
    what_was_told();
    block = static_cast<unsigned char*>(mp_alloc(48));
    std::array<unsigned char, 16> plain{};
    plain.fill(0xAB);
    EXPECT_NE(std::memcmp(block + 48, plain.data(), plain.size()), 0);
    mp_free(block);
    EXPECT_EQ(what_was_told(), "");
}

TEST_F(mp, calloc_gives_zeros_also_where_blocks_were) {
    for (std::size_t bytes : {24UL, 3000UL, 9000UL}) {
        for (int again = 0; again < 300; ++again) {
            auto* const block = static_cast<unsigned char*>(mp_calloc(2, bytes / 2));
            ASSERT_NE(block, nullptr);
            for (std::size_t i = 0; i < bytes; ++i) {
                ASSERT_EQ(block[i], 0);
            }
            std::memset(block, 0xEE, bytes);
            mp_free(block);
        }
    }
    EXPECT_EQ(what_was_told(), "");
}

TEST_F(mp, realloc_keeps_contents_and_knows_null_and_zero) {
    auto* block = static_cast<unsigned char*>(mp_realloc(nullptr, 10));
    for (unsigned char i = 0; i < 10; ++i) {
        block[i] = i;
    }
    for (std::size_t bytes : {100UL, 5000UL, 100'000UL, 70'000UL, 200UL, 10UL}) {
        block = static_cast<unsigned char*>(mp_realloc(block, bytes));
        ASSERT_NE(block, nullptr);
        EXPECT_EQ(mp_usable_size(block), bytes);
        for (unsigned char i = 0; i < 10; ++i) {
            EXPECT_EQ(block[i], i);
        }
    }
    EXPECT_EQ(mp_realloc(block, 0), nullptr);
    EXPECT_EQ(stats().live_blocks, 0U);
    mp_free(nullptr);
    EXPECT_EQ(mp_usable_size(nullptr), 0U);
    EXPECT_EQ(what_was_told(), "");
}

TEST_F(mp, refuses_what_no_system_has) {
    errno = 0;
    EXPECT_EQ(mp_alloc(SIZE_MAX), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(mp_alloc(std::size_t{1} << 60), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    void* const block = mp_alloc(10);
    EXPECT_EQ(mp_realloc(block, SIZE_MAX), nullptr);
    EXPECT_EQ(mp_usable_size(block), 10U);
    mp_free(block);
    EXPECT_EQ(what_was_told().rfind("tarn: mp-misuse: mp_alloc of 18446744073709551615 bytes: more "
                                    "than there can be; caller 0x",
                                    0),
              0U);
}

TEST_F(mp, destroy_gives_all_memory_back_and_a_new_pool_is_empty) {
    for (int life = 0; life < 3; ++life) {
        for (std::size_t i = 0; i < 3000; ++i) {
            static_cast<void>(mp_alloc(i));  // leaked
        }
        EXPECT_EQ(mp_dump_leaks(), 3000U);
        what_was_told();
        EXPECT_EQ(mp_destroy(), 0);
        std::string const text = what_was_told();
        EXPECT_EQ(text.rfind("tarn: mp statistics: 3000 live blocks", 0), 0U) << text.substr(0, 99);
        EXPECT_NE(text.find("tarn: leaks: 3000 blocks"), std::string::npos);
        mp_options const options = noted();
        ASSERT_EQ(mp_init(&options), 0);
        mp_stats const now = stats();
        EXPECT_EQ(now.live_blocks, 0U);
        EXPECT_EQ(now.live_bytes, 0U);
        EXPECT_EQ(now.allocations, 0U);
        for (mp_slab_stats const& slab : now.slabs) {
            EXPECT_EQ(slab.total, 0U);
            EXPECT_EQ(slab.chunks, 0U);
        }
    }
}

TEST_F(mp, a_double_free_is_known_without_a_quarantine) {
    ASSERT_EQ(mp_destroy(), 0);
    mp_options options = noted();
    options.quarantine_bytes = 0;
    ASSERT_EQ(mp_init(&options), 0);
    what_was_told();
    void* const block = mp_alloc(50);
    mp_free(block);
    mp_free(block);
    std::string const text = what_was_told();
    EXPECT_EQ(text.rfind("tarn: double-free: mp_free of already freed 50-byte block", 0), 0U);
    EXPECT_NE(text.find("  freed in thread"), std::string::npos);
}

TEST_F(mp, a_receiver_may_use_the_pool_but_not_end_it) {
    ASSERT_EQ(mp_destroy(), 0);
    static std::atomic<int> ended_with{0};
    static std::atomic<int> calls{0};
    mp_options options = noted();
    options.report_call = [](char const*, size_t, void*) {
        if (calls.fetch_add(1) == 0) {
            mp_free(mp_alloc(100));
            ended_with = mp_destroy();
        }
    };
    ASSERT_EQ(mp_init(&options), 0);
    int on_stack = 0;
    mp_free(&on_stack);
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(ended_with, EDEADLK);
}

TEST_F(mp, reports_go_to_a_file_or_a_descriptor) {
    ASSERT_EQ(mp_destroy(), 0);
    std::string const path =
        ::testing::TempDir() + "mp_test." + std::to_string(::getpid()) + ".txt";
    mp_options options = MP_OPTIONS_DEFAULT;
    options.report_to = TARN_MP_FILE;
    options.report_path = path.c_str();
    int on_stack = 0;
    ASSERT_EQ(mp_init(&options), 0);
    mp_free(&on_stack);
    ASSERT_EQ(mp_destroy(), 0);
    std::FILE* const file = std::fopen(path.c_str(), "r+");
    ASSERT_NE(file, nullptr);
    std::array<char, 64> line{};
    ASSERT_NE(std::fgets(line.data(), line.size(), file), nullptr);
    EXPECT_EQ(std::string{line.data()}.rfind("tarn: foreign-free: mp_free of a pointer", 0), 0U);
    options.report_to = TARN_MP_DESCRIPTOR;
    options.report_descriptor = ::fileno(file);
    ASSERT_EQ(::ftruncate(::fileno(file), 0), 0);
    ASSERT_EQ(mp_init(&options), 0);
    mp_dump_stats();
    EXPECT_GT(::lseek(::fileno(file), 0, SEEK_END), 100);
    std::fclose(file);
    std::remove(path.c_str());
}

/// A block and what its owner knows of it.
struct shadow {
    unsigned char* block;
    std::size_t bytes;
    unsigned char first;

    void fill(std::uint64_t seed) {
        first = static_cast<unsigned char>(seed);
        for (std::size_t i = 0; i < bytes; ++i) {
            block[i] = static_cast<unsigned char>(first + i);
        }
    }

    [[nodiscard]] bool holds(std::size_t most) const {
        for (std::size_t i = 0; i < std::min(bytes, most); ++i) {
            if (block[i] != static_cast<unsigned char>(first + i)) {
                return false;
            }
        }
        return true;
    }
};

std::size_t random_size(random_stream& random) {
    std::uint64_t const kind = random.next() % 16;
    return kind < 12   ? random.next() % 300
           : kind < 15 ? random.next() % 5000
                       : random.next() % 200'000;
}

/// Random operations; returns what is live at the end, which is freed.
void churn(std::uint64_t seed, std::uint64_t steps) {
    random_stream random{seed};
    std::vector<shadow> live;
    for (std::uint64_t i = 0; i < steps; ++i) {
        std::uint64_t const what = random.next() % 8;
        if (live.empty() || (what < 4 && live.size() < 500)) {
            std::size_t const bytes = random_size(random);
            auto* const block =
                static_cast<unsigned char*>(what == 0 ? mp_calloc(1, bytes) : mp_alloc(bytes));
            ASSERT_NE(block, nullptr);
            live.push_back({block, bytes, 0});
            live.back().fill(random.next());
        } else {
            shadow& chosen = live[random.next() % live.size()];
            if (what == 7) {
                std::size_t const bytes = random_size(random) + 1;
                auto* const moved = static_cast<unsigned char*>(mp_realloc(chosen.block, bytes));
                ASSERT_NE(moved, nullptr);
                chosen.block = moved;
                ASSERT_TRUE(chosen.holds(bytes)) << "seed " << seed << ", step " << i;
                chosen.bytes = bytes;
                chosen.fill(random.next());
            } else {
                ASSERT_TRUE(chosen.holds(chosen.bytes)) << "seed " << seed << ", step " << i;
                mp_free(chosen.block);
                chosen = live.back();
                live.pop_back();
            }
        }
    }
    for (shadow const& each : live) {
        ASSERT_TRUE(each.holds(each.bytes)) << "seed " << seed;
        mp_free(each.block);
    }
}

TEST_F(mp, random_operations_keep_blocks_apart) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        ASSERT_EQ(mp_destroy(), 0);
        mp_options options = noted();
        options.slabs = seed % 2 == 0 ? 0 : 1;
        options.quarantine_bytes = seed < 3 ? 0 : 100'000;
        options.frames = seed;
        ASSERT_EQ(mp_init(&options), 0);
        what_was_told();
        churn(seed, scaled(20'000));
        EXPECT_EQ(stats().live_blocks, 0U) << "seed " << seed;
        EXPECT_EQ(stats().live_bytes, 0U) << "seed " << seed;
        EXPECT_EQ(mp_check_all(), 0U) << "seed " << seed;
        EXPECT_EQ(what_was_told(), "") << "seed " << seed;
    }
}

TEST_F(mp, threads_hand_blocks_to_each_other) {
    std::array<std::atomic<unsigned char*>, 64> shared{};
    std::vector<std::thread> threads;
    std::atomic<std::uint64_t> damaged{0};
    for (std::uint64_t number = 0; number < 4; ++number) {
        threads.emplace_back([number, &shared, &damaged] {
            random_stream random{mix(number + 7)};
            for (std::uint64_t i = 0; i < scaled(20'000); ++i) {
                std::size_t const bytes = random_size(random) % 6000 + 1;
                auto* const block = static_cast<unsigned char*>(mp_alloc(bytes));
                std::memset(block, static_cast<int>(bytes % 251), bytes);
                unsigned char* const other = shared[random.next() % shared.size()].exchange(block);
                if (other != nullptr) {
                    std::size_t const size = mp_usable_size(other);
                    if (other[0] != size % 251 || other[size - 1] != size % 251) {
                        ++damaged;
                    }
                    mp_free(other);
                }
            }
        });
    }
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(mp_check_all(), 0U);
        static_cast<void>(stats());
    }
    for (std::thread& each : threads) {
        each.join();
    }
    EXPECT_EQ(damaged, 0U);
    for (std::atomic<unsigned char*>& each : shared) {
        mp_free(each.exchange(nullptr));
    }
    mp_stats const now = stats();
    EXPECT_EQ(now.live_blocks, 0U);
    EXPECT_EQ(now.allocations, 4 * scaled(20'000));
    for (mp_slab_stats const& slab : now.slabs) {
        EXPECT_EQ(slab.in_use, 0U);
        EXPECT_LE(slab.peak, slab.total);
    }
    EXPECT_EQ(what_was_told(), "");
}

TEST_F(mp, ends_and_begins_beside_threads_that_work) {
    ASSERT_EQ(mp_destroy(), 0);
    // What comes between two lives is told to standard error: too much of it here.
    int const kept = ::dup(STDERR_FILENO);
    int const nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    ASSERT_GE(::dup2(nowhere, STDERR_FILENO), 0);
    std::atomic<bool> done{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&done] {
            while (!done) {
                mp_free(mp_alloc(100));  // its pool may end, and another begin, between the two
            }
        });
    }
    mp_options options = noted();
    options.frames = 0;
    std::uint64_t begun = 0;
    for (std::uint64_t life = 0; life < scaled(50); ++life) {
        begun += mp_init(&options) == 0 ? 1U : 0U;
        begun -= mp_destroy() == 0 ? 1U : 0U;
    }
    done = true;
    for (std::thread& each : threads) {
        each.join();
    }
    EXPECT_EQ(begun, 0U);
    EXPECT_GE(::dup2(kept, STDERR_FILENO), 0);
    ::close(nowhere);
    ::close(kept);
    ASSERT_EQ(mp_init(&options), 0);
    EXPECT_EQ(stats().live_blocks, 0U);
}

}  // namespace
