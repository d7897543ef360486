// Blocks of user heaps: allocation, free, resizing. Contract: heap/user_heap.hpp.

#include <algorithm>
#include <new>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "heap/process.hpp"
#include "heap/user_heap.hpp"
#include "heap/user_lanes.hpp"

namespace tarn::impl::heap {

using platform::os;
using sizing::slice_bytes;

sighting look_at(page const& home) noexcept { return page_life::look<heap_lane, heap_id>(home); }

namespace {

using lane_guard = base::lock_guard<decltype(heap_lane::mutex)>;

// What a lane keeps of pages without live blocks, beside one per class.
constexpr std::size_t empty_bytes_max = 1 * MiB;

/// A block of a page that is in the lane's partial list. start null: the budget refuses what its
/// free blocks gave back.
run_block take_block(heap_lane& lane, page& from) noexcept {
    std::size_t const bytes = from.block_bytes.get();
    run_block got{.home = &from};
    if (from.local == nullptr) {
        static_cast<void>(from.relist(from.local, space::allowance::ordinary));
    }
    bool const was_empty = from.out.get() == 0;
    lane_class& of_class = lane.classes[from.size_class];
    if (from.local != nullptr) {
        got.start = from.local;
        from.local = read_link(from.local);
    } else {
        int const made = from.capacity.get();
        if (made == from.reserved.get() ||
            !from.touch(static_cast<std::size_t>(made), 1, space::allowance::ordinary)) {
            return {};
        }
        got.start = from.start + static_cast<std::size_t>(made) * bytes;
        got.zeroed = from.fresh_zeroed;
        from.capacity.set(made + 1);
    }
    from.out.add(1);
    lane.empty_bytes -= was_empty ? from.bytes() : 0;
    if (from.is_full()) {
        of_class.partial.remove(from);
        of_class.full.push_front(from);
    }
    of_class.allocations.add(1);
    return got;
}

/// Pages of a class grow with what a lane has of it.
std::size_t fitting_slices(heap_lane const& lane, unsigned size_class) noexcept {
    return std::clamp<std::size_t>(lane.classes[size_class].slices / 4,
                                   sizing::class_slices_min(size_class),
                                   sizing::class_slices_max(size_class));
}

/// Bytes of a heap's limit, taken for a page that is about to be made.
class charge {
public:
    /// Gives free pages of the heap back where that is what it takes.
    charge(user_heap& of, heap_id id, std::size_t bytes) noexcept
        : of_{of}, id_{id}, bytes_{bytes}, is_pinned_{of.pin(id)} {
        if (!is_pinned_) {
            return;
        }
        is_held_ = of.try_charge(bytes) ||
                   (trim_heaps(id, trim_depth::whole_pages).pages != 0 && of.try_charge(bytes));
        if (!is_held_) {
            of.refusals.fetch_add(1, std::memory_order_relaxed);
        }
    }

    ~charge() {
        if (growth_.bytes != 0 || growth_.handed_bytes != 0) {
            note_growth(growth_);
        }
        if (is_held_) {
            of_.refund(bytes_);
        }
        if (is_pinned_) {
            of_.unpin();
        }
    }

    charge(charge const&) = delete;
    charge& operator=(charge const&) = delete;

    /// False: the limit, or there is no such heap any more.
    explicit operator bool() const noexcept { return is_held_; }

