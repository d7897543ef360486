// new_test - objects deleted through any base, and what is refused.
#include "tarn/new.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tarn/object_pool.hpp"
#include "tarn/region.hpp"

#include "sizing/size_class.hpp"
#include "support/build.hpp"

namespace {

namespace sizing = tarn::impl::sizing;

std::uint64_t live_bytes() {
    tarn_stats now{};
    now.size = sizeof now;
    EXPECT_EQ(tarn_stats_get(&now), 0);
    return now.live_bytes;
}

/// Says which destructors ran.
thread_local std::string destroyed;

struct left {
    left() = default;
    left(left const&) = delete;
    left& operator=(left const&) = delete;

    virtual ~left() { destroyed += "left "; }

    std::array<int, 5> a{};
};

struct right {
    right() = default;
    right(right const&) = delete;
    right& operator=(right const&) = delete;

    virtual ~right() { destroyed += "right "; }

    int b = 0;
};

struct both : left, right {
    both() = default;
    both(both const&) = delete;
    both& operator=(both const&) = delete;

    ~both() override { destroyed += "both "; }

    int c = 0;
};

struct third {
    third() = default;
    third(third const&) = delete;
    third& operator=(third const&) = delete;

    virtual ~third() { destroyed += "third "; }

    long d = 0;
};

struct deep : third, both {
    deep() = default;
    deep(deep const&) = delete;
    deep& operator=(deep const&) = delete;

    ~deep() override { destroyed += "deep "; }
};

struct root {
    root() = default;
    root(root const&) = delete;
    root& operator=(root const&) = delete;

    virtual ~root() { destroyed += "root "; }

    int r = 0;
};

struct upper : virtual root {
    int u = 0;
};

struct lower : virtual root {
    int l = 0;
};

struct diamond : upper, lower {
    diamond() = default;
    diamond(diamond const&) = delete;
    diamond& operator=(diamond const&) = delete;

    ~diamond() override { destroyed += "diamond "; }

