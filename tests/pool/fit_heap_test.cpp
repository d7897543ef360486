// fit_heap_test - a fit_heap chooses the holes that textbooks say, and notices what is wrong.
#include "tarn/fit_heap.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "tarn/fit_resource.hpp"

#include "pool/fit_model.hpp"
#include "pool/resource_suite.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace {

using tarn::fit;
using tarn::fit_heap;
using tarn::fit_return;
using tarn::test::fit_model;
using tarn::test::random_stream;

constexpr std::array policies{fit::first, fit::next, fit::best, fit::worst};

/// Memory at a known distance from an alignment of 8 KiB.
class buffer {
public:
    explicit buffer(std::size_t bytes, std::size_t offset = 0)
        : raw_(bytes + offset + 2 * alignment) {
        void* start = raw_.data();
        std::size_t room = raw_.size();
        std::align(alignment, 1, start, room);
        span_ = {static_cast<std::byte*>(start) + offset, bytes};
    }

    [[nodiscard]] std::span<std::byte> span() const { return span_; }

private:
    static constexpr std::size_t alignment = 8192;
    std::vector<std::byte> raw_;
    std::span<std::byte> span_;
};

testing::AssertionResult is_sound(fit_heap const& heap) {
    auto const fault = heap.check();
    if (!fault) {
        return testing::AssertionSuccess();
    }
    return testing::AssertionFailure() << fault->what << " at " << fault->where;
}

std::uintptr_t address(void const* ptr) { return reinterpret_cast<std::uintptr_t>(ptr); }

/// What a call throws, or nothing.
template <class Exception, class Call>
std::string message_of(Call call) {
    try {
        call();
    } catch (Exception const& error) {
        return error.what();
    }
    return {};
}

// ---- against the model ----

/// Random operations on a heap and on its model, which must not differ in anything.
class pair_of_heaps {
public:
    pair_of_heaps(std::span<std::byte> span, tarn::fit_options options, std::uint64_t seed)
        : span_{span},
          heap_{span, options},
          model_{span, options.policy, options.alignment},
          random_{seed} {}

    void step() {
        std::uint64_t const choice = random_.below(16);
        if (live_.empty() || choice < 7) {
            allocate();
        } else if (choice < 12) {
            deallocate(random_.below(live_.size()));
        } else if (choice < 14) {
            reallocate(random_.below(live_.size()));
        } else {
            expand(random_.below(live_.size()));
        }
        ASSERT_TRUE(is_sound(heap_));
        expect_same_figures();
    }

    void drain() {
        while (!live_.empty()) {
            deallocate(random_.below(live_.size()));
            ASSERT_TRUE(is_sound(heap_));
        }
        EXPECT_EQ(heap_.figures().holes, 1U);
        EXPECT_EQ(heap_.figures().largest_hole_bytes, heap_.figures().total_bytes);
        expect_same_figures();
    }

private:
    struct held {
        std::byte* start;
        std::size_t bytes;
        std::uint64_t pattern;
    };

    std::size_t size() { return random_.one_in(30) ? 0 : random_.size_up_to(span_.size() / 8); }

    std::size_t alignment() {
        return random_.one_in(4) ? std::size_t{1} << random_.below(11) : std::size_t{1};
    }

    void expect_whole(held const& block) {
        ASSERT_EQ(tarn::test::first_wrong(block.start, block.bytes, block.pattern),
                  tarn::test::intact);
    }

    void allocate() {
        std::size_t const bytes = size();
        std::size_t const aligned = alignment();
        void* const start = heap_.try_allocate(bytes, aligned);
        ASSERT_EQ(address(start), model_.allocate(bytes, aligned));
        if (start != nullptr) {
            ASSERT_EQ(address(start) % std::max(aligned, heap_.alignment()), 0U);
            ASSERT_GE(heap_.usable_size(start), bytes);
            held const block{static_cast<std::byte*>(start), bytes, random_.next()};
            tarn::test::fill(block.start, block.bytes, block.pattern);
            live_.push_back(block);
        }
    }

