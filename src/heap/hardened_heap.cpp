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
    return each.state->load(std::memory_order_relaxed) == state_away &&
           is_sealed_alone(each.at, mix(each.at)) &&
           (!hardening.zero_on_free || is_clear(each.at, block_bytes));
}

}  // namespace

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
    if (state.load(std::memory_order_relaxed) != state_away || !is_sealed_alone(taken, mixed))
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

/// Whether the page that the class is served from has free blocks.
bool thread_heap::has_free(unsigned size_class) const noexcept {
    page const* const from = slots()[size_class].current;
    return from != nullptr && from->has_free();
}

/// take_list() in mode hardened: sees to it that the page has free blocks.
bool thread_heap::find_free(page& in) noexcept {
    remote_state const posted = in.remote.load();
    // More than there can be: a double free, of which it reports one.
    if (static_cast<int>(posted.count()) > in.outside() ||
        (posted.count() != 0 && !in.has_free())) {
        in.collect_remote();
    }
    if (!in.has_free()) {
        block* none = nullptr;
        if (in.relist(none, allowance_for(in.size_class)) == 0 && make_blocks(in) == 0) {
            return false;
        }
    }
    return in.has_free();
}

/// How many of so many blocks may be taken before a sample is due. May close the class.
int thread_heap::may_take(unsigned size_class, std::uint32_t wanted) noexcept {
    auto const blocks = static_cast<int>(wanted);
    return samples_[size_class].is_far(handed_so_far(size_class))
               ? blocks
               : until_sample(size_class, blocks, 0);
}

/// Takes at most so many free blocks out of the class's page. As page::take_free().
template <class Take>
int thread_heap::take_free(unsigned size_class, int most, Take take) noexcept {
    page& from = *slots()[size_class].current;
    int const taken =
        from.take_free(cursors_[size_class], std::min(most, from.free_counted()), take);
    if (taken == 0) [[unlikely]] {
        // Counted and not to be found: two threads freed one block. It counts as live from here on.
        from.out.set(from.capacity.get() - from.unlisted());
    }
    account(from);
    count_handed(size_class, taken);
    allow_frees(size_class);
    return taken;
}

/// Takes a block past the cache. False: out of memory.
bool thread_heap::take_one(unsigned size_class, cached_block& to, bool& is_zero) noexcept {
    auto const take = [&to, &is_zero](block* at, block_state& state, std::uint8_t before) {
        to = {.at = at, .state = &state};
        is_zero = before == state_zero;
    };
    while (has_free(size_class) || refill(size_class)) {
        static_cast<void>(may_take(size_class, 1));
        if (take_free(size_class, 1, take) != 0) {
            return true;
        }
    }
    return false;
}

/// The next block of a class: the cache's, where it is open. False: out of memory.
bool thread_heap::take_next(unsigned size_class, cached_block& to) noexcept {
    block_cache* const own = cache();
    if (own != nullptr && own->is_open(size_class) &&
        (own->room(size_class).ready() != 0 || fill_cache(size_class))) {
        to = own->room(size_class).last();
        own->room(size_class).pop();
        return true;
    }
    bool is_zero = false;
    return take_one(size_class, to, is_zero);
}

// What somebody wrote into may be more than one block.
constexpr int tries_most = 64;

void* thread_heap::allocate_checked(unsigned size_class, std::size_t bytes) noexcept {
    std::size_t const block_bytes = sizing::class_bytes(size_class);
    cached_block next{};
    for (int i = 0; i < tries_most && take_next(size_class, next); ++i) {
        if (is_whole_in_cache(next, block_bytes)) {
            return mark_live<slack_length::any>(next.at, *next.state, block_bytes, bytes,
                                                mix(next.at));
        }
        report_damaged(next, block_bytes);
    }
    return nullptr;
}