    int d = 0;
};

template <class Base, class Made>
void expect_deleted_through(char const* order) {
    destroyed.clear();
    std::uint64_t const before = live_bytes();
    Base* const base = tarn::new_object<Made>();
    EXPECT_GT(live_bytes(), before);
    tarn::delete_object(base);
    EXPECT_EQ(live_bytes(), before);
    EXPECT_EQ(destroyed, order);
}

TEST(delete_object, finds_the_object_through_every_base) {
    destroyed.reserve(200);  // no allocation between two readings
    tarn::delete_object(tarn::new_object<both>());
    expect_deleted_through<both, both>("both right left ");
    expect_deleted_through<left, both>("both right left ");
    expect_deleted_through<right, both>("both right left ");
    expect_deleted_through<third, deep>("deep both right left third ");
    expect_deleted_through<left, deep>("deep both right left third ");
    expect_deleted_through<right, deep>("deep both right left third ");
    expect_deleted_through<root, diamond>("diamond root ");
    expect_deleted_through<upper, diamond>("diamond root ");
    expect_deleted_through<lower, diamond>("diamond root ");
}

TEST(delete_object, a_base_may_lie_anywhere_but_at_the_start) {
    both* const object = tarn::new_object<both>();
    right* const base = object;
    ASSERT_NE(static_cast<void*>(base), static_cast<void*>(object));
    destroyed.clear();
    tarn::delete_object(base);
    EXPECT_EQ(destroyed, "both right left ");
}

TEST(delete_object, takes_null_and_const) {
    tarn::delete_object(static_cast<left*>(nullptr));
    tarn::delete_object(static_cast<int const*>(nullptr));
    destroyed.clear();
    right const* const object = tarn::new_object<both>();
    tarn::delete_object(object);
    EXPECT_EQ(destroyed, "both right left ");
}

template <std::size_t Bytes>
struct sized {
    std::array<char, Bytes> bytes;
};

template <std::size_t Bytes>
struct sized_derived final : left, right {
    std::array<char, Bytes> bytes;
};

template <std::size_t... Bytes>
void make_and_delete(std::index_sequence<Bytes...> /*sizes*/) {
    (tarn::delete_object(tarn::new_object<sized<Bytes * Bytes * 7 + 1>>()), ...);
    (tarn::delete_object(static_cast<right*>(tarn::new_object<sized_derived<Bytes * 97 + 1>>())),
     ...);
}

TEST(delete_object, takes_types_of_every_size) {
    std::uint64_t const before = live_bytes();
    make_and_delete(std::make_index_sequence<160>{});
    tarn::delete_object(tarn::new_object<sized<200'000>>());
    tarn::delete_object(tarn::new_object<sized<3'000'001>>());
    EXPECT_EQ(live_bytes(), before);
}

/// The block that a size class gives is within what delete_object() expects, and the next but one
/// class above 128 bytes is not.
TEST(delete_object, knows_what_block_a_type_may_get) {
    for (std::size_t bytes = 1; bytes <= sizing::small_max; bytes += bytes < 5000 ? 1 : 61) {
        unsigned const size_class = sizing::class_of(bytes);
        std::size_t const most = tarn::detail::block_bytes_most(bytes, 1);
        EXPECT_LE(sizing::class_bytes(size_class), most) << bytes;
        if (size_class + 2 < sizing::class_count) {
            EXPECT_GT(sizing::class_bytes(size_class + 2), most) << bytes;
        }
    }
    for (std::size_t alignment = 32; alignment <= 4 * sizing::slice_bytes; alignment *= 2) {
        for (std::size_t const factor : {1UL, 3UL, 9UL, 17UL, 100UL}) {
            std::size_t const bytes = alignment * factor;
            void* const block = tarn_aligned_alloc(alignment, bytes);
            ASSERT_NE(block, nullptr);
            EXPECT_LE(tarn_block_at(block).bytes, tarn::detail::block_bytes_most(bytes, alignment));
            tarn_free(block);
        }
    }
}

struct alignas(256) wide {
    virtual ~wide() = default;
    char bytes[300];
};

struct wide_derived : left, wide {};

struct alignas(131072) widest {
    char byte;
};

TEST(delete_object, aligns_as_the_type_asks) {
    for (int i = 0; i < 50; ++i) {
        auto* const object = tarn::new_object<wide_derived>();
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % 256, 0U);
        tarn::delete_object(static_cast<wide*>(object));
        auto* const other = tarn::new_object<widest>();
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(other) % alignof(widest), 0U);
        tarn::delete_object(other);
    }
}

struct refusing {
    explicit refusing(bool refuses) {
        if (refuses) {
            throw std::runtime_error{"as asked"};
        }
    }

    virtual ~refusing() = default;
};

TEST(new_object, gives_memory_back_where_a_constructor_throws) {
    tarn::delete_object(tarn::new_object<refusing>(false));
    std::uint64_t const before = live_bytes();
    bool thrown = false;
    try {
        static_cast<void>(tarn::new_object<refusing>(true));
    } catch (std::runtime_error const&) {
        thrown = true;
    }
    EXPECT_TRUE(thrown);
    EXPECT_EQ(live_bytes(), before);
}

struct pair_of {
    int first;
    std::string second;
};

TEST(new_object, passes_arguments_on) {
    auto* const aggregate = tarn::new_object<pair_of>(7, "seven");
    EXPECT_EQ(aggregate->first, 7);
    EXPECT_EQ(aggregate->second, "seven");
    tarn::delete_object(aggregate);
    auto* const moved = tarn::new_object<std::unique_ptr<int>>(std::make_unique<int>(3));
    EXPECT_EQ(**moved, 3);
    tarn::delete_object(moved);
}

