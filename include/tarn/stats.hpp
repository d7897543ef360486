// tarn/stats.hpp - statistics: what the process holds, as data and as text.
//
// Threads    any; a statistics object belongs to one
// Always     a copy: nothing in it changes any more. Exact when no other thread allocated or freed
//            while it was taken, else a snapshot. Its own memory came after the figures.
// Cost       see tarn_stats_get_all(): a walk over all pages
// Errors     std::bad_alloc
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <tarn/tarn.h>

namespace tarn {

class statistics {
public:
    /// What the process holds now.
    [[nodiscard]] static statistics now() {
        statistics result;
        // Room first: there are seldom more threads than a moment ago.
        result.totals_.size = sizeof(tarn_stats);
        tarn_stats_get(&result.totals_);
        result.classes_.resize(TARN_CLASSES_MAX);
        result.threads_.resize(result.totals_.threads + spare_threads);
        tarn_stats_get_all(&result.totals_, result.classes_.data(), result.classes_.size(),
                           result.threads_.data(), result.threads_.size());
        result.classes_.resize(result.totals_.class_count);
        result.threads_.resize(result.totals_.thread_count);
        result.owners_.resize(owners_most);
        result.owners_.resize(tarn_owners_get(result.owners_.data(), owners_most));
        return result;
    }

    /// All threads and sizes together. Its arrays are null: see by_class() and by_thread().
    [[nodiscard]] tarn_stats const& totals() const noexcept { return totals_; }

    /// A row for each size class; the first is for blocks above 128 KiB.
    [[nodiscard]] std::vector<tarn_class_stats> const& by_class() const noexcept {
        return classes_;
    }

    /// A row for each thread that has a heap.
    [[nodiscard]] std::vector<tarn_thread_stats> const& by_thread() const noexcept {
        return threads_;
    }

    /// A row for each kind and name of pools, regions and heaps; beyond 64, the last one is for all
    /// others.
    [[nodiscard]] std::vector<tarn_owner_stats> const& by_owner() const noexcept { return owners_; }

    /// `as`: one of tarn_stats_as.
    [[nodiscard]] std::string text(tarn_stats_as as) const {
        tarn_stats all = totals_;
        std::vector<tarn_class_stats> classes = classes_;
        std::vector<tarn_thread_stats> threads = threads_;
        all.by_class = classes.data();
        all.class_count = classes.size();
        all.by_thread = threads.data();
        all.thread_count = threads.size();
        std::vector<tarn_owner_stats> owners = owners_;
        all.by_owner = owners.data();
        all.owner_count = owners.size();
        std::string result(tarn_stats_format(&all, as, nullptr, 0), '\0');
        tarn_stats_format(&all, as, result.data(), result.size() + 1);
        return result;
    }

private:
    statistics() { totals_ = {}; }

    static constexpr std::size_t spare_threads = 64;
    static constexpr std::size_t owners_most = 64;

    tarn_stats totals_;
    std::vector<tarn_class_stats> classes_;
    std::vector<tarn_thread_stats> threads_;
    std::vector<tarn_owner_stats> owners_;
};

}  // namespace tarn
