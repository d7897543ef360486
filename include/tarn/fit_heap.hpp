// tarn/fit_heap.hpp - fit_heap: first, next, best and worst fit over one span, and what they cost.
//
// For memory of a fixed size, a device or an embedded system, and for comparing policies. All its
// data lie in the span: 8 bytes per live block, and the object itself, some 120 bytes.
//
// Threads    one at a time; who shares a heap locks
// Always     no two holes are neighbours; a block that is live never moves
// Errors     what is meant by "checked" below: std::invalid_argument, or a value of fit_return, for
//            a pointer that is no live block of this heap; std::bad_alloc, or null, without memory;
//            std::runtime_error, fit_return::damaged, or null, where the program wrote into tags or
//            holes. Then the request does nothing; where that is noticed too late, the heap gives
//            and takes nothing any more. It recognises accidents, not attacks.
// Cost       every request O(log n) expected in the number of holes, whatever the policy; where the
//            alignment is above the heap's, that for each hole large enough that is looked at
// Source     docs/design/fit_heap.md
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>

#include <tarn/detail/fit_blocks.hpp>
#include <tarn/detail/fit_holes.hpp>
#include <tarn/fit.hpp>

namespace tarn {

class fit_heap {
    using block = detail::fit_block;
    using units = detail::fit_units;

    struct unchecked {
        explicit unchecked() = default;
    };

public:
    /// `memory`: not ours, and not touched by anybody else as long as the heap is in use. What is
    /// beyond 2^32 times the alignment stays unused.
    /// Errors     std::invalid_argument: bad alignment, or no room for one block
    explicit fit_heap(std::span<std::byte> memory, fit_options options = {})
        : fit_heap{unchecked{}, memory, options} {
        if (!is_good(options)) {
            throw std::invalid_argument{
                "tarn::fit_heap: alignment is no power of two from 16 to 4096"};
        }
        if (!blocks_.has_room()) {
            throw std::invalid_argument{"tarn::fit_heap: the span has no room for one block"};
        }
    }

    /// The same without exceptions: empty instead.
    [[nodiscard]] static std::optional<fit_heap> try_make(std::span<std::byte> memory,
                                                          fit_options options = {}) noexcept;

    /// For try_make() alone: nobody else has an `unchecked`.
    fit_heap(unchecked /*only*/, std::span<std::byte> memory, fit_options options) noexcept
        : blocks_{memory, is_good(options) ? options.alignment : fit_options{}.alignment},
          holes_{blocks_, options.policy} {
        if (is_good(options) && blocks_.has_room()) {
            clear();
        }
    }

    fit_heap(fit_heap const&) = delete;  // resources and the tree refer to it
    fit_heap& operator=(fit_heap const&) = delete;
    ~fit_heap() = default;

    /// A block of `bytes`, also of 0, which is a block of its own. Null: no hole is large enough,
    /// `alignment` is no power of two, or the heap is damaged.
    [[nodiscard]] void* try_allocate(std::size_t bytes, std::size_t alignment = 1) noexcept {
        return std::has_single_bit(alignment) ? place(bytes, alignment) : nullptr;
    }

    /// Errors     std::bad_alloc; std::invalid_argument: `alignment` is no power of two;
    ///            std::runtime_error: damaged
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = 1) {
        if (!std::has_single_bit(alignment)) {
            throw std::invalid_argument{"tarn::fit_heap: alignment is no power of two"};
        }
        return block_or_throw(place(bytes, alignment));
    }

    /// Takes back a block, or null. Checked.
    fit_return try_deallocate(void* ptr) noexcept;

    /// The same for a block that must be of `bytes`, as they were asked for last.
    fit_return try_deallocate(void* ptr, std::size_t bytes) noexcept {
        block live;
        fit_return const found = ptr == nullptr ? fit_return::done : locate(ptr, live);
        if (found == fit_return::done && ptr != nullptr && requested(live) != bytes) {
            return fit_return::other_size;
        }
        return found == fit_return::done ? try_deallocate(ptr) : found;
    }

    void deallocate(void* ptr) { throw_unless_done(try_deallocate(ptr), ptr); }

    void deallocate(void* ptr, std::size_t bytes) {
        throw_unless_done(try_deallocate(ptr, bytes), ptr);
    }

