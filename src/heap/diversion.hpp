// heap/diversion.hpp - diversion: answers every operation of a thread in its heap's place.
// stand_in: answers those of all threads, for as long as the process lives.
//
// Threads    a diversion belongs to the thread that began it, and is seen by no other. A stand-in
//            is called by any thread, also by one that is past its exit hook.
// Always     this_thread of a diverted thread is diverted_heap, whose lists are empty for ever: so
//            each operation takes the slow path, which asks the thread's chain of diversions, the
//            latest first, and at last the stand-in. While one answers, and beneath it, the
//            thread's own heap serves as ever: what the answer itself allocates is not diverted,
//            and what it begins takes effect after it. Where there is a stand-in every thread is
//            diverted from its first operation on. Blocks may be older, or allocated beneath it: it
//            knows which it has made.
// Cost       none for others: no instruction on any fast path, a comparison on slow ones
// Source     docs/design/testing.md
#pragma once

#include <cstddef>
#include <cstdint>

#include "heap/process.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

enum class operation_kind : std::uint8_t {
    allocate,
    allocate_zeroed,
    allocate_aligned,
    reallocate,
    deallocate
};

/// What a thread asks of its heap.
struct operation {
    operation_kind kind;
    family by = family::malloc;
    void* block = nullptr;  // of reallocate and deallocate; not null
    std::size_t bytes = 0;  // as asked for: may be more than there can be. deallocate: 0: not told
    std::size_t alignment = 0;  // of allocate_aligned; deallocate: 0: not told
    void const* caller = nullptr;
};

/// The C library's functions, for blocks that are not the heap's.
struct direct_answers {
    void* (*allocate)(std::size_t bytes);
    void* (*allocate_zeroed)(std::size_t count, std::size_t bytes);
    void* (*allocate_aligned)(std::size_t alignment, std::size_t bytes);
    void* (*reallocate)(void* block, std::size_t bytes);
    void (*deallocate)(void* block);
    void (*deallocate_told)(void* block, std::size_t bytes, std::size_t alignment, family by);
};

/// What a stand-in knows of its blocks: each lies in a block of a thread's heap, and so is part of
/// what pages say of those. Taken while others go on: each by itself is right, or was just now.
struct stand_in_figures {
    std::uint64_t live_blocks = 0;
    std::uint64_t live_bytes = 0;  // as asked for
    std::uint64_t live_peak_bytes = 0;
    std::uint64_t quarantined_blocks = 0;
    std::uint64_t quarantined_bytes = 0;  // as was asked for
    std::uint64_t heap_bytes = 0;         // of the heap's blocks that all these lie in
    std::uint64_t idle_blocks = 0;        // of the heap's, kept to serve again; in heap_bytes
    std::uint64_t metadata_bytes = 0;     // committed, in no heap
    std::uint64_t reserved_bytes = 0;     // address space, those included
    std::uint64_t checked_blocks = 0;     // by check_all() and its kin, so far
    std::uint64_t damaged_blocks = 0;     // so far
    std::uint64_t findings = 0;           // of every kind, so far

    /// Around live blocks and those in quarantine.
    [[nodiscard]] std::uint64_t guard_bytes() const noexcept {
        std::uint64_t const inside = live_bytes + quarantined_bytes;
        return heap_bytes - (heap_bytes < inside ? heap_bytes : inside);
    }
};

/// What a look at all blocks has found.
struct check_result {
    std::uint64_t checked_blocks = 0;
    std::uint64_t damaged_blocks = 0;
};

/// See above. The first three functions may not be null.
struct stand_in {
    /// As a diversion's answer.
    void* (*answer)(operation const& asked) noexcept;
    /// As heap::usable_bytes().
    std::size_t (*usable_bytes)(void const* block, void const* caller) noexcept;
    /// As heap::find_block_around().
    found_block (*find_block_around)(void const* ptr) noexcept;
    /// What slow paths jump to, in place of the answer, where the thread has no diversions: to
    /// those functions the program's own code is then the caller. It may return null.
    direct_answers const* (*find_direct)() noexcept = nullptr;
    /// Null: it has nothing to add to what the heap knows.
    stand_in_figures (*figures)() noexcept = nullptr;
    /// Checks all blocks now, for an operation of that name. `caller`: whose stack a report shows;
    /// null: none.
    check_result (*check_all)(char const* operation, void const* caller) noexcept = nullptr;
};

