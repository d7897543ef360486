// debug/checked_heap.hpp - checked_heap: blocks with guards, a record, two stacks and a quarantine.
//
// A block lies in memory of its source:   front        | the program's | behind
//     front    at least front_bytes: guard bytes; among them, 16 bytes before the block, its tag
//     behind   behind_bytes guard bytes at least, from the exact end of the request on
//
// Threads    any. allocate() takes the source's locks and, for new records, one; deallocate() takes
//            one of eight short ones. Handlers are called without a lock.
// Always     what is freed was allocated here, live and whole, or its handler is called; a block is
//            given back to its source only after its time in quarantine, and if nobody wrote to it.
//            Damaged tags do not lose a block: its record is searched for.
// Errors     out of memory: null. Misuse: `options.handler`; when that returns, the operation is
//            done as far as it makes sense (a damaged block is freed; a foreign one, and one of
//            another checked heap, is not).
// Cost       allocate() and deallocate(): a stack walk and a look-up in the table of stacks each
//            (some 10 ns a frame at most), guards, fill. Memory: 48 bytes a record, front and
//            behind.
// Source     docs/design/debug.md
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ranked_mutex.hpp"
#include "base/units.hpp"
#include "platform/os.hpp"
#include "platform/stack_walk.hpp"
#include "heap/diversion.hpp"
#include "debug/block_record.hpp"
#include "debug/finding.hpp"
#include "debug/guard.hpp"
#include "debug/record_stacks.hpp"

namespace tarn::impl::debug {

/// What a source can do whose blocks lie between inaccessible pages (debug/page_source.hpp). Guard
/// bytes then fill what is left of a block's first and last page; there are no tags.
struct page_operations {
    /// Whether there is an inaccessible page behind the block. If not, it is memory that nobody
    /// uses, for check_options::behind_bytes of guard bytes.
    bool (*is_fenced)(block_record const& of) noexcept;
    /// From here on the addresses of the block's run lead to its record.
    void (*attach)(block_record const& of) noexcept;
    /// From here on each access to the block faults; its contents are gone. False: refused.
    bool (*seal)(block_record const& of) noexcept;
    /// Makes room for another size, without moving the block. False: not possible.
    bool (*resize)(block_record const& of, std::size_t bytes) noexcept;
};

/// Where a checked heap's memory comes from.
struct block_source {
    struct request {
        std::size_t bytes;      // in all
        std::size_t alignment;  // a power of two, at least 16
        std::size_t user_bytes;
        bool zeroed;  // the program's bytes are to be zero
        // For the source to set, and to find in the record. Not 0, where the source keeps records:
        // the memory will be handed out again as it is, divided in the same way, and blocks there
        // share a record.
        std::uint8_t size_class = 0;
        bool is_recycled = false;  // for the source to set: there was a block of this class before
        void const* caller = nullptr;
        std::size_t spare_bytes = 0;   // that it may grow by
        std::size_t source_bytes = 0;  // of what allocate() gave, with what was rounded up
    };

    /// Null: out of memory, with errno set. Else `wanted.source_bytes` is set. page_operations:
    /// returns the program's part, which the source places.
    std::byte* (*allocate)(request& wanted) noexcept;
    /// Of a block the program's part and what its record says. Returns its source_bytes.
    std::size_t (*deallocate)(block_record const& of) noexcept;
    /// Bytes from the program's part to the end of the memory that allocate() gave.
    std::size_t (*room)(block_record const& of) noexcept;
    page_operations const* pages = nullptr;  // null: blocks lie in plain memory
    bool keeps_records = false;              // of blocks whose size_class is not 0, see there
};

using finding_handler = void (*)(finding const& found) noexcept;

struct check_options {
    std::size_t front_bytes = 16;   // a multiple of 16, 16 at least
    std::size_t behind_bytes = 64;  // a multiple of 16
    guard_pattern guards{};
    std::byte fill_allocated{0xA1};
    std::byte fill_freed{0xF4};
    std::size_t fill_bytes_max = 64 * KiB;  // of a block, from its start; 0: none
    // Of the program's bytes in quarantine, and of what each block counts beside them: this, but
    // not more than half of the live bytes and a MiB.
    std::size_t quarantine_bytes = 64 * MiB;
    std::size_t quarantine_block_bytes = 128;
    bool quarantine_follows_live = true;  // false: quarantine_bytes whatever lives
    std::size_t stack_frames = 16;        // 0 to platform::stack_frames_max
    platform::walk_method walk = platform::walk_method::tables;
    // A walk that never ends looks at four blocks after every so many frees of a thread; 0: never.
    std::uint32_t frees_per_walk = 64;
    // Between pages: guard bytes before a block, at most. Filled and looked at for each block.
    std::size_t page_front_bytes_max = ~std::size_t{0};
    bool checks_claims = true;      // whether what a free tells of its block is compared
    bool stacks_by_record = false;  // kept with the record, not for ever (debug/record_stacks.hpp)
    finding_handler handler = nullptr;
};

/// Numbers of a checked heap. Taken while others go on: each by itself is right, or was just now.
struct check_figures {
    std::uint64_t live_blocks = 0;
    std::uint64_t live_bytes = 0;  // as asked for
    std::uint64_t quarantined_blocks = 0;
    std::uint64_t quarantined_bytes = 0;
    std::uint64_t allocations = 0;
    std::uint64_t live_peak_bytes = 0;
    std::uint64_t source_bytes = 0;    // of all these blocks, with what surrounds them
    std::uint64_t checked_blocks = 0;  // by check_all(), so far
    std::uint64_t damaged_blocks = 0;  // found by anything, so far
    std::uint64_t findings = 0;        // of every kind, so far
};

/// Held over all that looks at blocks of others.
TARN_HIDDEN extern constinit base::ranked_mutex<base::lock_rank::checks, platform::os> checks_mutex;

class checked_heap {
public:
    constexpr checked_heap(heap_number number, block_source source) noexcept
        : number_{number}, source_{source} {}

