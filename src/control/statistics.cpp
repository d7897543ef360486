#include "control/statistics.hpp"

#include <algorithm>
#include <bit>

#include "platform/os.hpp"
#include "heap/diversion.hpp"
#include "heap/list_reader.hpp"
#include "heap/process.hpp"
#include "control/limits.hpp"

namespace tarn::impl::control {

using heap::process;
using platform::os;

namespace {

__extension__ using wide = unsigned __int128;

/// a - b, or 0: a snapshot of threads that go on may not add up.
constexpr std::uint64_t difference(std::uint64_t a, std::uint64_t b) noexcept {
    return a - std::min(a, b);
}

/// The square root, rounded down; of at most 2^126.
constexpr std::uint64_t root(wide of) noexcept {
    std::uint64_t result = 0;
    for (std::uint64_t bit = std::uint64_t{1} << 62; bit != 0; bit >>= 1) {
        std::uint64_t const larger = result | bit;
        result = wide{larger} * larger <= of ? larger : result;
    }
    return result;
}

/// Where heaps, known by the numbers of their records, find their rows; late_heap's has number 0.
class thread_rows {
public:
    explicit thread_rows(std::span<thread_statistics> rows) noexcept : rows_{rows} {
        std::size_t heaps = 1;
        process.heaps.for_each([&heaps](heap::thread_heap const&) { ++heaps; });
        rows_ = rows_.first(std::min(rows_.size(), heaps));
        std::fill(rows_.begin(), rows_.end(), thread_statistics{});
    }

    /// Null: there is no room for it.
    [[nodiscard]] thread_statistics* of(heap::thread_heap const& heap) const noexcept {
        auto const number = static_cast<std::size_t>(heap.self_index);
        return number < rows_.size() ? &rows_[number] : nullptr;
    }

    /// Moves the rows that say anything to the front, and returns their number.
    [[nodiscard]] std::size_t close_ranks() const noexcept {
        auto const end = std::remove_if(rows_.begin(), rows_.end(), [](auto const& row) {
            return row.thread_id == 0 && row.pages == 0 && row.allocations == 0 &&
                   row.free_bytes == 0;
        });
        return static_cast<std::size_t>(end - rows_.begin());
    }

private:
    std::span<thread_statistics> rows_;
};

enum class other_threads : std::uint8_t { may_run, rest };

class collection {
public:
    collection(tarn_stats& result, std::span<class_statistics> classes,
               std::span<thread_statistics> rows, other_threads others) noexcept
        : result_{result}, classes_{classes}, rows_{rows}, others_{others} {
        result_ = {};
        std::fill(classes_.begin(), classes_.end(), class_statistics{});
    }

    void collect() noexcept;

private:
    void add_page(heap::page const& each) noexcept;
    void add_heap(heap::thread_heap const& each) noexcept;
    void add_lanes() noexcept;
    void add_space() noexcept;
    void finish() noexcept;
    [[nodiscard]] bool measure_lists(heap::thread_heap const& of, heap::list_lengths& to) noexcept;
    void estimate_requests(unsigned size_class) noexcept;
    void add_small(heap::page const& each, class_statistics& of_class, std::uint64_t live,
                   std::uint64_t bytes) noexcept;

