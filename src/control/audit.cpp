#include "control/audit.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <string_view>

#include "base/bits.hpp"
#include "base/text.hpp"
#include "platform/os.hpp"
#include "heap/block_set.hpp"
#include "heap/process.hpp"
#include "control/report.hpp"

namespace tarn::impl::control {

using heap::process;
using platform::os;

namespace {

/// Numbers by page: how many of its blocks wait in threads' lists. In memory of their own, since
/// an audit may not allocate.
class page_counts {
public:
    page_counts() noexcept {
        process.descriptors.for_each([this](heap::page const&) { ++size_; });
        bytes_ = base::align_up((size_ + 1) * sizeof(std::uint32_t), os::page_bytes());
        void* const memory = os::reserve(bytes_, {});
        if (memory != nullptr && os::commit(memory, bytes_)) {
            counts_ = static_cast<std::uint32_t*>(memory);
        } else if (memory != nullptr) {
            os::release(memory, bytes_);
        }
    }

    page_counts(page_counts const&) = delete;
    page_counts& operator=(page_counts const&) = delete;

    ~page_counts() {
        if (counts_ != nullptr) {
            os::release(counts_, bytes_);
        }
    }

    [[nodiscard]] bool is_there() const noexcept { return counts_ != nullptr; }

    [[nodiscard]] std::uint32_t& of(heap::page const& page) noexcept {
        return counts_[static_cast<std::size_t>(page.self_index)];
    }

private:
    std::size_t size_ = 0;
    std::size_t bytes_ = 0;
    std::uint32_t* counts_ = nullptr;
};

class inspection {
public:
    std::size_t run(statistics& found) noexcept TARN_REQUIRES(process.scavenging);

private:
    void walk_lists(heap::thread_heap const& each) noexcept;
    std::uint64_t walk_cached(heap::thread_heap const& each, unsigned size_class) noexcept;
    void walk_page(heap::page const& each) noexcept;
    void walk_small(heap::page const& each, class_statistics& of_class) noexcept;
    void walk_slices() noexcept;
    void compare(statistics const& said) noexcept;

    template <class... Parts>
    void contradiction(Parts... parts) noexcept {
        base::text_buffer<300> line;
        line << "tarn: audit: ";
        (line << ... << parts);
        line << '\n';
        write_report(line.view());
        ++contradictions_;
    }

