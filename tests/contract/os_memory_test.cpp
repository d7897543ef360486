// What every os_memory must do: platform/os_memory.hpp, function by function.
//
// Memory is probed through system calls, which answer EFAULT where an access would kill.
#include "platform/os_memory.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/bits.hpp"
#include "base/units.hpp"
#include "platform/fake/fake_os.hpp"
#include "platform/linux/linux_os.hpp"
#include "support/build.hpp"
#include "support/mappings.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using platform::fake_os;
using platform::guard_method;
using platform::linux_os;

/// The fake, pretending pages larger than the machine's.
struct fake_large_pages : fake_os {};

template <class Os>
void prepare() {
    if constexpr (!std::is_same_v<Os, linux_os>) {
        fake_os::reset();
        fake_os::control().page_bytes =
            std::is_same_v<Os, fake_os> ? linux_os::page_bytes() : 64 * KiB;
    }
}

class probe {
public:
    probe() { EXPECT_EQ(::pipe(ends_.data()), 0); }

    ~probe() {
        ::close(ends_[0]);
        ::close(ends_[1]);
    }

    probe(probe const&) = delete;
    probe& operator=(probe const&) = delete;

    [[nodiscard]] bool readable(void const* at) const {
        char drain = 0;
        return ::write(ends_[1], at, 1) == 1 && ::read(ends_[0], &drain, 1) == 1;
    }

    /// Writes 1 when it can.
    [[nodiscard]] bool writable(void* at) const {
        char one = 1;
        if (::write(ends_[1], &one, 1) != 1) {
            return false;
        }
        if (::read(ends_[0], at, 1) == 1) {
            return true;
        }
        EXPECT_EQ(::read(ends_[0], &one, 1), 1);
        return false;
    }

private:
    std::array<int, 2> ends_{};
};

bool is_all(std::byte const* base, std::size_t bytes, int value) {
    for (std::size_t i = 0; i < bytes; ++i) {
        if (base[i] != static_cast<std::byte>(value)) {
            return false;
        }
    }
    return true;
}

template <class Os>
class os_memory_contract : public testing::Test {
protected:
    os_memory_contract() { prepare<Os>(); }

    ~os_memory_contract() override {
        if constexpr (!std::is_same_v<Os, linux_os>) {
            fake_os::reset();
        }
    }

    /// `pages` reserved pages.
    static std::byte* reserved(std::size_t pages) {
        void* const base = Os::reserve(pages * Os::page_bytes(), {});
        EXPECT_NE(base, nullptr);
        return static_cast<std::byte*>(base);
    }

    /// `pages` committed pages.
    static std::byte* committed(std::size_t pages) {
        std::byte* const base = reserved(pages);
        EXPECT_TRUE(Os::commit(base, pages * Os::page_bytes()));
        return base;
    }

    probe const memory_;
};

using systems = testing::Types<linux_os, fake_os, fake_large_pages>;
TYPED_TEST_SUITE(os_memory_contract, systems, );

TYPED_TEST(os_memory_contract, page_is_a_power_of_two_within_bounds) {
    std::size_t const page = TypeParam::page_bytes();
    EXPECT_TRUE(std::has_single_bit(page));
    EXPECT_GE(page, 4 * KiB);
    EXPECT_LE(page, 64 * KiB);
    EXPECT_EQ(page, TypeParam::page_bytes());
}

TYPED_TEST(os_memory_contract, reserves_without_access) {
    std::size_t const page = TypeParam::page_bytes();
    std::byte* const base = this->reserved(3);
    EXPECT_TRUE(base::is_aligned(base::address_of(base), page));
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_FALSE(this->memory_.readable(base + i * page));
        EXPECT_FALSE(this->memory_.writable(base + i * page));
    }
    TypeParam::release(base, 3 * page);
}

