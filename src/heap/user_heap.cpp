// Life of user heaps: they come, grow lanes, are measured, and go. Contract: heap/user_heap.hpp.
#include "heap/user_heap.hpp"

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "heap/block_set.hpp"
#include "heap/process.hpp"
#include "heap/user_lanes.hpp"

namespace tarn::impl::heap {

using platform::os;

namespace {

using lane_guard = base::lock_guard<decltype(heap_lane::mutex)>;

constexpr std::uint64_t index_mask = (std::uint64_t{1} << base::node_index_bits) - 1;

constexpr base::node_index index_of(heap_id id) noexcept {
    return static_cast<base::node_index>(static_cast<std::uint64_t>(id) & index_mask);
}

heap_id id_of(user_heap const& record) noexcept {
    return static_cast<heap_id>(static_cast<std::uint64_t>(record.self_index) |
                                record.generation << base::node_index_bits);
}

std::uint64_t allocations_of(heap_lane const& lane) noexcept {
    std::uint64_t sum = 0;
    for (lane_class const& each : lane.classes) {
        sum += each.allocations.get();
    }
    return sum;
}

/// Live blocks and their bytes, and the bytes of small ones ever allocated.
struct lane_totals {
    std::uint64_t live_blocks = 0;
    std::uint64_t small_bytes = 0;
    std::uint64_t handed_bytes = 0;
};

lane_totals totals_of(heap_lane const& lane) noexcept {
    lane_totals sum{.live_blocks = lane.classes[0].live_blocks()};
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        lane_class const& each = lane.classes[size_class];
        std::size_t const bytes = sizing::class_bytes(size_class);
        sum.live_blocks += each.live_blocks();
        sum.small_bytes += each.live_blocks() * bytes;
        sum.handed_bytes += each.allocations.get() * bytes;
    }
    return sum;
}

}  // namespace

heap_growth untold_growth(heap_lane& lane) noexcept {
    lane_totals const now = totals_of(lane);
    return {.bytes = static_cast<std::int64_t>(now.small_bytes -
                                               std::exchange(lane.told_bytes, now.small_bytes)),
            .handed_bytes = static_cast<std::int64_t>(
                now.handed_bytes - std::exchange(lane.told_handed, now.handed_bytes))};
}

std::int64_t untold_bytes(heap_lane& lane) noexcept {
    std::uint64_t const now = totals_of(lane).small_bytes;
    return static_cast<std::int64_t>(now - std::exchange(lane.told_bytes, now));
}

namespace {

/// Calls use(heap_lane&) for each lane of a heap, locked.
template <class Use>
void for_each_lane(user_heap const& of, heap_id id, Use use) noexcept {
    // acquire: pairs with the release in add_lane().
    std::uint32_t const count = of.lane_count.load(std::memory_order_acquire);
    for (std::uint32_t i = 0; i < count; ++i) {
        heap_lane* const lane = of.lanes[i].load(std::memory_order_relaxed);
        if (lane == nullptr) {
            continue;
        }
        lane_guard const guard{lane->mutex};
        if (lane->heap.load(std::memory_order_relaxed) == id) {
            use(*lane);
        }
    }
}

/// One more lane, where there is memory for it. The caller holds heap_making.
void add_lane(user_heap& to, heap_id id) noexcept {
    std::uint32_t const count = to.lane_count.load(std::memory_order_relaxed);
    if (count >= to.lanes_most.load(std::memory_order_relaxed)) {
        return;
    }
    base::node_index const idle = process.lanes.pop(process.idle_lanes);
    heap_lane* const lane =
        idle != base::node_index::none ? process.lanes.at(idle) : process.lanes.allocate();
    if (lane == nullptr) {
        return;
    }
    {
        lane_guard const guard{lane->mutex};
        lane->heap.store(id, std::memory_order_relaxed);
        lane->allocations_before.set(allocations_of(*lane));
    }
    to.lanes[count].store(lane, std::memory_order_relaxed);
    // release: pairs with the acquire where lanes are looked for; the lane is ready.
    to.lane_count.store(count + 1, std::memory_order_release);
}

struct page_chain {
    page* first = nullptr;