TEST(new_object, throws_where_memory_is_out) {
    struct huge {
        char bytes[std::size_t{1} << 47];
    };

    EXPECT_THROW(static_cast<void>(tarn::new_object<huge>()), std::bad_alloc);
}

TEST(delete_object, works_from_another_thread) {
    std::uint64_t const rounds = tarn::test::scaled(2000);
    std::atomic<right*> passed{nullptr};
    std::atomic<std::uint64_t> ended{0};
    std::thread taker{[&] {
        while (ended.load(std::memory_order_relaxed) < rounds) {
            // acquire: pairs with the release below; the object is whole.
            if (right* const object = passed.exchange(nullptr, std::memory_order_acquire)) {
                tarn::delete_object(object);
                ended.fetch_add(1, std::memory_order_relaxed);
            }
        }
    }};
    for (std::uint64_t i = 0; i < rounds; ++i) {
        right* const object = tarn::new_object<both>();
        right* empty = nullptr;
        // release: pairs with the acquire above.
        while (!passed.compare_exchange_weak(empty, object, std::memory_order_release,
                                             std::memory_order_relaxed)) {
            empty = nullptr;
        }
    }
    taker.join();
    EXPECT_EQ(ended.load(std::memory_order_relaxed), rounds);
}

TEST(unique_object, becomes_a_pointer_to_a_base) {
    destroyed.clear();
    {
        tarn::unique_object<both> object = tarn::make_unique_object<both>();
        tarn::unique_object<right> const base = std::move(object);
        static_assert(sizeof base == sizeof(void*));
    }
    EXPECT_EQ(destroyed, "both right left ");
    std::shared_ptr<left> const shared{tarn::new_object<both>(), tarn::object_deleter{}};
}

// --- a hook of the class's own -------------------------------------------------------------------

struct hooked_base {
    hooked_base() = default;
    hooked_base(hooked_base const&) = delete;
    hooked_base& operator=(hooked_base const&) = delete;
    virtual ~hooked_base() = default;

    // NOLINTNEXTLINE(readability-identifier-naming): the name of the hook
    virtual void* VirtualDeleteInfo(std::size_t& bytes) {
        bytes = sizeof *this;
        return this;
    }
};

/// Its block begins with a header of the program's.
struct hooked : left, hooked_base {
    static constexpr std::size_t header_bytes = 32;

    static hooked* make() {
        auto* const block = static_cast<std::byte*>(tarn_malloc(header_bytes + sizeof(hooked)));
        return ::new (block + header_bytes) hooked;
    }

    void* VirtualDeleteInfo(std::size_t& bytes) override {
        ++asked;
        bytes = header_bytes + sizeof *this;
        return reinterpret_cast<std::byte*>(this) - header_bytes;
    }

    static inline int asked = 0;
};

static_assert(tarn::has_delete_info<hooked_base>);
static_assert(tarn::has_delete_info<hooked>);
static_assert(!tarn::has_delete_info<both>);
static_assert(!tarn::has_delete_info<int>);

TEST(delete_object, honours_what_a_class_says_itself) {
    tarn::delete_object(static_cast<hooked_base*>(hooked::make()));
    std::uint64_t const before = live_bytes();
    hooked_base* const object = hooked::make();
    hooked::asked = 0;
    tarn::delete_object(object);
    EXPECT_EQ(hooked::asked, 1);
    EXPECT_EQ(live_bytes(), before);
}

// --- plain new and delete ------------------------------------------------------------------------

struct shape : tarn::object_operators<shape> {
    explicit shape(bool refuses = false) {
        if (refuses) {
            throw std::runtime_error{"as asked"};
        }
    }

    shape(shape const&) = delete;
    shape& operator=(shape const&) = delete;

    virtual ~shape() { destroyed += "shape "; }
};

struct circle : left, shape {
    circle() = default;
    circle(circle const&) = delete;
    circle& operator=(circle const&) = delete;

    ~circle() override { destroyed += "circle "; }

    std::array<int, 30> points{};
};

