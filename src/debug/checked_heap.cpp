#include "debug/checked_heap.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/bits.hpp"
#include "base/errno_keeper.hpp"
#include "heap/process.hpp"
#include "debug/page_source.hpp"

namespace tarn::impl::debug {

using platform::os;

constinit record_table records;
constinit stack_table stacks;
constinit record_stack_table record_stacks;
constinit base::ranked_mutex<base::lock_rank::checks, os> checks_mutex;

namespace {

constexpr std::size_t quantum = sizing::quantum;

// From here on realloc resizes where there is room, and leaves room for the next time: else a
// program that grows a large block in small steps would copy all of it at each.
constexpr std::size_t resized_bytes_min = 64 * KiB;

constexpr std::size_t bytes_max = PTRDIFF_MAX / 2;

constexpr std::size_t guard_word = 8;

constexpr std::size_t blocks_per_walk = 4;

// A neighbour in memory is named as far away as this.
constexpr std::size_t neighbour_bytes_max = 4 * KiB;

constexpr std::uint64_t word_of(std::byte byte) noexcept {
    return static_cast<std::uint64_t>(byte) * 0x0101010101010101U;
}

/// Lies 16 bytes before the program's part and leads to the record.
struct tag {
    base::node_index record;
    std::uint32_t seal;

