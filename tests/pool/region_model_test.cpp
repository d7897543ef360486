// region_model_test - random trees of regions against a model: what ends, in which order, and that
// no block loses what was written.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include <tarn/region.hpp>

#include "pool/scarce_resource.hpp"
#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace {

using tarn::region;

struct model_region;

struct model_event {
    enum class kind : std::uint8_t { block, cleanup, mark, child };

    kind what;
    int number = 0;  // what a cleanup writes down
    std::byte* start = nullptr;
    std::size_t bytes = 0;
    std::uint64_t pattern = 0;
    tarn::cleanup_id id{};
    tarn::region_mark mark{};
    std::unique_ptr<model_region> child{};
};

struct model_region {
    explicit model_region(region its_handle) : handle{std::move(its_handle)} {}

    region handle;
    std::vector<model_event> events;
};

struct world {
    tarn::test::random_stream random;
    std::vector<int> log;     // what cleanups wrote down
    std::vector<int> wanted;  // what they must
    int last_number = 0;

    explicit world(std::uint64_t seed) : random{seed} {}
};

struct logged {
    logged(world& its_world, int its_number) : where{&its_world}, number{its_number} {}

    logged(logged const&) = delete;
    logged& operator=(logged const&) = delete;

    ~logged() { where->log.push_back(number); }

    world* where;
    int number;
};

/// Blocks that are to go must be as they were written.
void check(model_event const& event) {
    if (event.what == model_event::kind::block) {
        ASSERT_EQ(tarn::test::first_wrong(event.start, event.bytes, event.pattern),
                  tarn::test::intact);
    }
}

using models = std::vector<std::unique_ptr<model_region>>;

/// Takes the events from `from` on out of the model and writes down what their end must log.
/// Returns the children, whose handles must live until then, and be empty after.
models expect_end(world& in, model_region& of, std::size_t from) {
    struct step {
        model_region* where;
        std::size_t stop;
    };

    std::vector<step> open{{&of, from}};
    models ended;
    while (!open.empty()) {
        auto const [where, stop] = open.back();
        if (where->events.size() == stop) {
            open.pop_back();
            continue;
        }
        model_event event = std::move(where->events.back());
        where->events.pop_back();
        check(event);
        if (event.what == model_event::kind::cleanup) {
            in.wanted.push_back(event.number);
        } else if (event.what == model_event::kind::child) {
            open.push_back({event.child.get(), 0});
            ended.push_back(std::move(event.child));
        }
    }
    return ended;
}

void expect_empty(models const& ended) {
    for (auto const& model : ended) {
        ASSERT_FALSE(model->handle);
    }
}

void add_block(world& in, model_region& to) {
    model_event event{.what = model_event::kind::block};
    event.bytes = in.random.size_up_to(in.random.one_in(50) ? 100'000 : 2000);
    std::size_t const alignment = std::size_t{1} << in.random.below(in.random.one_in(10) ? 13 : 5);
    event.pattern = in.random.next();
    event.start = static_cast<std::byte*>(to.handle.try_allocate(event.bytes, alignment));
    if (event.start == nullptr) {
        return;
    }
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(event.start) % alignment, 0U);
    ASSERT_TRUE(to.handle.owns(event.start + event.bytes - 1));
    tarn::test::fill(event.start, event.bytes, event.pattern);
    to.events.push_back(std::move(event));
}

void add_cleanup(world& in, model_region& to) {
    model_event event{.what = model_event::kind::cleanup};
    event.number = ++in.last_number;
    bool const function = in.random.one_in(2);
    try {
        if (function) {
            event.id =
                to.handle.on_release([&in, number = event.number] { in.log.push_back(number); });
        } else {
            static_cast<void>(to.handle.make<logged>(in, event.number));
        }
        to.events.push_back(std::move(event));
    } catch (std::bad_alloc const&) {
        if (function) {
            in.wanted.push_back(event.number);  // it has run at once
        }
    }
}

/// Cancels or runs one of the region's cleanups, or tries to.
void finish_cleanup(world& in, model_region& of) {
    if (of.events.empty()) {
        return;
    }
    std::size_t const index = in.random.below(of.events.size());
    model_event const& event = of.events[index];
    bool const run = in.random.one_in(2);
    bool const known = run ? of.handle.run_now(event.id) : of.handle.cancel(event.id);
    if (known) {
        ASSERT_EQ(event.what, model_event::kind::cleanup);
        if (run) {
            in.wanted.push_back(event.number);
        }
        of.events.erase(of.events.begin() + static_cast<std::ptrdiff_t>(index));
    }
}

void add_mark(model_region& to) {
    model_event event{.what = model_event::kind::mark};
    try {
        event.mark = to.handle.mark();
        to.events.push_back(std::move(event));
    } catch (std::bad_alloc const&) {
    }
}

void rewind(world& in, model_region& to) {
    std::vector<std::size_t> marks;
    for (std::size_t i = 0; i < to.events.size(); ++i) {
        if (to.events[i].what == model_event::kind::mark) {
            marks.push_back(i);
        }
    }
    if (marks.empty()) {
        return;
    }
    std::size_t const index = marks[in.random.below(marks.size())];
    tarn::region_mark const mark = to.events[index].mark;
    tarn::region_mark const last = to.events[marks.back()].mark;
    bool const last_goes = marks.back() > index;
    models const ended = expect_end(in, to, index + 1);
    to.handle.rewind(mark);
    expect_empty(ended);
    if (last_goes) {
        ASSERT_THROW(to.handle.rewind(last), std::invalid_argument);
    }
}