    /// Before the first operation, or when no block is live.
    void configure(check_options const& wanted) noexcept { options_ = wanted; }

    /// The same, and memory comes from elsewhere.
    void configure(check_options const& wanted, block_source const& source) noexcept {
        options_ = wanted;
        source_ = source;
    }

    [[nodiscard]] check_options const& options() const noexcept { return options_; }

    /// `asked`: of a kind allocate*. Null with errno set: out of memory.
    [[nodiscard]] void* allocate(heap::operation const& asked) noexcept;

    /// `asked.block` not null. False: it is no block of any checked heap, nor inside of one, and
    /// nothing was reported: it may be somebody else's.
    [[nodiscard]] bool deallocate(heap::operation const& asked) noexcept;

    /// As realloc() with a block and a size: the block moves. False as above; then *result is not
    /// set.
    [[nodiscard]] bool reallocate(heap::operation const& asked, void** result) noexcept;

    /// The live or quarantined block whose memory, guards included, holds `ptr`. Cost: a look-up at
    /// a block's start, else a walk over all records.
    [[nodiscard]] block_record* find(void const* ptr) noexcept;

    /// The record of a live block that starts at `ptr`, which may be any address; null: none here.
    [[nodiscard]] static block_record* find_start(void const* ptr) noexcept;

    /// Checks all blocks, live ones and those in quarantine. Damaged ones include those that were
    /// reported before. `caller`: whose stack a finding gets; null: none. Cost: a walk over all
    /// records; blocks are pinned one at a time, so that others go on.
    heap::check_result check_all(char const* operation, void const* caller) noexcept;

    /// Checks the next few blocks, of a walk that never ends.
    void check_some(std::size_t blocks, void const* caller) noexcept;

    /// Calls `visit(block_record&)` for each live block, which is pinned meanwhile.
    template <class Visit>
    void for_each_live(Visit visit) noexcept;

    /// Gives everything in quarantine back, after its check.
    void empty_quarantine() noexcept;

    [[nodiscard]] check_figures figures() noexcept;

    /// Adds to a finding where the calling thread is and, of a block, its neighbours; then calls
    /// the handler.
    void report(finding& found, void const* caller) noexcept;

    /// Gives all blocks back, live ones too, unchecked. Nobody may use the heap meanwhile.
    void discard_all() noexcept;

    /// So that what is counted begins anew, when no block is left.
    void forget_figures() noexcept;

    /// Around fork.
    void lock_for_fork() noexcept;
    void unlock_after_fork() noexcept;

private:
    static constexpr std::size_t shard_count = 8;

    /// What the threads that fall to it count, and have freed.
    struct alignas(128) shard {
        base::ranked_mutex<base::lock_rank::quarantine, platform::os> mutex;
        base::node_index oldest{base::node_index::none};
        base::node_index newest{base::node_index::none};
        std::uint64_t pending_bytes = 0;  // freed since it was last seen to what goes
        std::uint32_t pending_blocks = 0;
        std::atomic<std::uint64_t> freed_blocks{0};  // in quarantine; changed under the lock
        std::atomic<std::uint64_t> freed_bytes{0};
        std::atomic<std::int64_t> live_blocks{0};  // may be negative: others' frees count here
        std::atomic<std::int64_t> live_bytes{0};
        std::atomic<std::int64_t> live_peak{0};  // of live_bytes, since it was last noted
        std::atomic<std::uint64_t> allocations{0};
        std::atomic<std::int64_t> source_bytes{0};
        std::atomic<std::uint64_t> frees{0};
    };

