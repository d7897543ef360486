#include "heap/thread_heap.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "heap/process.hpp"

namespace tarn::impl::heap {

namespace {

constexpr std::size_t make_bytes_min = 4 * KiB;   // new blocks per step: touched memory stays
constexpr std::size_t make_bytes_max = 32 * KiB;  // close to what is used

// Frees into the current page that go to the allocation list, since they are in the cache; the
// others wait in the page, where they need not be counted when the thread ends.
constexpr int current_reuse_budget = 256;

// A thread that is alone also reuses at once what lies in other pages than the one its allocation
// list came from. These strays are few, since each may be all that keeps its page.
constexpr std::size_t stray_bytes_max = 64 * KiB;

constexpr int strays_max(unsigned size_class) noexcept {
    return static_cast<int>(
        std::clamp<std::size_t>(stray_bytes_max / sizing::class_bytes(size_class), 2, 16));
}

// Larger blocks are not reused from the moment their page is full: calloc could not tell which of
// them are zero, and what it need not clear may stay untouched.
constexpr std::size_t reused_when_full_max = 2 * KiB;

// Frees into such a page until the next look at their number.
constexpr int stray_reuse_budget(unsigned size_class) noexcept {
    std::size_t const blocks =
        sizing::page_blocks(size_class, sizing::class_slices_max(size_class));
    return static_cast<int>(std::clamp<std::size_t>(blocks / 4, 4, 64));
}

// A page may fill, be freed into by the thread that left it, and fill again. It then stays with its
// owner, and is offered again only after so many frees.
int rest_frees(page const& full) noexcept { return std::clamp(full.reserved / 8, 1, 32); }

// Several threads hold a page of a class each: theirs grow with what the class has, to a quarter of
// a thread's share. One thread may have large pages, since it touches only what it uses of them.
std::size_t fitting_slices(unsigned size_class) noexcept {
    std::size_t const threads = process.active_heaps.load(std::memory_order_relaxed);
    if (threads <= 1) {
        return sizing::class_slices_max(size_class);
    }
    std::size_t const all = process.bins[size_class].slices.load(std::memory_order_relaxed);
    return std::clamp(all / (4 * threads), sizing::class_slices_min(size_class),
                      sizing::class_slices_max(size_class));
}

void bump(std::atomic<std::uint64_t>& counter, std::uint64_t by) noexcept {
    // One writer: no read-modify-write needed.
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

}  // namespace

void* thread_heap::allocate_class(unsigned size_class) noexcept {
    slot& from = slots_[size_class];
    return from.head != nullptr || refill(size_class) ? pop(from) : nullptr;
}

void* thread_heap::allocate_class_zeroed(unsigned size_class, std::size_t bytes) noexcept {
    void* const fresh = allocate_class(size_class);
    if (fresh == nullptr) {
        return nullptr;
    }
    page const* const from = slots_[size_class].current;
    if (from != nullptr && from->list_zeroed && from->reused() == 0) {
        static_cast<block*>(fresh)->next = nullptr;  // the only word that was written
    } else {
        std::memset(fresh, 0, bytes);
    }
    return fresh;
}

/// Gives the class an allocation list: from its current page, else from the next with free blocks.
bool thread_heap::refill(unsigned size_class) noexcept {
    TARN_ASSERT(slots_[size_class].head == nullptr);
    is_in_use_[size_class] = true;
    page* from = slots_[size_class].current;
    if (from != nullptr) {
        end_countdown(*from);
        if (take_list(*from)) {
            return true;
        }
        set_current(size_class, nullptr);  // while the page is sure to be ours
        if (!try_keep_full(*from) && !leave_full(*from)) {
            set_current(size_class, from);
            return take_list(*from);  // blocks came back just now
        }
    }
    from = next_page(size_class);
    if (from == nullptr) {
        return false;
    }
    set_current(size_class, from);
    // A signal handler may fork: the list never has blocks of a page that looks like another's.
    std::atomic_signal_fence(std::memory_order_release);
    bool const taken = take_list(*from);
    TARN_ASSERT(taken);  // pages of kept_ and bins have a free block, fresh ones have all
    TARN_AUDIT(audit());
    return taken;
}

/// Moves the page's free blocks to the allocation list: what the owner freed, else what others
/// freed, else blocks whose memory was given back, else blocks of untouched memory. False: there
/// are none.
bool thread_heap::take_list(page& from) noexcept {
    unsigned const size_class = from.size_class;
    if (static_cast<int>(from.remote.load().count()) > from.outside()) [[unlikely]] {
        from.collect_remote();  // reports the double free and drops the list
    }
    if (from.local != nullptr) {
        slots_[size_class].head = from.local;
        from.local = nullptr;
        int const listed = from.capacity.get() - from.out.get() - from.unlisted();
        count_handed(size_class, listed);
        from.out.set(from.out.get() + listed);
        from.list_zeroed = false;
    } else if (remote_state seen = from.remote.load(); seen.list() != nullptr) {
        do {
            slots_[size_class].head = seen.list();
        } while (!from.remote.try_take(seen));
        count_handed(size_class, static_cast<int>(seen.count()));
        from.list_zeroed = false;
    } else if (int const back = from.relist(slots_[size_class].head); back != 0) {
        from.out.set(from.out.get() + back);
        count_handed(size_class, back);
        from.list_zeroed = false;
    } else if (from.capacity.get() < from.reserved) {
        make_blocks(from);
    } else {
        return false;
    }
    account(from);
    from.reuse(slots_[size_class].head, current_reuse_budget);
    return true;
}

/// From here on what is freed into the page goes to its own list.
void thread_heap::end_countdown(page& from) noexcept {
    int const reused = from.reused();
    bump(handed[from.size_class], static_cast<std::uint64_t>(reused));
    from.list_zeroed = from.list_zeroed && reused == 0;
    from.end_countdown();
}

/// Links the next blocks of untouched memory, in rising order: a few at first, so that a page
/// costs only what is used of it, then as many as were used before.
void thread_heap::make_blocks(page& in) noexcept {
    std::size_t const bytes = in.block_bytes.get();
    int const made = in.capacity.get();
    std::size_t const step =
        std::clamp(static_cast<std::size_t>(made) * bytes, make_bytes_min, make_bytes_max);
    auto const wanted = static_cast<int>(std::max<std::size_t>(step / bytes, 1));
    int const count = std::min(wanted, in.reserved - made);
    in.touch(static_cast<std::size_t>(made), static_cast<std::size_t>(count));
    std::byte* const first = in.start + static_cast<std::size_t>(made) * bytes;
    std::byte* at = first;
    for (int i = 1; i < count; ++i) {
        std::byte* const next = at + bytes;
        ::new (at) block{reinterpret_cast<block*>(next)};
        at = next;
    }
    ::new (at) block{nullptr};
    slots_[in.size_class].head = reinterpret_cast<block*>(first);
    // Where other pages' blocks may join the list, nobody knows which are zero.
    in.list_zeroed = in.fresh_zeroed && full_[in.size_class].empty();
    in.capacity.set(made + count);
    in.out.set(in.out.get() + count);
    count_handed(in.size_class, count);
}

/// Keeps a full page whose blocks this thread will probably free: it is alone, or the page had left
/// it before and came back. False: the page is to leave.
bool thread_heap::try_keep_full(page& full) noexcept {
    if (is_alone() && full.block_bytes.get() <= reused_when_full_max &&
        kept_bytes_ < kept_bytes_max()) {
        full.reuse(slots_[full.size_class].head, stray_reuse_budget(full.size_class));
    } else if (full.left_by == self_index && self_index != base::node_index::none) {
        full.rest(rest_frees(full));
    } else {
        return false;
    }
    account(full);
    keep(full);
    return true;
}

/// A full page leaves its owner. False: others freed blocks into it meanwhile.
bool thread_heap::leave_full(page& full) noexcept {
    TARN_ASSERT(full.is_full());
    account(full);
    full.left_by = self_index;
    // From here on other threads may take the page; the word orders what was written before.
    full.owner.set(nullptr);
    if (full.remote.set_adrift()) {
        return true;
    }
    full.owner.set(this);
    full.left_by = base::node_index::none;
    return false;
}

page* thread_heap::next_page(unsigned size_class) noexcept {
    if (page* const own = kept_[size_class].front()) {
        drop(*own);
        return own;
    }
    if (page* const own = wake_full(size_class)) {
        return own;
    }
    if (page* const shared = pop_bin(size_class)) {
        return shared;
    }
    return fresh_page(size_class);
}

/// Looks for free blocks in the pages that were full, a few at a time, before others are taken.
/// Null: none found.
page* thread_heap::wake_full(unsigned size_class) noexcept {
    constexpr int looks = 4;
    for (int i = 0; i < looks; ++i) {
        page* const full = full_[size_class].back();
        if (full == nullptr) {
            break;
        }
        bool const is_shared = full->remote.load().count() != 0;
        if (full->local == nullptr && !is_shared) {
            full_[size_class].remove(*full);
            full_[size_class].push_front(*full);
            continue;
        }
        drop(*full);
        end_countdown(*full);
        if (is_shared) {
            full->left_by = base::node_index::none;  // others free into it: better adrift
        }
        full->collect_remote();
        if (full->local != nullptr || !leave_full(*full)) {  // a double free may have left nothing
            return full;                                     // not to be looked at after it left
        }
    }
    return nullptr;
}

page* thread_heap::pop_bin(unsigned size_class) noexcept {
    base::node_index const index = process.descriptors.pop(process.bins[size_class].pages);
    if (index == base::node_index::none) {
        return nullptr;
    }
    page& taken = *process.descriptors.at(index);
    taken.owner.set(this);
    forget_who_left(taken);
    taken.collect_remote();
    return &taken;
}

page* thread_heap::fresh_page(unsigned size_class) noexcept {
    std::size_t const slices = fitting_slices(size_class);
    if (process.bins_have_empty.load(std::memory_order_relaxed)) {
        sweep_bins(sweep_scope::bins_with_empty_pages);
    }
    process.space.ask_for_purge();
    space::run memory = process.space.acquire(slices, 1, 0, space::run_use::dense);
    if (memory.base == nullptr) {
        reclaim(*this);
        if (page* const shared = pop_bin(size_class)) {
            return shared;
        }
        memory = process.space.acquire(slices, 1, 0, space::run_use::dense);
        if (memory.base == nullptr) {
            return nullptr;
        }
    }
    page* const fresh = process.descriptors.allocate();
    if (fresh == nullptr) {
        process.space.return_run(memory);
        return nullptr;
    }
    std::size_t const bytes = sizing::class_bytes(size_class);
    fresh->lie_in(memory);
    fresh->purged.set(0);
    fresh->divisor = page::divisor_for(bytes);
    fresh->frees.set(&fresh->local);
    fresh->local = nullptr;
    fresh->out.set(0);
    fresh->capacity.set(0);
    fresh->block_bytes.set(bytes);
    fresh->reserved = static_cast<int>(sizing::page_blocks(size_class, slices));
    fresh->size_class = static_cast<std::uint8_t>(size_class);
    fresh->list_zeroed = false;
    fresh->fresh_zeroed = memory.zeroed;
    fresh->accounted = 0;
    fresh->countdown.set(0);
    fresh->left_by = base::node_index::none;
    fresh->remote.reset(hold::held);
    if (!pages.assign(memory.base, slices, fresh)) {
        process.descriptors.deallocate(*fresh);
        process.space.return_run(memory);
        return nullptr;
    }
    process.bins[size_class].slices.fetch_add(static_cast<std::uint32_t>(slices),
                                              std::memory_order_relaxed);
    fresh->owner.set(this);
    fresh->kind.store(page_kind::small, std::memory_order_relaxed);
    return fresh;
}

/// What one thread may hold, where all together may hold so much; a little in any case.
std::size_t thread_heap::share_of(std::size_t all_threads) noexcept {
    std::size_t const threads =
        std::max<std::size_t>(process.active_heaps.load(std::memory_order_relaxed), 1);
    return std::max(all_threads / threads, all_threads / 64);
}

/// What the heap may keep from others.
std::size_t thread_heap::kept_bytes_max() noexcept {
    return std::min(process.options.thread_cache_bytes, share_of(32 * MiB));
}

/// The same with the pages that it allocates from.
std::size_t thread_heap::owned_bytes_max() noexcept {
    return kept_bytes_max() + share_of(16 * MiB);
}

void thread_heap::set_current(unsigned size_class, page* next) noexcept {
    page*& current = slots_[size_class].current;
    current_bytes_ -= current != nullptr ? current->bytes() : 0;
    current = next;
    current_bytes_ += current != nullptr ? current->bytes() : 0;
}

/// A thread that only frees any more would hold a page of each class it ever used. So, while the
/// heap owns more than it may, it parts with the pages of classes, in turn, that had no refill
/// since their last turn.
void thread_heap::shed() noexcept {
    constexpr int looks = 8;
    is_over_ = false;
    for (int i = 0; i < looks && kept_bytes_ + current_bytes_ > owned_bytes_max(); ++i) {
        shed_next_ = shed_next_ + 1 < sizing::class_count ? shed_next_ + 1 : 1;
        page* const last = slots_[shed_next_].current;
        if (std::exchange(is_in_use_[shed_next_], false) || last == nullptr) {
            continue;
        }
        return_list(shed_next_);
        set_current(shed_next_, nullptr);
        dispose(*last);
        return;
    }
}

/// Whether no other thread has a heap. late_heap is nobody's: whoever has one runs beside it.
bool thread_heap::is_alone() const noexcept {
    return process.active_heaps.load(std::memory_order_relaxed) <= 1 && this != &late_heap;
}

base::intrusive_list<page>& thread_heap::list_of(page const& owned) noexcept {
    return (owned.counts_down() ? full_ : kept_)[owned.size_class];
}

/// Links an owned page, not current, to the heap.
void thread_heap::link(page& owned) noexcept {
    std::size_t const bytes = owned.bytes();
    kept_bytes_ += bytes;
    if (owned.outside() == 0) {
        kept_empty_bytes_ += bytes;
        list_of(owned).push_back(owned);
    } else {
        list_of(owned).push_front(owned);
    }
}

/// Links it, too. Beyond the cap it, or another of its class, goes to where other threads find it.
void thread_heap::keep(page& owned) noexcept {
    link(owned);
    if (!is_alone() && kept_bytes_ > kept_bytes_max()) {
        page* const full = full_[owned.size_class].back();
        page& oldest = full != nullptr ? *full : *kept_[owned.size_class].back();
        drop(oldest);
        dispose(oldest);
        is_over_ = true;
    }
}

/// Takes a page out of the kept ones.
void thread_heap::drop(page& owned) noexcept {
    std::size_t const bytes = owned.bytes();
    list_of(owned).remove(owned);
    kept_bytes_ -= bytes;
    if (owned.outside() == 0) {
        kept_empty_bytes_ -= bytes;
    }
}

/// Parts with an owned, unlinked page: back to the system's side, adrift, or into its bin.
void thread_heap::dispose(page& owned) noexcept {
    end_countdown(owned);
    owned.collect_remote();
    while (owned.is_full()) {
        if (leave_full(owned)) {
            return;
        }
        owned.collect_remote();
    }
    account(owned);
    if (owned.outside() == 0) {
        release_page(owned);
    } else {
        put_in_bin(owned);
    }
}

/// An owned page has no live block any more. One per class is kept, within a cap.
void thread_heap::page_emptied(page& home) noexcept {
    account(home);
    if (slots_[home.size_class].current == &home) {
        return;
    }
    auto& kept = kept_[home.size_class];
    kept_empty_bytes_ += home.bytes();  // so that drop() finds it as it is
    page const* const last = kept.back();
    bool const has_empty = last != &home && last->outside() == 0;
    if (has_empty ||
        kept_empty_bytes_ > std::min(process.options.thread_empty_bytes, kept_bytes_max() / 4)) {
        drop(home);
        release_page(home);
    } else {
        kept.remove(home);
        kept.push_back(home);
    }
}

/// As host_misuse(). The lists are in order: if the report ends the program, a handler of SIGABRT
/// may allocate, as crash reporters do.
void thread_heap::report(misuse const& event) noexcept {
    in_slow_path = false;
    host_misuse(event);
    in_slow_path = true;
}

void thread_heap::deallocate_emptied(page& home, void* ptr, void const* caller) noexcept {
    if (home.is_reused()) {
        look_at_strays(home);
        return;
    }
    if (home.counts_down()) {  // it has rested
        drop(home);
        home.end_countdown();
        link(home);
        return;
    }
    if (home.out.get() < 0) {
        home.rebuild_empty();
        report({.kind = misuse_kind::double_free,
                .operation = "free",
                .ptr = ptr,
                .block = ptr,
                .block_bytes = home.block_bytes.get(),
                .caller = caller});
        return;
    }
    page_emptied(home);
}

void thread_heap::deallocate_found(page& home, void* ptr, void const* caller) noexcept {
    misuse event{.kind = misuse_kind::interior_pointer,
                 .operation = "free",
                 .ptr = ptr,
                 .block = nullptr,
                 .block_bytes = home.block_bytes.get(),
                 .caller = caller};
    if (!home.is_block_start(ptr)) {
        event.block = home.block_of(ptr);
        report(event);
        return;
    }
    unsigned const size_class = home.size_class;
    bool const is_own = home.owner.get() == this;
    if (ptr == (is_own ? *home.frees.get() : home.remote.load().list()) ||
        ptr == slots_[size_class].head) {
        event.kind = misuse_kind::double_free;
        event.block = ptr;
        report(event);
    } else if (is_own) {
        if (home.push(ptr)) {
            deallocate_emptied(home, ptr, caller);
        }
    } else {
        bool const many = is_alone() && has_many_strays(size_class);
        if (many || !try_reuse(home, ptr)) {
            free_elsewhere(home, ptr);
        }
        if (many) {
            send_strays_home(size_class);
        }
        if (is_over_) {
            shed();
        }
    }
}

/// Frees into an adrift page so that the block is the next one handed out. False: the thread is not
/// alone, or somebody else has the page.
bool thread_heap::try_reuse(page& home, void* ptr) noexcept {
    unsigned const size_class = home.size_class;
    if (!is_alone() || home.remote.load().how() != hold::adrift) {
        return false;
    }
    stray_room_[size_class] = strays_max(size_class);
    if (try_adopt_stray(ptr)) {
        return true;
    }
    if (!home.remote.try_claim()) {
        return false;
    }
    home.owner.set(this);
    account(home);
    home.reuse(slots_[size_class].head, stray_reuse_budget(size_class));
    note_mixed_list(size_class);
    static_cast<void>(home.push(ptr));
    keep(home);
    return true;
}

/// Blocks of other pages join the allocation list of the class.
void thread_heap::note_mixed_list(unsigned size_class) noexcept {
    if (page* const current = slots_[size_class].current) {
        current->list_zeroed = false;
    }
}

/// Takes a block of an adrift page into the allocation list. It still counts as outside of
/// its page, as a live block does, so the page is not touched.
bool thread_heap::try_adopt_stray(void* ptr) noexcept {
    page const* const home = is_alone() ? pages.find(ptr) : nullptr;
    if (home == nullptr || home->kind.load(std::memory_order_relaxed) != page_kind::small ||
        !home->is_block_start(ptr)) {
        return false;
    }
    unsigned const size_class = home->size_class;
    slot& to = slots_[size_class];
    if (stray_room_[size_class] <= 0 || ptr == to.head) {
        return false;
    }
    // Rather own the page, within the cap. One that somebody takes meanwhile does no harm.
    if (home->remote.load().how() != hold::adrift || kept_bytes_ < kept_bytes_max()) {
        return false;
    }
    --stray_room_[size_class];
    bump(handed[size_class], 1);
    note_mixed_list(size_class);
    auto* const stray = ::new (ptr) block{to.head};
    std::atomic_signal_fence(std::memory_order_release);
    to.head = stray;
    return true;
}

block* thread_heap::take_stray(unsigned size_class, block**& link, int skipped_most) noexcept {
    page const* const current = slots_[size_class].current;
    for (int skipped = 0; skipped <= skipped_most; ++skipped) {
        block* const each = *link;
        page const* const home = pages.find(each);
        if (home == nullptr || home->size_class != size_class || !home->is_block_start(each)) {
            break;  // the end, or the program wrote into a block that it had freed
        }
        if (home != current) {
            *link = each->next;
            return each;
        }
        link = &each->next;
    }
    return nullptr;
}

/// Looks at the top of the allocation list, where strays are.
bool thread_heap::has_many_strays(unsigned size_class) const noexcept {
    page const* const home = slots_[size_class].current;
    int const most = strays_max(size_class);
    int strays = 0;
    block const* each = slots_[size_class].head;
    for (int i = 0; i < 2 * most && each != nullptr && strays <= most; ++i, each = each->next) {
        strays += pages.find(each) != home ? 1 : 0;
    }
    return strays > most;
}

/// A reused page has come to the end of its budget.
void thread_heap::look_at_strays(page& home) noexcept {
    unsigned const size_class = home.size_class;
    if (&home == slots_[size_class].current) {
        end_countdown(home);
        return;
    }
    bump(handed[size_class], static_cast<std::uint64_t>(home.reused()));
    home.out.set(home.countdown.get());
    if (!is_alone() || has_many_strays(size_class)) {
        send_strays_home(size_class);
    }
}

/// More is freed than allocated: the topmost strays go to their pages, and these are not reused.
void thread_heap::send_strays_home(unsigned size_class) noexcept {
    stray_room_[size_class] = 0;
    int const most = 4 * stray_reuse_budget(size_class);
    int const skipped_most = 2 * strays_max(size_class);
    block** link = &slots_[size_class].head;
    for (int i = 0; i < most; ++i) {
        block* const stray = take_stray(size_class, link, skipped_most);
        if (stray == nullptr) {
            return;
        }
        send_home(*stray);
    }
}

/// Frees a block that was just unlinked from an allocation list.
void thread_heap::send_home(block& stray) noexcept {
    page& home = *pages.find(&stray);
    bool const is_own = home.owner.get() == this;
    bump(handed[home.size_class], ~std::uint64_t{0});  // less 1
    if (!is_own) {
        free_elsewhere(home, &stray);
        return;
    }
    bool const is_current = slots_[home.size_class].current == &home;
    if (!is_current && home.counts_down()) {
        full_[home.size_class].remove(home);
        kept_[home.size_class].push_front(home);
    }
    end_countdown(home);
    if (home.push(&stray)) {
        page_emptied(home);
    }
}

/// Of a page that this heap has taken, only whether it is back from here matters.
void thread_heap::forget_who_left(page& taken) const noexcept {
    if (taken.left_by != self_index) {
        taken.left_by = base::node_index::none;
    }
}

/// Frees into a page that is not this heap's: takes an adrift page over, else posts the block.
void thread_heap::free_elsewhere(page& home, void* ptr) noexcept {
    unsigned const size_class = home.size_class;
    remote_state seen = home.remote.load();
    for (;;) {
        if (seen.how() == hold::adrift) {
            if (home.remote.try_claim()) {
                home.owner.set(this);
                forget_who_left(home);
                bool const empty = home.push(ptr);
                account(home);
                if (empty) {
                    release_page(home);
                } else {
                    keep(home);
                }
                return;
            }
            seen = home.remote.load();
        } else if (home.remote.try_push(seen, static_cast<block*>(ptr))) {
            break;
        }
    }
    bump(cross_thread_frees, 1);
    // From here on the page may be gone: its descriptor stays readable, and this is but a hint.
    if (seen.how() == hold::binned && static_cast<int>(seen.count()) + 1 == home.out.get()) {
        hint_at_empty_page(size_class);
    }
}

/// Puts the allocation list of a class back into the pages that its blocks came from.
void thread_heap::return_list(unsigned size_class) noexcept {
    while (block* const head = slots_[size_class].head) {
        slots_[size_class].head = head->next;
        send_home(*head);
    }
}

void thread_heap::leave() noexcept {
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        return_list(size_class);
        if (page* const last = slots_[size_class].current) {
            set_current(size_class, nullptr);
            dispose(*last);
        }
        for (auto* list : {&kept_[size_class], &full_[size_class]}) {
            while (page* const own = list->front()) {
                drop(*own);
                dispose(*own);
            }
        }
    }
    TARN_ASSERT(kept_bytes_ == 0);
    TARN_ASSERT(current_bytes_ == 0);
    TARN_ASSERT(kept_empty_bytes_ == 0);
    tell_growth();
}

void thread_heap::collect() noexcept {
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        return_list(size_class);
        while (page* const full = full_[size_class].front()) {
            drop(*full);
            dispose(*full);
        }
        page* next = nullptr;
        for (page* own = kept_[size_class].front(); own != nullptr; own = next) {
            next = own->list_next;
            drop(*own);
            own->collect_remote();
            if (own->outside() == 0) {
                account(*own);
                release_page(*own);
            } else {
                link(*own);
            }
        }
        if (page* const last = slots_[size_class].current) {
            end_countdown(*last);
            last->collect_remote();
            if (last->outside() == 0) {
                set_current(size_class, nullptr);
                account(*last);
                release_page(*last);
            }
        }
    }
}