TYPED_TEST(os_memory_contract, reserves_at_any_alignment) {
    std::size_t const page = TypeParam::page_bytes();
    for (std::size_t alignment = page; alignment <= 4 * GiB; alignment *= 2) {
        for (std::size_t const bytes : {page, 5 * page}) {
            void* const base = TypeParam::reserve(bytes, {.alignment = alignment});
            ASSERT_NE(base, nullptr) << alignment;
            EXPECT_TRUE(base::is_aligned(base::address_of(base), alignment));
            EXPECT_TRUE(TypeParam::commit(base, bytes));
            std::memset(base, 1, bytes);
            TypeParam::release(base, bytes);
            EXPECT_FALSE(this->memory_.readable(base));
        }
    }
}

TYPED_TEST(os_memory_contract, reserves_below_a_ceiling) {
    if (tarn::test::under_asan || tarn::test::under_tsan) {
        GTEST_SKIP() << "a sanitizer holds the low addresses";
    }
    platform::placement const where{.alignment = 2 * MiB, .ceiling = std::uintptr_t{1} << 34};
    std::array<void*, 20> ranges{};
    for (void*& each : ranges) {
        each = TypeParam::reserve(64 * MiB, where);
        ASSERT_NE(each, nullptr);
        EXPECT_LE(base::address_of(each) + 64 * MiB, where.ceiling);
        EXPECT_TRUE(base::is_aligned(base::address_of(each), where.alignment));
    }
    for (void* const each : ranges) {
        TypeParam::release(each, 64 * MiB);
    }
}

TYPED_TEST(os_memory_contract, refusal_is_null) {
    std::size_t const page = TypeParam::page_bytes();
    std::size_t const absurd = base::align_down(~std::size_t{0}, page);
    EXPECT_EQ(TypeParam::reserve(absurd, {}), nullptr);
    EXPECT_EQ(TypeParam::reserve(absurd, {.alignment = 2 * MiB}), nullptr);
    EXPECT_EQ(TypeParam::reserve(std::size_t{1} << 60, {}), nullptr);
    EXPECT_EQ(TypeParam::reserve(page, {.alignment = std::size_t{1} << 62}), nullptr);
    EXPECT_EQ(TypeParam::reserve(GiB, {.ceiling = GiB}), nullptr);
    EXPECT_EQ(TypeParam::reserve_zeros(absurd), nullptr);
}

TYPED_TEST(os_memory_contract, reserved_zeros_read_as_zero) {
    std::size_t const page = TypeParam::page_bytes();
    auto* const base = static_cast<std::byte*>(TypeParam::reserve_zeros(4 * page));
    ASSERT_NE(base, nullptr);
    EXPECT_TRUE(is_all(base, 4 * page, 0));
    EXPECT_FALSE(this->memory_.writable(base));
    ASSERT_TRUE(TypeParam::commit(base + page, page));
    EXPECT_TRUE(is_all(base, 4 * page, 0));
    std::memset(base + page, 7, page);
    EXPECT_TRUE(is_all(base, page, 0));
    EXPECT_TRUE(is_all(base + 2 * page, 2 * page, 0));
    EXPECT_FALSE(this->memory_.writable(base + 2 * page));
    TypeParam::release(base, 4 * page);
}

TYPED_TEST(os_memory_contract, reserved_zeros_cost_no_memory) {
    constexpr std::size_t words_count = 2 * GiB;  // 16 GiB of them
    void* const base = TypeParam::reserve_zeros(words_count * 8);
    ASSERT_NE(base, nullptr);
    auto const* const words = static_cast<std::uint64_t const*>(base);
    EXPECT_EQ(words[0] + words[words_count / 3] + words[words_count - 1], 0U);
    TypeParam::release(base, words_count * 8);
}