class diversion {
public:
    /// The operation's result; null with errno set where it fails, null for deallocate. Whoever
    /// does not want to decide calls pass_on().
    using answer = void* (*)(diversion& self, operation const& asked) noexcept;

    explicit constexpr diversion(answer by) noexcept : answer_{by} {}

    diversion(diversion const&) = delete;
    diversion& operator=(diversion const&) = delete;

    /// From here on the calling thread's operations come to this diversion first.
    void begin() noexcept;

    /// Ends that; in any order with others. False: it has not begun in this thread.
    [[nodiscard]] bool end() noexcept;

    /// What the diversions begun before, and at last the heap, make of the operation.
    [[nodiscard]] void* pass_on(operation const& asked) noexcept;

    /// What the stand-in or else the heap makes of it. Only for an answer.
    [[nodiscard]] static void* perform(operation const& asked) noexcept;

private:
    friend void* answer_diverted(operation const& asked) noexcept;
    friend class program_runs;

    answer answer_;
    diversion* outer_ = nullptr;
};

/// What the calling thread's own heap makes of an operation. Only beneath an answer.
[[nodiscard]] void* perform_in_heap(operation const& asked) noexcept;

/// The process's, or null. Only after start_process().
[[nodiscard]] stand_in const* current_stand_in() noexcept;

/// The same where it checks blocks, and counts them; else null. Starts the allocator if need be.
[[nodiscard]] stand_in const* current_checker() noexcept;

/// Slow paths begin with this: what to take in place of `heap`, which this_thread was. A thread
/// whose first operation this is becomes diverted where there is a stand-in.
[[nodiscard]] thread_heap* divert_if_new(thread_heap* heap) noexcept;

/// What the slow path of a thread jumps to whose this_thread is `heap`; null: it goes on. Keeps
/// errno.
[[nodiscard]] direct_answers const* find_direct_slow(thread_heap* heap) noexcept;

[[nodiscard]] inline direct_answers const* find_direct(thread_heap* heap) noexcept {
    bool const may_be = heap == &diverted_heap || heap == &empty_heap;
    return may_be ? find_direct_slow(heap) : nullptr;
}

/// The slow paths' way in: the operation of a thread whose this_thread is diverted_heap.
TARN_COLD void* answer_diverted(operation const& asked) noexcept;

/// Ends all diversions of the calling thread, which ends itself. Its heap serves it.
void end_diversions() noexcept;

/// After that, when the thread's heap is no longer its own: the stand-in serves it again, if there
/// is one.
void divert_finished_thread() noexcept;

/// What this_thread would be without diversions.
[[nodiscard]] thread_heap* own_heap() noexcept;

/// Over this scope the calling thread is served by its own heap, which it may get there.
class undiverted {
public:
    undiverted() noexcept;
    ~undiverted();
    undiverted(undiverted const&) = delete;
    undiverted& operator=(undiverted const&) = delete;

    /// The heap to use in place of one that this_thread was.
    [[nodiscard]] static thread_heap* in_place_of(thread_heap* heap) noexcept;

private:
    bool was_diverted_;
};

/// Over this scope code of the program runs beneath an answer, or deeper: a stand-in serves it as
/// it serves all; no diversion sees what it does.
class program_runs {
public:
    program_runs() noexcept;
    ~program_runs();
    program_runs(program_runs const&) = delete;
    program_runs& operator=(program_runs const&) = delete;

private:
    bool is_beneath_;
    diversion* kept_ = nullptr;
};

}  // namespace tarn::impl::heap