    /// The page enters a lane, and has it from here on. Nothing starts: its heap was destroyed
    /// meanwhile, and so is the page.
    run_block hand_over(run_block made, thread_heap const& caller) noexcept {
        int const node = of_.numa_node.load(std::memory_order_relaxed);
        made.home->prefers_node =
            node != any_node && os::prefer_node(made.home->start, made.home->bytes(), node);
        locked_lane const lane{of_, id_, caller};
        if (!lane) {
            return_page(*made.home, made.kind);
            return {};
        }
        is_held_ = false;
        growth_ = untold_growth(*lane);
        enter_lane(*lane, *made.home, made.kind);
        if (made.kind == page_kind::user) {
            return take_block(*lane, *made.home);
        }
        // Its growth was told before it counted: a walk now, if one is due, finds it.
        growth_.handed_bytes += static_cast<std::int64_t>(made.home->block_bytes.get());
        lane->classes[0].allocations.add(1);
        lane->large_bytes.add(made.home->block_bytes.get());
        return made;
    }

private:
    user_heap& of_;
    heap_id id_;
    std::size_t bytes_;
    bool is_pinned_;
    bool is_held_ = false;
    heap_growth growth_{.bytes = 0, .handed_bytes = 0};
};

/// Calls attempt(), which says null where memory is out, a second time when some was given back.
template <class Attempt>
auto try_twice(thread_heap& caller, Attempt attempt) noexcept {
    auto got = attempt();
    if (got == nullptr) {
        reclaim(caller);
        got = attempt();
    }
    return got;
}

/// A page for blocks, in no lane yet. Null: out of memory.
page* new_page(thread_heap& caller, unsigned size_class, std::size_t slices) noexcept {
    process.space.ask_for_purge();
    space::run memory;
    auto const acquire = [&memory, slices] {
        memory = process.space.acquire(slices, 1, 0, space::run_use::dense);
        return memory.base;
    };
    return try_twice(caller, acquire) == nullptr ? nullptr
                                                 : make_page(memory, size_class, new_user_page());
}

run_block allocate_small_in(thread_heap& caller, user_heap& from, heap_id id,
                            unsigned size_class) noexcept {
    std::size_t slices = 0;
    {
        locked_lane const lane{from, id, caller};
        if (!lane) {
            return {};
        }
        // A page of which all was given back waits for the budget; others may have blocks.
        for (page* each = lane->classes[size_class].partial.front(); each != nullptr;
             each = each->list_next) {
            run_block const got = take_block(*lane, *each);
            if (got.start != nullptr) {
                return got;
            }
        }
        slices = fitting_slices(*lane, size_class);
    }
    // Without the lock: the system may have to be asked.
    charge charged{from, id, slices * slice_bytes};
    page* const fresh = charged ? new_page(caller, size_class, slices) : nullptr;
    return fresh == nullptr ? run_block{}
                            : charged.hand_over({.home = fresh, .kind = page_kind::user}, caller);
}

run_block allocate_run_in(thread_heap& caller, user_heap& from, heap_id id,
                          run_request wanted) noexcept {
    wanted.bytes = std::max<std::size_t>(wanted.bytes, 1);
    wanted.is_for_user_heap = true;
    charge charged{from, id, base::align_up(wanted.bytes, slice_bytes)};
    run_block got;
    auto const allocate = [&got, wanted] {
        got = try_allocate_run(wanted);
        return got.start;
    };
    return !charged || try_twice(caller, allocate) == nullptr ? run_block{}
                                                              : charged.hand_over(got, caller);
}

/// What a free is told whose page is in no lane any more.
user_free_result without_page() noexcept {
    return {.what = is_destroying_heap() ? user_free::done : user_free::twice};
}

/// Whether a page whose last live block is freed goes: one of each class stays, within a cap.
bool goes_when_empty(heap_lane const& lane, page const& home) noexcept {
    auto const& partial = lane.classes[home.size_class].partial;
    bool const is_only_one =
        partial.empty() || (partial.front() == &home && partial.back() == &home);
    return !is_only_one || lane.empty_bytes + home.bytes() > empty_bytes_max;
}

/// The block goes back to its page, in its lane. `emptied`: the page has left, and is to be given
/// back.
user_free put_back(heap_lane& lane, page& home, void* ptr, page_kind kind, bool& emptied) noexcept {
    lane_class& of_class = lane.classes[home.size_class];
    if (kind != page_kind::user) {
        if (ptr != home.start) {
            return user_free::interior;
        }
        lane.large_bytes.add(0 - home.block_bytes.get());
        emptied = true;
    } else {
        if (!home.starts_block(ptr)) {
            return user_free::interior;
        }
        std::size_t const index = home.index_of(ptr);
        if (ptr == home.local || home.out.get() == 0 ||
            index >= static_cast<std::size_t>(home.capacity.get()) || home.is_unlisted(index)) {
            return user_free::twice;
        }
        if (home.is_full()) {
            of_class.full.remove(home);
            of_class.partial.push_front(home);
        }
        write_link(ptr, home.local);
        home.local = static_cast<block*>(ptr);
        home.out.add(-1);
        if (home.out.get() == 0) {
            emptied = goes_when_empty(lane, home);
            lane.empty_bytes += home.bytes();
        }
    }
    of_class.frees.add(1);
    if (emptied) {
        leave_lane(lane, home);
    }
    return user_free::done;
}

/// The calling thread uses a heap for a moment: a signal handler that allocates there is named.
class visit {
public:
    explicit visit(thread_heap* heap) noexcept
        : heap_{heap->self_index != base::node_index::none && !heap->in_slow_path ? heap
                                                                                  : nullptr} {
        if (heap_ != nullptr) {
            heap_->in_slow_path = true;
        }
    }

    ~visit() {
        if (heap_ != nullptr) {
            heap_->in_slow_path = false;
        }
    }

    visit(visit const&) = delete;
    visit& operator=(visit const&) = delete;