struct point : tarn::object_operators<point> {
    int x = 1;
    int y = 2;
};

struct alignas(128) wide_shape : shape {};

TEST(object_operators, make_plain_new_and_delete_do_the_same) {
    delete new circle;
    std::uint64_t const before = live_bytes();
    shape* const object = new circle;
    EXPECT_NE(tarn_block_at(static_cast<circle*>(object)).bytes, 0U);
    destroyed.clear();
    delete object;
    EXPECT_EQ(destroyed, "circle shape left ");
    auto* const exact = new point;
    EXPECT_EQ(exact->x + exact->y, 3);
    delete exact;
    delete static_cast<shape*>(nullptr);
    std::unique_ptr<shape> owned{new wide_shape};
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(owned.get()) % 128, 0U);
    owned.reset();
    EXPECT_EQ(live_bytes(), before);
}

struct marked : tarn::object_operators<marked> {
    marked() = default;
    marked(marked const&) = delete;
    marked& operator=(marked const&) = delete;

    virtual ~marked() { destroyed += "marked "; }
};

struct marked_circle : circle, marked {
    using shape::operator new;
    using shape::operator delete;
};

TEST(object_operators, may_come_from_two_bases_where_one_is_chosen) {
    delete new marked_circle;
    std::uint64_t const before = live_bytes();
    destroyed.clear();
    marked* const object = new marked_circle;
    delete object;
    EXPECT_EQ(destroyed, "marked circle shape left ");
    EXPECT_EQ(live_bytes(), before);
}

TEST(object_operators, give_memory_back_where_a_constructor_throws) {
    destroyed.clear();
    std::uint64_t const before = live_bytes();
    bool thrown = false;
    try {
        static_cast<void>(new shape{true});
    } catch (std::runtime_error const&) {
        thrown = true;
    }
    EXPECT_TRUE(thrown);
    EXPECT_EQ(live_bytes(), before);
    EXPECT_EQ(destroyed, "");
}

TEST(object_operators, leave_placement_new_as_it_is) {
    alignas(point) std::byte memory[sizeof(point)];
    auto* const object = new (memory) point;
    EXPECT_EQ(static_cast<void*>(object), static_cast<void*>(memory));
    std::destroy_at(object);
}

// --- what is no object of its own ----------------------------------------------------------------

struct owner {
    long head = 0;
    both member;
};

struct twice final {
    char bytes[64];
};

std::string address(void const* ptr) {
    std::ostringstream text;
    text << ptr;
    return text.str();
}

/// What delete_object() says of it, when that ends the process: in a child.
template <class T>
void expect_refused(T* object, std::string const& reason) {
    EXPECT_DEATH(tarn::delete_object(object),
                 "tarn: delete_object: deletion of " + address(object) + ": " + reason);
}

TEST(delete_object_death, names_a_member) {
    auto* const whole = tarn::new_object<owner>();
    expect_refused(static_cast<right*>(&whole->member),
                   "the object begins 8 bytes into the [0-9]+-byte block " + address(whole) +
                       ": a member, an element of an array");
    expect_refused(&whole->head + 1, "the object begins 8 bytes into");
    tarn::delete_object(whole);
}

TEST(delete_object_death, names_an_element) {
    std::span<both> const elements = tarn::new_elements<both>(3);
    expect_refused(static_cast<left*>(&elements[1]),
                   "the object begins " + std::to_string(sizeof(both)) + " bytes into");
    tarn::delete_elements(elements);
}

TEST(delete_object_death, names_an_object_of_a_region_or_a_pool) {
    tarn::region region;
    expect_refused(static_cast<right*>(region.make<both>()), "the object begins [0-9]+ bytes into");
    tarn::object_pool<both> pool;
    both* const first = pool.new_element();
    both* const second = pool.new_element();
    expect_refused(static_cast<right*>(first), "the object begins [0-9]+ bytes into");
    expect_refused(static_cast<right*>(second), "the object begins [0-9]+ bytes into");
    both* const element = tarn::new_element<both>();
    expect_refused(element, "the object begins [0-9]+ bytes into");
    tarn::delete_element(element);
}

