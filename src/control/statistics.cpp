#include "control/statistics.hpp"

#include <algorithm>
#include <bit>

#include "tarn/tarn.h"

#include "platform/os.hpp"
#include "heap/process.hpp"

namespace tarn::impl::control {

using heap::process;
using platform::os;

namespace {

constexpr std::size_t busiest_shown = 12;

void add_page(statistics& to, heap::page const& each) noexcept {
    heap::page_kind const kind = each.kind.load(std::memory_order_relaxed);
    if (kind == heap::page_kind::none) {
        return;
    }
    std::size_t const found_bytes = each.block_bytes.get();
    if (found_bytes == 0) {
        return;  // about to serve for the first time
    }
    ++to.page_count;
    bool const is_small = kind == heap::page_kind::small;
    heap::remote_state const remote = each.remote.load();
    std::int64_t const posted = is_small ? static_cast<std::int64_t>(remote.count()) : 0;
    auto const live =
        static_cast<std::uint64_t>(std::max<std::int64_t>(each.outside() - posted, 0));
    // Not the page's own size_class, and the length of that class: the descriptor may be about to
    // serve another page, its kind set already and its block length not, or the other way round.
    unsigned const size_class =
        is_small && found_bytes <= sizing::small_max ? sizing::class_of(found_bytes) : 0;
    std::size_t const bytes = size_class != 0 ? sizing::class_bytes(size_class) : found_bytes;
    class_statistics& of_class = to.classes[size_class];
    of_class.live_blocks += live;
    of_class.live_bytes += live * bytes;
    if (kind == heap::page_kind::huge) {
        to.huge_blocks += live;
        to.huge_bytes += live * bytes;
    }
    if (is_small) {
        of_class.allocations += static_cast<std::uint64_t>(each.reused());
        auto const made = static_cast<std::uint64_t>(each.capacity.get());
        std::uint64_t const free_blocks = made - std::min(made, live);
        of_class.free_blocks += free_blocks;
        std::uint64_t const purged_bytes =
            static_cast<std::uint64_t>(std::popcount(each.purged.get())) * os::page_bytes();
        to.mapped_bytes -= std::min(to.mapped_bytes, purged_bytes);
        std::uint64_t const free_bytes =
            free_blocks * bytes - std::min(free_blocks * bytes, purged_bytes);
        bool const is_owned = each.owner.get() != nullptr;
        (is_owned ? to.held_by_threads_bytes : to.free_in_bins_bytes) += free_bytes;
    }
}

void add_heap(statistics& to, heap::thread_heap const& each) noexcept {
    to.cross_thread_frees += each.cross_thread_frees.load(std::memory_order_relaxed);
    for (unsigned size_class = 0; size_class < sizing::class_count; ++size_class) {
        to.classes[size_class].allocations +=
            each.handed[size_class].load(std::memory_order_relaxed);
    }
    if (each.phase.load(std::memory_order_relaxed) == heap::heap_phase::active) {
        ++to.threads;
    }
}

/// Blocks in the calling thread's allocation lists were counted as handed out and live.
void deduct_own_lists(statistics& from) noexcept {
    heap::thread_heap const& own = *heap::this_thread;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        std::uint64_t const listed = own.listed(size_class);
        class_statistics& of_class = from.classes[size_class];
        std::uint64_t const bytes = listed * sizing::class_bytes(size_class);
        of_class.allocations -= std::min(of_class.allocations, listed);
        of_class.live_blocks -= std::min(of_class.live_blocks, listed);
        of_class.live_bytes -= std::min(of_class.live_bytes, bytes);
        of_class.free_blocks += listed;
        from.held_by_threads_bytes += bytes;
    }
}

/// Classes by number of allocations, the busiest first; unused ones left out.
std::size_t busiest(statistics const& of, std::array<unsigned, busiest_shown>& order) noexcept {
    std::array<unsigned, sizing::class_count> all{};
    for (unsigned size_class = 0; size_class < sizing::class_count; ++size_class) {
        all[size_class] = size_class;
    }
    std::partial_sort_copy(all.begin(), all.end(), order.begin(), order.end(),
                           [&of](unsigned a, unsigned b) {
                               return of.classes[a].allocations > of.classes[b].allocations;
                           });
    return static_cast<std::size_t>(std::count_if(
        order.begin(), order.end(),
        [&of](unsigned size_class) { return of.classes[size_class].allocations != 0; }));
}

}  // namespace