    /// Makes a live block larger without moving it, into the hole behind it. False: there is none
    /// large enough, or `ptr` is no live block. True, and nothing changes, if it is large enough.
    [[nodiscard]] bool try_expand(void* ptr, std::size_t bytes) noexcept {
        block live;
        if (locate(ptr, live) != fit_return::done) {
            return false;
        }
        return bytes <= requested(live) || resize(live, bytes, live.units);
    }

    /// Makes a block larger or smaller, in place if it can; else it moves with its contents. Null
    /// gets a new block; 0 bytes keep the least one. Null, and the block as it was: as
    /// try_allocate(), or `ptr` is no live block.
    [[nodiscard]] void* try_reallocate(void* ptr, std::size_t bytes,
                                       std::size_t alignment = 1) noexcept;

    /// Errors     as allocate(); std::invalid_argument where `ptr` is no live block
    [[nodiscard]] void* reallocate(void* ptr, std::size_t bytes, std::size_t alignment = 1) {
        if (!std::has_single_bit(alignment)) {
            throw std::invalid_argument{"tarn::fit_heap: alignment is no power of two"};
        }
        block live;
        if (ptr != nullptr) {
            throw_unless_done(find_returnable(ptr, live), ptr);
        }
        return block_or_throw(try_reallocate(ptr, bytes, alignment));
    }

    /// Forgets all blocks: the span is one hole again, whatever was written into it. The peaks
    /// stay.
    void clear() noexcept;

    /// Whether a live block begins at `ptr`.
    [[nodiscard]] bool owns(void const* ptr) const noexcept {
        block live;
        return locate(ptr, live) == fit_return::done;
    }

    /// Bytes that may be used; 0 where no live block begins. At least what was asked for.
    [[nodiscard]] std::size_t usable_size(void const* ptr) const noexcept {
        block live;
        return locate(ptr, live) == fit_return::done ? usable(live) : 0;
    }

    /// Bytes that were asked for; 0 where no live block begins.
    [[nodiscard]] std::size_t requested_size(void const* ptr) const noexcept {
        block live;
        return locate(ptr, live) == fit_return::done ? requested(live) : 0;
    }

    [[nodiscard]] fit policy() const noexcept { return holes_.policy(); }

    [[nodiscard]] std::size_t alignment() const noexcept { return blocks_.unit_bytes(); }

    /// Calls visit(std::byte* start, std::size_t bytes, bool live) for each block and hole by
    /// address; `bytes` can be used, or asked for. `visit` leaves the heap as it is. False: ended
    /// early, before a damaged tag.
    template <class Visit>
    [[nodiscard]] bool for_each_block(Visit visit) const {
        block here;
        for (units at = 0; at != blocks_.end(); at = here.end()) {
            if (!blocks_.read(at, here)) {
                return false;
            }
            visit(blocks_.start(at), usable(here), here.is_live);
        }
        return true;
    }

    /// Looks at everything. Empty: all is sound. O(n) in blocks.
    [[nodiscard]] std::optional<fit_fault> check() const noexcept;

    /// O(1).
    [[nodiscard]] fit_figures figures() const noexcept {
        return {.total_bytes = blocks_.bytes(blocks_.end()),
                .requested_bytes = requested_bytes_,
                .live_bytes = blocks_.bytes(live_units_),
                .free_bytes = blocks_.bytes(blocks_.end() - live_units_),
                .largest_hole_bytes = blocks_.bytes(holes_.largest()),
                .live_blocks = live_blocks_,
                .holes = holes_.count(),
                .peak_live_bytes = blocks_.bytes(peak_units_),
                .peak_requested_bytes = peak_requested_bytes_};
    }

private:
    /// A live block and those beside it, as they were before it is returned or resized.
    struct neighbours {
        block before;  // the hole before it, if there is one
        block behind;
    };

    [[nodiscard]] static constexpr bool is_good(fit_options options) noexcept {
        return std::has_single_bit(options.alignment) && options.alignment >= 16 &&
               options.alignment <= detail::fit_blocks::unit_bytes_max;
    }

    /// A number that no other heap of the process has, nor this one before.
    [[nodiscard]] static std::uint64_t next_salt() noexcept {
        static constinit std::atomic<std::uint64_t> last{0};
        // relaxed: nothing but the number is handed over
        std::uint64_t const number = last.fetch_add(1, std::memory_order_relaxed) + 1;
        return number * 0x9e37'79b9'7f4a'7c15;
    }

