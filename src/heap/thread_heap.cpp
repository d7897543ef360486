#include "heap/thread_heap.hpp"

#include <algorithm>
#include <cstring>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "heap/guarded_page.hpp"
#include "heap/hardening.hpp"
#include "heap/process.hpp"

namespace tarn::impl::heap {

namespace {

constexpr std::size_t make_bytes_min = 4 * KiB;   // new blocks per step: touched memory stays
constexpr std::size_t make_bytes_max = 32 * KiB;  // close to what is used

// Frees into the current page that go to the allocation list, since they are in the cache; the
// others wait in the page, where they need not be counted when the thread ends.
constexpr int current_reuse_budget = 256;

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

/// While each block counts, a refill hands out what was freed since the last one: that costs a lot
/// where pages have few blocks.
sample_rate rate_of(unsigned size_class) noexcept {
    constexpr std::size_t counted_most = 256;
    constexpr std::uint64_t mean_most = std::uint64_t{1} << 40;
    // Runs, of class 0, are counted one by one.
    std::size_t const bytes = size_class == 0 ? 4 * KiB : sizing::class_bytes(size_class);
    std::uint64_t const mean =
        process.options.sample_interval_bytes / std::min(bytes, counted_most);
    return {.mean = std::clamp<std::uint64_t>(mean, 1, mean_most),
            .near = size_class == 0 ? 1 : std::clamp<std::uint64_t>(4 * KiB / bytes, 4, 32)};
}

}  // namespace

void thread_heap::enter(std::uint32_t thread) noexcept {
    // In mode hardened nobody is to know the order of blocks.
    std::uint64_t const secret = hardening.on ? platform::os::random_bits() : 0;
    random_ = random_source{base::address_of(this) ^ std::uint64_t{thread} << 32 ^ secret};
    if (hardening.on) {
        enter_hardened();
    }
    thread_id.store(thread, std::memory_order_relaxed);
    phase.store(heap_phase::active, std::memory_order_relaxed);
}

void* thread_heap::allocate_class(unsigned size_class) noexcept {
    slot& from = slots()[size_class];
    return from.head != nullptr || refill(size_class) ? pop(from) : nullptr;
}

void* thread_heap::allocate_class_zeroed(unsigned size_class, std::size_t bytes) noexcept {
    void* const fresh = allocate_class(size_class);
    if (fresh == nullptr) {
        return nullptr;
    }
    page const* const from = slots()[size_class].current;
    if (from != nullptr && from->list_zeroed && from->reused() == 0) {
        static_cast<block*>(fresh)->next = nullptr;  // the only word that was written
    } else {
        std::memset(fresh, 0, bytes);
    }
    return fresh;
}

/// Gives the class an allocation list: from its current page, else from the next with free blocks.
bool thread_heap::refill(unsigned size_class) noexcept {
    TARN_ASSERT(slots()[size_class].head == nullptr);
    is_in_use_[size_class] = true;
    page* from = slots()[size_class].current;
    if (from != nullptr) {
        end_countdown(*from);
        if (take_list(*from)) {
            return true;
        }
        set_current(size_class, nullptr);  // while the page is sure to be ours
        if (!from->is_full()) {
            keep(*from);  // the budget refuses what its free blocks gave back
        } else if (!try_keep_full(*from) && !leave_full(*from)) {
            set_current(size_class, from);
            return take_list(*from);  // blocks came back just now
        }
    }
    constexpr int tries = 2;
    for (int i = 0; i < tries; ++i) {
        from = i == 0 ? next_page(size_class) : fresh_page(size_class);
        if (from == nullptr) {
            break;
        }
        set_current(size_class, from);
        // A signal handler may fork: the list never has blocks of a page that looks like another's.
        std::atomic_signal_fence(std::memory_order_release);
        // Pages of kept_ and bins have a free block, fresh ones have all.
        if (take_list(*from)) {
            TARN_AUDIT(audit());
            return true;
        }
        set_current(size_class, nullptr);
        keep(*from);  // as above
        reclaim(*this);
    }
    note_refusal();
    return false;
}

void thread_heap::note_refusal() noexcept {
    may_use_reserve_ = process.space.budget().would_refuse(sizing::grown_page_bytes);
}

/// What a page for this class may take of the hard limit: after a refusal, for small blocks, all.
space::allowance thread_heap::allowance_for(unsigned size_class) noexcept {
    constexpr std::size_t bytes_most = 1 * KiB;
    if (!may_use_reserve_ || sizing::class_bytes(size_class) > bytes_most) [[likely]] {
        return space::allowance::ordinary;
    }
    note_refusal();
    return may_use_reserve_ ? space::allowance::reserve : space::allowance::ordinary;
}

/// Moves the page's free blocks to the allocation list: what the owner freed, else what others
/// freed, else blocks whose memory was given back, else blocks of untouched memory. False: there
/// are none.
bool thread_heap::take_list(page& from) noexcept {
    if (hardening.on) [[unlikely]] {
        return find_free(from);
    }
    unsigned const size_class = from.size_class;
    int listed = 0;
    if (static_cast<int>(from.remote.load().count()) > from.outside()) [[unlikely]] {
        from.collect_remote();  // reports the double free and drops the list
    }
    if (from.local != nullptr) {
        slots()[size_class].head = from.local;
        from.local = nullptr;
        listed = from.capacity.get() - from.out.get() - from.unlisted();
        count_handed(size_class, listed);
        from.out.set(from.out.get() + listed);
        from.list_zeroed = false;
    } else if (remote_state seen = from.remote.load(); seen.list() != nullptr) {
        do {
            slots()[size_class].head = seen.list();
        } while (!from.remote.try_take(seen));
        listed = static_cast<int>(seen.count());
        count_handed(size_class, listed);
        from.list_zeroed = false;
    } else if (listed = from.relist(slots()[size_class].head, allowance_for(size_class));
               listed != 0) {
        from.out.set(from.out.get() + listed);
        count_handed(size_class, listed);
        from.list_zeroed = false;
    } else if (from.capacity.get() == from.reserved.get()) {
        return false;
    } else if (listed = make_blocks(from); listed == 0) {
        return false;
    } else {
        from.out.set(from.out.get() + listed);
        count_handed(size_class, listed);
    }
    sample_plan const& plan = samples_[size_class];
    if (!plan.is_far(handed_so_far(size_class) - static_cast<std::uint64_t>(listed))) [[unlikely]] {
        stop_before_sample(from, listed);
    }
    account(from);
    if (!plan.is_near()) [[likely]] {
        from.reuse(slots()[size_class].head, current_reuse_budget);
    }
    return true;
}

bool thread_heap::is_sample_due(unsigned size_class) const noexcept {
    return samples_[size_class].is_due(handed_so_far(size_class)) &&
           slots()[size_class].head == nullptr;
}

bool thread_heap::is_run_sample_due() noexcept {
    std::uint64_t const allocated = handed_so_far(0);
    sample_plan& plan = samples_[0];
    if (plan.is_far(allocated) || process.options.sample_interval_bytes == 0) [[likely]] {
        return false;
    }
    if (plan.is_new()) {
        plan.begin(allocated, rate_of(0), random_);
    }
    return !plan.is_far(allocated);
}

void thread_heap::note_sample(unsigned size_class) noexcept {
    samples_[size_class].done(handed_so_far(size_class), rate_of(size_class), random_);
    resume_reuse(size_class);
}

/// Whether freed blocks may join the allocation list; false from when a sample is near.
bool thread_heap::may_reuse(unsigned size_class) noexcept {
    sample_plan& plan = samples_[size_class];
    if (plan.allows_reuse(handed_so_far(size_class))) [[likely]] {
        return true;
    }
    if (!plan.is_near()) {
        plan.wait();
        end_reuse(size_class);
    }
    return false;
}

/// Sees to it that the allocation list, just filled, ends where a sample is due.
TARN_COLD void thread_heap::stop_before_sample(page& from, int listed) noexcept {
    int const length = until_sample(from.size_class, listed, listed);
    if (length < listed) {
        shorten_list(from, listed, length);
    }
}

/// How many of so many blocks come before the next sample, at least one; `counted` have been
/// counted as handed out already.
TARN_COLD int thread_heap::until_sample(unsigned size_class, int blocks, int counted) noexcept {
    sample_plan& plan = samples_[size_class];
    if (process.options.sample_interval_bytes == 0) {
        return blocks;
    }
    sample_rate const rate = rate_of(size_class);
    auto const handed_before = [this, size_class, counted] {
        return handed_so_far(size_class) - static_cast<std::uint64_t>(counted);
    };
    if (plan.is_new()) {
        plan.begin(handed_before(), rate, random_);
        if (plan.is_far(handed_before())) {
            return blocks;
        }
    }
    if (!plan.is_near()) {
        plan.wait();
        end_reuse(size_class);
    }
    if (plan.waits()) {
        plan.approach(handed_before(), rate, random_);
    }
    // Above 0 unless the sample that was due could not be made.
    std::uint64_t const ahead = std::max<std::uint64_t>(plan.ahead(handed_before()), 1);
    return static_cast<int>(std::min<std::uint64_t>(ahead, static_cast<std::uint64_t>(blocks)));
}

/// Leaves so many blocks in an allocation list just filled, and gives the others back to the page.
void thread_heap::shorten_list(page& from, int listed, int length) noexcept {
    block* last = slots()[from.size_class].head;
    for (int i = 1; i < length; ++i) {
        block* const next = from.next_in_list(last);
        if (next == nullptr) {
            break;
        }
        last = next;
    }
    from.local = from.next_in_list(last);
    // A signal handler may fork: each block is in a list all the time.
    std::atomic_signal_fence(std::memory_order_release);
    write_link(last, nullptr);
    from.out.set(from.out.get() - (listed - length));
    count_handed(from.size_class, length - listed);
}

/// From here on what is freed into the page goes to its own list.
void thread_heap::end_countdown(page& from) noexcept {
    int const reused = from.reused();
    bump(handed[from.size_class], static_cast<std::uint64_t>(reused));
    from.list_zeroed = from.list_zeroed && reused == 0;
    from.end_countdown();
}

/// Makes the next blocks of untouched memory an allocation list, in rising order: a few at first,
/// so that a page costs only what is used of it, then as many as were used before. Returns their
/// number; 0: out of memory. In mode hardened they are free in the page.
int thread_heap::make_blocks(page& in) noexcept {
    std::size_t const bytes = in.block_bytes.get();
    int const made = in.capacity.get();
    std::size_t const step =
        std::clamp(static_cast<std::size_t>(made) * bytes, make_bytes_min, make_bytes_max);
    auto const wanted = static_cast<int>(std::max<std::size_t>(step / bytes, 1));
    int const count = std::min(wanted, in.reserved.get() - made);
    if (!in.touch(static_cast<std::size_t>(made), static_cast<std::size_t>(count),
                  allowance_for(in.size_class))) {
        return 0;
    }
    if (hardening.on) [[unlikely]] {
        seal_new(in, static_cast<std::size_t>(made), static_cast<std::size_t>(count));
    } else {
        std::byte* const first = in.start + static_cast<std::size_t>(made) * bytes;
        std::byte* at = first;
        for (int i = 1; i < count; ++i) {
            std::byte* const next = at + bytes;
            ::new (at) block{reinterpret_cast<block*>(next)};
            at = next;
        }
        ::new (at) block{nullptr};
        slots()[in.size_class].head = reinterpret_cast<block*>(first);
    }
    // Where other pages' blocks may join the list, nobody knows which are zero.
    in.list_zeroed = in.fresh_zeroed && full_[in.size_class].empty();
    in.capacity.set(made + count);
    return count;
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
    std::size_t slices = fitting_slices(size_class);
    if (hardening.on) [[unlikely]] {
        slices = guarded_slices(size_class, slices);
    }
    if (process.bins_have_empty.load(std::memory_order_relaxed) && may_sweep()) {
        sweep_bins(sweep_scope::bins_with_empty_pages);
    }
    process.space.ask_for_purge();
    space::allowance const wants = allowance_for(size_class);
    space::run memory = process.space.acquire(slices, 1, 0, space::run_use::dense, wants);
    if (memory.base == nullptr) {
        reclaim(*this);
        if (page* const shared = pop_bin(size_class)) {
            return shared;
        }
        memory = process.space.acquire(slices, 1, 0, space::run_use::dense, wants);
        if (memory.base == nullptr) {
            return nullptr;
        }
    }
    page* const fresh = make_page(memory, size_class, process.descriptors.allocate());
    if (fresh == nullptr) {
        return nullptr;
    }
    if (hardening.on && !add_states(*fresh)) [[unlikely]] {
        return nullptr;
    }
    fresh->accounted.set(0);
    fresh->left_by = base::node_index::none;
    process.bins[size_class].slices.fetch_add(static_cast<std::uint32_t>(slices),
                                              std::memory_order_relaxed);
    fresh->owner.set(this);
    fresh->kind.store(page_kind::small, std::memory_order_relaxed);
    return fresh;
}

/// Whether a fresh page is the time to give back what is empty in bins. In mode hardened that is
/// dear, and the next page may be of a class that has one: not each time.
bool thread_heap::may_sweep() noexcept {
    constexpr unsigned fresh_pages = 32;
    return !hardening.on || ++fresh_pages_ % fresh_pages == 0;
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
    if (home.has_states()) {
        return deallocate_checked(home, ptr, "free", caller);
    }
    if (!home.starts_block(ptr)) {
        event.block = home.block_of(ptr);
        report(event);
        return;
    }
    unsigned const size_class = home.size_class;
    bool const is_own = home.owner.get() == this;
    if (ptr == (is_own ? *home.frees.get() : home.remote.load().list()) ||
        ptr == slots()[size_class].head) {
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

/// Frees into a page that is not this heap's: takes an adrift page over, else posts the block. One
/// with a state is away.
void thread_heap::free_elsewhere(page& home, void* ptr) noexcept {
    unsigned const size_class = home.size_class;
    bool const has_states = home.has_states();
    if (has_states) [[unlikely]] {
        seal_alone(ptr, mix(ptr));
        // release: pairs with the acquire in take_free(); the seal is written, and what the program
        // wrote before. From here on the block may be handed out.
        home.states.get()[home.index_of(ptr)].store(state_free, std::memory_order_release);
    }
    remote_state seen = home.remote.load();
    for (;;) {
        if (seen.how() == hold::adrift) {
            if (home.remote.try_claim()) {
                home.owner.set(this);
                forget_who_left(home);
                bool const empty = has_states ? home.out.decrement_to_zero() : home.push(ptr);
                account(home);
                if (empty) {
                    part_with_empty(home);
                } else {
                    keep(home);
                }
                return;
            }
            seen = home.remote.load();
        } else if (has_states ? home.remote.try_post(seen, static_cast<block*>(ptr))
                              : home.remote.try_push(seen, static_cast<block*>(ptr))) {
            break;
        }
    }
    bump(cross_thread_frees, 1);
    // From here on the page may be gone: its descriptor stays readable, and this is but a hint.
    if (seen.how() == hold::binned && static_cast<int>(seen.count()) + 1 == home.out.get()) {
        hint_at_empty_page(size_class);
    }
}

void thread_heap::account(page& owned) noexcept {
    int const outside = owned.outside();
    std::int64_t const change = outside - owned.accounted.get();
    owned.accounted.set(outside);
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
    for (block const* at = head(size_class); at != nullptr; at = read_link(at)) {
        ++count;
    }
    return count + cached(size_class);
}

}  // namespace tarn::impl::heap
