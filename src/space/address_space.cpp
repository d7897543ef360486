#include "space/address_space.hpp"

#include <algorithm>

#include "base/bits.hpp"
#include "base/check.hpp"

namespace tarn::impl::space {

using platform::os;
using sizing::slice_bytes;

namespace {

constexpr std::size_t commit_step_slices = 1 * MiB / slice_bytes;
constexpr std::size_t arena_alignment = platform::huge_page_bytes;  // so that one can form anywhere
constexpr int huge_pages_skipped = 64;                              // after one was refused
constexpr std::size_t ranges_per_purge = 16;                        // purged per hold of the lock

std::size_t round_to_os_pages(std::size_t bytes) noexcept {
    return base::align_up(bytes, os::page_bytes());
}

}  // namespace

slice_range address_space::range_of(arena const& in, std::byte const* base,
                                    std::size_t slices) noexcept {
    return {static_cast<std::size_t>(base - in.base) / slice_bytes, slices};
}

run address_space::acquire(std::size_t slices, std::size_t alignment_slices, std::size_t gap_slices,
                           run_use use, allowance wants) noexcept {
    TARN_AUDIT(audit());
    if (slices > arena_slices_max || alignment_slices > arena_slices_max) {
        return {};
    }
    request wanted{.slices = slices,
                   .alignment = alignment_slices,
                   .gap = gap_slices,
                   .use = use,
                   .wants = wants};
    claim taken = take(wanted);
    wanted.gap = 0;
    constexpr int tries_max = 16;  // others may be faster, and take what was just added
    for (int i = 0; taken.in == nullptr && !taken.refused && i < tries_max; ++i) {
        if (!add_arena(slices, alignment_slices)) {
            return {};
        }
        taken = take(wanted);
    }
    if (taken.in == nullptr) {
        return {};
    }
    if (!taken.committed && !commit(taken)) {
        undo(taken);
        return {};
    }
    return {.base = taken.in->base + taken.range.first * slice_bytes,
            .slices = static_cast<std::uint32_t>(slices),
            .arena = static_cast<std::uint16_t>(taken.index),
            .zeroed = taken.zeroed};
}

address_space::claim address_space::take(request const& wanted) noexcept {
    base::lock_guard const guard{mutex_};
    for (std::size_t const room : {wanted.gap, wanted.slices}) {
        for (std::size_t index = 0; index < arena_count_ && room >= wanted.slices; ++index) {
            arena& in = arenas_[index];
            if (in.longest_free < room) {
                continue;
            }
            slice_range const range = find_fit(in, room, wanted.alignment);
            if (range.count != 0) {
                return claim_locked(index, {range.first, wanted.slices}, wanted.use, wanted.wants);
            }
        }
    }
    return {};
}

slice_range address_space::find_fit(arena& in, std::size_t slices, std::size_t alignment) noexcept {
    std::size_t const origin = base::address_of(in.base) / slice_bytes;
    std::size_t longest = 0;
    std::size_t first = in.free.next_present(in.lowest_free, in.slices);
    in.lowest_free = first;
    while (first < in.slices) {
        std::size_t const aligned = base::align_up(origin + first, alignment) - origin;
        // Looking further than the request needs would only find how long the gap is.
        std::size_t const bound = std::min(in.slices, std::max(aligned, first) + slices);
        std::size_t const end = in.free.next_absent(first, bound);
        if (end >= aligned + slices) {
            return {aligned, slices};
        }
        longest = std::max(longest, end - first);
        first = in.free.next_present(end, in.slices);
    }
    if (alignment == 1) {
        in.longest_free = longest;
    }
    return {};
}

address_space::claim address_space::claim_locked(std::size_t index, slice_range range, run_use use,
                                                 allowance wants) noexcept {
    arena& in = arenas_[index];
    std::size_t const clean = in.clean.count(range);
    if (clean != 0 && !budget_.try_charge(clean * slice_bytes, wants)) {
        claim none;
        none.refused = true;
        return none;
    }
    ask_if_watched();
    claim const taken{.in = &in,
                      .index = index,
                      .range = range,
                      .wants_huge = use == run_use::dense &&
                                    used_slices_ * slice_bytes >= options_.huge_after_bytes,
                      .committed = in.committed.contains_all(range),
                      .zeroed = clean == range.count};
    used_slices_ += range.count;
    dirty_free_slices_ -= range.count - clean;
    peak_slices_ = std::max(peak_slices_, used_slices_ + dirty_free_slices_);
    in.free.remove(range);
    in.clean.remove(range);
    in.ageing.remove(range);
    return taken;
}

bool address_space::commit(claim const& taken) noexcept {
    arena& in = *taken.in;
    slice_range const exact = taken.range;
    std::size_t const end = exact.first + exact.count;
    std::size_t const step = taken.wants_huge ? huge_page_slices : commit_step_slices;
    slice_range generous{exact.first, std::min(in.slices, base::align_up(end, step)) - exact.first};
    auto const commit_slices = [&in](slice_range range) {
        return os::commit(in.base + range.first * slice_bytes, range.count * slice_bytes);
    };
    if (!commit_slices(generous)) {
        generous = exact;
        if (!commit_slices(exact)) {
            return false;
        }
    }
    bool const may_populate = taken.wants_huge && exact.first % huge_page_slices == 0 &&
                              generous.count % huge_page_slices == 0;
    // What is free of huge pages costs memory, too.
    std::size_t const extra = generous.count - exact.count;
    bool populated = may_populate && budget_.try_charge(extra * slice_bytes);
    if (populated && !populate(in, generous)) {
        populated = false;
        budget_.refund(extra * slice_bytes);
    }
    base::lock_guard const guard{mutex_};
    in.committed.insert(generous);
    if (populated) {
        std::size_t const more = in.clean.count(generous);
        dirty_free_slices_ += more;
        in.clean.remove(generous);
        in.huge.insert(generous);
        budget_.refund((extra - more) * slice_bytes);  // others have taken, and charged, the rest
    }
    return true;
}

/// Backs a range that was just committed, and starts with what the caller took, with huge pages.
bool address_space::populate(arena const& in, slice_range range) noexcept {
    // relaxed, and not exact among threads: how many are skipped matters to nobody.
    if (huge_pages_to_skip_.load(std::memory_order_relaxed) > 0) {
        huge_pages_to_skip_.fetch_sub(1, std::memory_order_relaxed);
        return false;
    }
    bool const populated =
        os::populate_huge(in.base + range.first * slice_bytes, range.count * slice_bytes);
    if (!populated) {
        huge_pages_to_skip_.store(huge_pages_skipped, std::memory_order_relaxed);
    }
    return populated;
}

void address_space::mark_free_locked(arena& in, slice_range range) noexcept {
    TARN_ASSERT(in.free.count(range) == 0);
    in.free.insert(range);
    in.lowest_free = std::min(in.lowest_free, range.first);
    in.longest_free = in.slices;  // unknown after coalescing: the next search finds out
    used_slices_ -= range.count;
}

void address_space::give_back(std::size_t index, slice_range range) noexcept {
    base::lock_guard const guard{mutex_};
    arena& in = arenas_[index];
    mark_free_locked(in, range);
    dirty_free_slices_ += range.count;
}

void address_space::undo(claim const& taken) noexcept {
    base::lock_guard const guard{mutex_};
    arena& in = *taken.in;
    std::size_t const end = taken.range.first + taken.range.count;
    mark_free_locked(in, taken.range);
    dirty_free_slices_ += taken.range.count;
    // What was never committed is as clean as it was, and purging it would be an error.
    for (std::size_t first = in.committed.next_absent(taken.range.first, end); first < end;) {
        std::size_t const present = in.committed.next_present(first, end);
        in.clean.insert({first, present - first});
        dirty_free_slices_ -= present - first;
        budget_.refund((present - first) * slice_bytes);
        first = in.committed.next_absent(present, end);
    }
}

bool address_space::extend(run& owned, std::size_t extra) noexcept {
    claim taken;
    {
        base::lock_guard const guard{mutex_};
        arena& in = arenas_[owned.arena];
        slice_range const behind{range_of(in, owned.base, owned.slices).first + owned.slices,
                                 extra};
        if (extra > in.slices || !in.free.contains_all(behind)) {
            return false;
        }
        taken = claim_locked(owned.arena, behind, run_use::sparse, allowance::ordinary);
    }
    if (taken.refused) {
        return false;
    }
    if (!taken.committed && !commit(taken)) {
        undo(taken);
        return false;
    }
    owned.slices += static_cast<std::uint32_t>(extra);
    owned.zeroed = owned.zeroed && taken.zeroed;
    return true;
}

void address_space::shorten(run& owned, std::size_t keep) noexcept {
    TARN_ASSERT(keep > 0);
    if (keep < owned.slices) {
        run const tail{.base = owned.base + keep * slice_bytes,
                       .slices = owned.slices - static_cast<std::uint32_t>(keep),
                       .arena = owned.arena,
                       .zeroed = false};
        owned.slices = static_cast<std::uint32_t>(keep);
        return_run(tail);
    }
}

void address_space::return_run(run const& owned) noexcept {
    slice_range range;
    {
        base::lock_guard const guard{mutex_};
        range = range_of(arenas_[owned.arena], owned.base, owned.slices);
    }
    give_back(owned.arena, range);
    ask_for_purge();
}

void address_space::return_clean_run(run const& owned) noexcept {
    base::lock_guard const guard{mutex_};
    arena& in = arenas_[owned.arena];
    slice_range const range = range_of(in, owned.base, owned.slices);
    mark_free_locked(in, range);
    in.clean.insert(range);
}

std::size_t address_space::arenas() noexcept {
    base::lock_guard const guard{mutex_};
    return arena_count_;
}

/// Memory for an arena's sets, all zero. Null: out of memory.
std::uint64_t* address_space::allocate_bits(std::size_t bytes) noexcept {
    // acquire: pairs with the release in release_bits(), which cleared them.
    if (bytes <= sizeof first_bits_ &&
        !first_bits_taken_.exchange(true, std::memory_order_acquire)) {
        return first_bits_.data();
    }
    void* const fresh = os::reserve(bytes, {});
    if (fresh != nullptr && !os::commit(fresh, bytes)) {
        os::release(fresh, bytes);
        return nullptr;
    }
    return static_cast<std::uint64_t*>(fresh);
}

void address_space::release_bits(std::uint64_t* bits, std::size_t bytes) noexcept {
    if (bits != first_bits_.data()) {
        os::release(bits, bytes);
        return;
    }
    first_bits_ = {};
    first_bits_taken_.store(false, std::memory_order_release);
}

bool address_space::add_arena(std::size_t slices, std::size_t alignment) noexcept {
    std::size_t const needed = base::align_up(slices * slice_bytes, arena_alignment);
    // Later ones are larger, so that their number limits nobody.
    std::size_t const wanted = options_.arena_bytes << std::min<std::size_t>(arenas() / 256, 10);
    std::size_t bytes = std::min(std::max(wanted, needed), arena_slices_max * slice_bytes);
    platform::placement const where{.alignment = std::max(arena_alignment, alignment * slice_bytes),
                                    .ceiling = options_.ceiling};
    void* base = os::reserve(bytes, where);
    while (base == nullptr && bytes > needed) {
        bytes = std::max(needed, base::align_up(bytes / 2, arena_alignment));
        base = os::reserve(bytes, where);
    }
    if (base == nullptr) {
        return false;
    }
    std::size_t const arena_slices = bytes / slice_bytes;
    std::size_t const words = slice_set::words_for(arena_slices);
    std::size_t const metadata_bytes = round_to_os_pages(4 * words * sizeof(std::uint64_t));
    std::uint64_t* const bits = allocate_bits(metadata_bytes);
    if (bits == nullptr) {
        os::release(base, bytes);
        return false;
    }
    arena fresh{.base = static_cast<std::byte*>(base),
                .slices = arena_slices,
                .lowest_free = 0,
                .longest_free = arena_slices,
                .free = {bits, arena_slices},
                .committed = {bits + words, arena_slices},
                .clean = {bits + 2 * words, arena_slices},
                .ageing = {bits + 3 * words, arena_slices},
                .huge = {},
                .metadata_bytes = metadata_bytes};
    fresh.free.insert({0, arena_slices});
    fresh.clean.insert({0, arena_slices});
    bool added = false;
    {
        base::lock_guard const guard{mutex_};
        std::size_t place = 0;
        while (place < arena_count_ && arenas_[place].base != nullptr) {
            ++place;
        }
        if (place < arenas_max) {
            arenas_[place] = fresh;
            arena_count_ = std::max(arena_count_, place + 1);
            added = true;
        }
    }
    if (!added) {
        release_bits(bits, metadata_bytes);
        os::release(base, bytes);
    }
    return added;
}

std::size_t address_space::purge_due(std::uint64_t now) noexcept {
    std::uint64_t due = next_pass_ms_.load(std::memory_order_relaxed);
    // relaxed: one thread wins the pass; the lock orders everything the pass touches.
    if (now < due || !next_pass_ms_.compare_exchange_strong(due, now + options_.purge_delay_ms,
                                                            std::memory_order_relaxed)) {
        return 0;
    }
    if (!has_dirty()) {
        return 0;
    }
    bool const is_second = passes_.fetch_add(1, std::memory_order_relaxed) % 2 == 1;
    return purge(is_second ? purge_scope::aged : purge_scope::aged_but_huge);
}

bool address_space::has_dirty() noexcept {
    base::lock_guard const guard{mutex_};
    return dirty_free_slices_ * slice_bytes > keep_bytes_.load(std::memory_order_relaxed);
}

void address_space::release_idle_arenas() noexcept {
    std::size_t const count = arenas();
    for (std::size_t index = 0; index < count; ++index) {
        arena idle;
        {
            base::lock_guard const guard{mutex_};
            arena& in = arenas_[index];
            // A run in anybody's hands, also one being committed or purged, is not free.
            if (in.base == nullptr || !in.free.contains_all({0, in.slices})) {
                continue;
            }
            idle = in;
            std::size_t const dirty = in.slices - in.clean.count({0, in.slices});
            dirty_free_slices_ -= dirty;
            budget_.refund(dirty * slice_bytes);
            in = {};
        }
        os::release(idle.base, idle.slices * slice_bytes);
        release_bits(&idle.free.word(0), idle.metadata_bytes);
    }
}

std::size_t address_space::purge_all() noexcept { return purge(purge_scope::everything); }

std::size_t address_space::purge(purge_scope scope) noexcept {
    std::size_t const count = arenas();
    std::size_t bytes = 0;
    for (std::size_t index = 0; index < count; ++index) {
        bytes += purge_arena(index, scope);
    }
    purged_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return bytes;
}

void address_space::huge_page_set::insert(slice_range whole) noexcept {
    for (std::size_t page = whole.first / huge_page_slices;
         page < (whole.first + whole.count) / huge_page_slices; ++page) {
        words_[page / 64] |= std::uint64_t{1} << (page % 64);
    }
}

void address_space::huge_page_set::remove(slice_range part) noexcept {
    for (std::size_t page = part.first / huge_page_slices;
         page <= (part.first + part.count - 1) / huge_page_slices; ++page) {
        words_[page / 64] &= ~(std::uint64_t{1} << (page % 64));
    }
}

/// The slices of a word of the sets that lie in huge pages of which something is used.
std::uint64_t address_space::in_used_huge_pages(arena const& in, std::size_t word) noexcept {
    constexpr std::size_t step = std::min<std::size_t>(huge_page_slices, 64);
    std::uint64_t result = 0;
    for (std::size_t low = 0; low < 64; low += step) {
        std::size_t const page = (word * 64 + low) / huge_page_slices;
        if (in.huge.contains(page) &&
            !in.free.contains_all({page * huge_page_slices, huge_page_slices})) {
            result |= (~std::uint64_t{0} >> (64 - step)) << low;
        }
    }
    return result;
}

std::size_t address_space::take_for_purge_locked(arena& in, purge_scope scope, std::size_t& word,
                                                 slice_range* ranges) noexcept {
    std::size_t taken = 0;
    for (; word < slice_set::words_for(in.slices); ++word) {
        std::uint64_t const dirty = in.free.word(word) & ~in.clean.word(word);
        std::uint64_t due = scope == purge_scope::everything ? dirty : dirty & in.ageing.word(word);
        if (scope == purge_scope::aged_but_huge && due != 0) {
            due &= ~in_used_huge_pages(in, word);
        }
        while (due != 0 && taken < ranges_per_purge) {
            auto const low = static_cast<std::size_t>(std::countr_zero(due));
            auto const length = static_cast<std::size_t>(std::countr_one(due >> low));
            slice_range& range = ranges[taken];
            range = {word * 64 + low, length};
            if (taken != 0 && ranges[taken - 1].first + ranges[taken - 1].count == range.first) {
                ranges[taken - 1].count += length;
            } else {
                ++taken;
            }
            in.huge.remove({word * 64 + low, length});
            in.free.remove({word * 64 + low, length});
            in.ageing.remove({word * 64 + low, length});
            used_slices_ += length;
            dirty_free_slices_ -= length;
            due &= ~((~std::uint64_t{0} >> (64 - length)) << low);
        }
        if (taken == ranges_per_purge) {
            break;  // the caller comes back to this word
        }
        // What is left dirty has now been seen once.
        in.ageing.word(word) = in.free.word(word) & ~in.clean.word(word);
    }
    return taken;
}

std::size_t address_space::purge_arena(std::size_t index, purge_scope scope) noexcept {
    std::array<slice_range, ranges_per_purge> ranges;
    std::size_t bytes = 0;
    std::size_t taken = ranges.size();
    std::size_t word = 0;
    bool refused = false;  // then what was given back would be found again for ever
    while (taken == ranges.size() && !refused) {
        arena* in = nullptr;
        {
            base::lock_guard const guard{mutex_};
            in = &arenas_[index];
            taken = take_for_purge_locked(*in, scope, word, ranges.data());
        }
        for (std::size_t i = 0; i < taken; ++i) {
            slice_range const range = ranges[i];
            bool const purged =
                os::purge(in->base + range.first * slice_bytes, range.count * slice_bytes);
            bytes += purged ? range.count * slice_bytes : 0;
            refused = refused || !purged;
            base::lock_guard const guard{mutex_};
            mark_free_locked(*in, range);
            if (purged) {
                in->clean.insert(range);
                budget_.refund(range.count * slice_bytes);
            } else {
                dirty_free_slices_ += range.count;
            }
        }
    }
    return bytes;
}

/// The first slice from `from` that is free and dirty; the end where there is none.
std::size_t address_space::next_dirty(arena const& in, std::size_t from) noexcept {
    std::size_t at = in.free.next_present(from, in.slices);
    while (at < in.slices && in.clean.next_absent(at, at + 1) != at) {
        at = in.free.next_present(in.clean.next_absent(at, in.slices), in.slices);
    }
    return at;
}

space_counts address_space::counts() noexcept {
    space_counts result;
    base::lock_guard const guard{mutex_};
    result.arenas = arena_count_;
    for (std::size_t index = 0; index < arena_count_; ++index) {
        arena const& in = arenas_[index];
        slice_range const all{0, in.slices};
        std::size_t const untouched = in.clean.count(all);
        result.reserved_bytes += in.slices * slice_bytes + in.metadata_bytes;
        result.committed_bytes += (in.slices - untouched) * slice_bytes;
        result.metadata_bytes += in.metadata_bytes;
        for (std::size_t first = next_dirty(in, 0); first < in.slices;) {
            ++result.free_dirty_runs;
            std::size_t const end = std::min(in.free.next_absent(first, in.slices),
                                             in.clean.next_present(first, in.slices));
            first = next_dirty(in, end);
        }
    }
    result.peak_bytes = peak_slices_ * slice_bytes;
    result.used_bytes = used_slices_ * slice_bytes;
    result.free_dirty_bytes = dirty_free_slices_ * slice_bytes;
    result.purged_bytes = purged_bytes_.load(std::memory_order_relaxed);
    return result;
}

void address_space::audit() noexcept {
    base::lock_guard const guard{mutex_};
    for (std::size_t index = 0; index < arena_count_; ++index) {
        arena const& in = arenas_[index];
        TARN_CHECK(in.free.next_present(0, in.lowest_free) == in.lowest_free);
        for (std::size_t word = 0; word < slice_set::words_for(in.slices); ++word) {
            TARN_CHECK((in.ageing.word(word) & ~in.free.word(word)) == 0);
            TARN_CHECK((in.clean.word(word) & ~in.free.word(word)) == 0);
        }
    }
}

}  // namespace tarn::impl::space