    tarn_stats& result_;
    std::span<class_statistics> classes_;
    thread_rows rows_;
    other_threads others_;
    heap::list_reader reader_;
    wide error_squared_ = 0;
};

void collection::collect() noexcept {
    add_space();
    process.descriptors.for_each([this](heap::page const& each) { add_page(each); });
    process.heaps.for_each([this](heap::thread_heap const& each) { add_heap(each); });
    add_heap(heap::late_heap);
    add_lanes();
    finish();
}

void collection::add_page(heap::page const& each) noexcept {
    heap::page_kind const kind = each.kind.load(std::memory_order_relaxed);
    if (kind == heap::page_kind::none) {
        return;
    }
    bool const is_guarded = kind == heap::page_kind::guarded;
    std::size_t const found_bytes = each.block_bytes.get();
    if (found_bytes == 0 && !is_guarded) {
        return;  // about to serve for the first time
    }
    ++result_.pages;
    bool const is_small = kind == heap::page_kind::small || kind == heap::page_kind::user;
    bool const is_sample = kind == heap::page_kind::sampled || is_guarded;
    std::int64_t const posted =
        is_small ? static_cast<std::int64_t>(each.remote.load().count()) : 0;
    auto const live =
        static_cast<std::uint64_t>(std::max<std::int64_t>(each.outside() - posted, 0));
    // Not the page's own size_class, and the length of that class: the descriptor may be about to
    // serve another page, its kind set already and its block length not, or the other way round.
    bool const has_class =
        (is_small || is_sample) && found_bytes != 0 && found_bytes <= sizing::small_max;
    unsigned const size_class = has_class ? sizing::class_of(found_bytes) : 0;
    // What lies before an inaccessible page is as large as was asked for.
    std::size_t const bytes =
        size_class != 0 && !is_guarded ? sizing::class_bytes(size_class) : found_bytes;
    // A huge block's mapping has room that nobody has asked for yet.
    std::uint64_t const page_bytes = kind == heap::page_kind::huge ? live * bytes
                                     : is_guarded                  ? each.held_bytes.get()
                                                                   : each.bytes();
    class_statistics& of_class = classes_[size_class];
    ++of_class.pages;
    of_class.page_bytes += page_bytes;
    of_class.live_blocks += live;
    of_class.live_bytes += live * bytes;
    if (is_small && size_class != 0) {
        add_small(each, of_class, live, bytes);
        return;
    }
    if (kind == heap::page_kind::huge) {
        result_.huge_blocks += live;
        result_.huge_bytes += live * bytes;
    } else {
        result_.page_tail_bytes += difference(page_bytes, live * bytes);
    }
    result_.guarded_blocks += is_guarded ? live : 0;
    std::uint64_t const asked = std::min<std::uint64_t>(each.requested_bytes.get(), bytes);
    of_class.requested_bytes += asked;
    if (is_sample && size_class != 0 && live != 0) {
        ++of_class.sampled_blocks;
        of_class.requested_error_bytes += asked * asked;  // until estimate_requests() has used it
    }
}

/// Samples live as long as other blocks of their class, so their mean is that of all. Before the
/// first, requests may be anything that the class serves: that counts as one sample more.
void collection::estimate_requests(unsigned size_class) noexcept {
    class_statistics& of_class = classes_[size_class];
    std::uint64_t const samples = of_class.sampled_blocks;
    std::uint64_t const sum = of_class.requested_bytes;
    std::uint64_t const squares = of_class.requested_error_bytes;
    std::uint64_t const most = sizing::class_bytes(size_class);
    std::uint64_t const least = sizing::class_bytes(size_class - 1) + 1;
    wide const width = most - least + 1;
    // The sum of squared distances from the mean; of an even spread, a twelfth of its width's
    // square.
    wide const spread =
        width * width / 12 + squares - (samples == 0 ? 0 : wide{sum} * sum / samples);
    wide const others = difference(of_class.live_blocks, samples);
    wide const count = samples + 1;
    wide const error_squared = others * others * spread / (count * count);
    of_class.requested_bytes =
        sum + static_cast<std::uint64_t>(others * (sum + (least + most) / 2) / count);
    of_class.requested_error_bytes = root(error_squared);
    error_squared_ += error_squared;
}

void collection::add_small(heap::page const& each, class_statistics& of_class, std::uint64_t live,
                           std::uint64_t bytes) noexcept {
    auto const made = static_cast<std::uint64_t>(each.capacity.get());
    auto const reserved = static_cast<std::uint64_t>(each.reserved.get());
    of_class.allocations += static_cast<std::uint64_t>(each.reused());
    std::uint64_t const free_blocks = difference(made, live);
    std::uint64_t const free_bytes = free_blocks * bytes;
    of_class.free_blocks += free_blocks;
    result_.fresh_bytes += difference(reserved, made) * bytes;
    result_.page_tail_bytes += difference(each.bytes(), reserved * bytes);
    result_.purged_inside_bytes +=
        static_cast<std::uint64_t>(std::popcount(each.purged.get())) * os::page_bytes();
    heap::thread_heap const* const owner = each.owner.get();
    if (owner == nullptr) {
        bool const is_in_heap = each.serves_user_heaps.load(std::memory_order_relaxed);
        (is_in_heap ? result_.free_in_heaps_bytes : result_.free_in_bins_bytes) += free_bytes;
        return;
    }
    result_.held_by_threads_bytes += free_bytes;
    result_.cached_page_bytes += live == 0 ? free_bytes : 0;
    if (thread_statistics* const row = rows_.of(*owner)) {
        ++row->pages;
        row->page_bytes += each.bytes();
        row->free_bytes += free_bytes;
    }
}

void collection::add_heap(heap::thread_heap const& each) noexcept {
    std::uint64_t const remote_frees = each.cross_thread_frees.load(std::memory_order_relaxed);
    result_.cross_thread_frees += remote_frees;
    std::uint64_t handed = 0;
    for (unsigned size_class = 0; size_class < sizing::class_count; ++size_class) {
        std::uint64_t const of_class = each.handed_so_far(size_class);
        classes_[size_class].allocations += of_class;
        handed += of_class;
    }
    heap::heap_phase const phase = each.phase.load(std::memory_order_relaxed);
    if (phase == heap::heap_phase::unused) {
        return;
    }
    bool const is_thread = phase == heap::heap_phase::active && &each != &heap::late_heap;
    result_.threads += is_thread ? 1 : 0;
    // Blocks in allocation lists were counted as handed out and live.
    heap::list_lengths listed{};
    result_.threads_unread += measure_lists(each, listed) ? 0 : 1;
    std::uint64_t blocks = 0;
    std::uint64_t listed_bytes = 0;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        std::uint64_t const count = listed[size_class];
        std::uint64_t const bytes = count * sizing::class_bytes(size_class);
        class_statistics& of_class = classes_[size_class];
        of_class.allocations = difference(of_class.allocations, count);
        of_class.live_blocks = difference(of_class.live_blocks, count);
        of_class.live_bytes = difference(of_class.live_bytes, bytes);
        of_class.free_blocks += count;
        blocks += count;
        listed_bytes += bytes;
    }
    result_.held_by_threads_bytes += listed_bytes;
    if (thread_statistics* const row = rows_.of(each)) {
        row->thread_id = each.thread_id.load(std::memory_order_relaxed);
        row->allocations = difference(handed, blocks);
        row->cross_thread_frees = remote_frees;
        row->free_bytes += listed_bytes;
    }
}

/// What was allocated in heaps of the program; their blocks were counted with their pages.
void collection::add_lanes() noexcept {
    process.lanes.for_each([this](heap::heap_lane const& each) {
        for (unsigned size_class = 0; size_class < sizing::class_count; ++size_class) {
            classes_[size_class].allocations += each.classes[size_class].allocations.get();
        }
    });
}

bool collection::measure_lists(heap::thread_heap const& of, heap::list_lengths& to) noexcept {
    if (others_ == other_threads::may_run) {
        if (&of != heap::own_heap()) {
            return reader_.measure(of, to);
        }
        reader_.measure_own(to);
        return true;
    }
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        to[size_class] = static_cast<std::uint32_t>(of.listed(size_class));
    }
    return true;
}