TEST(delete_object_death, names_what_is_not_ours) {
    both on_stack;
    expect_refused(static_cast<right*>(&on_stack), "not in a block of Tarn");
    alignas(both) static std::byte of_program[sizeof(both)];
    auto* const object = ::new (of_program) both;
    expect_refused(object, "not in a block of Tarn");
    std::destroy_at(object);
    // The prefixed core under a program with malloc of its own.
    auto const of_libc = std::make_unique<both>();
    expect_refused(of_libc.get(), "not in a block of Tarn");
}

TEST(delete_object_death, names_a_block_of_another_size) {
    auto* const small = static_cast<twice*>(tarn_malloc(sizeof(twice) / 2));
    expect_refused(small, "a 32-byte block for a type of 64 bytes: of another type\\?");
    tarn_free(small);
    // A plain pointer to a base: an object without virtual functions is not found through it.
    auto* const large = static_cast<twice*>(tarn_malloc(2 * sizeof(twice)));
    expect_refused(large, "a 128-byte block for a type of 64 bytes");
    tarn_free(large);
    // Of a polymorphic type, a derived object may be larger.
    auto* const derived = static_cast<left*>(tarn::new_object<sized_derived<5000>>());
    tarn::delete_object(derived);
}

/// Without the report, where its destructor runs.
struct fragile {
    fragile() = default;
    fragile(fragile const&) = delete;
    fragile& operator=(fragile const&) = delete;

    virtual ~fragile() {
        if (armed) {
            std::_Exit(3);
        }
    }

    bool armed = false;
};

TEST(delete_object_death, destroys_nothing_that_it_refuses) {
    struct {
        long head = 0;
        fragile member;
    } whole;

    EXPECT_DEATH(
        {
            whole.member.armed = true;
            tarn::delete_object(&whole.member);
        },
        "not in a block of Tarn");
}

// --- the look-up beneath -------------------------------------------------------------------------

TEST(tarn_block_at, knows_blocks_of_every_kind) {
    for (std::size_t const bytes :
         {1UL, 16UL, 100UL, 5000UL, 131072UL, 200'000UL, 70'000'000UL, 300'000'000UL}) {
        auto* const block = static_cast<char*>(tarn_malloc(bytes));
        ASSERT_NE(block, nullptr);
        std::size_t const usable = tarn_malloc_usable_size(block);
        EXPECT_EQ(tarn_block_at(block).bytes, usable);
        void* start = nullptr;
        for (std::size_t const offset : {std::size_t{0}, bytes / 2, bytes - 1}) {
            EXPECT_EQ(tarn_find_block(block + offset, &start), usable) << bytes << '+' << offset;
            EXPECT_EQ(start, block);
            EXPECT_EQ(tarn_block_at(block + offset).bytes, offset == 0 ? usable : 0);
        }
        tarn_free_in(block, tarn_block_at(block).page);
    }
}

TEST(tarn_block_at, says_no_to_any_other_address) {
    int on_stack = 0;
    auto const libcs = std::make_unique<char[]>(100);
    std::vector<void const*> const strangers = {nullptr,
                                                &on_stack,
                                                libcs.get(),
                                                reinterpret_cast<void const*>(16),
                                                reinterpret_cast<void const*>(~std::uintptr_t{0}),
                                                reinterpret_cast<void const*>(~std::uintptr_t{15})};
    for (void const* const stranger : strangers) {
        void* start = &on_stack;
        EXPECT_EQ(tarn_block_at(stranger).bytes, 0U);
        EXPECT_EQ(tarn_find_block(stranger, &start), 0U);
        EXPECT_EQ(start, nullptr);
    }
}

}  // namespace
