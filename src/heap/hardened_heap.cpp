// Mode hardened: how a thread's heap hands out blocks and takes them back. Contracts:
// heap/thread_heap.hpp, heap/block_cache.hpp, heap/hardening.hpp.

#include <algorithm>
#include <cstring>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "heap/hardening.hpp"
#include "heap/process.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

namespace {

__extension__ using wide = unsigned __int128;

constexpr std::size_t no_block = ~std::size_t{0};

/// The number of the block that begins at `ptr` in a page with states; no_block: none that was
/// made.
TARN_HOT std::size_t number_of(page const& home, unsigned size_class, void const* ptr) noexcept {
    std::uint64_t const by = sizing::class_reciprocal(size_class);
    std::uint64_t const offset = base::address_of(ptr) - base::address_of(home.start);
    wide const product = static_cast<wide>(offset) * by;
    auto const number = static_cast<std::size_t>(product >> 64);
    bool const is_start = static_cast<std::uint64_t>(product) < by;
    return is_start && number < static_cast<std::uint32_t>(home.capacity.get()) ? number : no_block;
}

/// Clears a block but for the words that link it.
TARN_NOINLINE void clear_freed(void* ptr, std::size_t bytes) noexcept {
    std::memset(static_cast<std::byte*>(ptr) + sizeof(sealed_block), 0,
                bytes - sizeof(sealed_block));
}

/// Whether a block that was cleared still is, as far as that is cheap to see: 64 bytes, and the
/// last.
TARN_NOINLINE bool is_clear(block const* freed, std::size_t bytes) noexcept {
    constexpr std::size_t looked_at = 64 + sizeof(sealed_block);
    auto const* const start = reinterpret_cast<std::byte const*>(freed);
    std::uint64_t found = 0;
    auto const look = [start, &found](std::size_t at) {
        std::uint64_t word = 0;
        std::memcpy(&word, start + at, sizeof word);
        found |= word;
    };
    for (std::size_t at = sizeof(sealed_block); at < std::min(bytes, looked_at); at += 8) {
        look(at);
    }
    if (bytes > looked_at) {
        look(bytes - 8);
    }
    return found == 0;
}

/// A block that is handed out is live from here on.
TARN_HOT void* mark_live(block* at, block_state& state, std::size_t block_bytes,
                         std::size_t requested, std::uint64_t mixed) noexcept {
    std::size_t const slack = block_bytes - requested;
    std::byte* const end = reinterpret_cast<std::byte*>(at) + block_bytes;
    std::uint64_t const canary = canary_of_mixed(mixed);
    if (slack <= short_slack_max) [[likely]] {
        state.store(static_cast<std::uint8_t>(state_live + slack), std::memory_order_relaxed);
        write_short_canary(end, canary);
    } else {
        state.store(state_for(slack), std::memory_order_relaxed);
        fill_long_slack(end, canary, slack);
    }
    return at;
}

/// Whether a block that waits in a cache is as it was left.
bool is_whole_in_cache(cached_block const& each, std::size_t block_bytes) noexcept {
    return each.state->load(std::memory_order_relaxed) == state_free &&
           is_sealed_alone(each.at, mix(each.at)) &&
           (!hardening.zero_on_free || is_clear(each.at, block_bytes));
}

}  // namespace

/// Takes the first block off a list. Null: it is not as it was left, and nothing changed.
block_state* thread_heap::try_unlink(slot& from, unsigned size_class) noexcept {
    block* const head = from.head;
    page& home = *from.current;
    std::size_t const number = number_of(home, size_class, head);
    if (number == no_block || !is_whole(head)) {
        return nullptr;
    }
    block_state& state = home.states.get()[number];
    if (state.load(std::memory_order_relaxed) != state_free) {
        return nullptr;
    }
    from.head = read_link(head);
    return &state;
}