TYPED_TEST(os_memory_contract, committed_memory_is_zero_and_writable) {
    std::size_t const page = TypeParam::page_bytes();
    std::byte* const base = this->reserved(4);
    ASSERT_TRUE(TypeParam::commit(base + page, 2 * page));
    EXPECT_TRUE(is_all(base + page, 2 * page, 0));
    std::memset(base + page, 9, 2 * page);
    EXPECT_FALSE(this->memory_.readable(base));
    EXPECT_FALSE(this->memory_.readable(base + 3 * page));
    // Once more, over more: contents stay.
    ASSERT_TRUE(TypeParam::commit(base, 4 * page));
    EXPECT_TRUE(is_all(base, page, 0));
    EXPECT_TRUE(is_all(base + page, 2 * page, 9));
    TypeParam::release(base, 4 * page);
}

TYPED_TEST(os_memory_contract, purged_memory_is_zero_and_writable) {
    std::size_t const page = TypeParam::page_bytes();
    std::byte* const base = this->committed(4);
    std::memset(base, 5, 4 * page);
    ASSERT_TRUE(TypeParam::purge(base + page, 2 * page));
    EXPECT_TRUE(is_all(base, page, 5));
    EXPECT_TRUE(is_all(base + page, 2 * page, 0));
    EXPECT_TRUE(is_all(base + 3 * page, page, 5));
    std::memset(base + page, 6, 2 * page);
    EXPECT_TRUE(is_all(base + page, 2 * page, 6));
    TypeParam::release(base, 4 * page);
}

TYPED_TEST(os_memory_contract, renewed_memory_is_zero_and_whole) {
    std::size_t const page = TypeParam::page_bytes();
    std::byte* const base = this->committed(4);
    std::byte* const target = this->committed(2);
    std::memset(base, 5, 4 * page);
    int const before = tarn::test::mapping_count();
    bool const moved = TypeParam::move_pages(base + page, target, 2 * page, 2 * page);
    ASSERT_TRUE(TypeParam::renew(base + page, 2 * page));
    if (moved && before > 0 && !tarn::test::under_asan && !tarn::test::under_tsan) {
        EXPECT_LE(tarn::test::mapping_count(), before + 1);  // only `target` may stand apart
    }
    EXPECT_TRUE(is_all(base, page, 5));
    EXPECT_TRUE(is_all(base + page, 2 * page, 0));
    EXPECT_TRUE(is_all(base + 3 * page, page, 5));
    std::memset(base + page, 6, 2 * page);
    EXPECT_TRUE(is_all(base + page, 2 * page, 6));
    TypeParam::release(target, 2 * page);
    TypeParam::release(base, 4 * page);
}

TYPED_TEST(os_memory_contract, decommitted_memory_is_reserved_again) {
    std::size_t const page = TypeParam::page_bytes();
    std::byte* const base = this->committed(4);
    std::memset(base, 5, 4 * page);
    ASSERT_TRUE(TypeParam::decommit(base + page, 2 * page));
    EXPECT_FALSE(this->memory_.readable(base + page));
    EXPECT_FALSE(this->memory_.readable(base + 2 * page));
    EXPECT_TRUE(is_all(base, page, 5));
    EXPECT_TRUE(is_all(base + 3 * page, page, 5));
    ASSERT_TRUE(TypeParam::commit(base + page, 2 * page));
    EXPECT_TRUE(is_all(base + page, 2 * page, 0));
    TypeParam::release(base, 4 * page);
}

TYPED_TEST(os_memory_contract, releases_in_parts) {
    std::size_t const page = TypeParam::page_bytes();
    std::byte* const base = this->committed(3);
    std::memset(base, 5, 3 * page);
    TypeParam::release(base + page, page);
    EXPECT_FALSE(this->memory_.readable(base + page));
    EXPECT_TRUE(is_all(base, page, 5));
    TypeParam::release(base, page);
    EXPECT_TRUE(is_all(base + 2 * page, page, 5));
    TypeParam::release(base + 2 * page, page);
    EXPECT_FALSE(this->memory_.readable(base + 2 * page));
}