    void push(page& gone) noexcept {
        gone.list_next = first;
        first = &gone;
    }

    /// Takes all out of the page map: none serves again while another still can be found.
    void hide() const noexcept {
        for (page const* each = first; each != nullptr; each = each->list_next) {
            pages.clear(each->start, each->slices.get());
        }
    }

    /// Gives all of them back.
    void give_back() noexcept {
        while (first != nullptr) {
            page& gone = *first;
            first = gone.list_next;
            gone.list_next = nullptr;
            return_page(gone, gone.kind.load(std::memory_order_relaxed));
        }
    }
};

/// Takes all pages out of a lane, which then belongs to no heap. The caller holds its lock.
void detach_lane(heap_lane& lane, page_chain& to) noexcept {
    for (lane_class& of_class : lane.classes) {
        for (auto* list : {&of_class.partial, &of_class.full}) {
            while (page* const each = list->front()) {
                list->remove(*each);
                page_life::leave(*each);
                to.push(*each);
            }
        }
        of_class.frees.set(of_class.allocations.get());
        of_class.slices = 0;
    }
    note_growth({.bytes = untold_bytes(lane), .handed_bytes = 0});
    lane.empty_bytes = 0;
    lane.large_bytes.set(0);
    lane.pages.set(0);
    // release: pairs with the acquire in page_life::look(); whoever sees the heap gone sees its
    // pages gone.
    lane.heap.store(heap_id::none, std::memory_order_release);
}

/// Which blocks of a page live, at one moment.
struct page_snapshot {
    std::byte* start = nullptr;
    std::size_t bytes = 0;
    std::size_t made = 0;
    block_set free_blocks;

    explicit page_snapshot(page const& of) noexcept
        : start{of.start},
          bytes{of.block_bytes.get()},
          made{static_cast<std::size_t>(of.capacity.get())},
          free_blocks{of} {
        if (of.size_class == 0) {
            return;
        }
        free_blocks.add_list(of.local);
        for (std::size_t index = 0; of.purged.get() != 0 && index < made; ++index) {
            if (of.is_unlisted(index)) {
                free_blocks.add(index);
            }
        }
    }
};

}  // namespace

user_heap* heap_record(heap_id id) noexcept { return process.user_heaps.at(index_of(id)); }

user_heap* find_heap(heap_id id) noexcept {
    if (!process.user_heaps.has(index_of(id))) {
        return nullptr;
    }
    user_heap* const record = heap_record(id);
    // acquire: pairs with the release in create_heap().
    return record->id.load(std::memory_order_acquire) == id ? record : nullptr;
}

bool user_heap::pin(heap_id expected) noexcept {
    std::uint32_t count = pins.load(std::memory_order_relaxed);
    do {
        if (count == 0) {
            return false;
        }
    } while (!pins.compare_exchange_weak(count, count + 1, std::memory_order_relaxed));
    // acquire: pairs with the release in create_heap(); the record is ready.
    if (id.load(std::memory_order_acquire) == expected) {
        return true;
    }
    unpin();
    return false;
}

void user_heap::unpin() noexcept {
    // acq_rel: whoever is last sees what the others did with the record.
    if (pins.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        process.user_heaps.push(process.idle_user_heaps, *this);
    }
}

