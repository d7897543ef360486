// tarn/detail/snapshot_versions.hpp - snapshot_versions: in which page of the file each version of
// each page of a region lies, and when that place is free again. Numbers only: it touches no memory
// and no file.
//
// A page has its *home*, the place of the file with its own number. A new version goes home where
// no snapshot needs what lies there, else to a *spare* place behind all homes; the page is then
// *away*.
//
// Threads    one at a time
// Always     no place that a snapshot needs is given out. place_for() changes nothing but the list
//            of free places, so that a snapshot that fails leaves the versions as they were.
// Cost       place_for(), commit(): O(log snapshots). release(): the places that had to wait for
// it.
//            Per page 20 bytes, per spare place 8
// Source     waiting places hang on the youngest snapshot that needs them: ZFS's dead lists
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace tarn::detail {

using page_number = std::uint32_t;      // of the region, or of the file
using snapshot_number = std::uint64_t;  // from 1 on, rising

class snapshot_versions {
public:
    /// `pages`: of the region, whose homes they are. `spares`: places behind them, at most.
    snapshot_versions(page_number pages, page_number spares) : pages_{pages}, spares_max_{spares} {}

    /// Makes room for extend(), which then cannot fail.
    void extend_room(page_number pages) {
        home_since_.reserve(pages);
        home_until_.reserve(pages);
        place_of_.reserve(pages);
    }

    /// From here on the region's first `pages` pages have a version, which lies at home.
    void extend(page_number pages, snapshot_number number) {
        home_since_.resize(pages, number);
        home_until_.resize(pages, 0);
        for (auto page = static_cast<page_number>(place_of_.size()); page < pages; ++page) {
            place_of_.push_back(page);
        }
    }

    [[nodiscard]] page_number pages() const noexcept {
        return static_cast<page_number>(place_of_.size());
    }

    /// Where the latest version lies.
    [[nodiscard]] page_number place_of(page_number page) const noexcept { return place_of_[page]; }

    [[nodiscard]] bool is_away(page_number page) const noexcept { return place_of_[page] != page; }

    /// Whether a snapshot needs what lies at home.
    [[nodiscard]] bool is_home_needed(page_number page) const noexcept {
        auto const first =
            std::lower_bound(live_.begin(), live_.end(), home_since_[page],
                             [](live const& its, snapshot_number n) { return its.number < n; });
        return first != live_.end() && (!is_away(page) || first->number < home_until_[page]);
    }

    /// A free place for a new version. Errors: std::bad_alloc, where all spares are needed.
    [[nodiscard]] page_number place_for(page_number page) {
        return is_home_needed(page) ? take_spare() : page;
    }

    /// A spare place, for anything.
    [[nodiscard]] page_number take_spare() {
        if (!free_.empty()) {
            page_number const place = free_.back();
            free_.pop_back();
            return place;
        }
        if (spare_since_.size() == spares_max_) {
            throw std::bad_alloc{};
        }
        spare_since_.push_back(0);
        try {
            free_.reserve(spare_since_.capacity());  // so that putting back cannot fail
        } catch (...) {
            spare_since_.pop_back();
            throw;
        }
        return pages_ + static_cast<page_number>(spare_since_.size() - 1);
    }

    [[nodiscard]] bool can_take_spare() const noexcept {
        return !free_.empty() || spare_since_.size() < spares_max_;
    }

    /// A place of place_for() or take_spare() that was not used.
    void put_back(page_number place) noexcept {
        if (place >= pages_) {
            free_.push_back(place);
        }
    }

    /// Room for so many calls of commit(), which then cannot fail.
    void reserve_commits(std::size_t count) {
        away_.reserve(away_.size() + count);
        if (!live_.empty()) {
            live_.back().waiting.reserve(live_.back().waiting.size() + count);
        }
    }

    /// From the snapshot `number` on, which does not exist yet, the version at `place` is the
    /// page's.
    void commit(page_number page, page_number place, snapshot_number number) noexcept {
        page_number const before = place_of_[page];
        if (before == page && place != page) {
            home_until_[page] = number;
            away_.push_back(page);
        }
        if (place == page) {
            home_since_[page] = number;
        } else {
            since(place) = number;
        }
        place_of_[page] = place;
        if (before != page) {
            retire(before);
        }
    }

    /// The snapshot exists. `own`: spare places that are its alone.
    void add(snapshot_number number, std::vector<page_number> own) {
        for (page_number const place : own) {
            since(place) = number;
        }
        live_.push_back({number, std::move(own)});
    }

    /// Nobody reads it any more.
    void release(snapshot_number number) {
        auto const its = std::find_if(live_.begin(), live_.end(), [number](live const& other) {
            return other.number == number;
        });
        std::vector<page_number> const waiting = std::move(its->waiting);
        if (its != live_.begin()) {
            std::vector<page_number>& older = std::prev(its)->waiting;
            older.reserve(older.size() + waiting.size());
        }
        auto const next = live_.erase(its);
        for (page_number const place : waiting) {
            if (next != live_.begin() && since(place) <= std::prev(next)->number) {
                std::prev(next)->waiting.push_back(place);
            } else {
                free_.push_back(place);
            }
        }
    }

    template <class Visit>
    void for_each_live(Visit visit) const {
        for (live const& each : live_) {
            visit(each.number);
        }
    }

    [[nodiscard]] std::size_t live_count() const noexcept { return live_.size(); }

    /// Calls visit(page) for pages that are away and whose home is free, as long as it says true.
    /// It may commit that page.
    template <class Visit>
    void for_each_returnable(Visit visit) {
        for (std::size_t i = away_.size(); i-- > 0;) {
            page_number const page = away_[i];
            bool const goes_on = !is_away(page) || is_home_needed(page) || visit(page);
            if (!is_away(page)) {
                away_[i] = away_.back();
                away_.pop_back();
            }
            if (!goes_on) {
                return;
            }
        }
    }

    /// Pages that are away, by number. Valid until the next commit().
    [[nodiscard]] std::vector<page_number> const& away() {
        std::erase_if(away_, [this](page_number page) { return !is_away(page); });
        std::sort(away_.begin(), away_.end());
        away_.erase(std::unique(away_.begin(), away_.end()), away_.end());
        return away_;
    }

    [[nodiscard]] std::size_t away_count() const noexcept {
        return static_cast<std::size_t>(
            std::count_if(away_.begin(), away_.end(), [this](auto page) { return is_away(page); }));
    }

    /// From here on the lowest places go first, so that adjacent pages lie side by side.
    void sort_free_places() {
        if (!std::is_sorted(free_.rbegin(), free_.rend())) {
            std::sort(free_.rbegin(), free_.rend());
        }
    }

    /// Spare places that nobody needs; the last one goes first.
    [[nodiscard]] std::vector<page_number> const& free_places() const noexcept { return free_; }

    [[nodiscard]] std::size_t spares() const noexcept { return spare_since_.size(); }

private:
    struct live {
        snapshot_number number;
        std::vector<page_number> waiting;  // places that no younger snapshot needs
    };

    [[nodiscard]] snapshot_number& since(page_number place) noexcept {
        return spare_since_[place - pages_];
    }

    void retire(page_number place) noexcept {
        if (!live_.empty() && since(place) <= live_.back().number) {
            live_.back().waiting.push_back(place);
        } else {
            free_.push_back(place);
        }
    }

    page_number pages_;
    page_number spares_max_;
    std::vector<page_number> place_of_;
    std::vector<snapshot_number> home_since_;  // of the version that lies at home
    std::vector<snapshot_number> home_until_;  // of a page that is away
    std::vector<page_number> away_;            // and some that are not any more
    std::vector<snapshot_number> spare_since_;
    std::vector<page_number> free_;
    std::vector<live> live_;  // by number
};

}  // namespace tarn::detail
