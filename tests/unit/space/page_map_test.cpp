#include "space/page_map.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <random>

#include "base/bits.hpp"
#include "base/units.hpp"
#include "platform/fake/fake_os.hpp"
#include "platform/os.hpp"
#include "sizing/size_class.hpp"

namespace {

using namespace tarn::impl;
using base::pointer_to;
using platform::fake_os;
using sizing::slice_bytes;

struct entry {
    int number = 0;
};

/// A small address space, so that each test may have its own: 512 GiB of addresses, 64 MiB of map.
struct small_os : fake_os {
    static constexpr unsigned address_bits = 39;
    static inline std::size_t limit_bytes = ~std::size_t{0};

    static std::size_t address_space_limit() noexcept { return limit_bytes; }
};

using small_map = space::page_map<entry, small_os>;

constexpr std::uintptr_t window_end = std::uintptr_t{1} << small_os::address_bits;
constexpr std::size_t coarse_bytes = small_map::coarse_slices * slice_bytes;

/// Addresses are numbers here: the map never follows them. Nothing is released, as in the library.
class page_map : public testing::Test {
protected:
    void SetUp() override { fake_os::reset(); }

    void TearDown() override {
        fake_os::reset();
        small_os::limit_bytes = ~std::size_t{0};
    }

    void start() { ASSERT_TRUE(map_->initialize()); }

    [[nodiscard]] entry* at(std::uintptr_t address) const {
        return map_->find_interior(pointer_to(address));
    }

    /// Every slice of [from, end) leads to `expected`, at its first and at its last byte.
    void expect_all(std::uintptr_t from, std::uintptr_t end, entry const* expected) const {
        for (std::uintptr_t address = from; address < end; address += slice_bytes) {
            ASSERT_EQ(at(address), expected) << std::hex << address;
            ASSERT_EQ(at(address + slice_bytes - 1), expected) << std::hex << address;
        }
    }