bool user_heap::try_charge(std::size_t bytes) noexcept {
    std::size_t const limit = limit_bytes.load(std::memory_order_relaxed);
    // relaxed: the number orders nothing but itself.
    std::size_t before = held_bytes.load(std::memory_order_relaxed);
    do {
        if (limit != 0 && (bytes > limit || before > limit - bytes)) {
            return false;
        }
    } while (!held_bytes.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
    raise_to(held_peak_bytes, before + bytes);
    return true;
}

locked_lane::locked_lane(user_heap& of, heap_id id, thread_heap const& caller) noexcept {
    heap_lane* lane = lane_of(of, caller);
    if (lane == nullptr) {
        return;
    }
    if (!lane->mutex.try_lock()) {
        if (of.lane_count.load(std::memory_order_relaxed) <
            of.lanes_most.load(std::memory_order_relaxed)) {
            base::lock_guard const guard{process.heap_making};
            if (of.id.load(std::memory_order_relaxed) != id) {
                return;
            }
            if (lane_of(of, caller) == lane) {
                add_lane(of, id);
            }
            lane = lane_of(of, caller);
        }
        lane->mutex.lock();
    }
    if (lane->heap.load(std::memory_order_relaxed) != id) {
        lane->mutex.unlock();
        return;
    }
    lane_ = lane;
}

locked_lane::~locked_lane() {
    if (lane_ != nullptr) {
        lane_->mutex.unlock();
    }
}

void enter_lane(heap_lane& lane, page& fresh, page_kind kind) noexcept {
    fresh.list_next = nullptr;
    fresh.list_prev = nullptr;
    if (kind == page_kind::user) {
        lane.classes[fresh.size_class].partial.push_back(fresh);
        lane.classes[fresh.size_class].slices += fresh.slices.get();
        lane.empty_bytes += fresh.bytes();
    } else {
        lane.classes[0].full.push_front(fresh);
    }
    lane.pages.add(1);
    fresh.kind.store(kind, std::memory_order_relaxed);
    page_life::enter(fresh, lane);
}

void leave_lane(heap_lane& lane, page& gone) noexcept {
    bool const is_small = gone.size_class != 0;
    if (is_small) {
        lane.classes[gone.size_class].partial.remove(gone);
        lane.classes[gone.size_class].slices -= gone.slices.get();
        lane.empty_bytes -= gone.bytes();
    } else {
        lane.classes[0].full.remove(gone);
    }
    lane.pages.add(~std::uint64_t{0});  // less 1
    note_growth({.bytes = untold_bytes(lane), .handed_bytes = 0});
    heap_record(lane.heap.load(std::memory_order_relaxed))->refund(held_bytes_of(gone));
    page_life::leave(gone);
}

void return_page(page& gone, page_kind kind) noexcept {
    gone.kind.store(page_kind::none, std::memory_order_relaxed);
    if (std::exchange(gone.prefers_node, false)) {
        static_cast<void>(os::prefer_node(gone.start, gone.bytes(), any_node));
    }
    if (kind != page_kind::user) {
        return release_run(gone, kind);
    }
    gone.touch_all();  // as a free run it counts as dirty
    space::run const memory = gone.memory();
    pages.clear(memory.base, memory.slices);
    deallocate_descriptor(gone);
    process.space.return_run(memory);
}

heap_id create_heap(user_heap_options const& wanted) noexcept {
    base::lock_guard const guard{process.heap_making};
    base::node_index const idle = process.user_heaps.pop(process.idle_user_heaps);
    user_heap* const fresh = idle != base::node_index::none ? process.user_heaps.at(idle)
                                                            : process.user_heaps.allocate();
    if (fresh == nullptr) {
        return heap_id::none;
    }
    ++fresh->generation;
    fresh->lanes_most.store(std::clamp(os::cpus_allowed(), 1U, user_heap::lanes_max),
                            std::memory_order_relaxed);
    fresh->lane_count.store(0, std::memory_order_relaxed);
    fresh->held_bytes.store(0, std::memory_order_relaxed);
    fresh->held_peak_bytes.store(0, std::memory_order_relaxed);
    fresh->limit_bytes.store(wanted.limit_bytes, std::memory_order_relaxed);
    fresh->refusals.store(0, std::memory_order_relaxed);
    fresh->numa_node.store(wanted.numa_node, std::memory_order_relaxed);
    for (std::size_t i = 0; i < fresh->name.size(); ++i) {
        bool const is_text = i < std::min(wanted.name.size(), user_heap::name_bytes_max);
        fresh->name[i].store(is_text ? wanted.name[i] : '\0', std::memory_order_relaxed);
    }
    heap_id const id = id_of(*fresh);
    add_lane(*fresh, id);
    if (fresh->lane_count.load(std::memory_order_relaxed) == 0) {
        process.user_heaps.push(process.idle_user_heaps, *fresh);
        return heap_id::none;
    }
    fresh->pins.store(1, std::memory_order_relaxed);
    // release: pairs with the acquire in find_heap() and pin(); the record is ready.
    fresh->id.store(id, std::memory_order_release);
    return id;
}

bool destroy_heap(heap_id id) noexcept {
    process.destructions.fetch_add(1, std::memory_order_seq_cst);
    user_heap* gone = nullptr;
    {
        base::lock_guard const guard{process.heap_making};
        gone = find_heap(id);
        if (gone != nullptr) {
            gone->id.store(heap_id::none, std::memory_order_relaxed);
        }
    }
    if (gone != nullptr) {
        page_chain pages_gone;
        std::uint32_t const count = gone->lane_count.load(std::memory_order_relaxed);
        for (std::uint32_t i = 0; i < count; ++i) {
            heap_lane& lane = *gone->lanes[i].load(std::memory_order_relaxed);
            {
                lane_guard const guard{lane.mutex};
                detach_lane(lane, pages_gone);
            }
            process.lanes.push(process.idle_lanes, lane);
        }
        pages_gone.hide();
        pages_gone.give_back();
        gone->unpin();
    }
    // release: a free that sees the count go has seen what the page map says of its block.
    process.destructions.fetch_sub(1, std::memory_order_release);
    return gone != nullptr;
}

bool set_heap_limit(heap_id id, std::size_t bytes) noexcept {
    user_heap* const of = find_heap(id);
    if (of == nullptr || !of->pin(id)) {
        return false;
    }
    of->limit_bytes.store(bytes, std::memory_order_relaxed);
    of->unpin();
    return true;
}

user_heap_figures measure_heap(user_heap const& of) noexcept {
    user_heap_figures result;
    heap_id const id = of.id.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < of.name.size(); ++i) {
        result.name[i] = of.name[i].load(std::memory_order_relaxed);
    }
    result.held_bytes = of.held_bytes.load(std::memory_order_relaxed);
    result.held_peak_bytes = of.held_peak_bytes.load(std::memory_order_relaxed);
    result.limit_bytes = of.limit_bytes.load(std::memory_order_relaxed);
    result.refusals = of.refusals.load(std::memory_order_relaxed);
    result.numa_node = of.numa_node.load(std::memory_order_relaxed);
    result.lanes = of.lane_count.load(std::memory_order_acquire);
    for (std::uint32_t i = 0; i < result.lanes; ++i) {
        heap_lane const& lane = *of.lanes[i].load(std::memory_order_relaxed);
        lane_totals const totals = totals_of(lane);
        result.live_blocks += totals.live_blocks;
        result.live_bytes += totals.small_bytes + lane.large_bytes.get();
        result.pages += lane.pages.get();
        result.allocations += allocations_of(lane) - lane.allocations_before.get();
    }
    result.metadata_bytes =
        sizeof(user_heap) + result.lanes * sizeof(heap_lane) + result.pages * sizeof(page);
    // Destroyed meanwhile: these are the figures of several heaps.
    result.id = of.id.load(std::memory_order_acquire) == id ? id : heap_id::none;
    return result;
}