    statistics walked_;
    page_counts listed_;
    std::uint64_t arena_page_bytes_ = 0;
    std::uint64_t not_held_bytes_ = 0;  // of those: inaccessible
    std::size_t contradictions_ = 0;
};

/// What waits in a thread's cache.
std::uint64_t inspection::walk_cached(heap::thread_heap const& each, unsigned size_class) noexcept {
    std::uint32_t const count = each.cached(size_class);
    for (std::uint32_t i = 0; i < count; ++i) {
        void const* const at = each.cache()->entry(size_class, i).at;
        heap::page const* const home = heap::page_of(at);
        if (home == nullptr || !home->has_states() || home->size_class != size_class ||
            !home->has_made(at)) {
            contradiction("the cache of ", sizing::class_bytes(size_class),
                          "-byte blocks of thread ", each.thread_id.load(std::memory_order_relaxed),
                          " has ", at);
            return i;
        }
        ++listed_.of(*home);
    }
    return count;
}

/// What waits in a thread's lists.
void inspection::walk_lists(heap::thread_heap const& each) noexcept {
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        std::uint64_t length = 0;
        for (heap::block const* at = each.head(size_class); at != nullptr;
             at = heap::read_link(at)) {
            heap::page const* const home = heap::page_of(at);
            if (home == nullptr ||
                home->kind.load(std::memory_order_relaxed) != heap::page_kind::small ||
                home->size_class != size_class || !home->starts_block(at) ||
                listed_.of(*home) >= static_cast<std::uint32_t>(home->capacity.get())) {
                contradiction("the list of ", sizing::class_bytes(size_class),
                              "-byte blocks of thread ",
                              each.thread_id.load(std::memory_order_relaxed), " runs into ",
                              static_cast<void const*>(at));
                break;
            }
            ++listed_.of(*home);
            ++length;
        }
        length += walk_cached(each, size_class);
        walked_.held_by_threads_bytes += length * sizing::class_bytes(size_class);
        walked_.classes[size_class].free_blocks += length;
    }
}

void inspection::walk_page(heap::page const& each) noexcept {
    heap::page_kind const kind = each.kind.load(std::memory_order_relaxed);
    if (kind == heap::page_kind::none) {
        return;
    }
    ++walked_.pages;
    void const* const start = each.start;
    if (heap::page_of(start) != &each) {
        contradiction("the page at ", start, " is not the page map's");
        return;
    }
    bool const is_huge = kind == heap::page_kind::huge;
    bool const is_small = kind == heap::page_kind::small || kind == heap::page_kind::user;
    bool const is_guarded = kind == heap::page_kind::guarded;
    std::uint64_t const bytes = each.block_bytes.get();
    bool const is_sample = (kind == heap::page_kind::sampled || is_guarded) && bytes != 0 &&
                           bytes <= sizing::small_max;
    class_statistics& of_class = walked_.classes[is_small    ? each.size_class
                                                 : is_sample ? sizing::class_of(bytes)
                                                             : 0];
    std::uint64_t const page_bytes = is_huge      ? each.block_bytes.get()
                                     : is_guarded ? each.held_bytes.get()
                                                  : each.bytes();
    ++of_class.pages;
    of_class.page_bytes += page_bytes;
    arena_page_bytes_ += is_huge ? 0 : each.bytes();
    not_held_bytes_ += is_guarded ? each.bytes() - page_bytes : 0;
    if (is_small) {
        walk_small(each, of_class);
        return;
    }
    if (is_guarded && each.out.get() == 0) {
        walked_.page_tail_bytes += page_bytes;  // freed, and its guards were refused
        return;
    }
    ++of_class.live_blocks;
    of_class.live_bytes += bytes;
    walked_.huge_blocks += is_huge ? 1 : 0;
    walked_.huge_bytes += is_huge ? bytes : 0;
    walked_.sampled_blocks += is_sample ? 1 : 0;
    walked_.guarded_blocks += is_guarded ? 1 : 0;
    walked_.page_tail_bytes += page_bytes - bytes;
}

void inspection::walk_small(heap::page const& each, class_statistics& of_class) noexcept {
    void const* const start = each.start;
    std::uint64_t const bytes = each.block_bytes.get();
    heap::remote_state const remote = each.remote.load();
    heap::block_set local{each};
    std::uint64_t posted = 0;
    std::uint64_t in_list = 0;
    if (each.has_states()) {
        local.add_free_states();
        posted = remote.count();
        in_list = local.size() - static_cast<std::uint64_t>(each.unlisted()) - posted;
    } else {
        heap::block_set posted_blocks{each};
        local.add_list(each.local);
        posted_blocks.add_list(remote.list());
        posted = posted_blocks.size();
        in_list = local.size();
    }
    if (posted != remote.count()) {
        contradiction("the page at ", start, " counts ", std::uint64_t{remote.count()},
                      " blocks freed by others, its list has ", posted);
    }
    auto const made = static_cast<std::uint64_t>(each.capacity.get());
    auto const reserved = static_cast<std::uint64_t>(each.reserved.get());
    auto const unlisted = static_cast<std::uint64_t>(each.unlisted());
    std::uint64_t const listed = listed_.of(each);
    std::uint64_t const in_page = in_list + posted + unlisted;
    if (in_page + listed > made ||
        made != in_list + unlisted + static_cast<std::uint64_t>(each.outside())) {
        contradiction("the page at ", start, " has ", made, " blocks: ", in_list, " in its list, ",
                      unlisted, " given back, ", each.outside(), " outside; of these ", posted,
                      " freed by others, ", listed, " in lists of threads");
        return;
    }
    std::uint64_t const live = made - in_page - listed;
    of_class.live_blocks += live;
    of_class.live_bytes += live * bytes;
    of_class.free_blocks += in_page;
    walked_.fresh_bytes += (reserved - made) * bytes;
    walked_.page_tail_bytes += each.bytes() - reserved * bytes;
    walked_.purged_inside_bytes +=
        static_cast<std::uint64_t>(std::popcount(each.purged.get())) * os::page_bytes();
    heap::thread_heap const* const owner = each.owner.get();
    if (owner == nullptr) {
        bool const is_in_heap = each.serves_user_heaps.load(std::memory_order_relaxed);
        (is_in_heap ? walked_.free_in_heaps_bytes : walked_.free_in_bins_bytes) += in_page * bytes;
        return;
    }
    if (owner->phase.load(std::memory_order_relaxed) == heap::heap_phase::unused) {
        contradiction("the page at ", start, " belongs to a thread that has ended");
    }
    walked_.held_by_threads_bytes += in_page * bytes;
    walked_.cached_page_bytes += live + listed == 0 ? in_page * bytes : 0;
}

/// Every slice in use belongs to a page.
void inspection::walk_slices() noexcept {
    std::uint64_t used_bytes = 0;
    void const* lost = nullptr;
    process.space.for_each_used([&used_bytes, &lost](space::run const& used) {
        used_bytes += used.slices * sizing::slice_bytes;
        for (std::uint32_t slice = 0; slice < used.slices; ++slice) {
            std::byte* const at = used.base + slice * sizing::slice_bytes;
            heap::page const* const entered = heap::page_of(at);
            if (entered == nullptr ||
                entered->kind.load(std::memory_order_relaxed) == heap::page_kind::none) {
                lost = at;
            }
        }
    });
    if (lost != nullptr) {
        contradiction("a slice at ", lost, " is in use by no page");
    }
    if (used_bytes != arena_page_bytes_) {
        contradiction("pages have ", arena_page_bytes_, " bytes, slices in use ", used_bytes);
    }
}

struct walked_field {
    std::string_view name;
    std::uint64_t tarn_stats::*value;
};

// What a walk can tell; the rest are peaks, numbers so far, and the system's.
constexpr std::array walked_fields{
    walked_field{"live_bytes", &tarn_stats::live_bytes},
    walked_field{"live_blocks", &tarn_stats::live_blocks},
    walked_field{"mapped_bytes", &tarn_stats::mapped_bytes},
    walked_field{"page_tail_bytes", &tarn_stats::page_tail_bytes},
    walked_field{"fresh_bytes", &tarn_stats::fresh_bytes},
    walked_field{"held_by_threads_bytes", &tarn_stats::held_by_threads_bytes},
    walked_field{"cached_page_bytes", &tarn_stats::cached_page_bytes},
    walked_field{"free_in_bins_bytes", &tarn_stats::free_in_bins_bytes},
    walked_field{"free_in_heaps_bytes", &tarn_stats::free_in_heaps_bytes},
    walked_field{"purged_inside_bytes", &tarn_stats::purged_inside_bytes},
    walked_field{"huge_bytes", &tarn_stats::huge_bytes},
    walked_field{"huge_blocks", &tarn_stats::huge_blocks},
    walked_field{"sampled_blocks", &tarn_stats::sampled_blocks},
    walked_field{"guarded_blocks", &tarn_stats::guarded_blocks},
    walked_field{"pages", &tarn_stats::pages}};

void inspection::compare(statistics const& said) noexcept {
    for (walked_field const& each : walked_fields) {
        if (said.*each.value != walked_.*each.value) {
            contradiction(each.name, " is ", said.*each.value, " by the statistics, ",
                          walked_.*each.value, " by the walk");
        }
    }
    for (unsigned size_class = 0; size_class < sizing::class_count; ++size_class) {
        class_statistics const& counted = said.classes[size_class];
        class_statistics const& seen = walked_.classes[size_class];
        if (seen.live_blocks != counted.live_blocks || seen.free_blocks != counted.free_blocks ||
            seen.pages != counted.pages || seen.page_bytes != counted.page_bytes) {
            contradiction("class of ", counted.block_bytes, " bytes: ", counted.live_blocks,
                          " live and ", counted.free_blocks, " free blocks in ", counted.pages,
                          " pages by the statistics; ", seen.live_blocks, ", ", seen.free_blocks,
                          " and ", seen.pages, " by the walk");
        }
    }
}

std::size_t inspection::run(statistics& found) noexcept {
    if (!listed_.is_there()) {
        contradiction("out of memory");
        return contradictions_;
    }
    auto const walk = [this](heap::thread_heap const& each) {
        if (each.phase.load(std::memory_order_relaxed) != heap::heap_phase::unused) {
            walk_lists(each);
        }
    };
    process.heaps.for_each(walk);
    walk(heap::late_heap);
    process.descriptors.for_each([this](heap::page const& each) { walk_page(each); });
    walk_slices();
    for (class_statistics const& each : walked_.classes) {
        walked_.live_blocks += each.live_blocks;
        walked_.live_bytes += each.live_bytes;
    }
    found = collect_statistics_at_rest();
    walked_.mapped_bytes = arena_page_bytes_ - not_held_bytes_ + walked_.huge_bytes +
                           found.free_runs_bytes + found.metadata_bytes -
                           walked_.purged_inside_bytes;
    compare(found);
    for (walked_field const& each : walked_fields) {
        found.*each.value = walked_.*each.value;
    }
    add_stand_in_figures(found);
    return contradictions_;
}

}  // namespace

std::size_t audit(statistics& found) noexcept {
    base::lock_guard const guard{process.scavenging};
    inspection all;
    return all.run(found);
}

}  // namespace tarn::impl::control