/// A request of the cache. `slow`: what to jump to where it is no common case.
template <class Slow>
TARN_HOT void* thread_heap::allocate_cached(std::size_t bytes, Slow slow) noexcept {
    unsigned const size_class = hardened_class_of(bytes);
    block_cache* const own = cache();
    if (own == nullptr) [[unlikely]] {
        return slow(bytes, this);
    }
    cache_room& room = own->room(size_class);
    if (!room.has_enough()) [[unlikely]] {
        return slow(bytes, this);
    }
    block* const taken = room.top().at;
    block_state& state = *room.top().state;
    std::uint64_t const mixed = mix(taken);
    if (state.load(std::memory_order_relaxed) != state_free || !is_sealed_alone(taken, mixed) ||
        hardening.zero_on_free) [[unlikely]] {
        return slow(bytes, this);
    }
    room.pop();
    __builtin_prefetch(room.entries[room.end.get() - 1].at);
    return mark_live(taken, state, room.block_bytes, bytes, mixed);
}

void* thread_heap::try_allocate_hardened(std::size_t bytes) noexcept {
    return allocate_cached(bytes, [](std::size_t, thread_heap*) -> void* { return nullptr; });
}

void* thread_heap::allocate_checked(unsigned size_class, std::size_t bytes) noexcept {
    // What somebody wrote into may be in more than one list.
    constexpr int tries = 64;
    block_cache* const own = cache();
    for (int i = 0; i < tries; ++i) {
        bool const is_cached = own != nullptr && own->is_open(size_class);
        if (is_cached && (own->room(size_class).has_enough() || fill_cache(size_class))) {
            cache_room& room = own->room(size_class);
            cached_block const top = room.top();
            bool const is_whole = is_whole_in_cache(top, room.block_bytes);
            room.pop();
            if (is_whole) {
                return mark_live(top.at, *top.state, room.block_bytes, bytes, mix(top.at));
            }
            report_damaged(top.at, true, room.block_bytes);
            continue;
        }
        block_state* state = nullptr;
        if (block* const taken = unlink_checked(size_class, state)) {
            return mark_live(taken, *state, sizing::class_bytes(size_class), bytes, mix(taken));
        }
        return nullptr;
    }
    return nullptr;
}

void* thread_heap::allocate_checked_zeroed(unsigned size_class, std::size_t bytes) noexcept {
    block_state* state = nullptr;
    block* const taken = unlink_checked(size_class, state);
    if (taken == nullptr) {
        return nullptr;
    }
    page const* const from = slots()[size_class].current;
    auto* const fresh = static_cast<std::byte*>(
        mark_live(taken, *state, sizing::class_bytes(size_class), bytes, mix(taken)));
    constexpr std::size_t written = 16;  // at either end
    if (from->list_zeroed && bytes > 2 * written) {
        std::size_t const end = std::min(sizing::class_bytes(size_class) - written, bytes);
        std::memset(fresh, 0, written);
        std::memset(fresh + end, 0, bytes - end);
    } else {
        std::memset(fresh, 0, bytes);
    }
    return fresh;
}

void thread_heap::enter_hardened() noexcept {
    if (cache() == nullptr && this != &late_heap) {
        cache_.set(process.caches.allocate());
    }
    if (cache() != nullptr) {
        cache()->begin();
    }
    if (process.options.sample_interval_bytes == 0) {
        for (sample_plan& each : samples_) {
            each.never();
        }
    }
}

/// The next block of the class's list. Null: out of memory.
block* thread_heap::unlink_checked(unsigned size_class, block_state*& state) noexcept {
    constexpr int tries = 64;
    slot& from = slots()[size_class];
    for (int i = 0; i < tries && (from.head != nullptr || refill(size_class)); ++i) {
        block* const head = from.head;
        state = try_unlink(from, size_class);
        if (state != nullptr &&
            (!hardening.zero_on_free || is_clear(head, sizing::class_bytes(size_class)))) {
            return head;
        }
        drop_damaged_list(size_class);
    }
    return nullptr;
}