void collection::add_space() noexcept {
    space::space_counts const space = process.space.counts();
    result_.metadata_bytes = process.descriptors.committed_bytes() +
                             process.heaps.committed_bytes() + heap::pages.committed_bytes() +
                             process.lanes.committed_bytes() + process.states.committed_bytes() +
                             process.caches.committed_bytes() +
                             process.user_heaps.committed_bytes() + space.metadata_bytes;
    result_.mapped_bytes = process.space.budget().charged() + result_.metadata_bytes;
    result_.reserved_bytes = space.reserved_bytes +
                             process.huge_reserved_bytes.load(std::memory_order_relaxed) +
                             process.descriptors.reserved_bytes() + process.heaps.reserved_bytes() +
                             process.lanes.reserved_bytes() + process.states.reserved_bytes() +
                             process.caches.reserved_bytes() +
                             process.user_heaps.reserved_bytes() + heap::pages.reserved_bytes();
    tarn_limits const limits = current_limits();
    result_.soft_limit_bytes = limits.soft_bytes;
    result_.hard_limit_bytes = limits.hard_bytes;
    result_.limit_refusals = process.space.budget().refusals();
    result_.free_runs_bytes = space.free_dirty_bytes;
    result_.free_runs = space.free_dirty_runs;
    result_.arenas_peak_bytes = space.peak_bytes;
    result_.huge_blocks_peak = process.huge_mappings_peak.load(std::memory_order_relaxed);
    result_.huge_peak_bytes = process.huge_peak_bytes.load(std::memory_order_relaxed);
    result_.purged_bytes = space.purged_bytes +
                           process.huge_released_bytes.load(std::memory_order_relaxed) +
                           process.purged_inside_bytes.load(std::memory_order_relaxed);
}