trimmed_bytes trim_heaps(heap_id id, trim_depth depth) noexcept {
    trimmed_bytes bytes;
    auto const trim = [&bytes, depth](user_heap const& of, heap_id id_of_it) {
        page_chain gone;
        for_each_lane(of, id_of_it, [&bytes, &gone, depth](heap_lane& lane) {
            for (lane_class& of_class : lane.classes) {
                page* next = nullptr;
                for (page* each = of_class.partial.front(); each != nullptr; each = next) {
                    next = each->list_next;
                    if (each->out.get() == 0) {
                        bytes.pages += each->bytes();
                        leave_lane(lane, *each);
                        gone.push(*each);
                    } else if (depth == trim_depth::os_pages) {
                        bytes.inside += each->purge_inside();
                    }
                }
            }
        });
        gone.give_back();
    };
    if (id != heap_id::any) {
        if (user_heap const* const of = find_heap(id)) {
            trim(*of, id);
        }
    } else {
        process.user_heaps.for_each([&trim](user_heap const& each) {
            heap_id const id_of_it = each.id.load(std::memory_order_acquire);
            if (id_of_it != heap_id::none) {
                trim(each, id_of_it);
            }
        });
    }
    process.purged_inside_bytes.fetch_add(bytes.inside, std::memory_order_relaxed);
    return bytes;
}

