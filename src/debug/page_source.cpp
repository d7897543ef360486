#include "debug/page_source.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <span>

#include "base/bits.hpp"
#include "heap/process.hpp"
#include "heap/run_block.hpp"
#include "heap/slow_path.hpp"

namespace tarn::impl::debug {

using heap::page;
using platform::os;
using sizing::slice_bytes;

constinit std::atomic<bool> guarded_blocks_exist{false};

namespace {

// Smallest runs that are kept, inaccessible, to be used again.
constexpr std::uint64_t idle_runs_max = 1024;

// Runs for samples are made so many at once, next to each other: one system call makes them
// inaccessible, and few huge pages are broken by them.
constexpr std::size_t sample_runs_at_once = 16;

// Where each run takes up to two mappings: the system allows a process 65,530 of them (by default),
// and the program needs some.
constexpr std::uint64_t protected_runs_max = 14'000;

// From here on untouched zeros are asked of the system, not written.
constexpr std::size_t purge_bytes_min = 2 * MiB;

// In a record's size_class.
constexpr std::uint8_t unfenced = 0;
constexpr std::uint8_t fenced = 1;

/// Relaxed throughout: numbers, and hints that threads learn of by the blocks they get.
struct source_state {
    std::atomic<bool> pages_opened{false};  // idle runs may have accessible pages
    std::atomic<bool> refusal_told{false};
    std::atomic<void (*)() noexcept> when_refused{nullptr};
    std::atomic<std::uint64_t> fenced_runs{0};
    std::atomic<std::uint64_t> idle_runs{0};
    std::atomic<std::uint64_t> unfenced_blocks{0};
    std::atomic<std::uint64_t> samples{0};
    std::atomic<bool> sample_refused{false};
    base::tagged_stack idle;
};

constinit source_state state;

/// Where in a run a block lies.
struct shape {
    std::size_t lead;
    std::size_t body;
    std::size_t offset;  // of the program's part
    std::size_t bytes;   // in all, with a page behind
};

shape shape_for(std::size_t bytes, std::size_t alignment) noexcept {
    std::size_t const os_page = os::page_bytes();
    std::size_t const rounded = base::align_up(bytes, std::min(alignment, os_page));
    shape result{};
    // Before blocks of larger alignments than a slice there would have to be as much.
    result.lead = alignment <= slice_bytes ? std::max(alignment, os_page) : 0;
    result.body = base::align_up(rounded, os_page);
    result.offset = result.lead + result.body - (alignment <= os_page ? rounded : result.body);
    result.bytes = result.lead + result.body + os_page;
    return result;
}

std::size_t smallest_slices() noexcept {
    return base::divide_up(3 * os::page_bytes(), slice_bytes);
}

bool is_samples(page const& home) noexcept {
    return home.kind.load(std::memory_order_relaxed) == heap::page_kind::guarded;
}

/// What the budget was asked for.
std::size_t extent_of(page const& home) noexcept {
    return home.kind.load(std::memory_order_relaxed) == heap::page_kind::huge
               ? home.block_bytes.get()
               : home.bytes();
}

space::budget& budget() noexcept { return heap::process.space.budget(); }

struct body_range {
    std::byte* start;
    std::size_t bytes;
};

body_range body_of(block_record const& record) noexcept {
    std::uintptr_t const at = base::address_of(record.user);
    std::byte* const start = record.user - at % os::page_bytes();
    auto const end = base::align_up(at + record.bytes, os::page_bytes());
    return {start, end - base::address_of(start)};
}

bool guard(std::byte* from, std::size_t bytes) noexcept {
    return bytes == 0 || os::guard(from, bytes);
}

bool unguard(std::byte* from, std::size_t bytes) noexcept {
    return bytes == 0 || os::unguard(from, bytes);
}

bool may_fence() noexcept {
    return os::guards_by() == platform::guard_method::markers ||
           state.fenced_runs.load(std::memory_order_relaxed) < protected_runs_max;
}

void note_unfenced() noexcept {
    state.unfenced_blocks.fetch_add(1, std::memory_order_relaxed);
    auto* const call = state.when_refused.load(std::memory_order_relaxed);
    if (call != nullptr && !state.refusal_told.exchange(true, std::memory_order_relaxed)) {
        call();
    }
}

// --- runs ----------------------------------------------------------------------------------------

/// A run that is inaccessible as a whole, and not charged. Null: there is none.
page* take_idle() noexcept {
    base::node_index const index = heap::process.descriptors.pop(state.idle);
    if (index == base::node_index::none) {
        return nullptr;
    }
    state.idle_runs.fetch_sub(1, std::memory_order_relaxed);
    return heap::process.descriptors.at(index);
}

void keep_idle(page& home) noexcept {
    state.idle_runs.fetch_add(1, std::memory_order_relaxed);
    heap::process.descriptors.push(state.idle, home);
}

/// Calls use(thread_heap&) in a slow path of the calling thread's heap.
template <class Use>
auto in_slow_path(void const* caller, Use use) noexcept {
    return heap::with_heap(heap::own_heap(), [&](heap::thread_heap& own) {
        heap::slow_path const inside{own, "malloc", caller};
        return use();
    });
}

/// Gives an accessible run back to the heap, of which `charged` bytes are charged.
void release_run(page& home, std::size_t charged) noexcept {
    home.attached.store(base::node_index::none, std::memory_order_relaxed);
    if (!is_samples(home)) {
        budget().charge(extent_of(home) - charged);
        static_cast<void>(
            heap::perform_in_heap({.kind = heap::operation_kind::deallocate, .block = home.start}));
        return;
    }
    // What holds no memory is not charged: a hard limit may be met.
    bool const is_clean = charged == 0 && (os::guards_by() == platform::guard_method::markers ||
                                           os::purge(home.start, home.bytes()));
    if (!is_clean) {
        budget().charge(extent_of(home) - charged);
    }
    in_slow_path(nullptr, [&home, is_clean] {
        heap::release_guarded_run(home,
                                  is_clean ? heap::run_memory::clean : heap::run_memory::charged);
    });
}

/// The same of a fenced run. False: the system does not make it accessible again.
bool release_fenced(page& home, std::size_t charged) noexcept {
    if (!os::unguard(home.start, home.bytes())) {
        return false;
    }
    state.fenced_runs.fetch_sub(1, std::memory_order_relaxed);
    release_run(home, charged);
    return true;
}

/// Makes everything but the body inaccessible. False: refused, and all is accessible.
bool fence(page& home, shape const& wanted) noexcept {
    std::size_t const extent = extent_of(home);
    std::size_t const body_end = wanted.lead + wanted.body;
    if (!may_fence() || !guard(home.start, wanted.lead)) {
        return false;
    }
    if (!guard(home.start + body_end, extent - body_end)) {
        static_cast<void>(unguard(home.start, wanted.lead));
        return false;
    }
    state.fenced_runs.fetch_add(1, std::memory_order_relaxed);
    budget().refund(extent - wanted.body);
    return true;
}

heap::run_block new_run(std::size_t bytes, block_source::request const& wanted) noexcept {
    heap::run_block got;
    heap::run_request const run{.bytes = bytes, .alignment = wanted.alignment};
    static_cast<void>(heap::try_hard(heap::own_heap(), bytes, [&](heap::thread_heap& own) {
        heap::slow_path const inside{own, "malloc", wanted.caller, heap::ends_in::allocation};
        got = heap::allocate_run(own, run);
        return static_cast<void*>(got.start);
    }));
    return got;
}

/// An idle run, its body accessible. Null: there is none.
page* reuse_run(shape const& wanted) noexcept {
    page* const home = take_idle();
    if (home == nullptr) {
        return nullptr;
    }
    bool const is_allowed = budget().try_charge(wanted.body);
    bool const is_ready = is_allowed &&
                          (!state.pages_opened.load(std::memory_order_relaxed) ||
                           os::guard(home->start, extent_of(*home))) &&
                          unguard(home->start + wanted.lead, wanted.body);
    if (is_ready) {
        return home;
    }
    if (is_allowed) {
        budget().refund(wanted.body);
    }
    keep_idle(*home);
    return nullptr;
}

std::byte* allocate(block_source::request& wanted) noexcept {
    constexpr std::size_t bytes_max = PTRDIFF_MAX / 2;
    if (wanted.user_bytes > bytes_max || wanted.alignment > bytes_max ||
        wanted.spare_bytes > bytes_max) {
        errno = ENOMEM;
        return nullptr;
    }
    shape const place = shape_for(wanted.user_bytes, wanted.alignment);
    std::size_t const bytes = place.bytes + wanted.spare_bytes;
    bool const is_smallest =
        base::divide_up(bytes, slice_bytes) <= smallest_slices() && wanted.alignment <= slice_bytes;
    guarded_blocks_exist.store(true, std::memory_order_relaxed);
    bool is_zero = false;
    page* home = is_smallest ? reuse_run(place) : nullptr;
    wanted.size_class = fenced;
    if (home == nullptr) {
        std::size_t const least = is_smallest ? smallest_slices() * slice_bytes : bytes;
        heap::run_block got = new_run(least, wanted);
        if (got.start == nullptr && state.idle_runs.load(std::memory_order_relaxed) != 0) {
            release_idle_runs();
            got = new_run(least, wanted);
        }
        if (got.start == nullptr) {
            errno = ENOMEM;
            return nullptr;
        }
        home = got.home;
        is_zero = got.zeroed;
        if (!fence(*home, place)) {
            wanted.size_class = unfenced;
            note_unfenced();
        }
    }
    wanted.source_bytes = home->block_bytes.get();
    std::byte* const user = home->start + place.offset;
    std::byte* const body = home->start + place.lead;
    if (wanted.zeroed && !is_zero &&
        (place.body < purge_bytes_min || !os::purge(body, place.body))) {
        std::memset(user, 0, wanted.user_bytes);
    }
    return user;
}

std::size_t deallocate(block_record const& of) noexcept {
    page& home = *heap::page_of(of.user);
    body_range const body = body_of(of);
    std::size_t const block_bytes = is_samples(home) ? body.bytes : home.block_bytes.get();
    if (of.size_class == unfenced) {
        release_run(home, extent_of(home));
        return block_bytes;
    }
    bool const is_kept = home.slices.get() == smallest_slices() &&
                         state.idle_runs.load(std::memory_order_relaxed) < idle_runs_max;
    bool is_sealed = of.is_sealed();
    if (is_kept && !is_sealed && guard(body.start, body.bytes)) {
        budget().refund(body.bytes);
        if (is_samples(home)) {
            home.held_bytes.set(0);
        }
        is_sealed = true;
    }
    if (is_kept && is_sealed) {
        keep_idle(home);
    } else if (!release_fenced(home, is_sealed ? 0 : body.bytes)) {
        // Not to be given back, but its place can serve again.
        budget().refund(is_sealed ? 0 : body.bytes);
        state.pages_opened.store(true, std::memory_order_relaxed);
        keep_idle(home);
    }
    return block_bytes;
}

// --- samples -------------------------------------------------------------------------------------

/// Makes runs that reuse_run() finds. False: out of memory, or guards are refused.
bool add_sample_runs() noexcept {
    std::array<page*, sample_runs_at_once> made{};
    std::size_t const count = in_slow_path(
        nullptr, [&made] { return heap::allocate_guarded_runs(made, smallest_slices()); });
    if (count == 0) {
        return false;
    }
    std::size_t const bytes = count * smallest_slices() * slice_bytes;
    bool const is_guarded = may_fence() && os::guard(made[0]->start, bytes);
    if (is_guarded) {
        budget().refund(bytes);
        state.fenced_runs.fetch_add(count, std::memory_order_relaxed);
    } else {
        state.sample_refused.store(true, std::memory_order_relaxed);
    }
    for (page* const each : std::span{made}.first(count)) {
        is_guarded ? keep_idle(*each) : release_run(*each, extent_of(*each));
    }
    return is_guarded;
}

/// A run for one large block. Null: as above.
page* new_sample_run(shape const& place) noexcept {
    std::array<page*, 1> made{};
    std::size_t const slices = base::divide_up(place.bytes, slice_bytes);
    if (in_slow_path(nullptr, [&] { return heap::allocate_guarded_runs(made, slices); }) == 0) {
        return nullptr;
    }
    if (!fence(*made[0], place)) {
        state.sample_refused.store(true, std::memory_order_relaxed);
        release_run(*made[0], extent_of(*made[0]));
        return nullptr;
    }
    return made[0];
}

std::byte* allocate_sample(block_source::request& wanted) noexcept {
    shape const place = shape_for(wanted.user_bytes, wanted.alignment);
    guarded_blocks_exist.store(true, std::memory_order_relaxed);
    page* home = nullptr;
    if (base::divide_up(place.bytes, slice_bytes) > smallest_slices()) {
        home = new_sample_run(place);
    } else {
        home = reuse_run(place);
        if (home == nullptr && add_sample_runs()) {
            home = reuse_run(place);
        }
    }
    if (home == nullptr) {
        errno = ENOMEM;
        return nullptr;
    }
    std::byte* const user = home->start + place.offset;
    wanted.size_class = fenced;
    wanted.source_bytes = place.body;
    if (wanted.zeroed) {
        std::memset(user, 0, wanted.user_bytes);
    }
    heap::begin_sample(*home, wanted.user_bytes, place.body);
    state.samples.fetch_add(1, std::memory_order_relaxed);
    return user;
}

/// Of a sample that is being freed. `is_sealed`: its memory is gone.
void end_sample(page& home, body_range body, bool is_sealed) noexcept {
    heap::end_sample(home, is_sealed ? 0 : body.bytes);
    state.samples.fetch_sub(1, std::memory_order_relaxed);
}

std::size_t room(block_record const& of) noexcept {
    body_range const body = body_of(of);
    return static_cast<std::size_t>(body.start + body.bytes - of.user);
}

// --- page operations -----------------------------------------------------------------------------

bool is_fenced(block_record const& of) noexcept { return of.size_class == fenced; }

void attach(block_record const& of) noexcept {
    // release: pairs with the acquire in find_guarded()
    heap::page_of(of.user)->attached.store(of.self_index, std::memory_order_release);
}

bool seal(block_record const& of) noexcept {
    body_range const body = body_of(of);
    bool const is_sealed = of.size_class != unfenced && guard(body.start, body.bytes);
    if (is_sealed) {
        budget().refund(body.bytes);
    }
    if (page& home = *heap::page_of(of.user); is_samples(home)) {
        end_sample(home, body, is_sealed);
    }
    return is_sealed;
}

bool resize(block_record const& of, std::size_t bytes) noexcept {
    page const& home = *heap::page_of(of.user);
    std::size_t const os_page = os::page_bytes();
    auto const offset = static_cast<std::size_t>(of.user - home.start);
    std::size_t const before = base::align_up(offset + of.bytes, os_page);
    std::size_t const after = base::align_up(offset + bytes, os_page);
    if (after + os_page > extent_of(home)) {
        return false;
    }
    if (of.size_class == unfenced || after == before) {
        return true;
    }
    if (after < before) {
        if (!os::guard(home.start + after, before - after)) {
            return false;
        }
        budget().refund(before - after);
        return true;
    }
    if (!budget().try_charge(after - before)) {
        return false;
    }
    if (!os::unguard(home.start + before, after - before)) {
        budget().refund(after - before);
        return false;
    }
    return true;
}

constexpr page_operations operations{
    .is_fenced = &is_fenced, .attach = &attach, .seal = &seal, .resize = &resize};

}  // namespace

block_source page_source() noexcept {
    return {.allocate = &allocate, .deallocate = &deallocate, .room = &room, .pages = &operations};
}

block_source sample_source() noexcept {
    return {.allocate = &allocate_sample,
            .deallocate = &deallocate,
            .room = &room,
            .pages = &operations};
}

check_options with_page_defaults(check_options usual) noexcept {
    platform::guard_method const method = os::guards_by();
    if (method == platform::guard_method::nothing) {
        usual.quarantine_block_bytes = os::page_bytes();  // a freed block keeps its memory
        return usual;
    }
    bool const has_markers = method == platform::guard_method::markers;
    // A freed block has no memory, so that it counts by its run. It still has some 200 bytes in
    // descriptors, and mappings are scarce: smallest_slices() * slice_bytes is 16 KiB mostly.
    usual.quarantine_bytes = has_markers ? 512 * MiB : 64 * MiB;
    usual.quarantine_block_bytes = smallest_slices() * slice_bytes;
    usual.quarantine_follows_live = false;
    return usual;
}

void when_guards_are_refused(void (*call)() noexcept) noexcept {
    state.when_refused.store(call, std::memory_order_relaxed);
}

page_source_figures figures_of_page_source() noexcept {
    return {.fenced_runs = state.fenced_runs.load(std::memory_order_relaxed),
            .idle_runs = state.idle_runs.load(std::memory_order_relaxed),
            .unfenced_blocks = state.unfenced_blocks.load(std::memory_order_relaxed),
            .samples = state.samples.load(std::memory_order_relaxed),
            .are_refused = state.sample_refused.load(std::memory_order_relaxed)};
}

std::size_t page_run_bytes() noexcept { return smallest_slices() * slice_bytes; }

void release_idle_runs() noexcept {
    // Once around at most: what can't be given back goes in again.
    for (std::uint64_t left = state.idle_runs.load(std::memory_order_relaxed); left != 0; --left) {
        page* const home = take_idle();
        if (home == nullptr) {
            return;
        }
        if (!release_fenced(*home, 0)) {
            keep_idle(*home);
            return;
        }
    }
}

guarded_place find_guarded_slow(void const* address) noexcept {
    page const* const home = heap::page_of(address);
    if (home == nullptr || home->kind.load(std::memory_order_relaxed) < heap::page_kind::guarded) {
        return {};
    }
    // acquire: pairs with the release in attach(); the record is of a block that was here.
    base::node_index const index = home->attached.load(std::memory_order_acquire);
    if (!records.has(index)) {
        return {};
    }
    block_record* const record = records.at(index);
    // Records of blocks that are gone may be of others by now.
    return {.is_ours = true, .record = heap::page_of(record->user) == home ? record : nullptr};
}

bool is_in_body(block_record const& of, void const* address) noexcept {
    body_range const body = body_of(of);
    return base::address_of(address) - base::address_of(body.start) < body.bytes;
}

bool open_page(void const* address) noexcept {
    state.pages_opened.store(true, std::memory_order_relaxed);
    std::uintptr_t const at = base::align_down(base::address_of(address), os::page_bytes());
    return os::unguard(base::pointer_to(at), os::page_bytes());
}

}  // namespace tarn::impl::debug
