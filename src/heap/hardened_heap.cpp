// Mode hardened: how a thread's heap hands out blocks and takes them back. Contracts:
// heap/thread_heap.hpp, heap/block_cache.hpp, heap/hardening.hpp.

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "base/errno_keeper.hpp"
#include "heap/hardening.hpp"
#include "heap/process.hpp"
#include "heap/slow_path.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

namespace {

__extension__ using wide = unsigned __int128;

constexpr std::size_t no_block = ~std::size_t{0};

/// The number of the block that begins at `ptr` in a page with states, whose class has this
/// reciprocal; no_block: none that was made.
TARN_HOT std::size_t number_of(page const& home, std::uint64_t reciprocal,
                               void const* ptr) noexcept {
    std::uint64_t const offset = base::address_of(ptr) - base::address_of(home.start);
    wide const product = static_cast<wide>(offset) * reciprocal;
    auto const number = static_cast<std::size_t>(product >> 64);
    bool const is_start = static_cast<std::uint64_t>(product) < reciprocal;
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
template <slack_length Slack>
TARN_HOT void* mark_live(block* at, block_state& state, std::size_t block_bytes,
                         std::size_t requested, std::uint64_t mixed) noexcept {
    std::size_t const slack = block_bytes - requested;
    std::byte* const end = reinterpret_cast<std::byte*>(at) + block_bytes;
    std::uint64_t const canary = canary_of_mixed(mixed);
    if constexpr (Slack == slack_length::is_short) {
        state.store(static_cast<std::uint8_t>(state_live + slack), std::memory_order_relaxed);
        write_short_canary(end, canary);
    } else {
        state.store(state_for(slack), std::memory_order_relaxed);
        fill_slack(end, canary, slack);
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
    TARN_ASSERT(head != nullptr);
    page& home = *from.current;
    std::size_t const number = number_of(home, sizing::class_reciprocal(size_class), head);
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
template <slack_length Slack, class Slow>
TARN_HOT void* thread_heap::allocate_cached(std::size_t bytes, Slow slow) noexcept {
    block_cache* const own = cache();
    if (own == nullptr) [[unlikely]] {
        return slow(bytes, this);
    }
    cache_room& room = own->room(hardened_class_of<Slack>(bytes));
    cached_block* const next = room.next();
    if (next == nullptr) [[unlikely]] {
        return slow(bytes, this);
    }
    block* const taken = next->at;
    block_state& state = *next->state;
    std::uint64_t const mixed = mix(taken);
    if (state.load(std::memory_order_relaxed) != state_free || !is_sealed_alone(taken, mixed))
        [[unlikely]] {
        return slow(bytes, this);
    }
    room.top.set(next);
    __builtin_prefetch(next[-1].at);
    return mark_live<Slack>(taken, state, room.block_bytes, bytes, mixed);
}

void* thread_heap::try_allocate_hardened(std::size_t bytes) noexcept {
    auto const refuse = [](std::size_t, thread_heap*) -> void* { return nullptr; };
    return bytes <= sizing::linear_max ? allocate_cached<slack_length::is_short>(bytes, refuse)
                                       : allocate_cached<slack_length::any>(bytes, refuse);
}

void* thread_heap::allocate_checked(unsigned size_class, std::size_t bytes) noexcept {
    // What somebody wrote into may be in more than one list.
    constexpr int tries = 64;
    block_cache* const own = cache();
    for (int i = 0; i < tries; ++i) {
        bool const is_cached = own != nullptr && own->is_open(size_class);
        if (is_cached && (own->room(size_class).ready() != 0 || fill_cache(size_class))) {
            cache_room& room = own->room(size_class);
            cached_block const top = room.last();
            bool const is_whole = is_whole_in_cache(top, room.block_bytes);
            room.pop();
            if (is_whole) {
                return mark_live<slack_length::any>(top.at, *top.state, room.block_bytes, bytes,
                                                    mix(top.at));
            }
            report_damaged(top.at, true, room.block_bytes);
            continue;
        }
        block_state* state = nullptr;
        if (block* const taken = unlink_checked(size_class, state)) {
            return mark_live<slack_length::any>(taken, *state, sizing::class_bytes(size_class),
                                                bytes, mix(taken));
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
    auto* const fresh = static_cast<std::byte*>(mark_live<slack_length::any>(
        taken, *state, sizing::class_bytes(size_class), bytes, mix(taken)));
    // Written were two words in front, and granules from where the slack begins.
    if (from->list_zeroed && bytes > 2 * granule_bytes) {
        std::size_t const end = std::min(sizing::class_bytes(size_class) - granule_bytes,
                                         base::align_down(bytes, granule_bytes));
        std::memset(fresh, 0, sizeof(sealed_block));
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
        cache()->begin(!hardening.zero_on_free);
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
    slot& from = slots()[size_class];
    while (room.ready() < wanted) {
        // One refill is enough: large blocks are made one by one, and cost what they touch.
        if (from.head == nullptr && (room.ready() != 0 || !refill(size_class))) {
            break;
        }
        if (!own.is_open(size_class)) {
            return false;
        }
        block* const head = from.head;
        page const& home = *from.current;
        std::uint64_t const mixed = mix(head);
        std::size_t const number = number_of(home, room.reciprocal, head);
        block_state* const state = home.states.get() + number;
        if (number == no_block || !is_sealed_whole(head, mixed) ||
            state->load(std::memory_order_relaxed) != state_free) {
            drop_damaged_list(size_class);
            continue;
        }
        from.head = unseal(*reinterpret_cast<sealed_block const*>(head), mixed);
        seal_alone(head, mixed);
        room.push({.at = head, .state = state});
    }
    // They are handed out in the order of the list: what follows in memory is soon needed together.
    std::reverse(room.entries + room.delay(), room.top.get());
    return own.is_open(size_class) && room.ready() != 0;
}

/// A block that waited in the cache goes back to its page.
void thread_heap::give_back(cached_block const& each, std::size_t block_bytes) noexcept {
    std::uint64_t const mixed = mix(each.at);
    if (each.state->load(std::memory_order_relaxed) != state_free ||
        !is_sealed_alone(each.at, mixed) ||
        (hardening.zero_on_free && !is_clear(each.at, block_bytes))) [[unlikely]] {
        return report_damaged(each.at, true, block_bytes);
    }
    page& home = *pages.find(each.at);
    bump(handed[home.size_class], ~std::uint64_t{0});  // less 1
    if (home.owner.get() != this) [[unlikely]] {
        return free_elsewhere(home, each.at);
    }
    if (home.push_sealed(each.at, mixed)) [[unlikely]] {
        deallocate_emptied(home, each.at, nullptr);
    }
}

/// Gives blocks of the cache back to their pages, so that no more are left.
void thread_heap::flush_cache(unsigned size_class, std::uint32_t keep) noexcept {
    cache_room& room = cache()->room(size_class);
    while (room.ready() > keep) {
        cached_block const each = room.last();
        room.pop();
        give_back(each, room.block_bytes);
    }
    if (keep == 0) {
        // A copy: a report may lead to a free, which places its block in the ring.
        std::array<cached_block, cache_delay_of(1)> waited;
        std::uint32_t const count = room.waiting();
        for (std::uint32_t i = 0; i < count; ++i) {
            waited[i] = cache()->waiting(size_class, i);
        }
        cache()->clear_waiting(size_class);
        for (std::uint32_t i = 0; i < count; ++i) {
            give_back(waited[i], room.block_bytes);
        }
    }
}

/// Says anew how many blocks free() may place: until the next sample is near.
void thread_heap::allow_frees(unsigned size_class) noexcept {
    if (block_cache* const own = cache()) {
        own->allow(size_class, samples_[size_class].far_for(handed_so_far(size_class)));
    }
}

/// A block of an allocation list goes back to its page.
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
    std::size_t const number = number_of(home, sizing::class_reciprocal(size_class), head);
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
template <slack_length Slack, class Slow>
TARN_HOT void thread_heap::deallocate_cached(block_cache& own, page& home, void* ptr,
                                             Slow slow) noexcept {
    cache_room& room = own.room(home.size_class);
    std::size_t const number = number_of(home, room.reciprocal, ptr);
    if (number == no_block || !room.may_place()) [[unlikely]] {
        return slow(ptr, this);
    }
    block_state& state = home.states.get()[number];
    std::uint64_t const mixed = mix(ptr);
    std::uint8_t const before = state.load(std::memory_order_relaxed);
    std::size_t slack = std::uint32_t{before} - state_live;  // very large: the block is free
    std::byte* const end = static_cast<std::byte*>(ptr) + room.block_bytes;
    std::uint64_t const canary = canary_of_mixed(mixed);
    if constexpr (Slack == slack_length::is_short) {
        if (slack > short_slack_max || !is_short_canary_whole(end, canary, slack)) [[unlikely]] {
            return slow(ptr, this);
        }
    } else {
        if (before == state_noted) [[unlikely]] {
            slack = noted_slack(end, canary);
        }
        if (slack > room.block_bytes || !is_canary_whole(end, canary, slack)) [[unlikely]] {
            return slow(ptr, this);
        }
    }
    state.store(state_free, std::memory_order_relaxed);
    seal_alone(ptr, mixed);
    room.place(static_cast<block*>(ptr), state);
}

bool thread_heap::make_room(unsigned size_class) noexcept {
    if (in_slow_path) {
        return false;  // whoever frees in a handler amid an allocation is to be named
    }
    base::errno_keeper const keeper;
    slow_path const inside{*this, "free", nullptr};
    flush_cache(size_class, cache_room_of(size_class) / 2);
    if (is_over_) {
        shed();
    }
    return true;
}

bool thread_heap::try_deallocate_hardened(void* ptr) noexcept {
    page* home = pages.find(ptr);
    block_cache* const own = cache();
    if (home == nullptr || own == nullptr || !home->has_states()) {
        return false;
    }
    // Whose page it is does not matter where there is one thread.
    if (!home->owner.equals(this) && !is_alone()) {
        return false;
    }
    unsigned const size_class = home->size_class;
    cache_room& room = own->room(size_class);
    if (!own->is_open(size_class) || samples_[size_class].far_for(handed_so_far(size_class)) == 0) {
        return false;
    }
    if (!room.has_room()) {
        if (!make_room(size_class)) {
            return false;
        }
        home = pages.find(ptr);  // it may be gone if `ptr` is no live block, or not ours any more
        if (home == nullptr || !home->has_states() || home->size_class != size_class ||
            (!home->owner.equals(this) && !is_alone())) {
            return false;
        }
        // So may the room: who wraps the system's calls, or gets a report, may free in there.
        if (!own->is_open(size_class) || !room.has_room()) {
            return false;
        }
    }
    std::size_t const number = number_of(*home, room.reciprocal, ptr);
    if (number == no_block) {
        return false;
    }
    block_state& state = home->states.get()[number];
    if (state.load(std::memory_order_relaxed) == state_free ||
        look_at_block(*home, ptr).damage != undamaged) {
        return false;
    }
    if (hardening.zero_on_free) {
        clear_freed(ptr, room.block_bytes);
    }
    state.store(state_free, std::memory_order_relaxed);
    seal_alone(ptr, mix(ptr));
    room.add(static_cast<block*>(ptr), state);
    allow_frees(size_class);
    return true;
}

bool thread_heap::try_post_hardened(void* ptr) noexcept {
    page* const home = pages.find(ptr);
    if (home == nullptr || cache() == nullptr || !home->has_states() || in_slow_path ||
        process.orphans.load(std::memory_order_relaxed) || home->owner.equals(this)) {
        return false;
    }
    std::size_t const number = number_of(*home, sizing::class_reciprocal(home->size_class), ptr);
    if (number == no_block) {
        return false;
    }
    block_state& state = home->states.get()[number];
    if (state.load(std::memory_order_relaxed) == state_free ||
        look_at_block(*home, ptr).damage != undamaged) {
        return false;
    }
    // relaxed: of two that free the block one finds it free; what it writes there, the push orders.
    if (state.exchange(state_free, std::memory_order_relaxed) == state_free) {
        return false;
    }
    if (hardening.zero_on_free) {
        clear_freed(ptr, home->block_bytes.get());
    }
    base::errno_keeper const keeper;
    if (home->remote.load().how() == hold::adrift) {
        slow_path const inside{*this, "free", nullptr};  // a page that comes may send others away
        free_elsewhere(*home, ptr);
        if (is_over_) {
            shed();
        }
        return true;
    }
    in_slow_path = true;
    free_elsewhere(*home, ptr);
    if (is_over_) {
        shed();
    }
    in_slow_path = false;
    return true;
}

namespace {

/// For what is above linear_max bytes.
TARN_NOINLINE void* allocate_hardened_geometric(std::size_t bytes, thread_heap* heap) noexcept {
    return heap->allocate_cached<slack_length::any>(bytes, &allocate_hardened_slow);
}

/// For classes above linear_max.
TARN_NOINLINE void deallocate_hardened_geometric(void* ptr, thread_heap* heap,
                                                 page* home) noexcept {
    return heap->deallocate_cached<slack_length::any>(*heap->cache(), *home, ptr,
                                                      &deallocate_hardened_slow);
}

/// For another heap's page, or nobody's.
TARN_NOINLINE void deallocate_hardened_elsewhere(void* ptr, thread_heap* heap,
                                                 page* home) noexcept {
    // Whose page it is does not matter where there is one thread.
    if (!home->has_states() || !heap->is_alone()) {
        return deallocate_hardened_slow(ptr, heap);
    }
    return heap->deallocate_cached<slack_length::any>(*heap->cache(), *home, ptr,
                                                      &deallocate_hardened_slow);
}

}  // namespace

void* allocate_hardened(std::size_t bytes, thread_heap* heap) noexcept {
    if (bytes > sizing::linear_max) [[unlikely]] {
        return allocate_hardened_geometric(bytes, heap);
    }
    return heap->allocate_cached<slack_length::is_short>(bytes, &allocate_hardened_slow);
}

void deallocate_hardened(void* ptr, thread_heap* heap) noexcept {
    page* const home = pages.find(ptr);
    block_cache* const own = heap->cache();
    if (home == nullptr || own == nullptr) [[unlikely]] {
        return deallocate_hardened_slow(ptr, heap);
    }
    if (!home->owner.equals(heap)) [[unlikely]] {
        return deallocate_hardened_elsewhere(ptr, heap, home);
    }
    if (home->size_class > sizing::linear_classes) [[unlikely]] {
        return deallocate_hardened_geometric(ptr, heap, home);
    }
    return heap->deallocate_cached<slack_length::is_short>(*own, *home, ptr,
                                                           &deallocate_hardened_slow);
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