bool walk_heap(heap_id id, block_visitor visit, void* context) noexcept {
    if (find_heap(id) == nullptr) {
        return false;
    }
    bool goes_on = true;
    process.descriptors.for_each([&goes_on, id, visit, context](page const& each) {
        if (!goes_on || !each.serves_user_heaps.load(std::memory_order_relaxed)) {
            return;
        }
        sighting const seen = look_at(each);
        if (!page_life::is_in_lane(seen.life) || seen.heap != id) {
            return;
        }
        heap_lane& lane = *seen.lane;
        lane.mutex.lock();
        if (!page_life::is_still(each, seen)) {
            lane.mutex.unlock();
            return;
        }
        page_snapshot const found{each};
        lane.mutex.unlock();
        for (std::size_t index = 0; index < found.made && goes_on; ++index) {
            if (!found.free_blocks.contains(index)) {
                goes_on = visit(found.start + index * found.bytes, found.bytes, context);
            }
        }
    });
    return true;
}

bool is_destroying_heap() noexcept {
    // acquire: pairs with the release in destroy_heap().
    return process.destructions.load(std::memory_order_acquire) != 0;
}

void audit_heap(heap_id id) noexcept {
    user_heap const* const of = find_heap(id);
    TARN_CHECK(of != nullptr);
    std::size_t held_bytes = 0;
    for_each_lane(*of, id, [&held_bytes](heap_lane const& lane) {
        std::uint64_t blocks = 0;
        std::uint64_t bytes = 0;
        std::uint64_t count = 0;
        std::size_t empty_bytes = 0;
        for (unsigned size_class = 0; size_class < sizing::class_count; ++size_class) {
            lane_class const& of_class = lane.classes[size_class];
            for (auto const* list : {&of_class.partial, &of_class.full}) {
                for (page const* each = list->front(); each != nullptr; each = each->list_next) {
                    TARN_CHECK(page_life::is_in_lane(each->life.load(std::memory_order_relaxed)));
                    TARN_CHECK(page_of(each->start) == each);
                    TARN_CHECK(each->size_class == size_class);
                    TARN_CHECK(each->lane.load(std::memory_order_relaxed) == &lane);
                    TARN_CHECK(size_class == 0 || each->is_full() == (list != &of_class.partial));
                    auto const live = static_cast<std::uint64_t>(each->out.get());
                    if (size_class != 0) {
                        each->audit();
                        empty_bytes += live == 0 ? each->bytes() : 0;
                    }
                    blocks += live;
                    bytes += live * each->block_bytes.get();
                    held_bytes += held_bytes_of(*each);
                    ++count;
                }
            }
        }
        lane_totals const totals = totals_of(lane);
        TARN_CHECK(totals.live_blocks == blocks);
        TARN_CHECK(totals.small_bytes + lane.large_bytes.get() == bytes);
        TARN_CHECK(lane.pages.get() == count);
        TARN_CHECK(lane.empty_bytes == empty_bytes);
    });
    TARN_CHECK(of->held_bytes.load(std::memory_order_relaxed) == held_bytes);
}

void lock_heaps_for_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    process.heap_making.lock();
    process.lanes.for_each([](heap_lane& each)
                               TARN_NO_THREAD_SAFETY_ANALYSIS { each.mutex.lock_unranked(); });
}

void unlock_heaps_after_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    process.lanes.for_each([](heap_lane& each)
                               TARN_NO_THREAD_SAFETY_ANALYSIS { each.mutex.unlock_unranked(); });
    process.heap_making.unlock();
}

}  // namespace tarn::impl::heap
