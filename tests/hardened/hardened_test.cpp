// hardened_test - mode hardened, in a program with threads.
// TARN_OPTIONS=mode=hardened,on_misuse=warn
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tarn/new.hpp"
#include "tarn/tarn.h"

#include "support/build.hpp"

namespace tarn::test {
namespace {

/// Volatile: the compiler knows where blocks end, and what is freed.
char volatile* bytes_of(void* block) { return static_cast<char volatile*>(block); }

/// What is written to standard error in the scope.
class captured_reports {
public:
    captured_reports() { ::testing::internal::CaptureStderr(); }

    captured_reports(captured_reports const&) = delete;
    captured_reports& operator=(captured_reports const&) = delete;

    ~captured_reports() {
        if (!taken_) {
            take();
        }
    }

    std::string take() {
        taken_ = true;
        return ::testing::internal::GetCapturedStderr();
    }

private:
    bool taken_ = false;
};

/// Allocates and frees so many blocks of a size, so that those that wait move on.
void churn(std::size_t bytes, int count = 400) {
    std::vector<void*> all;
    for (int i = 0; i < count; ++i) {
        all.push_back(tarn_malloc(bytes));
    }
    for (void* const each : all) {
        tarn_free(each);
    }
}

TEST(overflow, of_a_byte_is_told_when_the_block_is_freed) {
    for (std::size_t const bytes :
         {1U,    15U,     17U,     24U,      31U,      100U,     250U,      257U,
          300U,  500U,    512U,    600U,     1000U,    1024U,    2049U,     4096U,
          5000U, 20'000U, 70'000U, 131'071U, 131'073U, 200'000U, 1'000'000U}) {
        void* const block = tarn_malloc(bytes);
        bytes_of(block)[bytes] = 0;
        captured_reports reports;
        tarn_free(block);
        std::string const text = reports.take();
        EXPECT_NE(text.find("tarn: heap-buffer-overflow: byte " + std::to_string(bytes) +
                            " of the " + std::to_string(bytes) + "-byte block"),
                  std::string::npos)
            << bytes << ": " << text;
    }
}

TEST(overflow, anywhere_in_slack_up_to_33_bytes_is_told_with_its_offset) {
    constexpr std::size_t bytes = 300;  // of 320
    for (std::size_t offset = bytes; offset < 320; ++offset) {
        void* const block = tarn_malloc(bytes);
        bytes_of(block)[offset] = static_cast<char>(bytes_of(block)[offset] ^ 0x40);
        captured_reports reports;
        tarn_free(block);
        EXPECT_NE(reports.take().find("byte " + std::to_string(offset) + " of"), std::string::npos)
            << offset;
    }
}

TEST(overflow, is_told_by_realloc_and_for_every_kind_of_allocation) {
    void* const cleared = tarn_calloc(3, 7);
    void* const aligned = tarn_aligned_alloc(64, 100);
    void* const shrunk = tarn_realloc(tarn_malloc(3000), 2000);
    void* const grown = tarn_realloc(tarn_malloc(10), 40);
    // No byte of a canary is 0.
    bytes_of(cleared)[21] = 0;
    bytes_of(aligned)[100] = 0;
    bytes_of(shrunk)[2000] = 0;
    bytes_of(grown)[40] = 0;
    captured_reports reports;
    tarn_free(tarn_realloc(cleared, 500));
    tarn_free(aligned);
    tarn_free(shrunk);
    tarn_free(grown);
    std::string const text = reports.take();
    EXPECT_NE(text.find("byte 21 of the 21-byte"), std::string::npos) << text;
    EXPECT_NE(text.find("byte 100 of the 100-byte"), std::string::npos) << text;
    EXPECT_NE(text.find("byte 2000 of the 2000-byte"), std::string::npos) << text;
    EXPECT_NE(text.find("byte 40 of the 40-byte"), std::string::npos) << text;
}

TEST(usable_size, is_what_was_asked_for) {
    for (std::size_t bytes = 1; bytes < 300'000; bytes += 1 + bytes / 7) {
        auto* const block = static_cast<char*>(tarn_malloc(bytes));
        ASSERT_EQ(tarn_malloc_usable_size(block), bytes);
        std::memset(block, 1, bytes);
        auto* const other = static_cast<char*>(tarn_realloc(block, bytes + 3));
        ASSERT_EQ(tarn_malloc_usable_size(other), bytes + 3);
        ASSERT_EQ(std::count(other, other + bytes, 1), static_cast<std::ptrdiff_t>(bytes));
        tarn_free(other);
    }
}

TEST(double_free, is_found_whatever_lies_between) {
    std::vector<void*> all;
    for (int i = 0; i < 1000; ++i) {
        all.push_back(tarn_malloc(40));
    }
    for (void* const each : all) {
        tarn_free(each);
    }
    for (std::size_t const which : {0U, 1U, 37U, 500U, 998U, 999U}) {
        captured_reports reports;
        tarn_free(all[which]);
        EXPECT_EQ(reports.take().find("tarn: double free of "), 0U) << which;
    }
    churn(40);
}

TEST(double_free, is_found_between_threads) {
    void* const block = tarn_malloc(72);
    std::thread{[block] { tarn_free(block); }}.join();
    captured_reports reports;
    tarn_free(block);
    std::thread{[block] { tarn_free(block); }}.join();
    std::string const text = reports.take();
    EXPECT_EQ(text.find("tarn: double free of "), 0U) << text;
    EXPECT_NE(text.find("double free of ", 10), std::string::npos) << text;
    churn(72);
}

TEST(double_free, of_two_other_threads_at_once_is_told_once) {
    constexpr int rounds = under_tsan || under_emulation ? 20 : 300;
    // Each second one stays: once a page is gone its blocks are foreign pointers.
    std::vector<void*> all;
    for (int i = 0; i < 2 * rounds; ++i) {
        all.push_back(tarn_malloc(88));
    }
    for (std::size_t i = 1; i < all.size(); i += 2) {
        void* const block = all[i];
        captured_reports reports;
        std::thread one{[block] { tarn_free(block); }};
        std::thread other{[block] { tarn_free(block); }};
        one.join();
        other.join();
        std::string const text = reports.take();
        ASSERT_EQ(text.find("tarn: double free of "), 0U) << text;
        ASSERT_EQ(text.find("double free of ", 10), std::string::npos) << text;
    }
    for (std::size_t i = 0; i < all.size(); i += 2) {
        tarn_free(all[i]);
    }
}

TEST(interior_free, is_found) {
    auto* const block = static_cast<char*>(tarn_malloc(200));
    captured_reports reports;
    tarn_free(block + 16);
    tarn_free(block + 8);
    EXPECT_NE(reports.take().find("free of an interior pointer"), std::string::npos);
    tarn_free(block);
}

TEST(freed_block, written_to_is_told_and_not_handed_out) {
    void* const block = tarn_malloc(48);
    tarn_free(block);
    bytes_of(block)[3] = static_cast<char>(bytes_of(block)[3] ^ 1);
    captured_reports reports;
    std::vector<void*> all;
    for (int i = 0; i < 400; ++i) {
        all.push_back(tarn_malloc(48));
        EXPECT_NE(all.back(), block);
    }
    std::vector<void*> others;
    for (void* const each : all) {
        tarn_free(each);
    }
    churn(48);
    std::string const text = reports.take();
    EXPECT_NE(text.find("tarn: heap corruption: the freed block "), std::string::npos) << text;
    EXPECT_NE(text.find("of 48 bytes was overwritten"), std::string::npos) << text;
}

TEST(freed_block, is_none_to_realloc) {
    void* const block = tarn_malloc(56);
    tarn_free(block);
    captured_reports reports;
    EXPECT_EQ(tarn_realloc(block, 100), nullptr);
    EXPECT_EQ(tarn_malloc_usable_size(block), 0U);
    std::string const text = reports.take();
    EXPECT_NE(text.find("tarn: realloc of a freed block"), std::string::npos) << text;
    EXPECT_NE(text.find("tarn: malloc_usable_size of a freed block"), std::string::npos) << text;
}

TEST(freed_block, is_not_the_next_one_handed_out) {
    churn(104);
    int at_once = 0;
    for (int i = 0; i < 100; ++i) {
        void* const block = tarn_malloc(104);
        tarn_free(block);
        std::array<void*, 8> next{};
        for (void*& each : next) {
            each = tarn_malloc(104);
            at_once += each == block ? 1 : 0;
        }
        for (void* const each : next) {
            tarn_free(each);
        }
    }
    EXPECT_LE(at_once, 10) << "beside a sample nothing waits";
}

TEST(calloc, is_zero_after_any_use) {
    for (std::size_t const bytes :
         {1U, 15U, 16U, 40U, 500U, 1000U, 1031U, 2095U, 3000U, 4103U, 40'015U, 300'000U}) {
        for (int i = 0; i < 100; ++i) {
            auto* const block = static_cast<char*>(tarn_calloc(1, bytes));
            ASSERT_EQ(std::count(block, block + bytes, 0), static_cast<std::ptrdiff_t>(bytes));
            std::memset(block, 0x5a, bytes);
            tarn_free(block);
        }
    }
}

/// The signal that a child ends with which runs `use`; 0: it does not.
template <class Use>
int signal_of(Use use) {
    pid_t const child = ::fork();
    if (child == 0) {
        std::signal(SIGSEGV, SIG_DFL);
        use();
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(guard, stops_a_write_that_runs_on) {
    if (under_asan || under_tsan || under_emulation) {
        GTEST_SKIP() << "looks at signals";
    }
    void* const block = tarn_malloc(64);
    EXPECT_EQ(signal_of([block] {
                  for (std::size_t i = 0; i < 128 * 1024; ++i) {
                      bytes_of(block)[i] = 1;
                  }
              }),
              SIGSEGV);
    tarn_free(block);
}

TEST(guard, lies_behind_a_large_block) {
    if (under_asan || under_tsan || under_emulation) {
        GTEST_SKIP() << "looks at signals";
    }
    constexpr std::size_t bytes = 200 * 1024;
    void* const block = tarn_malloc(bytes);
    EXPECT_EQ(signal_of([block] { bytes_of(block)[bytes - 1] = 1; }), 0);
    EXPECT_EQ(signal_of([block] { bytes_of(block)[bytes] = 1; }), SIGSEGV);
    tarn_free(block);
}

TEST(fork, leaves_the_child_a_heap_that_agrees) {
    std::atomic<bool> stop{false};
    std::vector<std::thread> others;
    for (int i = 0; i < 2; ++i) {
        others.emplace_back([&stop] {
            std::vector<void*> mine(200, nullptr);
            for (std::size_t n = 0; !stop.load(std::memory_order_relaxed); ++n) {
                void*& slot = mine[n * 7 % mine.size()];
                tarn_free(slot);
                slot = tarn_malloc(n % 700);
            }
            for (void* const each : mine) {
                tarn_free(each);
            }
        });
    }
    constexpr int rounds = is_slow ? 3 : 20;
    for (int i = 0; i < rounds; ++i) {
        pid_t const child = ::fork();
        if (child == 0) {
            std::set<void*> all;
            for (std::size_t n = 0; n < 3000; ++n) {
                void* const block = tarn_malloc(n % 700);
                std::memset(block, 1, n % 700);
                if (!all.insert(block).second) {
                    ::_exit(1);
                }
            }
            for (void* const each : all) {
                tarn_free(each);
            }
            ::_exit(tarn_audit(nullptr) == 0 ? 0 : 2);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        ASSERT_TRUE(WIFEXITED(status));
        ASSERT_EQ(WEXITSTATUS(status), 0);
    }
    stop.store(true, std::memory_order_relaxed);
    for (std::thread& each : others) {
        each.join();
    }
    EXPECT_EQ(tarn_audit(nullptr), 0U);
}

TEST(threads, hand_blocks_on_and_end_and_all_is_accounted_for) {
    for (int round = 0; round < 5; ++round) {
        std::vector<void*> handed;
        std::thread{[&handed] {
            for (std::size_t i = 0; i < 5000; ++i) {
                handed.push_back(tarn_malloc(i % 900));
            }
        }}.join();
        std::thread{[&handed] {
            for (std::size_t i = 0; i < handed.size(); i += 2) {
                tarn_free(handed[i]);
            }
        }}.join();
        for (std::size_t i = 1; i < handed.size(); i += 2) {
            tarn_free(handed[i]);
        }
        EXPECT_EQ(tarn_audit(nullptr), 0U);
    }
}

// Pages go to the bins and come from there while blocks that wait are given back to them.
TEST(threads, that_exchange_blocks_of_all_sizes_find_each_as_it_was) {
    std::array<std::atomic<std::size_t*>, 256> shared{};
    std::atomic<std::size_t> changed{0};
    // A block has its length in words in front, and something of it behind.
    auto const give = [&changed](std::size_t* block) {
        if (block != nullptr) {
            std::size_t const words = block[0];
            changed.fetch_add(words > 8192 || block[words - 1] != ~words ? 1 : 0,
                              std::memory_order_relaxed);
            tarn_free(block);
        }
    };
    auto const live = [&shared, &give](std::uint64_t seed) {
        std::mt19937_64 random{seed};
        std::vector<std::size_t*> held(scaled(6000), nullptr);
        for (std::uint64_t n = scaled(100'000); n-- > 0;) {
            std::uint64_t const bits = random();
            std::size_t*& place = held[(bits >> 32) % held.size()];
            if (n / 2048 % 2 == 0) {  // more is freed than the cache has room for
                give(std::exchange(place, nullptr));
                continue;
            }
            std::size_t const most = bits % 32 == 0 ? 8192 : 128;
            std::size_t const words = 2 + (bits >> 8) % (most - 1);
            auto* const block = static_cast<std::size_t*>(tarn_malloc(8 * words));
            block[0] = words;
            block[words - 1] = ~words;
            std::size_t* const before = std::exchange(place, block);
            // acq_rel: what a thread wrote to a block is there for the one that takes it.
            give(bits >> 28 & 1
                     ? shared[n % shared.size()].exchange(before, std::memory_order_acq_rel)
                     : before);
        }
        for (std::size_t* const block : held) {
            give(block);
        }
    };
    captured_reports reports;
    for (std::uint64_t round = 0; round < 4; ++round) {
        std::thread one{live, 2 * round};
        std::thread other{live, 2 * round + 1};
        one.join();
        other.join();
    }
    for (std::atomic<std::size_t*>& each : shared) {
        give(each.load(std::memory_order_relaxed));
    }
    EXPECT_EQ(changed.load(std::memory_order_relaxed), 0U);
    EXPECT_EQ(reports.take(), "");
    EXPECT_EQ(tarn_audit(nullptr), 0U);
}

TEST(purge, gives_back_what_waits) {
    std::vector<void*> all;
    for (int i = 0; i < 20'000; ++i) {
        all.push_back(tarn_malloc(128));
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (i % 200 != 0) {
            tarn_free(all[i]);
        }
    }
    EXPECT_GT(tarn_purge(TARN_PURGE_PROCESS), 0U);
    EXPECT_EQ(tarn_audit(nullptr), 0U);
    for (std::size_t i = 0; i < all.size(); i += 200) {
        tarn_free(all[i]);
    }
    churn(128, 30'000);
    EXPECT_EQ(tarn_audit(nullptr), 0U);
}

TEST(delete_object, goes_by_what_was_asked_for) {
    struct plain {
        std::array<char, 700> bytes;
    };

    captured_reports reports;
    for (int i = 0; i < 100; ++i) {
        delete_object(new_object<plain>());
    }
    EXPECT_EQ(reports.take(), "");
    plain* const twice = new_object<plain>();
    delete_object(twice);
    captured_reports again;
    tarn_free(twice);
    EXPECT_EQ(again.take().find("tarn: double free of "), 0U);
}

}  // namespace
}  // namespace tarn::test