/// Moves blocks of the list to the cache, so that there is one to be had. False: there is none, or
/// the cache was closed.
bool thread_heap::fill_cache(unsigned size_class) noexcept {
    block_cache& own = *cache();
    cache_room& room = own.room(size_class);
    std::uint32_t const wanted = cache_room_of(size_class) / 2;
    while (room.ready() < wanted) {
        // One refill is enough: large blocks are made one by one, and cost what they touch.
        if (slots()[size_class].head == nullptr && (room.ready() != 0 || !refill(size_class))) {
            break;
        }
        if (!own.is_open(size_class)) {
            return false;
        }
        block* const head = slots()[size_class].head;
        block_state* const state = try_unlink(slots()[size_class], size_class);
        if (state == nullptr) {
            drop_damaged_list(size_class);
            continue;
        }
        seal_alone(head, mix(head));
        room.push({.at = head, .state = state});
    }
    // They are handed out in the order of the list: what follows in memory is soon needed together.
    std::reverse(room.entries + room.delay, room.entries + room.end.get());
    return own.is_open(size_class) && room.ready() != 0;
}

/// Gives blocks of the cache back to their pages, so that no more are left.
void thread_heap::flush_cache(unsigned size_class, std::uint32_t keep) noexcept {
    cache_room& room = cache()->room(size_class);
    auto const give_back = [this, &room](cached_block const& each) {
        if (is_whole_in_cache(each, room.block_bytes)) {
            return_checked(*each.at);
        } else {
            report_damaged(each.at, true, room.block_bytes);
        }
    };
    while (room.ready() > keep) {
        cached_block const each = room.top();
        room.pop();
        give_back(each);
    }
    if (keep == 0) {
        std::uint32_t const waiting = room.count();
        room.placed.set(0);
        for (std::uint32_t i = 0; i < waiting; ++i) {
            give_back(room.entries[i]);
        }
    }
}

/// A block of an allocation list or the cache goes back to its page.
void thread_heap::return_checked(block& freed) noexcept {
    page& home = *pages.find(&freed);
    bump(handed[home.size_class], ~std::uint64_t{0});  // less 1
    if (home.owner.get() != this) {
        free_elsewhere(home, &freed);
    } else if (home.push(&freed)) {
        deallocate_emptied(home, &freed, nullptr);
    }
}

/// A freed block was written to. It is lost: whoever wrote may still.
void thread_heap::report_damaged(block const* freed, bool is_known, std::size_t bytes) noexcept {
    report({.kind = misuse_kind::corruption,
            .operation = "malloc",
            .ptr = freed,
            .block = is_known ? freed : nullptr,
            .block_bytes = bytes});
}

/// The blocks of the list are lost: where it leads, whoever wrote into it knows.
void thread_heap::drop_damaged_list(unsigned size_class) noexcept {
    block* const head = slots()[size_class].head;
    page const& home = *slots()[size_class].current;
    slots()[size_class].head = nullptr;
    std::size_t const number = number_of(home, size_class, head);
    bool const is_free = number != no_block &&
                         home.states.get()[number].load(std::memory_order_relaxed) == state_free;
    report_damaged(head, is_free, home.block_bytes.get());
}

/// Makes so many blocks of a page its allocation list.
void thread_heap::link_sealed(page const& in, std::size_t first, std::size_t count) noexcept {
    std::size_t const bytes = in.block_bytes.get();
    bool const must_clear = hardening.zero_on_free && !in.fresh_zeroed;
    block* list = nullptr;
    for (std::size_t i = count; i-- > 0;) {
        std::byte* const at = in.start + (first + i) * bytes;
        if (must_clear) {
            clear_freed(at, bytes);
        }
        seal(at, list, mix(at));
        list = reinterpret_cast<block*>(at);
    }
    slots()[in.size_class].head = list;
}

