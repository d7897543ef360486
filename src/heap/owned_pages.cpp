// The pages that a heap owns, and when it parts with them. Contract: heap/thread_heap.hpp.

#include <algorithm>
#include <utility>

#include "base/check.hpp"
#include "heap/process.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

namespace {

// Larger blocks are not reused from the moment their page is full: calloc could not tell which of
// them are zero, and what it need not clear may stay untouched.
constexpr std::size_t reused_when_full_max = 2 * KiB;

// A page may fill, be freed into by the thread that left it, and fill again. It then stays with its
// owner, and is offered again only after so many frees.
int rest_frees(page const& full) noexcept { return std::clamp(full.reserved.get() / 8, 1, 32); }

}  // namespace

/// Keeps a full page whose blocks this thread will probably free: it is alone, or the page had left
/// it before and came back. False: the page is to leave.
bool thread_heap::try_keep_full(page& full) noexcept {
    bool const would_reuse = is_alone() && full.block_bytes.get() <= reused_when_full_max &&
                             kept_bytes_ < kept_bytes_max() && may_reuse(full.size_class);
    if (would_reuse && hardening.on) {
        full.rest(rest_frees(full));
    } else if (would_reuse) {
        full.reuse(slots()[full.size_class].head, stray_reuse_budget(full.size_class));
    } else if (full.left_by == self_index && self_index != base::node_index::none) {
        full.rest(rest_frees(full));
    } else {
        return false;
    }
    account(full);
    keep(full);
    return true;
}

/// What is freed into a page of this class waits there.
void thread_heap::end_reuse(unsigned size_class) noexcept {
    if (block_cache* const own = cache()) {
        return own->close(size_class);
    }
    stray_room_[size_class] = 0;
    for (page* each = full_[size_class].front(); each != nullptr; each = each->list_next) {
        if (each->is_reused()) {
            end_countdown(*each);
            each->rest(rest_frees(*each));
        }
    }
}

/// What rests, since then or anyhow, is reused.
void thread_heap::resume_reuse(unsigned size_class) noexcept {
    if (block_cache* const own = cache()) {
        if (size_class != 0) {  // large blocks are not cached
            own->open(size_class);
            allow_frees(size_class);
        }
        return;
    }
    if (!is_alone() || hardening.on || sizing::class_bytes(size_class) > reused_when_full_max) {
        return;
    }
    for (page* each = full_[size_class].front(); each != nullptr; each = each->list_next) {
        if (!each->is_reused()) {
            each->end_countdown();
            each->reuse(slots()[size_class].head, stray_reuse_budget(size_class));
        }
    }
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
        if (!full->has_free() && !is_shared) {
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
        if (full->has_free() || !leave_full(*full)) {  // a double free may have left nothing
            return full;                               // not to be looked at after it left
        }
    }
    return nullptr;
}

/// What one thread may hold, where all together may hold so much; a little in any case.
std::size_t thread_heap::share_of(std::size_t all_threads) noexcept {
    all_threads =
        all_threads / 1000 * (1000 - process.cache_cut_thousandths.load(std::memory_order_relaxed));
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
    page*& current = slots()[size_class].current;
    current_bytes_ -= current != nullptr ? current->bytes() : 0;
    current = next;
    current_bytes_ += current != nullptr ? current->bytes() : 0;
    if (hardening.on && next != nullptr) [[unlikely]] {
        // Who knows what was freed last does not know what is handed out next.
        cursors_[size_class] =
            random_.next() % static_cast<std::size_t>(std::max(next->capacity.get(), 1));
    }
}

/// A thread that only frees any more would hold a page of each class it ever used. So, while the
/// heap owns more than it may, it parts with the pages of classes, in turn, that had no refill
/// since their last turn.
void thread_heap::shed() noexcept {
    constexpr int looks = 8;
    is_over_ = false;
    for (int i = 0; i < looks && kept_bytes_ + current_bytes_ > owned_bytes_max(); ++i) {
        shed_next_ = shed_next_ + 1 < sizing::class_count ? shed_next_ + 1 : 1;
        page* const last = slots()[shed_next_].current;
        if (std::exchange(is_in_use_[shed_next_], false) || last == nullptr) {
            continue;
        }
        return_list(shed_next_);
        set_current(shed_next_, nullptr);
        dispose(*last);
        return;
    }
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
        part_with_empty(owned);
    } else {
        put_in_bin(owned);
    }
}

/// The same with one that has no live blocks and is accounted for. In mode hardened its guard goes
/// with its memory, and where there are several threads that interrupts them all: so it goes to its
/// bin, from where it is taken again, or swept.
void thread_heap::part_with_empty(page& owned) noexcept {
    if (hardening.on && !is_alone()) [[unlikely]] {
        put_in_bin(owned);
    } else {
        release_page(owned);
    }
}

/// An owned page has no live block any more. One per class is kept, within a cap.
void thread_heap::page_emptied(page& home) noexcept {
    account(home);
    if (slots()[home.size_class].current == &home) {
        return;
    }
    auto& kept = kept_[home.size_class];
    kept_empty_bytes_ += home.bytes();  // so that drop() finds it as it is
    page const* const last = kept.back();
    // A page costs two system calls in mode hardened: rather more of a class than other classes'.
    bool const has_empty = last != &home && last->outside() == 0 && !hardening.on;
    if (has_empty ||
        kept_empty_bytes_ > std::min(process.options.thread_empty_bytes, kept_bytes_max() / 4)) {
        drop(home);
        part_with_empty(home);
    } else {
        kept.remove(home);
        kept.push_back(home);
    }
}

/// Of a page that this heap has taken, only whether it is back from here matters.
void thread_heap::forget_who_left(page& taken) const noexcept {
    if (taken.left_by != self_index) {
        taken.left_by = base::node_index::none;
    }
}

void thread_heap::leave() noexcept {
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        return_list(size_class);
        if (page* const last = slots()[size_class].current) {
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
        if (page* const last = slots()[size_class].current) {
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
        if (page* const last = slots()[size_class].current) {
            bytes += last->purge_inside();
        }
    }
    return bytes;
}

void thread_heap::forget() noexcept {
    (hardening.on ? hidden_ : slots_) = {};
    if (cache() != nullptr) {
        cache()->begin(!hardening.zero_on_free);
    }
    stray_room_ = {};
    samples_ = {};
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

void thread_heap::audit() const noexcept {
    std::size_t current_bytes = 0;
    std::size_t kept_bytes = 0;
    std::size_t kept_empty_bytes = 0;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        page const* const last = slots()[size_class].current;
        int own = 0;
        for (block const* at = slots()[size_class].head; at != nullptr; at = read_link(at)) {
            page const* const home = pages.find(at);
            TARN_CHECK(home != nullptr && home->starts_block(at));
            TARN_CHECK(is_whole(at));
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