std::size_t thread_heap::trim() noexcept {
    collect();
    std::size_t bytes = 0;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        for (page* own = kept_[size_class].front(); own != nullptr; own = own->list_next) {
            bytes += own->purge_inside();
        }
        if (page* const last = slots_[size_class].current) {
            bytes += last->purge_inside();
        }
    }
    return bytes;
}

void thread_heap::forget() noexcept {
    slots_ = {};
    stray_room_ = {};
    kept_ = {};
    full_ = {};
    current_bytes_ = 0;
    kept_bytes_ = 0;
    kept_empty_bytes_ = 0;
    growth_bytes_ = 0;
    handed_bytes_ = 0;
    is_in_use_ = {};
    is_over_ = false;
    in_slow_path = false;
}

void thread_heap::account(page& owned) noexcept {
    int const outside = owned.outside();
    std::int64_t const change = outside - owned.accounted;
    owned.accounted = outside;
    growth_bytes_ += change * static_cast<std::int64_t>(owned.block_bytes.get());
    if (growth_bytes_ >= growth_step_bytes || growth_bytes_ <= -growth_step_bytes ||
        handed_bytes_ >= 4 * growth_step_bytes) {
        tell_growth();
    }
}

void thread_heap::tell_growth() noexcept {
    note_growth({.bytes = growth_bytes_, .handed_bytes = handed_bytes_});
    growth_bytes_ = 0;
    handed_bytes_ = 0;
}