    struct layout {
        std::size_t front;
        std::size_t behind;
    };

    enum class side : std::uint8_t { before, behind, both };

    /// What a look at a block has found that nobody has been told.
    struct look {
        bool is_checked = false;
        bool is_damaged = false;
        std::size_t count = 0;
        std::array<finding, 2> found{};
    };

    [[nodiscard]] layout layout_of(std::size_t bytes, std::size_t alignment) const noexcept;
    [[nodiscard]] layout layout_of(block_record const& record) const noexcept;
    [[nodiscard]] std::size_t front_of(block_record const& record) const noexcept;
    [[nodiscard]] std::byte* allocate_from_source(block_source::request& wanted) noexcept;
    void dispose(block_record& record) noexcept;
    [[nodiscard]] static std::uint32_t current_thread() noexcept;
    [[nodiscard]] shard& own_shard(std::uint32_t thread) noexcept;
    [[nodiscard]] block_record* make(heap::operation const& asked, std::size_t spare) noexcept;
    void guard(block_record const& record) noexcept;
    void repair(block_record& record) noexcept;
    void fill(block_record const& record, std::byte with, std::size_t from) noexcept;
    void release(block_record& record, heap::operation const& asked) noexcept;
    [[nodiscard]] block_record* take_live(void* ptr) noexcept;
    [[nodiscard]] static bool is_heaps_own(void const* ptr) noexcept;
    [[nodiscard]] bool deallocate_odd(heap::operation const& asked) noexcept;
    [[nodiscard]] block_record* take_odd(heap::operation const& asked, bool& is_ours) noexcept;
    void quarantine(block_record& record, shard& own, void const* caller) noexcept;
    void retire_some(shard& own, std::uint32_t most, void const* caller) noexcept;
    std::uint64_t note_live(std::int64_t bytes) noexcept;
    std::size_t let_go(block_record& record) noexcept;
    [[nodiscard]] block_record* take_record(block_source::request const& of,
                                            std::byte* user) noexcept;
    [[nodiscard]] std::uint64_t retire_one(shard& from, void const* caller) noexcept;
    [[nodiscard]] bool resize_in_place(block_record& record, heap::operation const& asked) noexcept;
    void check_claims(block_record const& record, heap::operation const& asked) noexcept;
    [[nodiscard]] bool is_whole(block_record const& record, block_state in) const noexcept;
    [[nodiscard]] std::size_t image_of(block_record const& record, block_state in,
                                       std::ptrdiff_t from,
                                       std::span<std::byte> image) const noexcept;
    [[nodiscard]] finding describe_damage(block_record const& record, block_state in, side which,
                                          char const* operation) const noexcept;
    void report_damage(block_record& record, block_state in, char const* operation,
                       void const* caller) noexcept;
    [[nodiscard]] bool is_news(block_record& record) noexcept;
    void find_neighbours(finding& found) const noexcept;
    /// Notes the stack as the record's.
    [[nodiscard]] space::stack_id stack_here(void const* caller, block_record const& of,
                                             stack_use use) const noexcept;
    [[nodiscard]] look look_at(std::size_t number, char const* operation) noexcept
        TARN_REQUIRES(checks_mutex);
    void tell_all(look& seen, void const* caller) noexcept;
    [[nodiscard]] bool is_own_live(block_record& record) noexcept;

    heap_number number_;
    block_source source_;
    check_options options_;
    std::array<shard, shard_count> shards_{};
    std::atomic<std::uint32_t> next_shard_{0};
    // The most that was live at once. Frees look at it: between two of them bytes only grow.
    std::atomic<std::uint64_t> live_peak_bytes_{0};
    std::atomic<std::uint64_t> checked_blocks_{0};
    std::atomic<std::uint64_t> damaged_blocks_{0};
    std::atomic<std::uint64_t> findings_{0};
    std::size_t next_check_ TARN_GUARDED_BY(checks_mutex) = 1;
};

template <class Visit>
void checked_heap::for_each_live(Visit visit) noexcept {
    base::lock_guard const guard{checks_mutex};
    records.for_each([this, &visit](block_record& each) {
        if (each.try_pin()) {
            if (each.owner == number_ && each.current() == block_state::live) {
                visit(each);
            }
            each.unpin();
        }
    });
}

}  // namespace tarn::impl::debug