    void deallocate(std::size_t index) {
        held const block = live_[index];
        expect_whole(block);
        ASSERT_EQ(heap_.try_deallocate(block.start, block.bytes), fit_return::done);
        model_.deallocate(address(block.start));
        live_[index] = live_.back();
        live_.pop_back();
    }

    void reallocate(std::size_t index) {
        held& block = live_[index];
        std::size_t const bytes = size();
        std::size_t const aligned = alignment();
        void* const moved = heap_.try_reallocate(block.start, bytes, aligned);
        ASSERT_EQ(address(moved), model_.reallocate(address(block.start), bytes, aligned));
        if (moved == nullptr) {
            return;
        }
        block.start = static_cast<std::byte*>(moved);
        ASSERT_EQ(tarn::test::first_wrong(block.start, std::min(bytes, block.bytes), block.pattern),
                  tarn::test::intact);
        block.bytes = bytes;
        tarn::test::fill(block.start, bytes, block.pattern);
    }

    void expand(std::size_t index) {
        held& block = live_[index];
        std::size_t const bytes = block.bytes + random_.size_up_to(200);
        bool const done = heap_.try_expand(block.start, bytes);
        ASSERT_EQ(done, model_.expand(address(block.start), bytes));
        expect_whole(block);
        if (done) {
            block.bytes = bytes;
            tarn::test::fill(block.start, bytes, block.pattern);
        }
    }

    void expect_same_figures() {
        auto const figures = heap_.figures();
        std::size_t requested = 0;
        for (held const& block : live_) {
            requested += block.bytes;
        }
        ASSERT_EQ(figures.requested_bytes, requested);
        ASSERT_EQ(figures.live_blocks, live_.size());
        ASSERT_EQ(figures.holes, model_.holes().size());
        ASSERT_EQ(figures.live_bytes + figures.free_bytes, figures.total_bytes);
        ASSERT_EQ(figures.free_bytes, model_.free_bytes());
        ASSERT_EQ(figures.largest_hole_bytes, model_.largest_hole_bytes());
    }

    std::span<std::byte> span_;
    fit_heap heap_;
    fit_model model_;
    random_stream random_;
    std::vector<held> live_;
};