    /// False: the slow path must decide.
    explicit operator bool() const noexcept { return heap_ != nullptr; }

private:
    thread_heap* heap_;
};

}  // namespace

void* allocate_quickly(thread_heap* caller_heap, heap_id id, std::size_t bytes) noexcept {
    visit const inside{caller_heap};
    user_heap* const from = find_heap(id);
    if (!inside || from == nullptr || bytes > sizing::small_max) {
        return nullptr;
    }
    heap_lane* const lane = lane_of(*from, *caller_heap);
    if (lane == nullptr || !lane->mutex.try_lock()) {
        return nullptr;
    }
    void* block = nullptr;
    if (lane->heap.load(std::memory_order_relaxed) == id) {
        if (page* const partial = lane->classes[sizing::class_of(bytes)].partial.front()) {
            block = take_block(*lane, *partial).start;
        }
    }
    lane->mutex.unlock();
    return block;
}

bool deallocate_quickly(thread_heap* caller_heap, void* ptr, heap_id expected) noexcept {
    page* const home = page_of(ptr);
    if (home == nullptr || !home->serves_user_heaps.load(std::memory_order_relaxed)) {
        return false;
    }
    visit const inside{caller_heap};
    sighting const seen = inside ? look_at(*home) : sighting{};
    if (!page_life::is_in_lane(seen.life) || page_of(ptr) != home ||
        (expected != heap_id::any && expected != seen.heap) || !seen.lane->mutex.try_lock()) {
        return false;
    }
    bool done = false;
    if (page_life::is_still(*home, seen) &&
        home->kind.load(std::memory_order_relaxed) == page_kind::user &&
        (home->out.get() > 1 || !goes_when_empty(*seen.lane, *home))) {
        bool emptied = false;
        done = put_back(*seen.lane, *home, ptr, page_kind::user, emptied) == user_free::done;
    }
    seen.lane->mutex.unlock();
    return done;
}

run_block allocate_in(thread_heap& caller, heap_id id, run_request wanted) noexcept {
    user_heap* const from = find_heap(id);
    if (from == nullptr) {
        return {};
    }
    unsigned const size_class = wanted.bytes <= sizing::small_max && wanted.alignment <= slice_bytes
                                    ? sizing::class_of_aligned(wanted.bytes, wanted.alignment)
                                    : 0;
    return size_class != 0 ? allocate_small_in(caller, *from, id, size_class)
                           : allocate_run_in(caller, *from, id, wanted);
}

user_free_result deallocate_in(page& home, void* ptr, heap_id expected) noexcept {
    sighting const seen = look_at(home);
    if (!page_life::is_in_lane(seen.life)) {
        return without_page();
    }
    if (page_of(ptr) != &home) {
        return {};  // the page went, and may serve others: its heap was destroyed
    }
    page_kind kind = page_kind::none;
    bool emptied = false;
    user_free_result result;
    {
        lane_guard const guard{seen.lane->mutex};
        if (!page_life::is_still(home, seen)) {
            bool const is_destroyed = seen.lane->heap.load(std::memory_order_relaxed) != seen.heap;
            return {.what = is_destroyed ? user_free::done : user_free::twice};
        }
        kind = home.kind.load(std::memory_order_relaxed);
        bool const is_one_of_many = kind == page_kind::user;
        result.block = is_one_of_many ? home.block_of(ptr) : home.start;
        result.block_bytes = home.block_bytes.get();
        result.what = expected != heap_id::any && expected != seen.heap
                          ? user_free::other_heap
                          : put_back(*seen.lane, home, ptr, kind, emptied);
    }
    if (emptied) {
        return_page(home, kind);
    }
    return result;
}

bool resize_in_place(page& home, void const* ptr, std::size_t bytes) noexcept {
    sighting const seen = look_at(home);
    if (!page_life::is_in_lane(seen.life) || page_of(ptr) != &home) {
        return false;
    }
    user_heap& of = *heap_record(seen.heap);
    lane_guard const guard{seen.lane->mutex};
    if (!page_life::is_still(home, seen)) {
        return false;
    }
    std::size_t const before = home.block_bytes.get();
    if (home.kind.load(std::memory_order_relaxed) == page_kind::user) {
        return bytes <= before;
    }
    std::size_t const held_before = held_bytes_of(home);
    std::size_t const held_after = base::align_up(bytes, slice_bytes);
    if (home.prefers_node && held_after != held_before) {
        return false;  // what comes would not be of that node, what goes would stay so
    }
    std::size_t const extra = held_after > held_before ? held_after - held_before : 0;
    if (extra != 0 && !of.try_charge(extra)) {
        return false;
    }
    bool const resized = resize_run_in_place(home, bytes);
    of.refund(held_before + extra - held_bytes_of(home));
    seen.lane->large_bytes.add(home.block_bytes.get() - before);
    return resized;
}

heap_id heap_of(page const& home) noexcept {
    return home.serves_user_heaps.load(std::memory_order_relaxed) ? look_at(home).heap
                                                                  : heap_id::none;
}

}  // namespace tarn::impl::heap
