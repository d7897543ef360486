// heap/host.hpp - what the heap asks of whoever embeds it: options, hooks and reports.
//
// These functions are declared here and defined above (malloc/host.cpp; tests bring their own):
// the heap depends on nobody upwards, and nobody has to set a pointer before the first malloc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "space/address_space.hpp"

namespace tarn::impl::heap {

struct stand_in;  // heap/diversion.hpp
struct operation;
struct found_block;  // heap/thread_heap.hpp

struct heap_options {
    space::space_options space;
    // Answers the operations of all threads in place of their heaps; null: nothing does.
    stand_in const* answers = nullptr;
    std::size_t thread_cache_bytes = 4 * MiB;  // partly free pages a thread keeps from others
    std::size_t thread_empty_bytes = 1 * MiB;  // empty pages a thread keeps
    // Bytes of blocks between two that are sampled, where a block counts as 256 bytes at most; 0:
    // none is.
    std::size_t sample_interval_bytes = 0;
    bool hardened = false;      // docs/design/hardened.md
    bool zero_on_free = false;  // only then
};

enum class misuse_kind : std::uint8_t {
    foreign_pointer,   // no page of ours holds the address
    interior_pointer,  // inside a block, not at its start
    double_free,
    freed_block,    // another operation than free on one
    overflow,       // a block was written to behind its `block_bytes`, first `count` bytes into it
    corruption,     // a freed block was written to; null: which one is not known, it led to `ptr`
    size_overflow,  // count * bytes, or a size beyond PTRDIFF_MAX
    reentry,        // a signal handler allocates inside an allocation
    other_heap,     // a block of another heap than the one named
    no_heap,        // there is no heap with the id `count`
    told            // by a library on top of this one; `operation` is the whole text
};

struct misuse {
    misuse_kind kind;
    char const* operation;  // "free", "realloc", ...
    void const* ptr = nullptr;
    void const* block = nullptr;  // start of the block that holds ptr
    std::size_t block_bytes = 0;
    std::size_t count = 0;  // size_overflow: of elements, 1 for malloc; no_heap: the id
    std::size_t element_bytes = 0;
    void const* caller = nullptr;
};

enum class misuse_verdict : std::uint8_t { ignore, forward_to_libc };

/// Called by the first thread that allocates, before any thread has a heap; again if the system
/// then refuses memory. The place for the thread exit hook. Must not allocate.
heap_options host_options() noexcept;

/// Called once, when allocation works: the place for hooks that allocate.
void host_started() noexcept;

/// Reports a misuse; may not return.
misuse_verdict host_misuse(misuse const& event) noexcept;

/// Arms the exit hook of the calling thread, which will call leave_thread(heap). May allocate.
void host_thread_entered(void* heap) noexcept;

/// Memory has come or gone, so that a later pass may give some back. `allocating`: at the end of an
/// allocation by an ordinary heap, where more may be allocated. `now_ms`: the monotonic clock.
/// False: to be asked again there.
bool host_memory_freed(bool allocating, std::uint64_t now_ms) noexcept;

/// More is held than space::budget::watch() was told. At the end of an allocation by an ordinary
/// heap: the program may be called.
void host_memory_grew() noexcept;

/// An allocation of so many bytes is about to fail, by the hard limit. No lock is held. True: the
/// program may have freed something.
bool host_limit_met(std::size_t bytes) noexcept;

/// A thread's heap has given all it held away.
void host_thread_left() noexcept;

/// The child of a fork has one thread.
void host_forked() noexcept;

/// A block that is a sample: one between inaccessible pages, in a page of kind guarded, zero where
/// that is asked for. Null: it becomes an ordinary one. The calling thread is in no slow path; what
/// it allocates meanwhile is served.
[[nodiscard]] void* host_allocate_sample(operation const& asked) noexcept;

/// Frees `asked.block`, an address in a page of kind guarded; reports where it is no live block's.
/// `asked.kind`: deallocate, or reallocate where its contents are elsewhere by now. No lock is
/// held.
void host_deallocate_sample(operation const& asked) noexcept;

/// The live block that holds `ptr`, an address in a page of kind guarded.
[[nodiscard]] found_block host_find_sample(void const* ptr) noexcept;

/// Gives a foreign pointer to libc's own free.
void host_forward_free(void* ptr) noexcept;

}  // namespace tarn::impl::heap