/// A free into the cache. `slow`: what to jump to where it is no common case.
template <class Slow>
TARN_HOT auto thread_heap::deallocate_cached(page& home, void* ptr, Slow slow) noexcept {
    unsigned const size_class = home.size_class;
    std::size_t const number = number_of(home, size_class, ptr);
    cache_room& room = cache()->room(size_class);
    if (number == no_block || !room.has_room()) [[unlikely]] {
        return slow(ptr, this);
    }
    if (hardening.zero_on_free) [[unlikely]] {
        return slow(ptr, this);
    }
    block_state& state = home.states.get()[number];
    std::uint64_t const mixed = mix(ptr);
    auto const slack = static_cast<std::size_t>(state.load(std::memory_order_relaxed)) - state_live;
    std::byte const* const end = static_cast<std::byte*>(ptr) + room.block_bytes;
    std::uint64_t const canary = canary_of_mixed(mixed);
    if (slack <= short_slack_max) [[likely]] {
        if (!is_short_canary_whole(end, canary, slack)) [[unlikely]] {
            return slow(ptr, this);
        }
    } else if (slack > slack_in_state_max ||  // or the block is free
               !is_long_canary_whole(end, canary, slack)) [[unlikely]] {
        return slow(ptr, this);
    }
    return finish_deallocation(room, size_class, state, ptr, mixed, slow);
}

/// The block is whole, and there is room for it.
template <class Slow>
TARN_HOT auto thread_heap::finish_deallocation(cache_room& room, unsigned size_class,
                                               block_state& state, void* ptr, std::uint64_t mixed,
                                               Slow slow) noexcept {
    std::uint64_t const now = handed[size_class].load(std::memory_order_relaxed) + 1;
    if (!samples_[size_class].is_far(now)) [[unlikely]] {  // a sample is near
        return slow(ptr, this);
    }
    handed[size_class].store(now, std::memory_order_relaxed);
    state.store(state_free, std::memory_order_relaxed);
    seal_alone(ptr, mixed);
    room.add(static_cast<block*>(ptr), state);
    return static_cast<decltype(slow(ptr, this))>(true);
}

bool thread_heap::try_deallocate_hardened(void* ptr) noexcept {
    page* const home = pages.find(ptr);
    // Whose page it is does not matter where there is one thread.
    if (home == nullptr || cache() == nullptr ||
        (!home->owner.equals(this) && (!home->has_states() || !is_alone()))) {
        return false;
    }
    unsigned const size_class = home->size_class;
    std::size_t const number = number_of(*home, size_class, ptr);
    cache_room& room = cache()->room(size_class);
    if (number == no_block || !room.has_room()) {
        return false;
    }
    block_state& state = home->states.get()[number];
    std::uint8_t const before = state.load(std::memory_order_relaxed);
    if (before == state_free || before > state_noted) {
        return false;
    }
    if (before == state_noted) {
        if (look_at_block(*home, ptr).damage != undamaged) {
            return false;
        }
    } else if (find_damage({.start = static_cast<std::byte*>(ptr),
                            .bytes = room.block_bytes,
                            .requested = room.block_bytes - (before - state_live)}) != undamaged) {
        return false;
    }
    auto const refuse = [](void*, thread_heap*) { return false; };
    if (hardening.zero_on_free && samples_[size_class].is_far(handed_so_far(size_class) + 1)) {
        clear_freed(ptr, room.block_bytes);
    }
    return finish_deallocation(room, size_class, state, ptr, mix(ptr), refuse);
}