    [[nodiscard]] std::size_t usable(block const& of) const noexcept {
        return blocks_.bytes(of.units) - detail::fit_blocks::tag_bytes;
    }

    [[nodiscard]] std::size_t requested(block const& live) const noexcept {
        return usable(live) - live.slack_bytes;
    }

    /// Units of a block for `bytes`; 0 where the whole span is too small.
    [[nodiscard]] units units_for(std::size_t bytes) const noexcept {
        std::size_t const tag = detail::fit_blocks::tag_bytes;
        if (bytes > blocks_.bytes(blocks_.end()) - tag) {
            return 0;
        }
        std::size_t const wanted = ((bytes + tag - 1) >> blocks_.unit_shift()) + 1;
        return std::max(static_cast<units>(wanted), blocks_.units_least());
    }

    /// Units before the first place in `hole` at which a block can be aligned so: none, or enough
    /// for a hole.
    [[nodiscard]] std::uint64_t gap_units(block const& hole, std::size_t wanted) const noexcept {
        if (wanted <= blocks_.unit_bytes()) {
            return 0;
        }
        auto const address = reinterpret_cast<std::uintptr_t>(blocks_.start(hole.at));
        std::uint64_t const gap = ((0 - address) & (wanted - 1)) >> blocks_.unit_shift();
        bool const is_kept = gap == 0 || gap >= blocks_.units_least();
        return is_kept ? gap : gap + (wanted >> blocks_.unit_shift());
    }

    /// The hole that the policy chooses, or none.
    [[nodiscard]] block choose(units wanted, std::size_t alignment) noexcept {
        block hole;
        if (holes_.policy() == fit::next) {
            hole = choose_from(rover_, wanted, alignment);
        }
        return hole.at != detail::fit_nowhere ? hole : choose_from(0, wanted, alignment);
    }

    /// The first in order that does not end at or before `from`.
    [[nodiscard]] block choose_from(units from, units wanted, std::size_t alignment) noexcept {
        block hole =
            holes_.find(wanted, [from](block const& passed) { return passed.end() <= from; });
        while (hole.at != detail::fit_nowhere && gap_units(hole, alignment) + wanted > hole.units) {
            hole = holes_.find(wanted, [this, last = hole](block const& passed) {
                return !holes_.is_before(last, passed);
            });
        }
        return hole;
    }

    [[nodiscard]] void* place(std::size_t bytes, std::size_t alignment) noexcept;

    void* block_or_throw(void* ptr) const {
        if (ptr == nullptr && holes_.is_broken()) {
            throw std::runtime_error{"tarn::fit_heap: damaged: a tag or a hole was overwritten"};
        }
        if (ptr == nullptr) {
            throw std::bad_alloc{};
        }
        return ptr;
    }

    static void throw_unless_done(fit_return result, void const* ptr) {
        if (result == fit_return::done) {
            return;
        }
        char text[96];
        std::snprintf(text, sizeof text, "tarn::fit_heap: %p: %s", ptr, to_string(result));
        if (result == fit_return::damaged) {
            throw std::runtime_error{text};
        }
        throw std::invalid_argument{text};
    }

    [[nodiscard]] fit_return locate(void const* ptr, block& found) const noexcept;
    [[nodiscard]] fit_return diagnose(units at) const noexcept;
    [[nodiscard]] bool read_neighbours(block const& live, neighbours& beside) const noexcept;
    [[nodiscard]] bool resize(block live, std::size_t bytes, units least) noexcept;

    /// What try_deallocate() would say, without doing it.
    [[nodiscard]] fit_return find_returnable(void const* ptr, block& live) const noexcept {
        neighbours beside;
        fit_return const found = locate(ptr, live);
        if (found != fit_return::done) {
            return found;
        }
        return !holes_.is_broken() && read_neighbours(live, beside) ? fit_return::done
                                                                    : fit_return::damaged;
    }

    void make_hole(units at, units length) noexcept {
        holes_.insert({.at = at, .units = length, .is_live = false, .is_live_before = true});
    }

    void set_live_before(block behind, bool is_live) noexcept {
        behind.is_live_before = is_live;
        blocks_.write(behind);
    }

    /// Takes a hole out of the tree, and its tag from the memory.
    void remove_hole(block const& hole) noexcept {
        holes_.erase(hole.at);
        blocks_.wipe(hole.at);
    }