TYPED_TEST(os_memory_contract, huge_pages_change_no_contents) {
    std::size_t const bytes = 8 * MiB;
    auto* const base = static_cast<std::byte*>(TypeParam::reserve(bytes, {.alignment = 2 * MiB}));
    ASSERT_TRUE(TypeParam::commit(base, bytes));
    base[2 * MiB] = std::byte{2};
    base[3 * MiB] = std::byte{1};
    bool const done = TypeParam::populate_huge(base, bytes);  // or not: contents are the same
    EXPECT_EQ(base[2 * MiB], std::byte{2});
    EXPECT_EQ(base[3 * MiB], std::byte{1});
    EXPECT_TRUE(is_all(base, 2 * MiB, 0));
    EXPECT_TRUE(is_all(base + 4 * MiB, 4 * MiB, 0));
    if (done) {
        std::array<unsigned char, 1> resident{};
        EXPECT_EQ(::mincore(base + 7 * MiB, 1, resident.data()), 0);
        EXPECT_EQ(resident[0] & 1, 1);
    }
    std::memset(base, 3, bytes);
    EXPECT_TRUE(TypeParam::purge(base + 2 * MiB, 64 * KiB));
    EXPECT_TRUE(is_all(base + 2 * MiB, 64 * KiB, 0));
    EXPECT_TRUE(is_all(base + 2 * MiB + 64 * KiB, 64 * KiB, 3));
    TypeParam::release(base, bytes);
}

/// Fills two ranges, moves one onto the other and checks both outcomes that are allowed.
template <class Os>
void check_move(std::byte* from, std::byte* to, std::size_t bytes) {
    std::minstd_rand random{static_cast<unsigned>(bytes)};
    std::vector<std::byte> expected(bytes);
    for (std::byte& each : expected) {
        each = static_cast<std::byte>(random());
    }
    std::memcpy(from, expected.data(), bytes);
    std::memset(to, 0xee, bytes);
    if (Os::move_pages(from, to, bytes, bytes)) {
        EXPECT_EQ(std::memcmp(to, expected.data(), bytes), 0);
        EXPECT_TRUE(is_all(from, bytes, 0));
    } else {
        EXPECT_EQ(std::memcmp(from, expected.data(), bytes), 0);
        EXPECT_TRUE(is_all(to, bytes, 0xee));
    }
    std::memset(from, 1, bytes);  // both are still ours to write
    std::memset(to, 2, bytes);
    EXPECT_TRUE(is_all(from, bytes, 1));
    EXPECT_TRUE(is_all(to, bytes, 2));
}

TYPED_TEST(os_memory_contract, moves_pages_or_changes_nothing) {
    std::size_t const page = TypeParam::page_bytes();
    for (std::size_t const pages : {1U, 2U, 7U, 64U, 600U}) {
        std::byte* const base = this->committed(2 * pages + 2);
        check_move<TypeParam>(base, base + (pages + 1) * page, pages * page);
        check_move<TypeParam>(base + (pages + 2) * page, base + page, pages * page);
        TypeParam::release(base, (2 * pages + 2) * page);
    }
}

// The kernel sees one mapping per kind of memory and moves only within one: a range of several
// must not be lost half way.
TYPED_TEST(os_memory_contract, moves_a_range_of_several_mappings_or_changes_nothing) {
    std::size_t const half = 4 * MiB;
    auto* const base =
        static_cast<std::byte*>(TypeParam::reserve(4 * half, {.alignment = 2 * MiB}));
    ASSERT_TRUE(TypeParam::commit(base, 4 * half));
    ::madvise(base + half, half, MADV_HUGEPAGE);
    check_move<TypeParam>(base, base + 2 * half, 2 * half);
    check_move<TypeParam>(base + 2 * half, base, 2 * half);
    TypeParam::release(base, 4 * half);
}

/// Each way that the system has to guard; the last one is what it takes unasked.
class guard_choice {
public:
    guard_choice() : usual_{linux_os::guards_by()} {}

