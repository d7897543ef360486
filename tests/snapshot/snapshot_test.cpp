// snapshot_test - what snapshots show and what they cost, in one process.
#include "tarn/snapshot.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tarn/region.hpp"

#include "snapshot/paged_model.hpp"
#include "support/build.hpp"
#include "support/random.hpp"

namespace {

using tarn::snapshot_tracking;
using tarn::test::generations;
using tarn::test::paged_model;

std::size_t page_bytes() { return tarn::detail::os_page_bytes(); }

class snapshot_both_ways : public testing::TestWithParam<snapshot_tracking> {
protected:
    [[nodiscard]] static tarn::snapshot_options options(std::size_t pages,
                                                        std::size_t history = 4096) {
        tarn::snapshot_options wanted;
        wanted.capacity_bytes = (pages + 16) * page_bytes();
        wanted.history_bytes = history * page_bytes();
        wanted.tracking = GetParam();
        return wanted;
    }
};

INSTANTIATE_TEST_SUITE_P(snapshot, snapshot_both_ways,
                         testing::Values(snapshot_tracking::best, snapshot_tracking::copies));

TEST_P(snapshot_both_ways, show_no_later_write) {
    tarn::snapshot_memory memory{options(64)};
    paged_model model{memory, 64};
    for (std::size_t page = 0; page < 60; ++page) {  // the last ones are never touched
        model.write(page);
    }
    tarn::snapshot const first = memory.take();
    generations const then = model.now();
    tarn::snapshot_view const mapped_before = first.map();
    for (std::size_t page = 0; page < 64; page += 3) {
        model.write(page);
    }
    tarn::snapshot_view const mapped_after = first.map();
    tarn::snapshot const second = memory.take();
    tarn::snapshot_view const mapped_last = first.map();
    for (tarn::snapshot_view const* view : {&mapped_before, &mapped_after, &mapped_last}) {
        EXPECT_TRUE(shows(*view, model, then));
    }
    EXPECT_TRUE(shows(second.map(), model, model.now()));
    EXPECT_EQ(second.number(), 2U);
    EXPECT_TRUE(model.is_right());
    EXPECT_FALSE(mapped_last.is_in_place());
}

/// Writes, snapshots, views, releases in any order, trims: against what each must show.
TEST_P(snapshot_both_ways, agree_with_a_model) {
    constexpr std::size_t pages = 100;

    struct kept {
        generations then;
        std::optional<tarn::snapshot> handle;  // or only a view is left
        std::vector<tarn::snapshot_view> views;
    };

    for (std::uint64_t round = 0; round < (tarn::test::is_slow ? 2 : 6); ++round) {
        tarn::test::random_stream random{round};
        tarn::snapshot_memory memory{options(pages)};
        paged_model model{memory, pages};
        std::vector<kept> live;
        for (int step = 0; step < 150; ++step) {
            std::uint64_t const what = random.below(10);
            std::size_t const chosen = live.empty() ? 0 : random.below(live.size());
            if (what < 4) {
                for (std::uint64_t i = random.below(12); i > 0; --i) {
                    model.write(random.below(pages));
                }
            } else if (what < 6) {
                live.push_back({model.now(), memory.take(), {}});
            } else if (what == 6 && !live.empty() && live[chosen].handle) {
                live[chosen].views.push_back(live[chosen].handle->map());
            } else if (what == 7 && !live.empty()) {
                live[chosen].handle.reset();
                if (live[chosen].views.empty() || random.one_in(2)) {
                    live.erase(live.begin() + static_cast<std::ptrdiff_t>(chosen));
                }
            } else if (what == 8) {
                memory.trim();
            } else {
                for (kept const& each : live) {
                    for (tarn::snapshot_view const& view : each.views) {
                        ASSERT_TRUE(shows(view, model, each.then)) << round << ' ' << step;
                    }
                    if (each.handle) {
                        ASSERT_TRUE(shows(each.handle->map(), model, each.then))
                            << round << ' ' << step;
                    }
                }
                ASSERT_TRUE(model.is_right()) << round << ' ' << step;
            }
        }
        live.clear();
        static_cast<void>(memory.take());  // so that nothing is written that was not saved
        memory.trim();
        EXPECT_EQ(memory.statistics().snapshots, 0U);
        EXPECT_EQ(memory.statistics().away_pages, 0U);
        EXPECT_EQ(memory.statistics().kept_bytes, 0U);
        EXPECT_LE(memory.statistics().file_bytes, memory.statistics().region_bytes);
        EXPECT_TRUE(model.is_right());
    }
}

TEST_P(snapshot_both_ways, cost_memory_for_what_was_touched) {
    constexpr std::size_t pages = 4096;
    tarn::snapshot_memory memory{options(pages)};
    paged_model model{memory, pages};
    for (std::size_t page = 0; page < pages; page += 64) {
        model.write(page);
    }
    // Some pages for lists and the block's own tags, and the reserve for the next changes.
    constexpr std::size_t slack = 8;
    tarn::snapshot const first = memory.take();
    std::size_t const reserve = memory.statistics().region_bytes / page_bytes() / 32 + slack;
    std::size_t const touched = pages / 64;
    EXPECT_LE(memory.statistics().file_bytes / page_bytes(), touched + reserve);
    EXPECT_GE(memory.statistics().file_bytes / page_bytes(), touched);

    std::size_t const changed = 40;
    for (std::size_t i = 0; i < changed; ++i) {
        model.write(i * 64);
    }
    tarn::snapshot const second = memory.take();
    EXPECT_GE(memory.statistics().copied_bytes / page_bytes(), changed);
    EXPECT_LE(memory.statistics().copied_bytes / page_bytes(), changed + slack);
    memory.trim();
    EXPECT_GE(memory.statistics().file_bytes / page_bytes(), touched + changed);
    EXPECT_LE(memory.statistics().file_bytes / page_bytes(), touched + changed + slack);
    // What nobody has touched costs a reader nothing either, as long as it does not look.
    tarn::snapshot_view const view = second.map();
    EXPECT_LE(memory.statistics().file_bytes / page_bytes(), touched + changed + slack);
}

TEST_P(snapshot_both_ways, cost_nothing_where_nothing_changed) {
    tarn::snapshot_memory memory{options(256)};
    paged_model model{memory, 256};
    for (std::size_t page = 0; page < 256; ++page) {
        model.write(page);
    }
    tarn::snapshot const first = memory.take();
    tarn::snapshot const second = memory.take();
    EXPECT_EQ(memory.statistics().copied_bytes, 0U);
    // The same content written again is no change.
    std::memcpy(const_cast<std::byte*>(model.block()), first.map().translate(model.block()),
                page_bytes());
    tarn::snapshot const third = memory.take();
    EXPECT_EQ(memory.statistics().copied_bytes, 0U);
    EXPECT_TRUE(shows(third.map(), model, model.now()));
}

TEST_P(snapshot_both_ways, give_memory_back_when_the_last_reader_goes) {
    tarn::snapshot_memory memory{options(512)};
    paged_model model{memory, 512};
    for (std::size_t page = 0; page < 512; ++page) {
        model.write(page);
    }
    std::optional<tarn::snapshot> old{memory.take()};
    memory.trim();
    std::size_t const before = memory.statistics().file_bytes;
    for (std::size_t page = 0; page < 512; page += 2) {
        model.write(page);
    }
    tarn::snapshot const second = memory.take();
    EXPECT_GE(memory.statistics().file_bytes, before + 256 * page_bytes());
    std::optional<tarn::snapshot_view> view{old->map()};
    old.reset();
    memory.trim();
    EXPECT_EQ(memory.statistics().snapshots, 2U) << "a view is enough to hold it";
    EXPECT_GE(memory.statistics().file_bytes, before + 256 * page_bytes());
    view.reset();
    memory.trim();
    EXPECT_EQ(memory.statistics().snapshots, 1U);
    memory.trim();
    // The second snapshot still shows versions away from home, and homes are written anew.
    EXPECT_TRUE(shows(second.map(), model, model.now()));
}

TEST_P(snapshot_both_ways, outlive_their_memory) {
    generations then;
    std::optional<tarn::snapshot> last;
    std::optional<tarn::snapshot_view> view;
    std::byte const* block = nullptr;
    {
        tarn::snapshot_memory memory{options(32)};
        paged_model model{memory, 32};
        for (std::size_t page = 0; page < 32; ++page) {
            model.write(page);
        }
        last = memory.take();
        view = last->map();
        then = model.now();
        block = model.block();
    }
    EXPECT_EQ(tarn::test::first_wrong(view->translate(block), then), then.size());
    // Its addresses are free now.
    tarn::snapshot_view const in_place = last->map_in_place();
    EXPECT_TRUE(in_place.is_in_place());
    EXPECT_EQ(tarn::test::first_wrong(block, then), then.size());
}

TEST_P(snapshot_both_ways, grow_with_the_memory) {
    tarn::snapshot_memory memory{options(300)};
    std::vector<std::unique_ptr<paged_model>> models;
    std::vector<tarn::snapshot> snapshots;
    std::vector<generations> then;
    for (int i = 0; i < 10; ++i) {
        models.push_back(std::make_unique<paged_model>(memory, 20));
        for (std::size_t page = 0; page < 20; page += 2) {
            models.back()->write(page);
        }
        snapshots.push_back(memory.take());
        then.push_back(models.back()->now());
        models.back()->write(1);
    }
    for (std::size_t i = 0; i < models.size(); ++i) {
        EXPECT_TRUE(shows(snapshots[i].map(), *models[i], then[i])) << i;
        EXPECT_TRUE(models[i]->is_right()) << i;
    }
}

TEST_P(snapshot_both_ways, find_pages_that_the_system_wrote) {
    tarn::snapshot_memory memory{options(16)};
    auto* const block = static_cast<char*>(memory.allocate(4 * page_bytes(), page_bytes()));
    std::memset(block, 'a', 4 * page_bytes());
    tarn::snapshot const first = memory.take();
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ASSERT_EQ(::write(ends[1], "bbbb", 4), 4);
    ASSERT_EQ(::read(ends[0], block + 2 * page_bytes(), 4), 4);
    ::close(ends[0]);
    ::close(ends[1]);
    tarn::snapshot const second = memory.take();
    EXPECT_EQ(first.map().translate(block)[2 * page_bytes()], 'a');
    EXPECT_EQ(second.map().translate(block)[2 * page_bytes()], 'b');
    memory.deallocate(block, 4 * page_bytes(), page_bytes());
}

TEST_P(snapshot_both_ways, work_on_locked_memory) {
    tarn::snapshot_memory memory{options(64)};
    paged_model model{memory, 64};
    for (std::size_t page = 0; page < 64; ++page) {
        model.write(page);
    }
    tarn::snapshot const first = memory.take();
    generations const then = model.now();
    if (::mlock(model.block(), 64 * page_bytes()) != 0) {
        GTEST_SKIP() << "RLIMIT_MEMLOCK is too small";
    }
    for (std::size_t page = 0; page < 64; page += 5) {
        model.write(page);
    }
    tarn::snapshot const second = memory.take();
    memory.trim();
    EXPECT_TRUE(shows(first.map(), model, then));
    EXPECT_TRUE(shows(second.map(), model, model.now()));
    EXPECT_TRUE(model.is_right());
}

/// Readers check what they have been handed, over and over, while the writer goes on.
TEST_P(snapshot_both_ways, stay_frozen_for_threads) {
    constexpr std::size_t pages = 48;
    tarn::snapshot_memory memory{options(pages)};
    paged_model model{memory, pages};

    struct handed {
        tarn::snapshot_view view;
        generations then;
    };

    std::mutex mutex;
    std::shared_ptr<handed const> latest;
    std::atomic<bool> done{false};  // relaxed: it only ends loops
    std::atomic<int> wrong{0};      // relaxed: read after join
    auto const publish = [&](handed made) {
        auto fresh = std::make_shared<handed const>(std::move(made));
        std::lock_guard const guard{mutex};
        latest = std::move(fresh);
    };
    model.write(0);
    publish({memory.take().map(), model.now()});
    constexpr std::size_t reader_count = 2;
    std::vector<std::thread> readers;
    readers.reserve(reader_count);
    for (std::size_t i = 0; i < reader_count; ++i) {
        readers.emplace_back([&] {
            while (!done.load(std::memory_order_relaxed)) {
                std::shared_ptr<handed const> mine;
                {
                    std::lock_guard const guard{mutex};
                    mine = latest;
                }
                for (int again = 0; again < 3; ++again) {
                    if (!shows(mine->view, model, mine->then)) {
                        wrong.fetch_add(1, std::memory_order_relaxed);
                    }
                }
            }
        });
    }
    tarn::test::random_stream random{7};
    for (std::uint64_t i = 0; i < tarn::test::scaled(400); ++i) {
        for (int k = 0; k < 5; ++k) {
            model.write(random.below(pages));
        }
        publish({memory.take().map(), model.now()});
    }
    done.store(true, std::memory_order_relaxed);
    for (std::thread& each : readers) {
        each.join();
    }
    EXPECT_EQ(wrong.load(std::memory_order_relaxed), 0);
    EXPECT_TRUE(model.is_right());
}

TEST(snapshot_memory, serves_regions_and_containers) {
    tarn::snapshot_options options;
    options.capacity_bytes = std::size_t{64} << 20;
    tarn::snapshot_memory memory{options};
    tarn::region region{&memory};
    auto* const map = region.make<std::pmr::map<int, std::pmr::string>>(region.resource());
    for (int i = 0; i < 1000; ++i) {
        map->emplace(
            i, "a string that is too long for the object itself, number " + std::to_string(i));
    }
    memory.set_root(map);
    tarn::snapshot const before = memory.take();
    std::pmr::list<int> list{&memory};  // beside it, block by block
    list.assign({1, 2, 3});
    map->at(500) = "changed";
    tarn::snapshot const after = memory.take();
    // The objects are the same; what they point to is the writer's.
    tarn::snapshot_view const old = before.map();
    auto const* const old_map = old.root<std::pmr::map<int, std::pmr::string>>();
    ASSERT_NE(old_map, nullptr);
    EXPECT_EQ(old_map->size(), 1000U);
    char const* const text = map->at(499).data();
    EXPECT_EQ(std::strncmp(old.translate(text), text, 40), 0);
    EXPECT_EQ(old.translate(static_cast<int const*>(nullptr)), nullptr);
    int outside = 0;
    EXPECT_EQ(old.translate(&outside), nullptr);
    EXPECT_FALSE(memory.owns(&outside));
    EXPECT_TRUE(memory.owns(map));
}

TEST(snapshot_memory, may_be_empty_when_it_is_frozen) {
    tarn::snapshot_memory memory;
    tarn::snapshot const nothing = memory.take();
    tarn::snapshot_view const view = nothing.map();
    EXPECT_EQ(view.size(), 0U);
    EXPECT_EQ(view.root<int>(), nullptr);
    void* const block = memory.allocate(100);
    std::memset(block, 1, 100);
    EXPECT_GT(memory.take().map().size(), 0U);
    memory.deallocate(block, 100);
}

}  // namespace