void collection::finish() noexcept {
    for (unsigned size_class = 0; size_class < sizing::class_count; ++size_class) {
        class_statistics& each = classes_[size_class];
        each.block_bytes = sizing::class_bytes(size_class);
        if (size_class != 0) {
            estimate_requests(size_class);
        }
        result_.requested_bytes += each.requested_bytes;
        result_.sampled_blocks += each.sampled_blocks;
        result_.live_blocks += each.live_blocks;
        result_.live_bytes += each.live_bytes;
        result_.allocations += each.allocations;
    }
    result_.requested_error_bytes = root(error_squared_);
    result_.live_peak_bytes = heap::raise_to(process.live_peak_bytes, result_.live_bytes);
    result_.thread_count = rows_.close_ranks();
    result_.guarded_so_far = process.guarded_so_far.load(std::memory_order_relaxed);
    result_.guards_refused = process.guards_refused.load(std::memory_order_relaxed);
    result_.version = TARN_STATS_VERSION;
    result_.process_id = os::process_id();
}

}  // namespace

statistics collect_statistics(std::span<thread_statistics> threads) noexcept {
    statistics result;
    collect_statistics(result, result.classes, threads);
    return result;
}

void collect_statistics(tarn_stats& totals, std::span<class_statistics> classes,
                        std::span<thread_statistics> threads) noexcept {
    {
        base::lock_guard const guard{process.scavenging};
        collection{totals, classes, threads, other_threads::may_run}.collect();
    }
    add_stand_in_figures(totals);
}

statistics collect_statistics_at_rest() noexcept {
    statistics result;
    collection{result, result.classes, {}, other_threads::rest}.collect();
    return result;
}

void add_stand_in_figures(tarn_stats& to) noexcept {
    heap::stand_in const* const all = heap::current_checker();
    if (all == nullptr) {
        return;
    }
    heap::stand_in_figures const known = all->figures();
    // Beside its blocks there are those of heaps of the program, and the heap's own use.
    std::uint64_t const others = difference(to.live_bytes, known.heap_bytes);
    to.live_bytes = known.live_bytes + others;
    to.live_blocks = difference(to.live_blocks, known.quarantined_blocks + known.idle_blocks);
    to.live_peak_bytes = std::max(to.live_bytes, known.live_peak_bytes);
    to.requested_bytes = to.live_bytes;
    to.requested_error_bytes = 0;
    to.quarantined_blocks = known.quarantined_blocks;
    to.quarantined_bytes = known.quarantined_bytes;
    to.guard_bytes = known.guard_bytes();
    to.metadata_bytes += known.metadata_bytes;
    to.mapped_bytes += known.metadata_bytes;
    to.reserved_bytes += known.reserved_bytes;
}

void add_process_figures(tarn_stats& to) noexcept {
    to.resident_bytes = os::resident_bytes();
    to.resident_peak_bytes = os::peak_resident_bytes();
    to.page_faults = os::page_faults();
}

}  // namespace tarn::impl::control