    ~guard_choice() { linux_os::guard_by(usual_); }

    guard_choice(guard_choice const&) = delete;
    guard_choice& operator=(guard_choice const&) = delete;

    [[nodiscard]] std::vector<guard_method> all() const {
        return usual_ == guard_method::markers
                   ? std::vector{guard_method::protection, guard_method::markers}
                   : std::vector{usual_};
    }

private:
    guard_method usual_;
};

TYPED_TEST(os_memory_contract, guarded_memory_faults_and_comes_back_as_zero) {
    guard_choice const choice;
    std::size_t const page = TypeParam::page_bytes();
    for (guard_method const method : choice.all()) {
        linux_os::guard_by(method);
        EXPECT_EQ(TypeParam::guards_by(), method);
        std::byte* const base = this->committed(4);
        std::memset(base, 5, 4 * page);
        ASSERT_TRUE(TypeParam::guard(base + page, 2 * page));
        EXPECT_TRUE(TypeParam::guard(base + page, page)) << "once more";
        EXPECT_FALSE(this->memory_.readable(base + page));
        EXPECT_FALSE(this->memory_.readable(base + 3 * page - 1));
        EXPECT_TRUE(is_all(base, page, 5));
        EXPECT_TRUE(is_all(base + 3 * page, page, 5));
        ASSERT_TRUE(TypeParam::unguard(base + page, page));
        EXPECT_TRUE(is_all(base + page, page, 0));
        EXPECT_FALSE(this->memory_.readable(base + 2 * page));
        std::memset(base + page, 6, page);
        ASSERT_TRUE(TypeParam::unguard(base, 4 * page));
        EXPECT_TRUE(is_all(base, page, 5));
        EXPECT_TRUE(is_all(base + page, page, 6)) << "what was not guarded stays";
        EXPECT_TRUE(is_all(base + 2 * page, page, 0));
        std::memset(base, 7, 4 * page);
        EXPECT_TRUE(is_all(base, 4 * page, 7));
        TypeParam::release(base, 4 * page);
    }
}

TYPED_TEST(os_memory_contract, a_purge_leaves_guards_and_a_release_takes_them) {
    guard_choice const choice;
    std::size_t const page = TypeParam::page_bytes();
    for (guard_method const method : choice.all()) {
        linux_os::guard_by(method);
        std::byte* const base = this->committed(2);
        ASSERT_TRUE(TypeParam::guard(base, page));
        EXPECT_TRUE(TypeParam::purge(base, 2 * page));
        EXPECT_FALSE(this->memory_.readable(base));
        ASSERT_TRUE(TypeParam::decommit(base, 2 * page));
        ASSERT_TRUE(TypeParam::commit(base, 2 * page));
        EXPECT_TRUE(is_all(base, 2 * page, 0));
        TypeParam::release(base, 2 * page);
    }
}

TYPED_TEST(os_memory_contract, a_forked_child_has_the_guards_too) {
    guard_choice const choice;
    std::size_t const page = TypeParam::page_bytes();
    for (guard_method const method : choice.all()) {
        linux_os::guard_by(method);
        std::byte* const base = this->committed(2);
        ASSERT_TRUE(TypeParam::guard(base, page));
        int const status = tarn::test::run_in_child(20, [&] {
            probe const there;
            bool const is_guarded = !there.readable(base) && there.readable(base + page);
            bool const ended = TypeParam::unguard(base, page) && there.writable(base);
            return is_guarded && ended ? 0 : 1;
        });
        EXPECT_EQ(status, 0);
        EXPECT_FALSE(this->memory_.readable(base)) << "the child ended its own";
        TypeParam::release(base, 2 * page);
    }
}