    void count(std::size_t requested_before, units units_before, block const& now) noexcept {
        requested_bytes_ += requested(now) - requested_before;
        live_units_ += now.units - units_before;
        peak_requested_bytes_ = std::max(peak_requested_bytes_, requested_bytes_);
        peak_units_ = std::max(peak_units_, live_units_);
    }

    detail::fit_blocks blocks_;
    detail::fit_holes holes_;
    units rover_ = 0;  // of fit::next: where the block handed out last ended
    units live_units_ = 0;
    units peak_units_ = 0;
    std::size_t live_blocks_ = 0;
    std::size_t requested_bytes_ = 0;
    std::size_t peak_requested_bytes_ = 0;
};

inline std::optional<fit_heap> fit_heap::try_make(std::span<std::byte> memory,
                                                  fit_options options) noexcept {
    if (!is_good(options) || !detail::fit_blocks{memory, options.alignment}.has_room()) {
        return std::nullopt;
    }
    return std::optional<fit_heap>{std::in_place, unchecked{}, memory, options};
}

inline void fit_heap::clear() noexcept {
    holes_.clear();
    blocks_.salt(next_salt());
    blocks_.write({.at = blocks_.end(), .units = 0, .is_live = true, .is_live_before = false});
    make_hole(0, blocks_.end());
    rover_ = 0;
    live_units_ = 0;
    live_blocks_ = 0;
    requested_bytes_ = 0;
}

inline void* fit_heap::place(std::size_t bytes, std::size_t alignment) noexcept {
    units wanted = units_for(bytes);
    block const hole = wanted == 0 ? block{} : choose(wanted, alignment);
    if (hole.at == detail::fit_nowhere) {
        return nullptr;
    }
    block behind;
    if (!blocks_.read(hole.end(), behind) || !behind.is_live || behind.is_live_before) {
        holes_.give_up();
        return nullptr;
    }
    auto const gap = static_cast<units>(gap_units(hole, alignment));
    units rest = hole.units - gap - wanted;
    if (rest < blocks_.units_least()) {
        wanted += rest;
        rest = 0;
    }
    holes_.erase(hole.at);
    block made{.at = hole.at + gap, .units = wanted, .is_live = true, .is_live_before = gap == 0};
    made.slack_bytes = static_cast<std::uint32_t>(usable(made) - bytes);
    blocks_.write(made);
    if (gap != 0) {
        make_hole(hole.at, gap);
    }
    if (rest != 0) {
        make_hole(made.end(), rest);
    } else {
        set_live_before(behind, true);
    }
    if (holes_.is_broken()) {
        return nullptr;
    }
    rover_ = made.end();
    ++live_blocks_;
    count(0, 0, made);
    return blocks_.start(made.at);
}

/// Whether `ptr` is the start of a live block.
inline fit_return fit_heap::locate(void const* ptr, block& found) const noexcept {
    units at = 0;
    std::size_t offset = 0;
    if (!blocks_.locate(ptr, at, offset)) {
        return fit_return::foreign;
    }
    if (offset != 0) {
        return fit_return::misaligned;
    }
    return blocks_.read(at, found) && found.is_live ? fit_return::done : diagnose(at);
}

/// Why no live block begins at `at`. Walks from the start of the span: only errors pay for it.
inline fit_return fit_heap::diagnose(units at) const noexcept {
    block here;
    units from = 0;
    while (blocks_.read(from, here)) {
        if (at < here.end()) {
            return here.is_live ? fit_return::inside : fit_return::not_live;
        }
        from = here.end();
    }
    return fit_return::damaged;
}

/// False where they contradict each other, or were overwritten.
inline bool fit_heap::read_neighbours(block const& live, neighbours& beside) const noexcept {
    if (!blocks_.read(live.end(), beside.behind) || !beside.behind.is_live_before) {
        return false;
    }
    block beyond;
    if (!beside.behind.is_live &&
        (!blocks_.read(beside.behind.end(), beyond) || !beyond.is_live || beyond.is_live_before)) {
        return false;
    }
    return live.is_live_before || blocks_.read_before(live.at, beside.before);
}