void reset(world& in, model_region& to) {
    models const ended = expect_end(in, to, 0);
    to.handle.reset();
    expect_empty(ended);
    ASSERT_EQ(to.handle.statistics().used_bytes, 0U);
    ASSERT_EQ(to.handle.statistics().chunks, 1U);
}

/// Any region of the tree.
model_region& pick(world& in, model_region& root) {
    model_region* at = &root;
    for (;;) {
        std::vector<model_region*> children;
        for (model_event const& event : at->events) {
            if (event.child != nullptr) {
                children.push_back(event.child.get());
            }
        }
        if (children.empty() || in.random.one_in(3)) {
            return *at;
        }
        at = children[in.random.below(children.size())];
    }
}

void end_child(world& in, model_region& of) {
    for (std::size_t i = of.events.size(); i > 0; --i) {
        std::unique_ptr<model_region>& child = of.events[i - 1].child;
        if (child != nullptr && in.random.one_in(2)) {
            models const ended = expect_end(in, *child, 0);
            child.reset();
            expect_empty(ended);
            of.events.erase(of.events.begin() + static_cast<std::ptrdiff_t>(i - 1));
            return;
        }
    }
}

void add_child(world& in, model_region& to) {
    std::size_t const initial_bytes = in.random.size_up_to(8000);
    try {
        region made = to.handle.make_child({.initial_bytes = initial_bytes,
                                            .chunk_bytes_max = in.random.size_up_to(100'000),
                                            .reserve_bytes = in.random.below(200)});
        model_event event{.what = model_event::kind::child};
        event.child = std::make_unique<model_region>(std::move(made));
        to.events.push_back(std::move(event));
    } catch (std::bad_alloc const&) {
    }
}

void step(world& in, model_region& root) {
    model_region& at = pick(in, root);
    switch (in.random.below(16)) {
        case 0:
            add_child(in, at);
            break;
        case 1:
            add_mark(at);
            break;
        case 2:
            rewind(in, at);
            break;
        case 3:
            if (in.random.one_in(4)) {
                reset(in, at);
            }
            break;
        case 4:
            end_child(in, at);
            break;
        case 5:
            finish_cleanup(in, at);
            break;
        case 6: {
            region moved{std::move(at.handle)};
            at.handle = std::move(moved);
            break;
        }
        case 7:
        case 8:
        case 9:
            add_cleanup(in, at);
            break;
        default:
            add_block(in, at);
            break;
    }
}

/// What statistics() says, and that blocks are whole.
void audit(model_region const& of) {
    std::size_t cleanups = 0;
    std::size_t children = 0;
    for (model_event const& event : of.events) {
        cleanups += event.what == model_event::kind::cleanup ? 1U : 0U;
        children += event.what == model_event::kind::child ? 1U : 0U;
        check(event);
    }
    tarn::region_statistics const said = of.handle.statistics();
    ASSERT_EQ(said.cleanups, cleanups);
    ASSERT_EQ(said.children, children);
    ASSERT_LE(said.used_bytes, said.held_bytes);
    ASSERT_LE(said.used_bytes, said.peak_used_bytes);
}

template <class Make>
void run(std::uint64_t seed, Make make_root) {
    SCOPED_TRACE(seed);
    world in{seed};
    auto root = std::make_unique<model_region>(make_root(in.random));
    for (int i = 0; i < 2000; ++i) {
        step(in, *root);
        if (in.log != in.wanted || testing::Test::HasFatalFailure()) {
            break;
        }
        if (i % 16 == 0) {
            audit(pick(in, *root));
        }
    }
    models const ended = expect_end(in, *root, 0);
    root.reset();
    expect_empty(ended);
    ASSERT_EQ(in.log, in.wanted);
}

TEST(region_model, upstream) {
    for (std::uint64_t seed = 1; seed <= tarn::test::scaled(60); ++seed) {
        tarn::test::scarce_resource upstream;
        run(seed, [&](tarn::test::random_stream& random) {
            return region{&upstream,
                          {.initial_bytes = random.size_up_to(8000),
                           .chunk_bytes_max = random.size_up_to(100'000),
                           .kept_bytes_max = random.size_up_to(500'000)}};
        });
        ASSERT_EQ(upstream.live_blocks, 0U) << seed;
    }
}

TEST(region_model, upstream_that_is_scarce) {
    for (std::uint64_t seed = 1; seed <= tarn::test::scaled(60); ++seed) {
        tarn::test::scarce_resource upstream;
        upstream.bytes_most = 60'000;
        run(seed, [&](tarn::test::random_stream&) { return region{&upstream}; });
        ASSERT_EQ(upstream.live_blocks, 0U) << seed;
    }
}

TEST(region_model, buffer) {
    std::vector<std::byte> buffer(200'000);
    for (std::uint64_t seed = 1; seed <= tarn::test::scaled(60); ++seed) {
        run(seed, [&](tarn::test::random_stream& random) {
            return region{std::span{buffer}.subspan(random.below(16)),
                          {.initial_bytes = 2000, .reserve_bytes = random.below(100)}};
        });
    }
    std::fill(buffer.begin(), buffer.end(), std::byte{1});  // nothing is left poisoned
}

TEST(region_model, buffer_and_upstream) {
    std::vector<std::byte> buffer(20'000);
    for (std::uint64_t seed = 1; seed <= tarn::test::scaled(60); ++seed) {
        tarn::test::scarce_resource upstream;
        run(seed, [&](tarn::test::random_stream& random) {
            return region{std::span{buffer}.subspan(random.below(16)),
                          &upstream,
                          {.initial_bytes = random.size_up_to(5000)}};
        });
        ASSERT_EQ(upstream.live_blocks, 0U) << seed;
    }
}

}  // namespace
