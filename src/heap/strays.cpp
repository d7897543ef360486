// Reuse of blocks that do not lie in the page a class allocates from: strays. Contract:
// heap/thread_heap.hpp.

#include <algorithm>
#include <new>

#include "base/check.hpp"
#include "heap/process.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

namespace {

// A thread that is alone also reuses at once what lies in other pages than the one its allocation
// list came from. These strays are few, since each may be all that keeps its page.
constexpr std::size_t stray_bytes_max = 64 * KiB;

constexpr int strays_max(unsigned size_class) noexcept {
    return static_cast<int>(
        std::clamp<std::size_t>(stray_bytes_max / sizing::class_bytes(size_class), 2, 16));
}

}  // namespace

// Frees into a reused page until the next look at the number of strays.
int thread_heap::stray_reuse_budget(unsigned size_class) noexcept {
    std::size_t const blocks =
        sizing::page_blocks(size_class, sizing::class_slices_max(size_class));
    return static_cast<int>(std::clamp<std::size_t>(blocks / 4, 4, 64));
}

/// Frees into an adrift page so that the block is the next one handed out. False: the thread is not
/// alone, or somebody else has the page.
bool thread_heap::try_reuse(page& home, void* ptr) noexcept {
    unsigned const size_class = home.size_class;
    if (!is_alone() || !may_reuse(size_class) || home.remote.load().how() != hold::adrift) {
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
    home.reuse(slots()[size_class].head, stray_reuse_budget(size_class));
    note_mixed_list(size_class);
    static_cast<void>(home.push(ptr));
    keep(home);
    return true;
}

/// Blocks of other pages join the allocation list of the class.
void thread_heap::note_mixed_list(unsigned size_class) noexcept {
    if (page* const current = slots()[size_class].current) {
        current->list_zeroed = false;
    }
}

/// Takes a block of an adrift page into the allocation list. It still counts as outside of
/// its page, as a live block does, so the page is not touched.
bool thread_heap::try_adopt_stray(void* ptr) noexcept {
    page const* const home = is_alone() ? pages.find(ptr) : nullptr;
    if (home == nullptr || home->kind.load(std::memory_order_relaxed) != page_kind::small ||
        !home->starts_block(ptr)) {
        return false;
    }
    unsigned const size_class = home->size_class;
    slot& to = slots()[size_class];
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
    page const* const current = slots()[size_class].current;
    for (int skipped = 0; skipped <= skipped_most; ++skipped) {
        block* const each = *link;
        page const* const home = pages.find(each);
        if (home == nullptr || home->size_class != size_class || !home->starts_block(each)) {
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
    page const* const home = slots()[size_class].current;
    int const most = strays_max(size_class);
    int strays = 0;
    block const* each = slots()[size_class].head;
    for (int i = 0; i < 2 * most && each != nullptr && strays <= most; ++i, each = each->next) {
        strays += pages.find(each) != home ? 1 : 0;
    }
    return strays > most;
}

/// A reused page has come to the end of its budget.
void thread_heap::look_at_strays(page& home) noexcept {
    unsigned const size_class = home.size_class;
    if (&home == slots()[size_class].current) {
        end_countdown(home);
        return;
    }
    bump(handed[size_class], static_cast<std::uint64_t>(home.reused()));
    home.begin_countdown_again();
    if (!may_reuse(size_class)) {
        return;
    }
    if (!is_alone() || has_many_strays(size_class)) {
        send_strays_home(size_class);
    }
}

/// More is freed than allocated: the topmost strays go to their pages, and these are not reused.
void thread_heap::send_strays_home(unsigned size_class) noexcept {
    stray_room_[size_class] = 0;
    int const most = 4 * stray_reuse_budget(size_class);
    int const skipped_most = 2 * strays_max(size_class);
    block** link = &slots()[size_class].head;
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
    bool const is_current = slots()[home.size_class].current == &home;
    if (!is_current && home.counts_down()) {
        full_[home.size_class].remove(home);
        kept_[home.size_class].push_front(home);
    }
    end_countdown(home);
    if (home.push(&stray)) {
        page_emptied(home);
    }
}

/// Puts the allocation list of a class, and what is cached of it, back into the pages.
void thread_heap::return_list(unsigned size_class) noexcept {
    if (cache() != nullptr) {
        flush_cache(size_class, 0);
    }
    while (block* const head = slots()[size_class].head) {
        slots()[size_class].head = head->next;
        send_home(*head);
    }
}

}  // namespace tarn::impl::heap
