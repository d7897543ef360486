// versions_test - where versions lie, against a model that remembers who needs which place.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <new>
#include <set>
#include <vector>

#include "tarn/detail/snapshot_versions.hpp"

#include "support/random.hpp"

namespace {

using tarn::detail::page_number;
using tarn::detail::snapshot_number;
using tarn::detail::snapshot_versions;

constexpr page_number pages = 12;
constexpr page_number spares = 60;

/// Every version has a content of its own, and every place holds what was last written there.
struct versions_model {
    snapshot_versions versions{pages, spares};
    std::map<page_number, std::uint64_t> places;
    std::map<snapshot_number, std::vector<std::uint64_t>> shown;  // by snapshots
    std::map<snapshot_number, std::vector<page_number>> lies;     // where each page lay then
    snapshot_number last = 0;
    std::uint64_t content = 0;

    versions_model() {
        versions.extend(pages, 1);
        for (page_number page = 0; page < pages; ++page) {
            places[page] = ++content;
        }
    }

    void take(std::set<page_number> const& written) {
        snapshot_number const number = last + 1;
        std::map<page_number, page_number> moves;
        try {
            for (page_number const page : written) {
                moves[page] = versions.place_for(page);
            }
            versions.reserve_commits(moves.size());
        } catch (std::bad_alloc const&) {
            for (auto const& [page, place] : moves) {
                versions.put_back(place);
            }
            return;
        }
        for (auto const& [page, place] : moves) {
            places[place] = ++content;
            versions.commit(page, place, number);
        }
        add(number);
    }

    void add(snapshot_number number) {
        versions.add(number, {});
        last = number;
        for (page_number page = 0; page < pages; ++page) {
            lies[number].push_back(versions.place_of(page));
            shown[number].push_back(places[versions.place_of(page)]);
        }
    }

    void return_home() {
        versions.reserve_commits(pages);
        versions.for_each_returnable([this](page_number page) {
            places[page] = places[versions.place_of(page)];
            versions.commit(page, page, last + 1);
            return true;
        });
    }

    void release(snapshot_number number) {
        versions.release(number);
        shown.erase(number);
        lies.erase(number);
    }

    /// No place that a snapshot shows has been written since, or is free.
    [[nodiscard]] bool is_frozen() const {
        std::set<page_number> const free{versions.free_places().begin(),
                                         versions.free_places().end()};
        if (free.size() != versions.free_places().size()) {
            return false;
        }
        for (auto const& [number, contents] : shown) {
            for (page_number page = 0; page < pages; ++page) {
                page_number const place = lies.at(number)[page];
                if (places.at(place) != contents[page] || free.count(place) != 0) {
                    return false;
                }
            }
        }
        return true;
    }
};

TEST(snapshot_versions, freezes_what_snapshots_show_in_any_order_of_release) {
    for (std::uint64_t round = 0; round < 60; ++round) {
        tarn::test::random_stream random{round};
        versions_model model;
        for (int step = 0; step < 120; ++step) {
            switch (random.below(8)) {
                case 0:
                case 1:
                case 2:
                case 3: {
                    std::set<page_number> written;
                    for (std::uint64_t i = random.below(5); i > 0; --i) {
                        written.insert(static_cast<page_number>(random.below(pages)));
                    }
                    model.take(written);
                    break;
                }
                case 4:
                    model.return_home();
                    break;
                default:
                    if (!model.shown.empty()) {
                        auto victim = model.shown.begin();
                        std::advance(victim, random.below(model.shown.size()));
                        model.release(victim->first);
                    }
            }
            ASSERT_TRUE(model.is_frozen()) << "round " << round << " step " << step;
        }
        while (!model.shown.empty()) {
            model.release(model.shown.begin()->first);
        }
        model.return_home();
        EXPECT_EQ(model.versions.away().size(), 0U);
        EXPECT_EQ(model.versions.free_places().size(), model.versions.spares());
    }
}

TEST(snapshot_versions, writes_home_where_nobody_needs_it) {
    snapshot_versions versions{4, 4};
    versions.extend(4, 1);
    EXPECT_EQ(versions.place_for(2), 2U);
    versions.add(1, {});
    page_number const spare = versions.place_for(2);
    EXPECT_GE(spare, 4U);
    versions.reserve_commits(1);
    versions.commit(2, spare, 2);
    versions.add(2, {});
    EXPECT_TRUE(versions.is_away(2));
    EXPECT_TRUE(versions.is_home_needed(2));
    versions.release(1);
    EXPECT_FALSE(versions.is_home_needed(2));
    EXPECT_EQ(versions.place_for(2), 2U);
    EXPECT_GE(versions.place_for(3), 4U);
}

TEST(snapshot_versions, refuses_when_all_spares_are_needed) {
    snapshot_versions versions{2, 1};
    versions.extend(2, 1);
    versions.add(1, {});
    page_number const spare = versions.place_for(0);
    EXPECT_FALSE(versions.can_take_spare());
    EXPECT_THROW(static_cast<void>(versions.place_for(1)), std::bad_alloc);
    versions.put_back(spare);
    EXPECT_EQ(versions.place_for(1), spare);
}

}  // namespace