TEST(fit_heap, chooses_the_holes_of_the_textbook) {
    for (fit const policy : policies) {
        for (std::size_t const alignment : {16U, 32U, 256U}) {
            for (std::size_t const bytes : {3000U, 20'000U}) {
                SCOPED_TRACE(testing::Message() << "policy " << static_cast<int>(policy)
                                                << ", alignment " << alignment);
                buffer const memory{bytes, alignment / 2 + 3};
                pair_of_heaps heaps{memory.span(), {policy, alignment}, bytes + alignment};
                for (int i = 0; i < 4000 && !HasFatalFailure(); ++i) {
                    heaps.step();
                }
                heaps.drain();
                if (HasFatalFailure()) {
                    return;
                }
            }
        }
    }
}

// ---- placement ----

/// Holes of 112, 64, 208 and 80 bytes, tags included, between live blocks; the block handed out
/// last lies before the fourth.
struct four_holes {
    explicit four_holes(fit policy) : heap{place.span(), {.policy = policy}} {
        std::array<void*, 4> walls{};
        for (std::size_t i = 0; i < starts.size(); ++i) {
            constexpr std::array<std::size_t, 4> sizes{104, 56, 200, 72};
            starts[i] = heap.allocate(sizes[i]);
            walls[i] = heap.allocate(24);
        }
        static_cast<void>(heap.allocate(heap.figures().largest_hole_bytes - 8));
        heap.deallocate(walls[2]);
        EXPECT_EQ(heap.allocate(24), walls[2]);
        for (void* const start : starts) {
            heap.deallocate(start);
        }
        EXPECT_EQ(heap.figures().holes, 4U);
    }

    buffer place{2000};
    fit_heap heap;
    std::array<void*, 4> starts{};
};

TEST(fit_heap, policies_differ) {
    four_holes first{fit::first};
    EXPECT_EQ(first.heap.allocate(50), first.starts[0]);
    four_holes next{fit::next};
    EXPECT_EQ(next.heap.allocate(50), next.starts[3]);
    EXPECT_EQ(next.heap.allocate(50), next.starts[0]) << "from the start again";
    four_holes best{fit::best};
    EXPECT_EQ(best.heap.allocate(50), best.starts[1]);
    four_holes worst{fit::worst};
    EXPECT_EQ(worst.heap.allocate(50), worst.starts[2]);
}

TEST(fit_heap, merges_neighbours_in_every_order) {
    for (fit const policy : policies) {
        std::array order{0, 1, 2, 3};
        do {
            buffer const memory{1000};
            fit_heap heap{memory.span(), {.policy = policy}};
            std::array<void*, 4> blocks{};
            for (void*& block : blocks) {
                block = heap.allocate(100);
            }
            void* const wall = heap.allocate(10);
            for (int const index : order) {
                heap.deallocate(blocks[static_cast<std::size_t>(index)]);
                ASSERT_TRUE(is_sound(heap));
            }
            EXPECT_EQ(heap.figures().holes, 2U);
            heap.deallocate(wall);
            EXPECT_EQ(heap.figures().holes, 1U);
            EXPECT_EQ(heap.figures().largest_hole_bytes, heap.figures().total_bytes);
        } while (std::next_permutation(order.begin(), order.end()));
    }
}

TEST(fit_heap, aligns) {
    buffer const memory{64'000, 40};
    fit_heap heap{memory.span()};
    for (std::size_t alignment = 1; alignment <= 16'384; alignment *= 2) {
        void* const block = heap.allocate(10, alignment);
        EXPECT_EQ(address(block) % alignment, 0U);
        EXPECT_EQ(address(block) % 16, 0U);
        EXPECT_TRUE(is_sound(heap));
    }
    EXPECT_EQ(heap.try_allocate(1, std::size_t{1} << 40), nullptr);
    EXPECT_EQ(heap.try_allocate(1, std::size_t{1} << 63), nullptr);

    fit_heap pages{memory.span(), {.alignment = 4096}};
    EXPECT_EQ(pages.alignment(), 4096U);
    void* const page = pages.allocate(1);
    EXPECT_EQ(address(page) % 4096, 0U);
    EXPECT_EQ(pages.usable_size(page), 4088U);
    EXPECT_EQ(pages.requested_size(page), 1U);
}

TEST(fit_heap, what_lies_before_an_aligned_block_can_be_had) {
    buffer const memory{4096};
    fit_heap heap{memory.span()};
    void* const aligned = heap.allocate(1000, 2048);
    void* const before = heap.allocate(1500);
    EXPECT_LT(before, aligned);
    heap.deallocate(aligned);
    heap.deallocate(before);
    EXPECT_EQ(heap.figures().holes, 1U);
}

// ---- sizes at the edge ----

TEST(fit_heap, zero_bytes_are_a_block) {
    buffer const memory{500};
    fit_heap heap{memory.span()};
    void* const one = heap.allocate(0);
    void* const other = heap.allocate(0);
    EXPECT_NE(one, other);
    EXPECT_TRUE(heap.owns(one));
    EXPECT_EQ(heap.requested_size(one), 0U);
    heap.deallocate(one, 0);
    heap.deallocate(other, 0);
}

TEST(fit_heap, refuses_what_no_span_could_hold) {
    buffer const memory{500};
    fit_heap heap{memory.span()};
    for (std::size_t const bytes : {std::size_t{500}, std::size_t{1} << 32, SIZE_MAX / 2,
                                    SIZE_MAX - 16, SIZE_MAX - 7, SIZE_MAX}) {
        EXPECT_EQ(heap.try_allocate(bytes), nullptr);
        EXPECT_EQ(heap.try_allocate(bytes, 4096), nullptr);
        EXPECT_THROW(static_cast<void>(heap.allocate(bytes)), std::bad_alloc);
        void* const block = heap.allocate(1);
        EXPECT_EQ(heap.try_reallocate(block, bytes), nullptr);
        EXPECT_FALSE(heap.try_expand(block, bytes));
        EXPECT_THROW(static_cast<void>(heap.reallocate(block, bytes)), std::bad_alloc);
        EXPECT_EQ(heap.requested_size(block), 1U) << "as it was";
        heap.deallocate(block);
    }
    EXPECT_TRUE(is_sound(heap));
}

TEST(fit_heap, refuses_alignments_that_are_no_powers_of_two) {
    buffer const memory{500};
    fit_heap heap{memory.span()};
    void* const block = heap.allocate(1);
    for (std::size_t const alignment :
         {std::size_t{0}, std::size_t{3}, std::size_t{24}, SIZE_MAX}) {
        EXPECT_EQ(heap.try_allocate(1, alignment), nullptr);
        EXPECT_EQ(heap.try_reallocate(block, 2, alignment), nullptr);
        EXPECT_THROW(static_cast<void>(heap.allocate(1, alignment)), std::invalid_argument);
        EXPECT_THROW(static_cast<void>(heap.reallocate(block, 2, alignment)),
                     std::invalid_argument);
    }
    for (std::size_t const alignment : {std::size_t{0}, std::size_t{1}, std::size_t{8},
                                        std::size_t{24}, std::size_t{8192}, SIZE_MAX}) {
        EXPECT_THROW(fit_heap(memory.span(), {.alignment = alignment}), std::invalid_argument);
        EXPECT_FALSE(fit_heap::try_make(memory.span(), {.alignment = alignment}).has_value());
    }
}

TEST(fit_heap, small_spans_have_a_block_or_are_refused) {
    for (std::size_t offset = 0; offset < 17; ++offset) {
        for (std::size_t bytes = 0; bytes <= 200; ++bytes) {
            buffer const memory{bytes, offset};
            auto heap = fit_heap::try_make(memory.span(), {.policy = policies[bytes % 4]});
            // The first block begins at a multiple of 16, 8 bytes or more from the start.
            std::size_t const lost = (offset + 8 + 15) / 16 * 16 - offset;
            ASSERT_EQ(heap.has_value(), bytes >= lost + 32) << bytes;
            if (!heap) {
                EXPECT_THROW(fit_heap{memory.span()}, std::invalid_argument);
                continue;
            }
            ASSERT_TRUE(is_sound(*heap));
            std::size_t const most = heap->figures().total_bytes - 8;
            EXPECT_EQ(heap->try_allocate(most + 1), nullptr);
            void* const block = heap->allocate(most);
            std::memset(block, 0xff, most);
            EXPECT_EQ(heap->try_allocate(0), nullptr) << "full";
            EXPECT_EQ(heap->figures().free_bytes, 0U);
            ASSERT_TRUE(is_sound(*heap));
            heap->deallocate(block);
            ASSERT_TRUE(is_sound(*heap));
        }
    }
    EXPECT_FALSE(fit_heap::try_make({}).has_value());
}

TEST(fit_heap, leaves_what_is_beyond_its_reach) {
    constexpr std::size_t bytes = std::size_t{70} << 30;
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        GTEST_SKIP() << "no 70 GiB of address space";
    }
    {
        fit_heap heap{{static_cast<std::byte*>(memory), bytes}};
        EXPECT_EQ(heap.figures().total_bytes, (std::size_t{1} << 36) - 32);
        void* const first = heap.allocate(std::size_t{40} << 30);
        void* const second = heap.allocate(std::size_t{20} << 30);
        EXPECT_THROW(static_cast<void>(heap.allocate(std::size_t{8} << 30)), std::bad_alloc);
        heap.deallocate(first);
        heap.deallocate(second);
        EXPECT_TRUE(is_sound(heap));
    }
    munmap(memory, bytes);
}

TEST(fit_heap, recovers_from_exhaustion) {
    for (fit const policy : policies) {
        buffer const memory{100'000};
        fit_heap heap{memory.span(), {.policy = policy}};
        std::vector<void*> blocks;
        while (void* const block = heap.try_allocate(40)) {
            blocks.push_back(block);
        }
        EXPECT_GT(blocks.size(), 2000U);
        EXPECT_THROW(static_cast<void>(heap.allocate(40)), std::bad_alloc);
        EXPECT_TRUE(is_sound(heap));
        for (std::size_t i = 0; i < blocks.size(); i += 2) {
            heap.deallocate(blocks[i]);
        }
        EXPECT_THROW(static_cast<void>(heap.allocate(41)), std::bad_alloc) << "holes of 40";
        EXPECT_GT(heap.figures().external_fragmentation(), 0.9);
        EXPECT_TRUE(heap.owns(heap.allocate(40)));
        heap.clear();
        EXPECT_EQ(heap.figures().live_blocks, 0U);
        EXPECT_NE(heap.try_allocate(90'000), nullptr);
    }
}

// ---- bad pointers ----

void expect_refused(fit_heap& heap, void* ptr, fit_return why) {
    EXPECT_EQ(heap.try_deallocate(ptr), why);
    EXPECT_EQ(heap.try_deallocate(ptr, 100), why);
    EXPECT_FALSE(heap.owns(ptr));
    EXPECT_EQ(heap.usable_size(ptr), 0U);
    EXPECT_EQ(heap.requested_size(ptr), 0U);
    EXPECT_EQ(heap.try_reallocate(ptr, 10), nullptr);
    EXPECT_FALSE(heap.try_expand(ptr, 10));
    char number[32];
    std::snprintf(number, sizeof number, "%p", ptr);
    for (bool const is_reallocated : {false, true}) {
        std::string const message = message_of<std::invalid_argument>([&] {
            if (is_reallocated) {
                static_cast<void>(heap.reallocate(ptr, 10));
            } else {
                heap.deallocate(ptr);
            }
        });
        EXPECT_NE(message.find(number), std::string::npos) << message;
        EXPECT_NE(message.find(to_string(why)), std::string::npos) << message;
    }
    EXPECT_TRUE(is_sound(heap));
}

TEST(fit_heap, refuses_pointers_that_are_no_live_blocks) {
    buffer const memory{4000};
    fit_heap heap{memory.span()};
    auto* const block = static_cast<std::byte*>(heap.allocate(100));
    auto* const gone = static_cast<std::byte*>(heap.allocate(100));
    auto* const next = static_cast<std::byte*>(heap.allocate(100));
    void* const last = heap.allocate(100);
    int on_the_stack = 0;
    expect_refused(heap, &on_the_stack, fit_return::foreign);
    expect_refused(heap, memory.span().data(), fit_return::foreign);
    expect_refused(heap, memory.span().data() + memory.span().size(), fit_return::foreign);
    expect_refused(heap, block + 1, fit_return::misaligned);
    expect_refused(heap, block + 8, fit_return::misaligned);
    std::memset(block, 0, 100);
    expect_refused(heap, block + 16, fit_return::inside);
    std::memset(block, 0xff, 100);
    expect_refused(heap, block + 16, fit_return::inside);
    std::memcpy(block + 8, block - 8, 8);  // a copied tag is none
    expect_refused(heap, block + 16, fit_return::inside);
    heap.deallocate(gone);
    expect_refused(heap, gone, fit_return::not_live);
    expect_refused(heap, gone + 16, fit_return::not_live);
    heap.deallocate(next);
    expect_refused(heap, next, fit_return::not_live);  // merged
    expect_refused(heap, gone, fit_return::not_live);
    auto* const both = static_cast<std::byte*>(heap.allocate(200));
    EXPECT_EQ(both, gone);
    expect_refused(heap, next, fit_return::inside);  // reused
    EXPECT_EQ(heap.try_deallocate(nullptr), fit_return::done);
    EXPECT_EQ(heap.try_deallocate(nullptr, 5), fit_return::done);
    EXPECT_EQ(heap.try_deallocate(both, 199), fit_return::other_size);
    EXPECT_THROW(heap.deallocate(both, 201), std::invalid_argument);
    heap.deallocate(both, 200);
    heap.deallocate(block);
    heap.deallocate(last);
    EXPECT_EQ(heap.figures().live_blocks, 0U);
}

TEST(fit_heap, knows_blocks_of_earlier_heaps_from_its_own) {
    buffer const memory{4000};
    fit_heap before{memory.span()};
    std::array<void*, 5> blocks{};
    for (void*& block : blocks) {
        block = before.allocate(100);
    }
    fit_heap heap{memory.span()};
    for (void* const block : blocks) {
        expect_refused(heap, block, fit_return::not_live);
    }
    for (void*& block : blocks) {
        block = heap.allocate(100);
    }
    heap.clear();
    for (void* const block : blocks) {
        expect_refused(heap, block, fit_return::not_live);
    }
}

// ---- damage ----

/// Three blocks of 100 bytes side by side, of which the second may go, and a wall.
struct three_blocks {
    three_blocks() {
        for (auto& block : blocks) {
            block = static_cast<std::byte*>(heap.allocate(100));
        }
        static_cast<void>(heap.allocate(24));
    }

    buffer place{2000};
    fit_heap heap{place.span()};
    std::array<std::byte*, 3> blocks{};
};

TEST(fit_heap, an_overflow_is_noticed_when_the_block_comes_back) {
    three_blocks of;
    std::memset(of.blocks[0], 0xab, of.heap.usable_size(of.blocks[0]) + 8);
    ASSERT_TRUE(of.heap.check().has_value());
    EXPECT_EQ(of.heap.check()->where, of.blocks[1]);
    EXPECT_EQ(of.heap.try_deallocate(of.blocks[0]), fit_return::damaged);
    EXPECT_EQ(of.heap.try_deallocate(of.blocks[1]), fit_return::damaged) << "its own tag";
    EXPECT_EQ(of.heap.try_reallocate(of.blocks[0], 1000), nullptr);
    EXPECT_FALSE(of.heap.try_expand(of.blocks[0], 1000));
    EXPECT_FALSE(of.heap.for_each_block([](std::byte*, std::size_t, bool) {}));
    std::string const message =
        message_of<std::runtime_error>([&] { of.heap.deallocate(of.blocks[0]); });
    EXPECT_NE(message.find("damaged"), std::string::npos);
    EXPECT_THROW(static_cast<void>(of.heap.reallocate(of.blocks[0], 1000)), std::runtime_error);
    // What has nothing to do with it goes on.
    EXPECT_EQ(of.heap.try_deallocate(of.blocks[2]), fit_return::done);
    EXPECT_NE(of.heap.try_allocate(100), nullptr);
    of.heap.clear();
    EXPECT_TRUE(is_sound(of.heap));
    EXPECT_NE(of.heap.try_allocate(1900), nullptr);
}

TEST(fit_heap, a_hole_that_was_written_to_is_not_followed) {
    for (std::size_t const offset : {0U, 4U, 8U, 12U, 15U}) {  // the links
        three_blocks of;
        of.heap.deallocate(of.blocks[1]);
        of.blocks[1][offset] ^= std::byte{1};
        ASSERT_TRUE(of.heap.check().has_value());
        EXPECT_EQ(of.heap.check()->where, of.blocks[1]);
        EXPECT_EQ(of.heap.try_deallocate(of.blocks[0]), fit_return::damaged);
        EXPECT_EQ(of.heap.try_deallocate(of.blocks[2]), fit_return::damaged);
        EXPECT_EQ(of.heap.try_allocate(100), nullptr);
        EXPECT_THROW(static_cast<void>(of.heap.allocate(100)), std::runtime_error);
    }
    three_blocks of;  // the end, by which the block behind finds it
    of.heap.deallocate(of.blocks[1]);
    of.blocks[2][-9] ^= std::byte{1};
    ASSERT_TRUE(of.heap.check().has_value());
    EXPECT_EQ(of.heap.try_deallocate(of.blocks[2]), fit_return::damaged);
}

TEST(fit_heap, every_bit_of_every_tag_is_watched) {
    three_blocks of;
    of.heap.deallocate(of.blocks[1]);
    for (std::byte* const block : of.blocks) {
        for (unsigned bit = 0; bit < 64; ++bit) {
            std::byte& byte = *(block - 8 + bit / 8);
            byte ^= std::byte{1} << (bit % 8);
            EXPECT_TRUE(of.heap.check().has_value()) << bit;
            byte ^= std::byte{1} << (bit % 8);
        }
    }
    EXPECT_TRUE(is_sound(of.heap));
}

/// Whatever is written over the whole span, every call ends, and what it gives lies in the span.
TEST(fit_heap, survives_scribbling) {
    random_stream random{7};
    for (int round = 0; round < 2000; ++round) {
        buffer const memory{3000};
        std::byte* const start = memory.span().data();
        fit_heap heap{memory.span(), {.policy = policies[random.below(4)]}};
        std::vector<std::byte*> blocks;
        for (int i = 0; i < 100; ++i) {
            std::uint64_t const choice = random.below(40);
            if (choice == 0) {
                std::size_t const at = random.below(memory.span().size() - 16);
                std::memset(start + at, static_cast<int>(random.below(256)), random.below(16));
            } else if (choice == 1) {
                std::memmove(start + random.below(2900), start + random.below(2900), 48);
            } else if (choice < 22 || blocks.empty()) {
                std::size_t const bytes = random.size_up_to(200);
                auto* const block = static_cast<std::byte*>(
                    heap.try_allocate(bytes, std::size_t{1} << random.below(8)));
                if (block != nullptr) {
                    ASSERT_GE(block, start);
                    ASSERT_LE(block + bytes, start + memory.span().size());
                    blocks.push_back(block);
                }
            } else if (choice < 26) {
                static_cast<void>(heap.try_reallocate(blocks.back(), random.size_up_to(300)));
            } else {
                static_cast<void>(heap.try_deallocate(blocks[random.below(blocks.size())]));
            }
            static_cast<void>(heap.check());
            static_cast<void>(heap.figures());
        }
    }
}

// ---- the rest of the interface ----

TEST(fit_heap, reallocates_in_place_where_it_can) {
    buffer const memory{2000};
    fit_heap heap{memory.span()};
    auto* const block = static_cast<std::byte*>(heap.reallocate(nullptr, 100));
    tarn::test::fill(block, 100, 1);
    EXPECT_EQ(heap.reallocate(block, 500), block) << "into the hole behind";
    EXPECT_EQ(heap.reallocate(block, 100), block);
    void* const wall = heap.allocate(1);
    EXPECT_FALSE(heap.try_expand(block, 500));
    auto* const moved = static_cast<std::byte*>(heap.reallocate(block, 500));
    EXPECT_NE(moved, block);
    EXPECT_EQ(tarn::test::first_wrong(moved, 100, 1), tarn::test::intact);
    EXPECT_TRUE(heap.try_expand(moved, 510));
    EXPECT_EQ(heap.requested_size(moved), 510U);
    EXPECT_TRUE(heap.try_expand(moved, 3)) << "large enough";
    EXPECT_EQ(heap.requested_size(moved), 510U);
    void* const least = heap.reallocate(moved, 0);
    EXPECT_EQ(heap.requested_size(least), 0U);
    heap.deallocate(least, 0);
    heap.deallocate(wall);
    EXPECT_EQ(heap.figures().holes, 1U);
}

TEST(fit_heap, counts) {
    buffer const memory{2016};
    fit_heap heap{memory.span()};
    EXPECT_EQ(heap.figures().total_bytes, 2000U);
    EXPECT_EQ(heap.figures().internal_fragmentation(), 0);
    EXPECT_EQ(heap.figures().external_fragmentation(), 0);
    void* const first = heap.allocate(100);   // 112 with its tag, rounded
    void* const second = heap.allocate(150);  // 160
    heap.deallocate(first);
    auto const figures = heap.figures();
    EXPECT_EQ(figures.requested_bytes, 150U);
    EXPECT_EQ(figures.live_bytes, 160U);
    EXPECT_EQ(figures.free_bytes, 1840U);
    EXPECT_EQ(figures.largest_hole_bytes, 1728U);
    EXPECT_EQ(figures.holes, 2U);
    EXPECT_EQ(figures.peak_requested_bytes, 250U);
    EXPECT_EQ(figures.peak_live_bytes, 272U);
    EXPECT_DOUBLE_EQ(figures.internal_fragmentation(), 1 - 150.0 / 160);
    EXPECT_DOUBLE_EQ(figures.external_fragmentation(), 1 - 1728.0 / 1840);
    EXPECT_EQ(heap.try_allocate(1728 - 7), nullptr);
    EXPECT_NE(heap.try_allocate(1728 - 8), nullptr);
    heap.deallocate(second);
}

TEST(fit_heap, shows_its_blocks) {
    buffer const memory{1000};
    fit_heap heap{memory.span()};
    void* const first = heap.allocate(100);
    void* const second = heap.allocate(50);
    heap.deallocate(first);
    std::vector<std::tuple<void*, std::size_t, bool>> seen;
    EXPECT_TRUE(heap.for_each_block([&](std::byte* start, std::size_t bytes, bool is_live) {
        seen.emplace_back(start, bytes, is_live);
    }));
    ASSERT_EQ(seen.size(), 3U);
    EXPECT_EQ(seen[0], std::make_tuple(first, std::size_t{104}, false));
    EXPECT_EQ(seen[1], std::make_tuple(second, std::size_t{56}, true));
    EXPECT_EQ(std::get<1>(seen[0]) + std::get<1>(seen[1]) + std::get<1>(seen[2]) + 24,
              heap.figures().total_bytes);
}

TEST(fit_resource, passes_the_suite) {
    buffer const memory{2'000'000};
    for (fit const policy : policies) {
        fit_heap heap{memory.span(), {.policy = policy}};
        tarn::fit_resource resource{heap};
        tarn::test::expect_blocks(resource, std::size_t{100} * 1024);
        tarn::test::expect_edges(resource);
        tarn::test::expect_containers(resource);
        EXPECT_EQ(heap.figures().live_blocks, 0U);
        EXPECT_TRUE(is_sound(heap));
    }
}

TEST(fit_resource, is_equal_to_those_over_the_same_heap) {
    buffer const memory{1000};
    buffer const other_memory{1000};
    fit_heap heap{memory.span()};
    fit_heap other_heap{other_memory.span()};
    tarn::fit_resource resource{heap};
    EXPECT_TRUE(resource.is_equal(tarn::fit_resource{heap}));
    EXPECT_FALSE(resource.is_equal(tarn::fit_resource{other_heap}));
    EXPECT_EQ(&resource.heap(), &heap);
    void* const block = resource.allocate(100);
    EXPECT_THROW(resource.deallocate(block, 99), std::invalid_argument);
    resource.deallocate(block, 100);
    EXPECT_THROW(resource.deallocate(block, 100), std::invalid_argument);
}

}  // namespace