statistics collect_statistics() noexcept {
    statistics result;
    space::space_counts const space = process.space.counts();
    std::uint64_t const huge = process.huge_bytes.load(std::memory_order_relaxed);
    result.metadata_bytes = process.descriptors.committed_bytes() +
                            process.heaps.committed_bytes() + heap::pages.committed_bytes() +
                            space.metadata_bytes;
    result.mapped_bytes = space.committed_bytes + huge + result.metadata_bytes;
    result.reserved_bytes = space.reserved_bytes +
                            process.huge_reserved_bytes.load(std::memory_order_relaxed) +
                            process.descriptors.reserved_bytes() + process.heaps.reserved_bytes() +
                            heap::pages.reserved_bytes();
    result.free_runs_bytes = space.free_dirty_bytes;
    result.free_runs = space.free_dirty_runs;
    result.arena_peak_bytes = space.peak_bytes;
    result.huge_blocks_peak = process.huge_mappings_peak.load(std::memory_order_relaxed);
    result.huge_peak_bytes = process.huge_peak_bytes.load(std::memory_order_relaxed);
    result.purged_bytes = space.purged_bytes +
                          process.huge_released_bytes.load(std::memory_order_relaxed) +
                          process.purged_inside_bytes.load(std::memory_order_relaxed);
    process.descriptors.for_each([&result](heap::page const& each) { add_page(result, each); });
    process.heaps.for_each([&result](heap::thread_heap const& each) { add_heap(result, each); });
    add_heap(result, heap::late_heap);
    result.threads -= std::min<std::uint64_t>(result.threads, 1);  // late_heap is no thread
    deduct_own_lists(result);
    for (class_statistics const& each : result.classes) {
        result.live_blocks += each.live_blocks;
        result.live_bytes += each.live_bytes;
    }
    result.live_peak_bytes = heap::raise_to(process.live_peak_bytes, result.live_bytes);
    return result;
}

void describe_statistics(statistics const& of, base::text_sink& to) noexcept {
    constexpr std::size_t width = 12;
    to << "tarn " << tarn_version() << " memory report, process " << os::process_id() << '\n';
    auto const line = [&to](std::string_view name, std::uint64_t bytes) {
        to.padded(name, 26).bytes(bytes, width) << '\n';
    };
    line("resident, peak", os::peak_resident_bytes());
    line("resident, now", os::resident_bytes());
    line("live in blocks", of.live_bytes);
    line("live in blocks, peak", of.live_peak_bytes);
    line("mapped", of.mapped_bytes);
    line("purged in total", of.purged_bytes);
    line("free, held by threads", of.held_by_threads_bytes);
    line("free, in shared pages", of.free_in_bins_bytes);
    line("free, in runs", of.free_runs_bytes);
    line("metadata", of.metadata_bytes);
    to.padded("live blocks", 26).padded(of.live_blocks, width) << '\n';
    to.padded("cross-thread frees", 26).padded(of.cross_thread_frees, width) << '\n';
    to.padded("page faults", 26).padded(os::page_faults(), width) << '\n';
    std::array<unsigned, busiest_shown> order{};
    std::size_t const shown = busiest(of, order);
    to << "busiest sizes   allocations   live blocks    live\n";
    for (std::size_t i = 0; i < shown; ++i) {
        class_statistics const& each = of.classes[order[i]];
        if (order[i] == 0) {
            to.padded("  > 128 KiB", 12);
        } else {
            to.bytes(sizing::class_bytes(order[i]), width);
        }
        to.padded(each.allocations, 15).padded(each.live_blocks, 14).bytes(each.live_bytes, 12)
            << '\n';
    }
}

void export_statistics(statistics const& of, base::text_sink& to) noexcept {
    to << "tarn " << tarn_version() << " pid " << os::process_id() << '\n';
    auto const line = [&to](std::string_view key, std::uint64_t value) {
        to << key << ' ' << value << '\n';
    };
    line("live_bytes", of.live_bytes);
    line("live_peak_bytes", of.live_peak_bytes);
    line("live_blocks", of.live_blocks);
    line("mapped_bytes", of.mapped_bytes);
    line("reserved_bytes", of.reserved_bytes);
    line("metadata_bytes", of.metadata_bytes);
    line("held_by_threads_bytes", of.held_by_threads_bytes);
    line("free_in_bins_bytes", of.free_in_bins_bytes);
    line("free_runs_bytes", of.free_runs_bytes);
    line("purged_bytes", of.purged_bytes);
    line("cross_thread_frees", of.cross_thread_frees);
    line("threads", of.threads);
    line("page_count", of.page_count);
    line("resident_bytes", os::resident_bytes());
    line("peak_resident_bytes", os::peak_resident_bytes());
    line("page_faults", os::page_faults());
    std::array<unsigned, busiest_shown> order{};
    std::size_t const shown = busiest(of, order);
    for (std::size_t i = 0; i < shown; ++i) {
        class_statistics const& each = of.classes[order[i]];
        to << "class " << sizing::class_bytes(order[i]) << ' ' << each.allocations << ' '
           << each.live_blocks << '\n';
    }
}

}  // namespace tarn::impl::control