    friend bool operator==(tag const&, tag const&) = default;
};

constexpr std::size_t tag_distance = 16;

tag tag_of(block_record const& record) noexcept {
    std::uint64_t mixed = base::address_of(record.user) * 0x9e3779b97f4a7c15U;
    mixed ^= static_cast<std::uint64_t>(record.self_index) * 0xff51afd7ed558ccdU;
    return {.record = record.self_index, .seal = static_cast<std::uint32_t>(mixed >> 32)};
}

tag read_tag(std::byte const* user) noexcept {
    tag found;
    std::memcpy(&found, user - tag_distance, sizeof found);
    return found;
}

/// For whoever has not taken the record, nor pinned it: it may be of another block meanwhile.
std::byte* user_of(block_record& record) noexcept {
    return std::atomic_ref{record.user}.load(std::memory_order_relaxed);
}

char const* operation_name(heap::operation const& asked, heap_number of) noexcept {
    bool const is_mp = of == heap_number::mp;
    switch (asked.kind) {
        case heap::operation_kind::reallocate:
            return is_mp ? "mp_realloc" : "realloc";
        case heap::operation_kind::deallocate:
            return is_mp                               ? "mp_free"
                   : asked.by == heap::family::malloc  ? "free"
                   : asked.by == heap::family::new_one ? "operator delete"
                                                       : "operator delete[]";
        case heap::operation_kind::allocate_zeroed:
            return is_mp ? "mp_calloc" : "calloc";
        default:
            return is_mp ? "mp_alloc" : "malloc";
    }
}

/// An alignment that a free names, as records tell those of allocations: what every block has was
/// not asked for, and others were rounded up.
std::size_t recorded_alignment(std::size_t named) noexcept {
    return named <= quantum || named > bytes_max ? 0 : std::bit_ceil(named);
}

/// What of a record may be looked at by whoever has not taken it.
bool holds(block_record const& record, std::byte const* ptr, std::size_t front,
           std::size_t behind) noexcept {
    std::uintptr_t const at = base::address_of(ptr);
    std::uintptr_t const start = base::address_of(record.user);
    return at >= start - front && at < start + record.bytes + behind;
}

}  // namespace

block_facts facts_of(block_record const& record) noexcept {
    return {.user = record.user,
            .bytes = record.bytes,
            .state = record.current(),
            .by = record.by,
            .owner = record.owner,
            .alignment = record.alignment_shift == 0 ? 0 : std::size_t{1} << record.alignment_shift,
            .allocated = record.allocated,
            .released = record.released,
            .allocated_thread = record.allocated_thread,
            .released_thread = record.released_thread};
}

std::uint32_t checked_heap::current_thread() noexcept {
    std::uint32_t const known =
        heap::own_heap()->thread_id.load(std::memory_order_relaxed);  // 0: it has no heap
    return known != 0 ? known : os::thread_id();
}

// --- layout --------------------------------------------------------------------------------------

checked_heap::layout checked_heap::layout_of(std::size_t bytes,
                                             std::size_t alignment) const noexcept {
    return {.front = base::align_up(options_.front_bytes, std::max(alignment, quantum)),
            .behind = base::align_up(bytes, quantum) - bytes + options_.behind_bytes};
}

checked_heap::layout checked_heap::layout_of(block_record const& record) const noexcept {
    if (source_.pages != nullptr) {
        std::uintptr_t const start = base::address_of(record.user);
        std::uintptr_t const end = start + record.bytes;
        std::size_t const beyond = source_.pages->is_fenced(record) ? 0 : options_.behind_bytes;
        return {.front = std::min(start % os::page_bytes(), options_.page_front_bytes_max),
                .behind = base::align_up(end, os::page_bytes()) - end + beyond};
    }
    return layout_of(record.bytes, std::size_t{1} << record.alignment_shift);
}

/// Guard bytes before a block, its tag included.
std::size_t checked_heap::front_of(block_record const& record) const noexcept {
    return source_.pages == nullptr ? options_.front_bytes : layout_of(record).front;
}

checked_heap::shard& checked_heap::own_shard(std::uint32_t thread) noexcept {
    return shards_[thread % shard_count];
}

space::stack_id checked_heap::stack_here(void const* caller, block_record const& of,
                                         stack_use use) const noexcept {
    if (options_.stack_frames == 0) {
        return space::stack_id::none;
    }
    std::array<void const*, platform::stack_frames_max> frames;
    // At least as many as are searched for the caller.
    std::span<void const*> const room{
        frames.data(),
        std::min(std::max(options_.stack_frames, platform::stack_callers_max), frames.size())};
    std::size_t const found = platform::walk_stack(room, options_.walk, caller);
    std::span<void const* const> const kept = room.first(std::min(found, options_.stack_frames));
    return options_.stacks_by_record ? record_stacks.note(of.self_index, use, kept)
                                     : stacks.intern(kept);
}

/// Guards and tag around a block.
void checked_heap::guard(block_record const& record) noexcept {
    std::uint64_t const word = options_.guards.word_of(record.user);
    std::size_t const front = front_of(record);
    fill_words(record.user - front, front, word);
    if (source_.pages == nullptr) {
        tag const leads = tag_of(record);
        std::memcpy(record.user - tag_distance, &leads, sizeof leads);
    }
    fill_words(record.user + record.bytes, layout_of(record).behind, word);
}

/// So that later damage is seen, and told.
void checked_heap::repair(block_record& record) noexcept {
    guard(record);
    record.state.fetch_and(~block_record::told, std::memory_order_relaxed);
}

void checked_heap::fill(block_record const& record, std::byte with, std::size_t from) noexcept {
    std::size_t const end = std::min(record.bytes, options_.fill_bytes_max);
    if (from < end) {
        std::memset(record.user + from, static_cast<int>(with), end - from);
    }
}

bool checked_heap::is_whole(block_record const& record, block_state in) const noexcept {
    if (record.is_sealed()) {
        return true;
    }
    std::uint64_t const word = options_.guards.word_of(record.user);
    std::byte const* const front = record.user - front_of(record);
    if (source_.pages != nullptr) {
        layout const around = layout_of(record);
        if (find_damage(front, around.front, word).bytes != 0 ||
            find_damage(record.user + record.bytes, around.behind, word).bytes != 0) {
            return false;
        }
    } else if (read_tag(record.user) != tag_of(record) ||
               find_damage(front, options_.front_bytes - tag_distance, word).bytes != 0 ||
               find_damage(record.user - guard_word, guard_word, word).bytes != 0 ||
               find_damage(record.user + record.bytes, layout_of(record).behind, word).bytes != 0) {
        return false;
    }
    return in != block_state::freed ||
           find_damage(record.user, std::min(record.bytes, options_.fill_bytes_max),
                       word_of(options_.fill_freed))
                   .bytes == 0;
}

// --- findings ------------------------------------------------------------------------------------

/// Of a damaged block, which the caller has taken or pinned: whether nobody was told yet.
bool checked_heap::is_news(block_record& record) noexcept {
    bool const is_first = record.tell_once();
    if (is_first) {
        damaged_blocks_.fetch_add(1, std::memory_order_relaxed);
    }
    return is_first;
}

void checked_heap::report(finding& found, void const* caller) noexcept {
    base::errno_keeper const keeper;
    findings_.fetch_add(1, std::memory_order_relaxed);
    std::array<void const*, platform::stack_frames_max> frames;
    if (caller != nullptr) {
        found.stack = {frames.data(), platform::walk_stack(frames, options_.walk, caller)};
    }
    found.thread = current_thread();
    if (found.block.user != nullptr) {
        find_neighbours(found);
    }
    if (options_.handler != nullptr) {
        options_.handler(found);
    }
}

void checked_heap::find_neighbours(finding& found) const noexcept {
    std::uintptr_t const own = base::address_of(found.block.user);
    base::lock_guard const guard{checks_mutex};
    records.for_each([&found, own](block_record& each) {
        if (!each.try_pin()) {
            return;
        }
        std::uintptr_t const at = base::address_of(each.user);
        bool const is_before =
            at < own && own - at < neighbour_bytes_max && at > base::address_of(found.before.user);
        bool const is_after =
            at > own && at - own < neighbour_bytes_max + found.block.bytes &&
            (found.after.user == nullptr || at < base::address_of(found.after.user));
        if (is_before || is_after) {
            (is_before ? found.before : found.after) = facts_of(each);
        }
        each.unpin();
    });
}

std::size_t checked_heap::image_of(block_record const& record, block_state in, std::ptrdiff_t from,
                                   std::span<std::byte> image) const noexcept {
    std::uint64_t const word = options_.guards.word_of(record.user);
    tag const leads = tag_of(record);
    auto const front = static_cast<std::ptrdiff_t>(front_of(record));
    auto const bytes = static_cast<std::ptrdiff_t>(record.bytes);
    auto const end = bytes + static_cast<std::ptrdiff_t>(layout_of(record).behind);
    from = std::max(from, -front);
    std::size_t made = 0;
    for (std::ptrdiff_t at = from; at < end && made < image.size(); ++at, ++made) {
        std::byte const* const here = record.user + at;
        constexpr auto tag_at = -static_cast<std::ptrdiff_t>(tag_distance);
        if (source_.pages == nullptr && at >= tag_at &&
            at < tag_at + static_cast<std::ptrdiff_t>(sizeof leads)) {
            std::memcpy(&image[made], reinterpret_cast<std::byte const*>(&leads) + (at - tag_at),
                        1);
        } else if (at < 0 || at >= bytes) {
            image[made] = static_cast<std::byte>(word >> 8 * (base::address_of(here) % guard_word));
        } else if (in == block_state::freed &&
                   static_cast<std::size_t>(at) < options_.fill_bytes_max) {
            image[made] = options_.fill_freed;
        } else {
            image[made] = *here;  // the program's: any value will do
        }
    }
    return made;
}

finding checked_heap::describe_damage(block_record const& record, block_state in, side which,
                                      char const* operation) const noexcept {
    finding found;
    found.what = fault::use_after_free;
    found.operation = operation;
    found.block = facts_of(record);
    found.block.state = in;
    auto const behind = static_cast<std::ptrdiff_t>(record.bytes + layout_of(record).behind);
    std::ptrdiff_t const from = which == side::behind
                                    ? static_cast<std::ptrdiff_t>(record.bytes)
                                    : -static_cast<std::ptrdiff_t>(front_of(record));
    std::ptrdiff_t const end = which == side::before ? 0 : behind;
    auto const filled =
        static_cast<std::ptrdiff_t>(std::min<std::size_t>(options_.fill_bytes_max, PTRDIFF_MAX));
    std::array<std::byte, 256> expected;
    for (std::ptrdiff_t at = from; at < end;) {
        std::size_t const made = image_of(record, in, at, expected);
        for (std::size_t i = 0; i < made && at < end; ++i, ++at) {
            if (record.user[at] != expected[i]) {
                found.damage_first = found.damaged_bytes == 0 ? at : found.damage_first;
                found.damage_last = at;
                ++found.damaged_bytes;
            }
        }
        if (made == 0) {
            break;
        }
        // What a block has beyond its fill is the program's, or nobody's.
        if (at > filled && at < static_cast<std::ptrdiff_t>(record.bytes)) {
            at = static_cast<std::ptrdiff_t>(record.bytes);
        }
    }
    found.may_be_more = found.damaged_bytes != 0 &&
                        (found.damage_first == -static_cast<std::ptrdiff_t>(front_of(record)) ||
                         found.damage_last == behind - 1 ||
                         (in == block_state::freed && found.damage_last == filled - 1));
    if (in != block_state::freed) {
        found.what = which == side::before ? fault::underflow : fault::overflow;
    }
    constexpr std::ptrdiff_t shown_before = 16;
    found.dump.from =
        std::max(found.damage_first - shown_before, -static_cast<std::ptrdiff_t>(front_of(record)));
    found.dump.from -= found.dump.from & static_cast<std::ptrdiff_t>(quantum - 1);
    found.dump.bytes = image_of(record, in, found.dump.from, found.dump.expected);
    std::memcpy(found.dump.found.data(), record.user + found.dump.from, found.dump.bytes);
    found.ptr = record.user + found.damage_first;
    return found;
}

void checked_heap::report_damage(block_record& record, block_state in, char const* operation,
                                 void const* caller) noexcept {
    if (!is_news(record)) {
        return;
    }
    if (in == block_state::freed) {
        finding found = describe_damage(record, in, side::both, operation);
        report(found, caller);
        return;
    }
    for (side const which : {side::before, side::behind}) {
        finding found = describe_damage(record, in, which, operation);
        if (found.damaged_bytes != 0) {
            report(found, caller);
        }
    }
}

void checked_heap::check_claims(block_record const& record, heap::operation const& asked) noexcept {
    if (!options_.checks_claims) {
        return;
    }
    bool const is_free = asked.kind == heap::operation_kind::deallocate;
    heap::told const told{.by = asked.by,
                          .bytes = is_free ? asked.bytes : 0,
                          .alignment = is_free ? recorded_alignment(asked.alignment) : 0};
    std::size_t const alignment =
        record.alignment_shift == 0 ? 0
                                    : recorded_alignment(std::size_t{1} << record.alignment_shift);
    // The operators are told it always, the C functions where the program likes.
    bool const tells_alignment =
        told.alignment != 0 || (is_free && told.by != heap::family::malloc);
    fault what = fault::mismatched_free;
    if (told.by == record.by) {
        if (told.bytes != 0 && told.bytes != record.bytes) {
            what = fault::wrong_size;
        } else if (tells_alignment && told.alignment != alignment) {
            what = fault::wrong_alignment;
        } else {
            return;
        }
    }
    finding found;
    found.what = what;
    found.operation = operation_name(asked, number_);
    found.ptr = asked.block;
    found.block = facts_of(record);
    found.block.state = block_state::live;
    found.freed_as = told;
    report(found, asked.caller);
}

// --- find ----------------------------------------------------------------------------------------

block_record* checked_heap::find_start(void const* ptr) noexcept {
    auto const* const user = static_cast<std::byte const*>(ptr);
    if (guarded_place const place = find_guarded(ptr); place.is_ours) [[unlikely]] {
        return place.record != nullptr && place.record->user == user ? place.record : nullptr;
    }
    // A run of a neighbour's may be inaccessible, but not a part of the block's own.
    heap::page const* const home = heap::page_of(user);
    if (base::address_of(ptr) % quantum != 0 || base::address_of(ptr) < tag_distance ||
        home == nullptr || heap::page_of(user - tag_distance) != home) {
        return nullptr;
    }
    tag const found = read_tag(user);
    if (!records.has(found.record)) {
        return nullptr;
    }
    block_record* const record = records.at(found.record);
    return user_of(*record) == user && found == tag_of(*record) ? record : nullptr;
}

block_record* checked_heap::find(void const* ptr) noexcept {
    auto const* const at = static_cast<std::byte const*>(ptr);
    if (guarded_place const place = find_guarded(ptr); place.is_ours) {
        block_record* const record = place.record;
        bool const was_here = record != nullptr && record->current() == block_state::unused;
        return was_here && record->user != at ? nullptr : record;
    }
    block_record* holding = nullptr;
    block_record* past = nullptr;
    base::lock_guard const guard{checks_mutex};
    records.for_each([&](block_record& each) {
        if (each.try_pin()) {
            // How much lies around another heap's block is that heap's to know.
            layout const around =
                each.owner == number_ ? layout_of(each) : layout{.front = 0, .behind = 1};
            if (holds(each, at, around.front, around.behind)) {
                holding = &each;
            }
            each.unpin();
        } else if (each.current() == block_state::unused && user_of(each) == at) {
            past = &each;
        }
    });
    return holding != nullptr ? holding : past;
}

// --- operations ----------------------------------------------------------------------------------

/// Null: out of memory.
block_record* checked_heap::take_record(block_source::request const& of, std::byte* user) noexcept {
    if (of.is_recycled) {
        block_record* const kept = find_start(user);
        if (kept != nullptr && kept->owner == number_ && kept->try_take_kept()) [[likely]] {
            return kept;
        }
    }
    block_record* const fresh = records.allocate();
    if (fresh != nullptr) {
        fresh->settle(block_state::taken);
    }
    return fresh;
}

std::byte* checked_heap::allocate_from_source(block_source::request& wanted) noexcept {
    int const errno_before = errno;
    std::byte* const memory = source_.allocate(wanted);
    if (memory != nullptr) [[likely]] {
        return memory;
    }
    // What the program has freed is its to have again: a limit may leave no other room. But no
    // quarantine holds enough for what can't be had at all.
    if (check_figures const now = figures(); wanted.bytes / 2 > now.source_bytes) {
        return nullptr;
    }
    empty_quarantine();
    std::byte* const then = source_.allocate(wanted);
    errno = then == nullptr ? errno : errno_before;
    return then;
}

block_record* checked_heap::make(heap::operation const& asked, std::size_t spare) noexcept {
    std::size_t const alignment = std::max(asked.alignment, quantum);
    bool const is_possible = asked.bytes <= bytes_max && alignment <= bytes_max;
    if (!is_possible) {
        if (asked.bytes > PTRDIFF_MAX) {
            heap::host_misuse({.kind = heap::misuse_kind::size_overflow,
                               .operation = operation_name(asked, number_),
                               .count = 1,
                               .element_bytes = asked.bytes,
                               .caller = asked.caller});
        }
        errno = ENOMEM;
        return nullptr;
    }
    layout const around = source_.pages == nullptr ? layout_of(asked.bytes, alignment) : layout{};
    block_source::request wanted{.bytes = asked.bytes + around.front + around.behind + spare,
                                 .alignment = alignment,
                                 .user_bytes = asked.bytes,
                                 .zeroed = asked.kind == heap::operation_kind::allocate_zeroed,
                                 .caller = asked.caller,
                                 .spare_bytes = spare};
    std::byte* const start = allocate_from_source(wanted);
    if (start == nullptr) {
        return nullptr;
    }
    block_record* const record = take_record(wanted, start + around.front);
    std::uint32_t const thread = current_thread();
    block_record fresh;
    block_record& made = record == nullptr ? fresh : *record;
    made.by = asked.by;
    made.owner = number_;
    made.alignment_shift = asked.alignment == 0
                               ? std::uint8_t{0}
                               : static_cast<std::uint8_t>(std::countr_zero(asked.alignment));
    made.size_class = wanted.size_class;
    std::atomic_ref{made.user}.store(start + around.front, std::memory_order_relaxed);
    made.bytes = asked.bytes;
    if (record == nullptr) {
        static_cast<void>(source_.deallocate(made));
        errno = ENOMEM;
        return nullptr;
    }
    made.allocated = stack_here(asked.caller, made, stack_use::allocated);
    made.released = space::stack_id::none;
    made.allocated_thread = thread;
    made.released_thread = 0;
    guard(made);
    if (source_.pages != nullptr) {
        source_.pages->attach(made);
    }
    if (!wanted.zeroed) {
        fill(made, options_.fill_allocated, 0);
    }
    shard& own = own_shard(thread);
    own.live_blocks.fetch_add(1, std::memory_order_relaxed);
    own.live_bytes.fetch_add(static_cast<std::int64_t>(asked.bytes), std::memory_order_relaxed);
    own.source_bytes.fetch_add(static_cast<std::int64_t>(wanted.source_bytes),
                               std::memory_order_relaxed);
    own.allocations.fetch_add(1, std::memory_order_relaxed);
    return record;
}

void* checked_heap::allocate(heap::operation const& asked) noexcept {
    block_record* const made = make(asked, 0);
    if (made == nullptr) {
        return nullptr;
    }
    void* const user = made->user;
    made->settle(block_state::live);
    return user;
}

/// Takes a block's contents away.
void checked_heap::dispose(block_record& record) noexcept {
    if (source_.pages != nullptr && source_.pages->seal(record)) {
        record.mark_sealed();
    } else {
        fill(record, options_.fill_freed, 0);
    }
}

/// Of a block that is taken, and live until now.
void checked_heap::release(block_record& record, heap::operation const& asked) noexcept {
    if (!is_whole(record, block_state::live)) {
        report_damage(record, block_state::live, operation_name(asked, number_), asked.caller);
        repair(record);
    }
    std::uint32_t const thread = current_thread();
    record.released = stack_here(asked.caller, record, stack_use::released);
    record.released_thread = thread;
    dispose(record);
    shard& own = own_shard(thread);
    std::uint64_t const frees = own.frees.fetch_add(1, std::memory_order_relaxed);
    own.live_blocks.fetch_sub(1, std::memory_order_relaxed);
    std::int64_t const live = own.live_bytes.fetch_sub(static_cast<std::int64_t>(record.bytes),
                                                       std::memory_order_relaxed);
    if (live > own.live_peak.load(std::memory_order_relaxed)) {
        own.live_peak.store(live, std::memory_order_relaxed);
    }
    quarantine(record, own, asked.caller);
    if (options_.frees_per_walk != 0 && frees % options_.frees_per_walk == 0) {
        check_some(blocks_per_walk, asked.caller);
    }
}

bool checked_heap::deallocate(heap::operation const& asked) noexcept {
    block_record* const record = take_live(asked.block);
    if (record == nullptr) [[unlikely]] {
        return deallocate_odd(asked);
    }
    check_claims(*record, asked);
    release(*record, asked);
    return true;
}

/// A live block of this heap; null: it is none that a tag leads to.
block_record* checked_heap::take_live(void* ptr) noexcept {
    block_record* const record = find_start(ptr);
    if (record == nullptr || !record->try_take(block_state::live)) [[unlikely]] {
        return nullptr;
    }
    if (record->owner != number_ || record->user != ptr) [[unlikely]] {
        record->settle(block_state::live);  // it is of another heap, or of another block since
        return nullptr;
    }
    return record;
}

/// Whether a block of the ordinary heap, or of one of the program's, begins there, and is not what
/// a checked block lies in; there may have been one once.
bool checked_heap::is_heaps_own(void const* ptr) noexcept {
    heap::page const* const home = heap::page_of(ptr);
    if (home == nullptr) {
        return false;
    }
    if (home->serves_user_heaps.load(std::memory_order_relaxed)) {
        return true;
    }
    heap::found_block const outer = heap::find_block_in_heap(ptr);
    if (outer.start != ptr) {
        return false;
    }
    // A checked block begins behind its front: 16 bytes, or its alignment.
    for (std::size_t front = quantum; front < outer.bytes; front *= 2) {
        block_record const* const inside =
            find_start(static_cast<std::byte const*>(outer.start) + front);
        if (inside != nullptr && inside->current() != block_state::unused) {
            return false;
        }
    }
    return true;
}

block_record* checked_heap::take_odd(heap::operation const& asked, bool& is_ours) noexcept {
    // What another thread is just freeing is no less a block.
    block_record* record = find_start(asked.block);
    if (record == nullptr || record->current() == block_state::unused) {
        record = is_heaps_own(asked.block) ? nullptr : find(asked.block);
    }
    is_ours = record != nullptr;
    if (record == nullptr) {
        return nullptr;
    }
    record->wait_until_settled();
    finding found;
    {
        base::lock_guard const guard{checks_mutex};
        bool const is_pinned = record->try_pin();
        found.block = facts_of(*record);
        if (is_pinned) {
            record->unpin();
        }
    }
    bool const is_start = found.block.user == asked.block;
    bool const is_others = found.block.owner != number_;
    if (is_start && !is_others && record->try_take(block_state::live)) {
        return record;  // its tag was overwritten
    }
    found.what = !is_start                                             ? fault::interior_free
                 : is_others && found.block.state == block_state::live ? fault::mismatched_free
                                                                       : fault::double_free;
    found.freed_as = {.by = asked.by};
    found.operation = operation_name(asked, number_);
    found.ptr = asked.block;
    report(found, asked.caller);
    return nullptr;
}

bool checked_heap::deallocate_odd(heap::operation const& asked) noexcept {
    bool is_ours = false;
    if (block_record* const record = take_odd(asked, is_ours)) {
        check_claims(*record, asked);
        release(*record, asked);
    }
    return is_ours;
}

bool checked_heap::resize_in_place(block_record& record, heap::operation const& asked) noexcept {
    std::size_t const old_bytes = record.bytes;
    if (std::min(old_bytes, asked.bytes) < resized_bytes_min || asked.bytes < old_bytes / 2 ||
        asked.bytes > bytes_max ||
        (source_.pages != nullptr
             ? !source_.pages->resize(record, asked.bytes)
             : asked.bytes + layout_of(asked.bytes, 0).behind > source_.room(record))) {
        return false;
    }
    if (asked.bytes < old_bytes) {
        static_cast<void>(figures());  // this may have been the peak
    }
    record.bytes = asked.bytes;
    record.by = asked.by;  // else one mistaken realloc would be told twice
    guard(record);
    fill(record, options_.fill_allocated, old_bytes);
    own_shard(current_thread())
        .live_bytes.fetch_add(static_cast<std::int64_t>(asked.bytes - old_bytes),
                              std::memory_order_relaxed);
    record.allocated = stack_here(asked.caller, record, stack_use::allocated);
    record.allocated_thread = current_thread();
    return true;
}

bool checked_heap::reallocate(heap::operation const& asked, void** result) noexcept {
    block_record* record = take_live(asked.block);
    if (record == nullptr) [[unlikely]] {
        bool is_ours = false;
        record = take_odd(asked, is_ours);
        if (record == nullptr) {
            *result = nullptr;
            if (is_ours) {
                errno = EINVAL;
            }
            return is_ours;
        }
    }
    check_claims(*record, asked);
    if (!is_whole(*record, block_state::live)) {
        report_damage(*record, block_state::live, operation_name(asked, number_), asked.caller);
        repair(*record);
    }
    if (resize_in_place(*record, asked)) {
        *result = record->user;
        record->settle(block_state::live);
        return true;
    }
    std::size_t const old_bytes = record->bytes;
    bool const grows =
        asked.bytes > old_bytes && asked.bytes >= resized_bytes_min && asked.bytes <= bytes_max;
    block_record* const made =
        make({.kind = asked.kind, .by = asked.by, .bytes = asked.bytes, .caller = asked.caller},
             grows ? asked.bytes / 2 : 0);
    if (made == nullptr) {
        record->settle(block_state::live);
        *result = nullptr;
        return true;
    }
    std::memcpy(made->user, record->user, std::min(old_bytes, asked.bytes));
    *result = made->user;
    made->settle(block_state::live);
    release(*record, asked);
    return true;
}

}  // namespace tarn::impl::debug