    std::unique_ptr<small_map> map_ = std::make_unique<small_map>();
    entry first_{1};
    entry second_{2};
};

TEST_F(page_map, knows_nothing_before_it_is_started) {
    EXPECT_EQ(map_->find(nullptr), nullptr);
    EXPECT_EQ(map_->find(this), nullptr);
    EXPECT_EQ(map_->find_interior(this), nullptr);
    EXPECT_EQ(map_->committed_bytes(), 0U);
    EXPECT_EQ(map_->reserved_bytes(), 0U);
}

TEST_F(page_map, answers_for_every_64_bit_value) {
    start();
    constexpr std::uintptr_t start = window_end - 2 * slice_bytes;
    ASSERT_TRUE(map_->assign(pointer_to(start), 2, &first_));
    std::mt19937_64 random{1};
    auto const check = [&](std::uint64_t value) {
        entry* const expected = value >= start && value < window_end ? &first_ : nullptr;
        ASSERT_EQ(map_->find(pointer_to(value)), expected) << std::hex << value;
        ASSERT_EQ(map_->find_interior(pointer_to(value)), expected) << std::hex << value;
    };
    check(0);
    check(1);
    for (unsigned bit = 0; bit < 64; ++bit) {
        std::uint64_t const power = std::uint64_t{1} << bit;
        check(power - 1);
        check(power);
        check(power + 1);
        check(~power);
        check(~std::uint64_t{0} << bit);
    }
    check(start - 1);
    check(start);
    check(window_end - 1);
    check(window_end);
    for (int i = 0; i < 100'000; ++i) {
        check(random() >> (random() % 64));
    }
}

TEST_F(page_map, of_the_whole_address_space_does_so_too) {
    static space::page_map<entry, platform::os> whole;  // 16 GiB or more of addresses: once
    ASSERT_TRUE(whole.initialize());
    std::uintptr_t const last =
        whole.ceiling() != 0 ? whole.ceiling() : std::uintptr_t{1} << platform::os::address_bits;
    ASSERT_TRUE(whole.assign(pointer_to(last - slice_bytes), 1, &first_));
    EXPECT_EQ(whole.find(pointer_to(last - 1)), &first_);
    EXPECT_EQ(whole.find_interior(pointer_to(last - 1)), &first_);
    std::uint64_t const values[] = {0,
                                    last,
                                    0x0000'7fff'0000'0000,
                                    0x0000'8000'0000'0000,  // not canonical on x86-64
                                    0x8000'0000'0000'0000,
                                    0xffff'7fff'ffff'ffff,
                                    0xffff'8000'0000'0000,  // the kernel's
                                    ~std::uint64_t{0}};
    for (std::uint64_t const value : values) {
        EXPECT_EQ(whole.find(pointer_to(value)), nullptr) << std::hex << value;
        EXPECT_EQ(whole.find_interior(pointer_to(value)), nullptr) << std::hex << value;
    }
    EXPECT_EQ(whole.find(&first_), nullptr);
    whole.clear(pointer_to(last - slice_bytes), 1);
    EXPECT_EQ(whole.find(pointer_to(last - 1)), nullptr);
}

TEST_F(page_map, enters_every_slice_of_a_run) {
    start();
    constexpr std::uintptr_t base = 5 * GiB;
    for (std::size_t slices : {1U, 2U, 16U, 1023U}) {
        ASSERT_TRUE(map_->assign(pointer_to(base), slices, &first_));
        for (std::size_t slice = 0; slice < slices; ++slice) {
            ASSERT_EQ(map_->find(pointer_to(base + slice * slice_bytes)), &first_);
        }
        expect_all(base, base + slices * slice_bytes, &first_);
        EXPECT_EQ(at(base - 1), nullptr);
        EXPECT_EQ(at(base + slices * slice_bytes), nullptr);
        map_->clear(pointer_to(base), slices);
        expect_all(base, base + slices * slice_bytes, nullptr);
    }
}

TEST_F(page_map, finds_every_address_of_a_very_large_run) {
    start();
    for (std::size_t const bytes : {coarse_bytes, 300 * MiB, 3 * GiB}) {
        std::size_t const slices = bytes / slice_bytes;
        // On a coarse border, just before, just behind, and anywhere.
        for (std::uintptr_t const base :
             {std::uintptr_t{8 * GiB}, std::uintptr_t{8 * GiB - slice_bytes},
              std::uintptr_t{8 * GiB + slice_bytes}, std::uintptr_t{8 * GiB + 17 * MiB}}) {
            std::uintptr_t const end = base + bytes;
            ASSERT_TRUE(map_->assign(pointer_to(base), slices, &first_));
            ASSERT_EQ(map_->find(pointer_to(base)), &first_);  // its first slice, without coarse
            expect_all(base, end, &first_);
            EXPECT_EQ(at(base - 1), nullptr);
            EXPECT_EQ(at(end), nullptr);
            // Neighbours in the same coarse units are found beside it, and stay when it goes.
            ASSERT_TRUE(map_->assign(pointer_to(base - slice_bytes), 1, &second_));
            ASSERT_TRUE(map_->assign(pointer_to(end), 3, &second_));
            EXPECT_EQ(at(base), &first_);
            EXPECT_EQ(at(end - 1), &first_);
            map_->clear(pointer_to(base), slices);
            expect_all(base, end, nullptr);
            EXPECT_EQ(at(base - 1), &second_);
            EXPECT_EQ(at(end), &second_);
            map_->clear(pointer_to(base - slice_bytes), 1);
            map_->clear(pointer_to(end), 3);
        }
    }
}

TEST_F(page_map, takes_little_memory_for_very_large_runs) {
    start();
    ASSERT_TRUE(map_->assign(pointer_to(8 * GiB), 3 * GiB / slice_bytes, &first_));
    EXPECT_LE(map_->committed_bytes(), 192 * KiB);
    std::size_t const flat_bytes = window_end / slice_bytes * sizeof(void*);
    EXPECT_GE(map_->reserved_bytes(), flat_bytes);
    EXPECT_LE(map_->reserved_bytes(), flat_bytes * 101 / 100);
}

TEST_F(page_map, enters_nothing_when_its_own_memory_is_refused) {
    constexpr std::uintptr_t base = 8 * GiB - 20 * MiB;
    constexpr std::size_t slices = 600 * MiB / slice_bytes;
    std::uint64_t failures = 0;
    for (std::uint64_t n = 0;; ++n) {
        map_ = std::make_unique<small_map>();
        start();
        fake_os::reset();
        fake_os::control().fail_after = n;
        fake_os::control().failures_max = 1;
        bool const entered = map_->assign(pointer_to(base), slices, &first_);
        if (fake_os::count().failures == 0) {
            EXPECT_TRUE(entered);
            break;
        }
        ++failures;
        EXPECT_FALSE(entered);
        expect_all(base, base + slices * slice_bytes, nullptr);
    }
    EXPECT_GE(failures, 3U);  // first slice, coarse units, ragged end
    expect_all(base, base + slices * slice_bytes, &first_);
}

TEST_F(page_map, refuses_a_range_behind_its_window) {
    start();
    EXPECT_DEATH(static_cast<void>(map_->assign(pointer_to(window_end), 1, &first_)), "");
    EXPECT_DEATH(static_cast<void>(map_->assign(pointer_to(window_end - slice_bytes), 2, &first_)),
                 "");
}

TEST_F(page_map, shrinks_its_window_to_what_is_granted) {
    std::size_t const map_bytes = window_end / slice_bytes * sizeof(void*);
    small_os::limit_bytes = 32 * map_bytes;  // it may take no more than that share
    start();
    EXPECT_EQ(map_->ceiling(), 0U);

    map_ = std::make_unique<small_map>();
    small_os::limit_bytes = 8 * map_bytes;
    start();
    std::uintptr_t const ceiling = map_->ceiling();
    EXPECT_EQ(ceiling, window_end / 4);
    ASSERT_TRUE(map_->assign(pointer_to(ceiling - slice_bytes), 1, &first_));
    EXPECT_EQ(at(ceiling - 1), &first_);
    EXPECT_EQ(at(ceiling), nullptr);

    // The system's word counts, not the limit alone.
    map_ = std::make_unique<small_map>();
    small_os::limit_bytes = ~std::size_t{0};
    fake_os::control().fail_after = fake_os::count().calls;
    fake_os::control().failures_max = 2;
    start();
    EXPECT_EQ(map_->ceiling(), window_end / 4);

    // Not below what the smallest useful process needs, however low the limit.
    map_ = std::make_unique<small_map>();
    fake_os::reset();
    small_os::limit_bytes = 4 * MiB;
    start();
    EXPECT_EQ(map_->ceiling(), 8 * GiB);
}

TEST_F(page_map, that_gets_no_window_says_so_and_finds_nothing) {
    fake_os::control().fail_after = 0;
    EXPECT_FALSE(map_->initialize());
    EXPECT_EQ(map_->find(pointer_to(GiB)), nullptr);
    EXPECT_EQ(map_->find_interior(pointer_to(GiB)), nullptr);
    fake_os::reset();
    EXPECT_TRUE(map_->initialize());  // memory may be there the next time
}

}  // namespace