void* thread_heap::allocate_checked_zeroed(unsigned size_class, std::size_t bytes) noexcept {
    std::size_t const block_bytes = sizing::class_bytes(size_class);
    cached_block next{};
    bool is_zero = false;
    for (int i = 0; i < tries_most && take_one(size_class, next, is_zero); ++i) {
        if (!is_whole_in_cache(next, block_bytes)) {
            report_damaged(next, block_bytes);
            continue;
        }
        auto* const fresh = static_cast<std::byte*>(
            mark_live<slack_length::any>(next.at, *next.state, block_bytes, bytes, mix(next.at)));
        // Written were two words in front, and granules from where the slack begins.
        if (is_zero && bytes > 2 * granule_bytes) {
            std::size_t const end =
                std::min(block_bytes - granule_bytes, base::align_down(bytes, granule_bytes));
            std::memset(fresh, 0, sizeof(sealed_block));
            std::memset(fresh + end, 0, bytes - end);
        } else {
            std::memset(fresh, 0, bytes);
        }
        return fresh;
    }
    return nullptr;
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

/// Moves free blocks of the class's pages to the cache, so that there is one to be had. False:
/// there is none, or the cache was closed.
bool thread_heap::fill_cache(unsigned size_class) noexcept {
    block_cache& own = *cache();
    cache_room& room = own.room(size_class);
    std::uint32_t const wanted = cache_room_of(size_class) / 2;
    while (room.ready() < wanted) {
        // One refill is enough: large blocks are made one by one, and cost what they touch.
        if (!has_free(size_class) && (room.ready() != 0 || !refill(size_class))) {
            break;
        }
        int const most = may_take(size_class, wanted - room.ready());
        if (!own.is_open(size_class)) {
            return false;
        }
        if (take_free(size_class, most, [&room](block* at, block_state& state, std::uint8_t) {
                room.push({.at = at, .state = &state});
            }) == 0) {
            break;
        }
    }
    // They are handed out in rising order: what follows in memory is soon needed together.
    std::reverse(room.first() + room.delay(), room.top.get());
    return room.ready() != 0;
}

/// A block that waited in the cache goes back to its page. Whether somebody wrote into it is seen
/// when it is taken out again.
void thread_heap::give_back(cached_block const& each, std::size_t block_bytes) noexcept {
    if (each.state->load(std::memory_order_relaxed) != state_away) [[unlikely]] {
        return report_damaged(each, block_bytes);
    }
    page& home = *pages.find(each.at);
    bool const is_own = home.owner.get() == this;
    if (!is_own && !is_sealed_alone(each.at, mix(each.at))) [[unlikely]] {
        return report_damaged(each, block_bytes);  // it would be sealed anew
    }
    bump(handed[home.size_class], ~std::uint64_t{0});  // less 1
    if (!is_own) [[unlikely]] {
        return free_elsewhere(home, each.at);
    }
    if (home.put_back(*each.state)) [[unlikely]] {
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

/// A freed block was written to. It is lost: whoever wrote may still.
void thread_heap::report_damaged(cached_block const& freed, std::size_t bytes) noexcept {
    report({.kind = misuse_kind::corruption,
            .operation = "malloc",
            .ptr = freed.at,
            .block = freed.at,
            .block_bytes = bytes});
}

/// Makes so many blocks of a page free.
void thread_heap::seal_new(page const& in, std::size_t first, std::size_t count) noexcept {
    std::size_t const bytes = in.block_bytes.get();
    bool const must_clear = hardening.zero_on_free && !in.fresh_zeroed;
    std::uint8_t const state = must_clear || in.fresh_zeroed ? state_zero : state_free;
    for (std::size_t i = first; i < first + count; ++i) {
        std::byte* const at = in.start + i * bytes;
        if (must_clear) {
            clear_freed(at, bytes);
        }
        seal_alone(at, mix(at));
        in.states.get()[i].store(state, std::memory_order_relaxed);
    }
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
    state.store(state_away, std::memory_order_relaxed);
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
    if (state.load(std::memory_order_relaxed) < state_live ||
        look_at_block(*home, ptr).damage != undamaged) {
        return false;
    }
    if (hardening.zero_on_free) {
        clear_freed(ptr, room.block_bytes);
    }
    state.store(state_away, std::memory_order_relaxed);
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
    if (state.load(std::memory_order_relaxed) < state_live ||
        look_at_block(*home, ptr).damage != undamaged) {
        return false;
    }
    if (!try_claim(state)) {
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
    if (claims_first && !try_claim(state)) {
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
        state.store(state_away, std::memory_order_relaxed);
    } else if (!claims_first && !try_claim(state)) {
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
        return;
    }
    seal_alone(ptr, mix(ptr));
    if (home.put_back(state)) {
        deallocate_emptied(home, ptr, caller);
    }
}

}  // namespace tarn::impl::heap