void thread_heap::count_handed(unsigned size_class, int blocks) noexcept {
    handed_bytes_ += blocks * static_cast<std::int64_t>(sizing::class_bytes(size_class));
    bump(handed[size_class], static_cast<std::uint64_t>(static_cast<std::int64_t>(blocks)));
}

std::size_t thread_heap::listed(unsigned size_class) const noexcept {
    std::size_t count = 0;
    for (block const* at = slots_[size_class].head; at != nullptr; at = at->next) {
        ++count;
    }
    return count;
}

void thread_heap::audit() const noexcept {
    std::size_t current_bytes = 0;
    std::size_t kept_bytes = 0;
    std::size_t kept_empty_bytes = 0;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        page const* const last = slots_[size_class].current;
        int own = 0;
        for (block const* at = slots_[size_class].head; at != nullptr; at = at->next) {
            page const* const home = pages.find(at);
            TARN_CHECK(home != nullptr && home->is_block_start(at));
            TARN_CHECK(home->size_class == size_class);
            own += home == last ? 1 : 0;
        }
        if (last != nullptr) {
            TARN_CHECK(last->owner.get() == this);
            TARN_CHECK(last->size_class == size_class);
            last->audit();
            TARN_CHECK(own <= last->outside());
            current_bytes += last->bytes();
        }
        for (auto const* list : {&kept_[size_class], &full_[size_class]}) {
            for (page const* each = list->front(); each != nullptr; each = each->list_next) {
                TARN_CHECK(each->owner.get() == this);
                TARN_CHECK(each != last);
                TARN_CHECK(each->counts_down() == (list == &full_[size_class]));
                each->audit();
                kept_bytes += each->bytes();
                kept_empty_bytes += each->outside() == 0 ? each->bytes() : 0;
            }
        }
    }
    TARN_CHECK(current_bytes == current_bytes_);
    TARN_CHECK(kept_bytes == kept_bytes_);
    TARN_CHECK(kept_empty_bytes == kept_empty_bytes_);
}

}  // namespace tarn::impl::heap