inline fit_return fit_heap::try_deallocate(void* ptr) noexcept {
    if (ptr == nullptr) {
        return fit_return::done;
    }
    block live;
    neighbours beside;
    fit_return const found = locate(ptr, live);
    if (found != fit_return::done) {
        return found;
    }
    if (holes_.is_broken() || !read_neighbours(live, beside)) {
        return fit_return::damaged;
    }
    units at = live.at;
    units end = live.end();
    blocks_.wipe(live.at);
    if (!live.is_live_before) {
        at = beside.before.at;
        remove_hole(beside.before);
    }
    if (beside.behind.is_live) {
        set_live_before(beside.behind, false);
    } else {
        end = beside.behind.end();
        remove_hole(beside.behind);
    }
    make_hole(at, end - at);
    if (holes_.is_broken()) {
        return fit_return::damaged;
    }
    --live_blocks_;
    live_units_ -= live.units;
    requested_bytes_ -= requested(live);
    return fit_return::done;
}

/// Makes a live block hold `bytes` where it is, in `least` units or more; false, and nothing
/// happened, if it can't.
inline bool fit_heap::resize(block live, std::size_t bytes, units least) noexcept {
    neighbours beside;
    units wanted = std::max(units_for(bytes), least);
    if (units_for(bytes) == 0 || holes_.is_broken() || !read_neighbours(live, beside)) {
        return false;
    }
    block behind = beside.behind;
    units const room = live.units + (behind.is_live ? 0 : behind.units);
    if (wanted > room) {
        return false;
    }
    units rest = room - wanted;
    if (rest < blocks_.units_least()) {
        wanted += rest;
        rest = 0;
    }
    block const before = live;
    live.units = wanted;
    live.slack_bytes = static_cast<std::uint32_t>(usable(live) - bytes);
    if (wanted != before.units) {
        if (!behind.is_live) {
            remove_hole(behind);
            static_cast<void>(blocks_.read(behind.end(), behind));  // read_neighbours() did, too
        }
        set_live_before(behind, rest == 0);
        if (rest != 0) {
            make_hole(live.end(), rest);
        }
    }
    blocks_.write(live);
    count(requested(before), before.units, live);
    return !holes_.is_broken();
}

inline void* fit_heap::try_reallocate(void* ptr, std::size_t bytes,
                                      std::size_t alignment) noexcept {
    if (ptr == nullptr || !std::has_single_bit(alignment)) {
        return try_allocate(bytes, alignment);
    }
    block live;
    if (find_returnable(ptr, live) != fit_return::done) {
        return nullptr;
    }
    bool const is_aligned = (reinterpret_cast<std::uintptr_t>(ptr) & (alignment - 1)) == 0;
    if (is_aligned && resize(live, bytes, 0)) {
        return ptr;
    }
    void* const moved = place(bytes, alignment);
    if (moved != nullptr) {
        std::memcpy(moved, ptr, std::min(usable(live), bytes));
        if (try_deallocate(ptr) != fit_return::done) {
            return nullptr;
        }
    }
    return moved;
}

inline std::optional<fit_fault> fit_heap::check() const noexcept {
    if (holes_.is_broken()) {
        return fit_fault{blocks_.start(0), "damage was met: nothing is given or taken any more"};
    }
    block last;
    block here;
    units at = 0;
    units live_units = 0;
    std::size_t requested_bytes = 0;
    std::size_t live_blocks = 0;
    std::size_t holes = 0;
    last.is_live = true;
    for (bool is_end = false; !is_end; at = here.end(), last = here) {
        is_end = at == blocks_.end();
        if (!blocks_.read(at, here)) {
            return fit_fault{blocks_.start(at), "a tag or links of a hole were overwritten"};
        }
        if (here.is_live_before != last.is_live) {
            return fit_fault{blocks_.start(at), "a tag does not agree with the block before"};
        }
        if (!here.is_live && !here.is_live_before) {
            return fit_fault{blocks_.start(at), "two holes side by side"};
        }
        if (!here.is_live && !blocks_.has_foot(here)) {
            return fit_fault{blocks_.start(at), "the end of a hole was overwritten"};
        }
        bool const is_block = here.is_live && !is_end;
        live_blocks += is_block ? 1 : 0;
        live_units += is_block ? here.units : 0;
        requested_bytes += is_block ? requested(here) : 0;
        holes += here.is_live ? 0 : 1;
    }
    if (live_blocks != live_blocks_ || live_units != live_units_ ||
        requested_bytes != requested_bytes_ || holes != holes_.count()) {
        return fit_fault{blocks_.start(0), "the figures are not those of the blocks"};
    }
    units where = 0;
    if (auto const what = holes_.fault(where); !what.empty()) {
        return fit_fault{blocks_.start(where), what};
    }
    return std::nullopt;
}

}  // namespace tarn