TYPED_TEST(os_memory_contract, guards_locked_memory) {
    guard_choice const choice;
    std::size_t const page = TypeParam::page_bytes();
    for (guard_method const method : choice.all()) {
        linux_os::guard_by(method);
        std::byte* const base = this->committed(2);
        if (::mlock(base, 2 * page) != 0) {
            TypeParam::release(base, 2 * page);
            GTEST_SKIP() << "no memory may be locked here";
        }
        std::memset(base, 5, 2 * page);
        ASSERT_TRUE(TypeParam::guard(base, page));
        EXPECT_FALSE(this->memory_.readable(base));
        ASSERT_TRUE(TypeParam::unguard(base, page));
        std::memset(base, 6, page);
        EXPECT_TRUE(is_all(base, page, 6));
        EXPECT_TRUE(is_all(base + page, page, 5));
        ::munlock(base, 2 * page);
        TypeParam::release(base, 2 * page);
    }
}

TYPED_TEST(os_memory_contract, markers_take_no_mapping_and_protection_gives_it_back) {
    guard_choice const choice;
    std::size_t const page = TypeParam::page_bytes();
    for (guard_method const method : choice.all()) {
        linux_os::guard_by(method);
        std::byte* const base = this->committed(64);
        int const before = tarn::test::mapping_count();
        for (std::size_t i = 0; i < 64; i += 2) {
            ASSERT_TRUE(TypeParam::guard(base + i * page, page));
        }
        int const guarded = tarn::test::mapping_count();
        ASSERT_TRUE(TypeParam::unguard(base, 64 * page));
        if (before > 0 && !tarn::test::under_asan && !tarn::test::under_tsan) {
            if (method == guard_method::markers) {
                EXPECT_LE(guarded, before + 8);
            }
            EXPECT_LE(tarn::test::mapping_count(), before + 8);
        }
        TypeParam::release(base, 64 * page);
    }
}

TYPED_TEST(os_memory_contract, where_guards_are_refused_nothing_changes) {
    guard_choice const choice;
    linux_os::guard_by(guard_method::nothing);
    std::size_t const page = TypeParam::page_bytes();
    std::byte* const base = this->committed(1);
    std::memset(base, 5, page);
    EXPECT_FALSE(TypeParam::guard(base, page));
    EXPECT_TRUE(is_all(base, page, 5));
    TypeParam::release(base, page);
}

TYPED_TEST(os_memory_contract, serves_threads_at_once) {
    std::size_t const page = TypeParam::page_bytes();
    std::vector<std::thread> threads;
    for (int id = 1; id <= 4; ++id) {
        threads.emplace_back([id, page] {
            for (int round = 0; round < 200; ++round) {
                auto* const base = static_cast<std::byte*>(TypeParam::reserve(4 * page, {}));
                ASSERT_NE(base, nullptr);
                ASSERT_TRUE(TypeParam::commit(base + page, 2 * page));
                std::memset(base + page, id, 2 * page);
                ASSERT_TRUE(is_all(base + page, 2 * page, id));
                ASSERT_TRUE(TypeParam::purge(base + page, page));
                ASSERT_TRUE(is_all(base + page, page, 0));
                ASSERT_TRUE(TypeParam::decommit(base + 2 * page, page));
                TypeParam::release(base, 4 * page);
            }
        });
    }
    for (std::thread& each : threads) {
        each.join();
    }
}

TYPED_TEST(os_memory_contract, refused_commit_leaves_the_rest_alone) {
    if constexpr (!std::is_same_v<TypeParam, linux_os>) {
        std::size_t const page = TypeParam::page_bytes();
        std::byte* const base = this->committed(1);
        base[0] = std::byte{3};
        std::byte* const other = this->reserved(1);
        fake_os::control().commit_limit_bytes = fake_os::count().committed_bytes;
        EXPECT_FALSE(TypeParam::commit(other, page));
        EXPECT_FALSE(this->memory_.readable(other));
        EXPECT_EQ(base[0], std::byte{3});
        TypeParam::release(other, page);
        TypeParam::release(base, page);
    } else {
        GTEST_SKIP() << "the real system can't be made to refuse";
    }
}

}  // namespace