bool thread_heap::try_post_hardened(void* ptr) noexcept {
    page* const home = pages.find(ptr);
    if (home == nullptr || cache() == nullptr || !home->has_states() || in_slow_path ||
        process.orphans.load(std::memory_order_relaxed) || home->owner.equals(this)) {
        return false;
    }
    std::size_t const number = number_of(*home, home->size_class, ptr);
    remote_state seen = home->remote.load();
    if (number == no_block || seen.how() == hold::adrift) {
        return false;
    }
    block_state& state = home->states.get()[number];
    std::uint8_t const before = state.load(std::memory_order_relaxed);
    std::size_t const bytes = home->block_bytes.get();
    if (before == state_free || before >= state_noted ||
        find_damage({.start = static_cast<std::byte*>(ptr),
                     .bytes = bytes,
                     .requested = bytes - (before - state_live)}) != undamaged) {
        return false;
    }
    // relaxed: of two that free the block one finds it free; what it writes there, the push orders.
    if (state.exchange(state_free, std::memory_order_relaxed) == state_free) {
        return false;
    }
    if (hardening.zero_on_free) {
        clear_freed(ptr, bytes);
    }
    in_slow_path = true;
    free_elsewhere(*home, ptr);
    in_slow_path = false;
    return true;
}

void* allocate_hardened(std::size_t bytes, thread_heap* heap) noexcept {
    return heap->allocate_cached(bytes, &allocate_hardened_slow);
}

void deallocate_hardened(void* ptr, thread_heap* heap) noexcept {
    page* const home = pages.find(ptr);
    if (home == nullptr || !home->owner.equals(heap) || heap->cache() == nullptr) [[unlikely]] {
        return deallocate_hardened_slow(ptr, heap);
    }
    return heap->deallocate_cached(*home, ptr, &deallocate_hardened_slow);
}

void thread_heap::deallocate_checked(page& home, void* ptr, char const* operation,
                                     void const* caller) noexcept {
    block_facts const facts = look_at_block(home, ptr);
    misuse event{.kind = misuse_kind::double_free,
                 .operation = operation,
                 .ptr = ptr,
                 .block = ptr,
                 .block_bytes = facts.extent.bytes,
                 .caller = caller};
    if (!facts.is_live) {
        return report(event);
    }
    block_state& state = home.states.get()[home.index_of(ptr)];
    bool const claims_first = home.owner.get() != this && facts.damage != undamaged;
    // What looks like damage may be another thread's free of the block, which then claimed it.
    if (claims_first && state.exchange(state_free, std::memory_order_relaxed) == state_free) {
        return report(event);
    }
    if (facts.damage != undamaged) {
        misuse damaged = event;
        damaged.kind = misuse_kind::overflow;
        damaged.block_bytes = facts.extent.requested;
        damaged.count = facts.damage;
        report(damaged);
        if (!claims_first) {
            note_request(home, ptr, facts.extent.requested);  // told once
        }
    }
    unsigned const size_class = home.size_class;
    block_cache* const own = cache();
    if (own != nullptr && own->is_open(size_class) && !own->room(size_class).has_room()) {
        flush_cache(size_class, cache_room_of(size_class) / 2);
    }
    if (!claims_first && may_reuse(size_class) && try_deallocate_hardened(ptr)) {
        return;
    }
    // Not sooner: what was flushed may have made the page this heap's, or taken it away.
    bool const is_own = home.owner.get() == this;
    if (is_own) {
        state.store(state_free, std::memory_order_relaxed);
    } else if (!claims_first &&
               state.exchange(state_free, std::memory_order_relaxed) == state_free) {
        return report(event);  // another thread did at the same time
    }
    if (hardening.zero_on_free) {
        clear_freed(ptr, facts.extent.bytes);
    }
    if (!is_own) {
        free_elsewhere(home, ptr);
        if (is_over_) {
            shed();
        }
    } else if (home.push(ptr)) {
        deallocate_emptied(home, ptr, caller);
    }
}

/// Puts the allocation list of a class, and what is cached of it, back into the pages.
void thread_heap::return_checked_list(unsigned size_class) noexcept {
    if (cache() != nullptr) {
        flush_cache(size_class, 0);
    }
    while (slots()[size_class].head != nullptr) {
        block* const head = slots()[size_class].head;
        if (try_unlink(slots()[size_class], size_class) == nullptr) {
            return drop_damaged_list(size_class);
        }
        return_checked(*head);
    }
}

}  // namespace tarn::impl::heap
